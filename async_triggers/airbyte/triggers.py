"""Waits for an Airbyte job on the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.trigger import JobTrigger

__all__ = ["AirbyteHook", "AirbyteSyncTrigger"]

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job


class AirbyteSyncTrigger(JobTrigger):
    """Yields one event when an Airbyte job has ended or a deadline has passed.

    The first five arguments are those of the official provider's trigger. Used by itself,
    the trigger never cancels the job unless ``owned`` says that it may.

    The event is an object with ``status`` (success, error, cancelled or timeout),
    ``message``, ``job_id`` (int) and ``job``, see
    :mod:`async_triggers.deferral.events`.

    :param job_id: the job
    :param conn_id: the Airflow connection
    :param end_time: the deadline in epoch seconds, None for none
    :param poll_interval: how often to look, in seconds; never more often than every five
    :param execution_deadline: the deadline that ``execution_timeout`` sets, in epoch
        seconds
    :param api_version: the version in the API's path
    :param address: the hash of the address at which the task has found the API, where the
        connection's host may mean one of two
    :param owned: whether the job was started by this task, so that it may be cancelled
    :param cancel_on_kill: cancel an owned job when a user stops the deferred task; needs
        the token of :meth:`claim`
    :param cancel_on_timeout: cancel an owned job when a deadline passes
    :param seen_at: the server's time of the last look at the job, in epoch seconds
    :param job_url: where Airbyte shows the job
    :param ending: how the trigger ends its task, see
        :class:`async_triggers.deferral.ending.Ending`; None to resume it
    """

    hook_class = AirbyteHook

    def __init__(
        self,
        job_id: int,
        conn_id: str,
        end_time: float | None,
        poll_interval: float,
        execution_deadline: float | None = None,
        *,
        api_version: str = "v1",
        address: str = "",
        owned: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        seen_at: float | None = None,
        job_url: str = "",
        ending: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.job_id = job_id
        self.conn_id = conn_id
        self.end_time = end_time
        self.poll_interval = poll_interval
        self.execution_deadline = execution_deadline
        self.api_version = api_version
        self.address = address
        self.owned = owned
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.seen_at = seen_at
        self.job_url = job_url
        self.ending = ending

    @property
    def subject(self) -> str:
        """The id of the job."""
        return str(self.job_id)

    def check_id(self) -> str | None:
        """Say why the id cannot be one, None where it may be."""
        subject = self.subject.strip()
        if subject.isascii() and subject.isdecimal():
            return None

        return f"job_id is {self.job_id!r}: give the number of the job"

    def make_hook(self) -> AirbyteHook:
        """Return the hook of the trigger's connection."""
        return AirbyteHook(self.conn_id, self.api_version, address=self.address)

    async def look(self, leased: LeasedAccount) -> Job:
        """Ask for the job once."""
        seen = await self.make_hook().get_job(leased, self.subject)
        return replace(seen.job, url=self.job_url)

    async def is_still_running(self, hook: AirbyteHook) -> bool:
        """Check with a hook, once, whether the job has not ended."""
        seen = await hook.run_async(lambda leased: hook.get_job(leased, self.subject))
        return not seen.job.state.is_terminal

    async def cancel(self, leased: LeasedAccount) -> None:
        """Cancel the job, if it is still this one that runs."""
        await self.make_hook().stop_job(leased, self.subject)

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Add the job's address, which its row does not hold."""
        return replace(job, url=self.job_url)

    def result(self, job: Job) -> int:
        """Return what a task returns that this trigger ends: the job's id."""
        return self.job_id

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the job's id as the number that it is."""
        return {**super().payload(outcome), "job_id": self.job_id}
