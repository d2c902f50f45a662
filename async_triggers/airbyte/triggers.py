"""Waits for an Airbyte job on the triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.remote_job import AirbyteJob
from async_triggers.deferral.trigger import JobTrigger, Wait

__all__ = ["AirbyteHook", "AirbyteSyncTrigger"]

if TYPE_CHECKING:
    from async_triggers.deferral.events import Outcome
    from async_triggers.deferral.remote_job import RemoteJob


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
    :param seen_at: the server's time when the job was last seen, in epoch seconds
    :param job_url: where Airbyte shows the job
    :param ending: how the trigger ends its task, see
        :class:`async_triggers.deferral.ending.Ending`; None to resume it
    """

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

    def make_job(self) -> AirbyteJob:
        """Return the job that the arguments name."""
        return AirbyteJob(
            conn_id=self.conn_id,
            job_id=str(self.job_id),
            url=self.job_url,
            owned=self.owned,
            api_version=self.api_version,
            address=self.address,
        )

    @classmethod
    def of(cls, job: RemoteJob, **wait: Unpack[Wait]) -> Self:
        """Return the trigger that waits for a job."""
        assert isinstance(job, AirbyteJob)  # noqa: S101 - its own class says so
        return cls(
            int(job.job_id),
            job.conn_id,
            api_version=job.api_version,
            address=job.address,
            owned=job.owned,
            job_url=job.url,
            **wait,
        )

    async def is_still_running(self, hook: AirbyteHook) -> bool:
        """Check with a hook, once, whether the job has not ended."""
        seen = await hook.run_async(self.remote_job.look)
        return not seen.job.state.is_terminal

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the event's payload, with the job's id as the number that it is."""
        return {**super().payload(outcome), "job_id": self.job_id}
