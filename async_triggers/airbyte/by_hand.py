"""The official provider's calls, for tasks and scripts that make them by hand."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.api.models import JobResponse, describe_job
from async_triggers.deferral import events
from async_triggers.deferral.arguments import whole_number
from async_triggers.deferral.connection import read_extra
from async_triggers.deferral.errors import JobCancelled, JobFailed, JobTimedOut
from async_triggers.deferral.hook import VendorHook
from async_triggers.engine.errors import ConnectionChanged
from async_triggers.engine.jobs import JobState

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen


class CallsByHand(VendorHook):
    """The official provider's calls, over requests that :class:`AirbyteHook` sends.

    All of them block. All errors are subclasses of ``AirflowException``.
    """

    @abstractmethod
    async def start_job(
        self, leased: LeasedAccount, connection_id: str, job_type: str = "sync"
    ) -> Seen:
        """Start a sync, a reset or a clear of a connection."""

    @abstractmethod
    async def get_job(self, leased: LeasedAccount, job_id: int | str) -> Seen:
        """Request a job."""

    @abstractmethod
    async def stop_job(self, leased: LeasedAccount, job_id: int | str) -> Job:
        """Cancel a job if it has not ended; return what Airbyte last showed of it."""

    def submit_sync_connection(self, connection_id: str) -> JobResponse:
        """Start a sync of a connection and return its job.

        Raise :class:`~async_triggers.deferral.errors.JobAlreadyRunning` when a job of the
        connection is under way.
        """
        return self._submit(connection_id, "sync")

    def submit_reset_connection(self, connection_id: str) -> JobResponse:
        """Start a reset of a connection and return its job."""
        return self._submit(connection_id, "reset")

    def _submit(self, connection_id: str, job_type: str) -> JobResponse:
        seen = self.run(lambda leased: self.start_job(leased, connection_id, job_type))
        return describe_job(seen.job)

    def get_job_details(self, job_id: int) -> JobResponse:
        """Return a job."""
        seen = self.run(lambda leased: self.get_job(leased, job_id))
        return describe_job(seen.job)

    def get_job_status(self, job_id: int) -> str:
        """Return the status of a job, see :class:`~.api.models.JobStatusEnum`."""
        return self.get_job_details(job_id).status

    def wait_for_job(
        self,
        job_id: str | int,
        wait_seconds: float = 3,
        timeout: float | None = 3600,
    ) -> None:
        """Wait until a job has succeeded; cancel it when ``timeout`` seconds have passed.

        Trouble with the API is only a late answer. The job is checked every five seconds
        at most, also where ``wait_seconds`` is left at the official provider's default of
        three. ``timeout`` None or 0 waits for as long as the job runs.
        Raise JobFailed, JobCancelled or JobTimedOut of
        :mod:`async_triggers.deferral.errors` when it has not succeeded.
        """
        subject = str(whole_number("job_id", job_id))

        async def wait(leased: LeasedAccount) -> Job | None:
            try:
                async with asyncio.timeout(timeout or None):
                    while True:
                        try:
                            return await leased.wait(subject, interval=wait_seconds)
                        except ConnectionChanged:
                            # The lease leads to another account from now on.
                            continue
            except TimeoutError:
                job = await self.stop_job(leased, subject)
                # It may have ended just now.
                return job if job.state is JobState.SUCCEEDED else None

        job = self.run(wait)
        if job is None:
            msg = f"Job {subject} was running after {timeout:g} s and was cancelled"
            raise JobTimedOut(msg)

        if job.state is JobState.FAILED:
            raise JobFailed(events.ended(job).message, job=job)

        if job.state is JobState.CANCELLED:
            raise JobCancelled(events.ended(job).message, job=job)

    def cancel_job(self, job_id: int) -> JobResponse:
        """Cancel a job if it has not ended, and return what Airbyte last showed of it."""
        return describe_job(self.run(lambda leased: self.stop_job(leased, job_id)))

    @property
    def conn(self) -> dict[str, Any]:
        """What :meth:`get_conn_params` returns of the hook's own connection."""
        return self.get_conn_params(self.conn_id)

    def get_conn_params(self, conn_id: str) -> dict[str, Any]:
        """Return the fields of a connection under other names. One of them is a secret."""
        connection: Connection = self.get_connection(conn_id)
        extra = read_extra(connection)
        return {
            "host": connection.host,
            "client_id": connection.login,
            "client_secret": connection.password,
            "token_url": connection.schema or "v1/applications/token",
            "proxies": extra.get("proxies"),
            "timeout": extra.get("timeout"),
        }
