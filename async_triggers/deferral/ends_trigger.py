"""Waiting on the triggerer for the ends of what some targets run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, Unpack

from async_triggers.deferral.ends import EndsJob
from async_triggers.deferral.first_looks import FirstLooks
from async_triggers.deferral.trigger import JobTrigger
from async_triggers.engine.errors import PermanentError
from async_triggers.engine.watch import Mark

if TYPE_CHECKING:
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.deferral.trigger import Wait
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.watchers import Subscription

STUCK = 120.0
"""Seconds at least without any word of the poller after which it is not relied on."""


class EndsTrigger(JobTrigger):
    """Waits until each target has had a success, or one a failure and none.

    It first looks for ends of each, and then watches as an event trigger does.
    """

    cancel_on_kill = False
    cancel_on_timeout = False
    job_class: ClassVar[type[EndsJob]]
    own_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments of the vendor's, which its job has under the same names."""

    def __init__(
        self,
        targets: Sequence[str],
        since: float,
        conn_id: str,
        end_time: float | None,
        poll_interval: float,
        execution_deadline: float | None = None,
        *,
        many: bool = False,
        seen_at: float | None = None,
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.targets = targets
        self.since = since
        self.conn_id = conn_id
        self.end_time = end_time
        self.poll_interval = poll_interval
        self.execution_deadline = execution_deadline
        self.many = many
        self.seen_at = seen_at
        self.ending = ending

    def make_job(self) -> EndsJob:
        """Return the ends that the arguments name."""
        return self.job_class(
            conn_id=self.conn_id,
            targets=tuple(self.targets),
            since=self.since,
            many=self.many,
            **{name: getattr(self, name) for name in self.own_arguments},
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for some ends."""
        assert isinstance(job, cls.job_class)  # noqa: S101 - its own class says so
        return cls(
            list(job.targets),
            job.since,
            job.conn_id,
            wait["end_time"],
            wait["poll_interval"],
            wait["execution_deadline"],
            many=job.many,
            seen_at=wait["seen_at"],
            **{name: getattr(job, name) for name in cls.own_arguments},
        )

    @property
    def ends_job(self) -> EndsJob:
        """What is waited for."""
        job = self.make_job()
        assert isinstance(job, EndsJob)  # noqa: S101 - as subclasses make it
        return job

    def hear(self, job: Job) -> None:
        """Log what is still waited for."""
        self._last_job = job
        self.log.info("%s: still %s%s", job.title, job.word, self._progress(job))

    async def _joined(self, leased: LeasedAccount) -> Job:
        """Wait until the ends decide."""
        looks = FirstLooks(
            self.remote_job.make_hook(),
            self.log,
            is_known=self.is_known or self.seen_at is not None,
        )
        async with asyncio.timeout(self._seconds_left()):
            while True:
                ends, at = await looks.look(
                    leased, partial(self.ends_job.look_for_ends, leased)
                )
                job = self.ends_job
                judged = job.judge(ends)
                if judged.state.is_terminal:
                    return judged

                mark = Mark(at=job.since if at is None else at, floor=job.since)
                try:
                    ended = await self._follow(leased, ends, mark)
                except PermanentError as error:
                    # Those who watch hear of the first refusal.
                    await looks.doubt(error, leased)
                else:
                    if ended is not None:
                        return ended

    async def _follow(
        self, leased: LeasedAccount, ends: dict[str, list[Job]], mark: Mark
    ) -> Job | None:
        """Watch those targets that have had no success.

        Return None where the poller reports nothing of them, not even that nothing has
        ended: then a look of ours may be answered, or refused.
        """
        job, loop = self.ends_job, asyncio.get_running_loop()
        patience = max(STUCK, 3 * self.poll_interval)
        chronicle = leased.poller.chronicle(self)
        with ExitStack() as closing:
            watched: dict[str, Subscription] = {}
            for target in job.targets:
                if job.judge(ends).statistics[target] is None:
                    watched[target] = leased.subscribe(
                        job.watch_of(target),
                        interval=self.poll_interval,
                        mark=mark,
                        vouched=True,
                    )
                    closing.callback(watched[target].close)

            reached, moved_at = _reached(watched.values()), loop.time()
            while not (judged := job.judge(ends)).state.is_terminal:
                open_ones = {
                    target: each
                    for target, each in watched.items()
                    if judged.statistics[target] is None
                }
                tick = min(patience, chronicle.give(judged))
                heard = await _hear_any(open_ones, tick)
                for target, found in heard.items():
                    late = [each for each in found if job.is_in_time(each)]
                    ends[target] = [*reversed(late), *ends.get(target, ())]

                now, before = loop.time(), reached
                reached = _reached(watched.values())
                if heard or reached != before or leased.poller.statistics().trouble:
                    moved_at = now
                elif now >= moved_at + patience:
                    return None

            return judged


def _reached(subscriptions: Iterable[Subscription]) -> list[float | None]:
    """Return the server's times up to which all ends are known."""
    return [each.checked_until for each in subscriptions]


async def _hear_any(
    subscriptions: Mapping[str, Subscription], patience: float
) -> dict[str, list[Job]]:
    """Return the ends that some of those who watch hear of within so many seconds."""
    loop = asyncio.get_running_loop()
    tasks: dict[asyncio.Task[Any], str] = {
        loop.create_task(each.hear()): target for target, each in subscriptions.items()
    }
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for task in tasks:
            task.cancel()

    return {tasks[task]: [end.job for end in task.result().ends] for task in done}
