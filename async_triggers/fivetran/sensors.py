"""Waits for a Fivetran sync that something else started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.record import KEY
from async_triggers.deferral.sensor import JobSensor
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wire import parse_time
from async_triggers.fivetran import api
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.operators import check_connector, deprecated
from async_triggers.fivetran.triggers import FivetranTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.sensor import PokeReturnValue

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

NEVER = ("", "None")
"""What a template makes of a baseline that is None."""


class FivetranSensor(JobSensor):
    """Waits until a Fivetran connection has synced, and fails if it did not succeed.

    Without ``completed_after_time`` the sensor waits for the next sync to end after it has
    first looked. The arguments are the peers'.

    :param connector_id: the connection in Fivetran (templated)
    :param connector_name: its name, together with ``destination_name``
    :param destination_name: the name of its destination
    :param fivetran_conn_id: the Airflow connection
    :param poke_interval: how often to look, in seconds; deferred never more often than
        every 15
    :param fivetran_retry_limit: how often a single call is tried
    :param fivetran_retry_delay: accepted as the peers do
    :param completed_after_time: a sync that ended later than this counts (templated): a
        datetime, an ISO 8601 text, or what an operator with
        ``wait_for_completion=False`` returned; ``None`` or an empty text that comes out of
        a template means that the connection had never synced
    :param reschedule_wait_time: seconds after which a sync that Fivetran has put off is
        started again, where the schedule is manual; None waits until the time it names
    :param always_wait_when_syncing: wait for as long as the connection is syncing,
        whatever has ended before
    :param propagate_failures_forward: fail when the connection's last sync had failed,
        even before ``completed_after_time``
    :param deferrable: wait on the triggerer and not on a worker
    """

    template_fields: Sequence[str] = ("connector_id", "completed_after_time")
    ui_color = "#D5E8FF"

    def __init__(
        self,
        connector_id: str | None = None,
        connector_name: str | None = None,
        destination_name: str | None = None,
        fivetran_conn_id: str = "fivetran_default",
        poke_interval: float = 60,
        fivetran_retry_limit: int = 3,
        fivetran_retry_delay: float = 1,
        completed_after_time: str | datetime | None = None,
        reschedule_wait_time: float | None = None,
        always_wait_when_syncing: bool = False,
        propagate_failures_forward: bool = False,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        if "xcom" in kwargs:
            old = kwargs.pop("xcom")
            completed_after_time = completed_after_time or old
            deprecated("xcom", "completed_after_time")

        if "reschedule_time" in kwargs:
            old = kwargs.pop("reschedule_time")
            reschedule_wait_time = reschedule_wait_time or old
            deprecated("reschedule_time", "reschedule_wait_time")

        super().__init__(poke_interval=poke_interval, **kwargs)
        self.connector_id = connector_id
        self.connector_name = connector_name
        self.destination_name = destination_name
        self.fivetran_conn_id = fivetran_conn_id
        self.fivetran_retry_limit = fivetran_retry_limit
        self.fivetran_retry_delay = fivetran_retry_delay
        self.completed_after_time = completed_after_time
        self.has_baseline = completed_after_time is not None
        self.reschedule_wait_time = reschedule_wait_time
        self.always_wait_when_syncing = always_wait_when_syncing
        self.propagate_failures_forward = propagate_failures_forward
        self.deferrable = deferrable

    _run: api.Run | None = None

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        check_connector(self.connector_id, self.connector_name, self.destination_name)
        if self.has_baseline:
            self._baseline()

    def _baseline(self) -> str | None:
        """Return the time after which a sync counts, None when the connection never ran."""
        value = self.completed_after_time
        if isinstance(value, datetime):
            return value.isoformat()

        if value is None or value.strip() in NEVER:
            return None

        if parse_time(value.strip()) is None:
            msg = (
                "completed_after_time must be a time in ISO 8601, for example"
                f" 2026-01-01T00:00:00Z, not {value!r}"
            )
            raise ArgumentUnusable(msg)

        return value.strip()

    def make_hook(self) -> FivetranHook:
        """Return the hook of the sensor's connection."""
        return FivetranHook(
            self.fivetran_conn_id, attempts=max(1, int(self.fivetran_retry_limit))
        )

    def execute(self, context: Context) -> Any:
        """Wait for the sync: here, or on the triggerer."""
        self._recall(context)
        return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when the sync has succeeded."""
        done = super().poke(context)
        self._remember(context)
        return done

    # A sensor that is rescheduled begins anew at each look: its baseline must not.

    def _recall(self, context: Context) -> None:
        store = context.get("task_state_store")
        told = store.get(KEY) if store is not None else None
        if isinstance(told, dict) and told.get("max_tries") == context["ti"].max_tries:
            self._run = api.Run.from_id(str(told.get("run", "")))

    def _remember(self, context: Context) -> None:
        store = context.get("task_state_store")
        if store is not None and self._run is not None and not self.has_baseline:
            store.set(KEY, {"max_tries": context["ti"].max_tries, "run": self._run.id})

    async def look(self, leased: LeasedAccount) -> Seen:
        """Ask for the connection; the first look may set the baseline."""
        hook = self.make_hook()
        connector_id = self.connector_id or await hook.find_connector_id(
            leased, self.connector_name or "", self.destination_name or ""
        )
        connection, now = await hook.get_fivetran_connection(leased, connector_id)
        run = self._run
        if run is None or run.connection_id != connection.id:
            run = self._run = self._run_for(connection)

        job = api.judge_run(connection, run)
        if job.state.is_terminal:
            job = await hook.settle(leased, job, connection.id)

        return Seen(job=job, at=now)

    def _run_for(self, connection: api.Connection) -> api.Run:
        if self.has_baseline:
            succeeded = failed = self._baseline()
        else:
            succeeded, failed = connection.succeeded_at, connection.failed_at

        return api.Run(
            connection_id=connection.id,
            succeeded_at=succeeded,
            failed_at=failed,
            patient=self.always_wait_when_syncing,
            strict=self.propagate_failures_forward,
        )

    def make_trigger(
        self,
        seen: Seen | None,
        *,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> FivetranTrigger:
        """Return the trigger that waits for the sync."""
        run = self._run
        if run is None:
            # Fivetran could not be asked. Without an id there is nothing to wait for, and
            # without a look no baseline but the one that was given.
            if not self.connector_id or not self.has_baseline:
                msg = (
                    "Fivetran could not be asked for the connection's last sync, after"
                    " which the sensor should wait; it is tried again with the task"
                )
                raise ArgumentUnusable(msg)

            baseline = self._baseline()
            run = api.Run(
                connection_id=self.connector_id,
                succeeded_at=baseline,
                failed_at=baseline,
                patient=self.always_wait_when_syncing,
                strict=self.propagate_failures_forward,
            )

        return FivetranTrigger(
            self.task_id,
            run.connection_id,
            self.fivetran_conn_id,
            poke_interval=self.poke_interval,
            reschedule_wait_time=self.reschedule_wait_time,
            baseline=run.mark,
            end_time=end_time,
            execution_deadline=execution_deadline,
            seen_at=None if seen is None else seen.at,
        )

    def result(self, job: Job) -> str | None:
        """Return the time of the success."""
        done = job.statistics.get("succeeded_at")
        return done if isinstance(done, str) else None
