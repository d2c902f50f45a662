"""Which Fivetran sync a sensor waits for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from async_triggers.deferral.after import is_given, read_after
from async_triggers.deferral.ending import Ending, Then
from async_triggers.deferral.job_query import JobQuery
from async_triggers.engine.jobs import Seen
from async_triggers.fivetran.api import models
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.naming import IDS
from async_triggers.fivetran.remote_job import FivetranSync, succeeded_at

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job


@dataclass(frozen=True, kw_only=True)
class FivetranSyncQuery(JobQuery):
    """The first sync of a connection that ends after a time, or the next to end.

    ``found`` is the id of a :class:`~async_triggers.fivetran.api.models.Run`: the
    connection, and what it showed at the first look.
    """

    connector_id: str | None
    connector_name: str | None
    destination_name: str | None
    fivetran_conn_id: str
    fivetran_retry_limit: int
    fivetran_retry_delay: float
    completed_after_time: str | datetime | None
    reschedule_wait_time: float | None
    always_wait_when_syncing: bool
    propagate_failures_forward: bool
    fail_if_paused: bool

    ids = IDS
    template_fields = ("connector_id", "completed_after_time")
    returns = True

    def check(self) -> None:
        """Raise ArgumentUnusable for a time that cannot be read."""
        self._baseline()

    @property
    def has_baseline(self) -> bool:
        """True where a time is given; else the next sync to end is waited for."""
        return is_given(self.completed_after_time)

    def _baseline(self) -> str | None:
        """Return the time after which a sync counts, in UTC; None for the next to end."""
        moment = read_after(self.completed_after_time)
        return None if moment is None else moment.astimezone(UTC).isoformat()

    @property
    def wording(self) -> str:
        """What is waited for, as the arguments say it: a run found for it still holds."""
        before = self._baseline() or "the next"
        names = (self.connector_id, self.connector_name, self.destination_name)
        return repr((*names, before))

    @property
    def run(self) -> models.Run | None:
        """The run that is waited for, once a look has set its baseline."""
        return models.Run.from_id(self.found) if self.found else None

    @property
    def keeps_found(self) -> bool:
        """True: the first look sets the baseline, or finds the connection."""
        return True

    @property
    def waits_unseen(self) -> bool:
        """Only where both the connection's id and the baseline are known."""
        return bool(self.found) or (bool(self.connector_id) and self.has_baseline)

    def make_hook(self) -> FivetranHook:
        """Return the hook of the query's connection."""
        return FivetranHook(
            self.fivetran_conn_id,
            retry_limit=self.fivetran_retry_limit,
            retry_delay=self.fivetran_retry_delay,
        )

    def narrowed(self, ending: Ending) -> Ending:
        """Return how a trigger ends the task, now that the fields are rendered."""
        if self.has_baseline or ending.failure is Then.SKIP:
            return ending

        # The retry waits for a later sync, which a worker writes down.
        return replace(ending, failure=Then.RESUME)

    async def look(self, leased: LeasedAccount) -> tuple[Self, Seen]:
        """Request the connection; the first look may set the baseline."""
        hook, run = self.make_hook(), self.run
        connector_id = self.connector_id or (run.connection_id if run else None)
        if not connector_id:
            connector_id = await hook.find_connector_id(
                leased, self.connector_name or "", self.destination_name or ""
            )

        connection, now = await hook.get_fivetran_connection(leased, connector_id)
        if run is None:
            before = self._baseline()
            times = (before, before)
            if before is None:
                times = (connection.succeeded_at, connection.failed_at)

            run = self._run_after(connection.id, *times)

        job = models.judge_run(connection, run)
        if job.state.is_terminal:
            job = await hook.settle(leased, job, now=now)

        return self.recalling(run.id), Seen(job=job, at=now)

    def _run_after(
        self, connector_id: str, succeeded: str | None, failed: str | None
    ) -> models.Run:
        return models.Run(
            connection_id=connector_id,
            succeeded_at=succeeded,
            failed_at=failed,
            whichever=True,
            patient=self.always_wait_when_syncing,
            strict=self.propagate_failures_forward,
            through_pause=not self.fail_if_paused,
        )

    def job(self, shown: Job | None) -> FivetranSync:
        """Return the sync to wait for."""
        run = self.run
        if run is None:
            # Fivetran could not be reached, see waits_unseen.
            before = self._baseline()
            run = self._run_after(self.connector_id or "", before, before)

        return FivetranSync(
            conn_id=self.fivetran_conn_id,
            job_id=run.id,
            reschedule_wait_time=self.reschedule_wait_time,
        )

    def result(self, job: Job) -> str | None:
        """Return the time of the success."""
        return succeeded_at(job)
