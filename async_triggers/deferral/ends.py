"""The next ends of what some targets run, as one job that a sensor waits for.

A target is what jobs are started of: a connection, a job of dbt Cloud. The one job ends
when each target has had a success later than a time, or when one of them has had a failure
and no success. A success counts, also where a later job has failed since.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from async_triggers.deferral.remote_job import RemoteJob
from async_triggers.engine.jobs import Job, JobState, Seen
from async_triggers.engine.wording import begun

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.watch import Watch


@dataclass(frozen=True, kw_only=True)
class EndsJob(RemoteJob):
    """The next ends of some targets.

    ``since`` is the server's time in epoch seconds after which an end counts. ``many`` says
    that a list was given, so that a list is returned.
    """

    targets: tuple[str, ...]
    since: float
    many: bool = False
    job_id: str = field(init=False)

    def __post_init__(self) -> None:
        """Name it by what is waited for."""
        name = f"{','.join(self.targets)}@{self.since:.0f}"
        object.__setattr__(self, "job_id", name)

    @abstractmethod
    def name_targets(self) -> str:
        """Name what is waited for within a sentence."""

    @abstractmethod
    def watch_of(self, target: str) -> Watch:
        """Return what the poller watches for a target."""

    @abstractmethod
    async def newest(
        self, leased: LeasedAccount, target: str
    ) -> tuple[Sequence[Job], float | None]:
        """Return a target's newest jobs, and the server's time in epoch seconds.

        Raise :class:`~async_triggers.engine.errors.PermanentError` where the vendor does
        not know the target.
        """

    def counts(self, job: Job) -> bool:
        """Return whether a job that has ended in time is one of those waited for."""
        return True

    @property
    def title(self) -> str:
        """What to call the job at the beginning of a sentence."""
        return begun(self.name_targets())

    def problem(self) -> str | None:
        """Say why there is nothing to wait for, None where there is."""
        if self.targets and all(each.strip() for each in self.targets):
            return None

        return f"{self.targets!r} are no ids to wait for"

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request the newest jobs of each target."""
        ends, at = await self.look_for_ends(leased)
        job = self.judge(ends)
        if job.state.is_terminal:
            job = await self.complete(leased, job, now=at)

        return Seen(job=job, at=at)

    async def look_for_ends(
        self, leased: LeasedAccount
    ) -> tuple[dict[str, list[Job]], float | None]:
        """Return what has ended in time by target, and the server's time of the first."""
        ends: dict[str, list[Job]] = {}
        times = []
        for target in self.targets:
            jobs, at = await self.newest(leased, target)
            ends[target] = [each for each in jobs if self.is_in_time(each)]
            times.append(at)

        return ends, min((at for at in times if at is not None), default=None)

    def is_in_time(self, job: Job) -> bool:
        """Return whether a job has ended, later than the time that counts."""
        return (
            job.state.is_terminal
            and job.ended_at is not None
            and job.ended_at > self.since
            and self.counts(job)
        )

    def judge(self, ends: Mapping[str, Sequence[Job]]) -> Job:
        """Return the one job that these ends make."""
        good = {target: _success(ends.get(target, ())) for target in self.targets}
        missing = [target for target, job in good.items() if job is None]
        failed = next((ends[each][0] for each in missing if ends.get(each)), None)
        common: dict[str, Any] = {
            target: None if job is None else job.id for target, job in good.items()
        }
        found = Job(
            id=self.job_id,
            state=JobState.RUNNING,
            word=f"waiting for {', '.join(missing)}",
            label=self.title,
            statistics=common,
        )
        is_one = len(self.targets) == 1
        if failed is not None:
            own = {**failed.statistics, self.targets[0]: failed.id}
            return replace(
                found,
                statistics=own if is_one else common,
                state=failed.state,
                word=failed.word,
                message=_reason(failed),
                url=failed.url,
                amounts=failed.amounts,
                started_at=failed.started_at,
                ended_at=failed.ended_at,
            )

        if missing:
            return found

        last = max(
            (job for job in good.values() if job is not None),
            key=lambda job: job.ended_at or 0.0,
        )
        facts = last.statistics if is_one else {}
        return replace(
            found,
            state=JobState.SUCCEEDED,
            word=last.word,
            url=last.url if is_one else "",
            amounts=last.amounts if is_one else (),
            started_at=last.started_at,
            ended_at=last.ended_at,
            statistics={**facts, **common},
        )

    async def cancel(self, leased: LeasedAccount) -> Self:
        """Cancel nothing: none of the jobs is the task's."""
        return self

    def read_id(self, job_id: str) -> Any:
        """Return the id of a job as the vendor's users know it."""
        return job_id

    def result(self, job: Job | None) -> Any:
        """Return the id of the job that has succeeded, or those of all targets."""
        if job is None:
            return None

        found = [str(job.statistics[target]) for target in self.targets]
        ids = [self.read_id(each) for each in found]
        return ids if self.many else ids[0]


def _success(jobs: Sequence[Job]) -> Job | None:
    return next((each for each in jobs if each.state is JobState.SUCCEEDED), None)


def _reason(job: Job) -> str:
    """Say which job has failed, and why."""
    how = "was cancelled" if job.state is JobState.CANCELLED else "failed"
    return f"{job.title} {how}" + (f": {job.message}" if job.message else "")
