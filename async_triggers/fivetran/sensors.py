"""Waits for a Fivetran sync that something else started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.arguments import ArgumentUnusable, not_negative
from async_triggers.deferral.ending import Ending, Then
from async_triggers.deferral.errors import JobEnded
from async_triggers.deferral.record import KEY
from async_triggers.deferral.sensor import JobSensor
from async_triggers.engine.jobs import Seen
from async_triggers.engine.wire import parse_time
from async_triggers.fivetran.api import models
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.operators import (
    IDS,
    deprecated,
)
from async_triggers.fivetran.triggers import FivetranTrigger

__all__ = ["FivetranHook", "FivetranSensor", "FivetranTrigger"]

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.sensor import PokeReturnValue

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job

_TIMES = ("succeeded_at", "failed_at")


class FivetranSensor(JobSensor):
    """Waits until a Fivetran connection has synced, and fails if it did not succeed.

    Without ``completed_after_time`` the sensor waits for the next sync to end after it has
    first looked. A success counts, also where a later sync has failed since. The arguments
    are the peers'.

    :param connector_id: the connection in Fivetran (templated)
    :param connector_name: its name, together with ``destination_name``
    :param destination_name: the name of its destination
    :param fivetran_conn_id: the Airflow connection
    :param poke_interval: how often to look, in seconds; deferred never more often than
        every 15
    :param fivetran_retry_limit: how often a single call is tried
    :param fivetran_retry_delay: accepted as the peers do
    :param completed_after_time: a sync that ended later than this counts (templated): a
        datetime, a text that Airflow can read as one, or what an operator with
        ``wait_for_completion=False`` returned. Without an offset it is in Airflow's
        ``[core] default_timezone``. None, or a template that renders to nothing, waits for
        the next sync
    :param reschedule_wait_time: seconds after which a sync that Fivetran has put off is
        started again, where the schedule is manual; None waits until the time it names
    :param always_wait_when_syncing: wait for as long as the connection is syncing,
        whatever has ended before
    :param propagate_failures_forward: fail when the connection's last sync had failed,
        even before ``completed_after_time``
    :param fail_if_paused: fail while the connection is paused, instead of a wait until it
        is un-paused and syncs
    :param deferrable: wait on the triggerer and not on a worker
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    # A list, as subclasses and mixins of users add lists to it.
    template_fields: list[str] = [  # noqa: RUF012
        "connector_id",
        "completed_after_time",
    ]
    ui_color = "#D5E8FF"

    ids = IDS
    returns = True

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
        *,
        fail_if_paused: bool = False,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
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
        # A template may make a datetime of it again.
        self.completed_after_time: str | datetime | None = _as_text(
            completed_after_time
        )
        self.reschedule_wait_time = (
            None
            if reschedule_wait_time is None
            else not_negative("reschedule_wait_time", reschedule_wait_time)
        )
        self.always_wait_when_syncing = always_wait_when_syncing
        self.propagate_failures_forward = propagate_failures_forward
        self.fail_if_paused = fail_if_paused
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)

    _run: models.Run | None = None
    # The run as it was written down last.
    _told: str = ""
    _has_warned: bool = False

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        super().check_arguments()
        self._baseline()

    @property
    def has_baseline(self) -> bool:
        """True where a time is given; else the next sync to end is waited for."""
        value = self.completed_after_time
        return value is not None and (not isinstance(value, str) or bool(value.strip()))

    def _baseline(self) -> str | None:
        """Return the time after which a sync counts, in UTC; None for the next to end."""
        if not self.has_baseline:
            return None

        value: object = _as_text(self.completed_after_time)
        moment = _read_time(value.strip()) if isinstance(value, str) else None
        if moment is None:
            msg = (
                "completed_after_time must be a time, for example 2026-01-01T00:00:00Z,"
                f" or empty to wait for the next sync, not {value!r}"
            )
            raise ArgumentUnusable(msg)

        return moment.astimezone(UTC).isoformat()

    @property
    def hook(self) -> FivetranHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return self.make_hook()

    @property
    def xcom(self) -> str | datetime | None:
        """The older name of ``completed_after_time``."""
        deprecated("xcom", "completed_after_time")
        return self.completed_after_time

    @xcom.setter
    def xcom(self, value: str | datetime | None) -> None:
        deprecated("xcom", "completed_after_time")
        self.completed_after_time = _as_text(value)

    @property
    def previous_completed_at(self) -> datetime | None:
        """The time after which a sync counts, once the sensor has looked."""
        moment = parse_time(None if self._run is None else self._run.before)
        return None if moment is None else datetime.fromtimestamp(moment, tz=UTC)

    def make_hook(self) -> FivetranHook:
        """Return the hook of the sensor's connection."""
        return FivetranHook(
            self.fivetran_conn_id,
            retry_limit=self.fivetran_retry_limit,
            retry_delay=self.fivetran_retry_delay,
        )

    # The baseline is taken once. It outlives the looks of a rescheduled sensor, each of
    # which is a new process, and the retries of a task.

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when the sync has succeeded."""
        done = super().poke(context)
        self._remember(context)
        return done

    def _defer(self, context: Context, seen: Seen | None, end_time: float) -> None:
        self._remember(context)
        super()._defer(context, seen, end_time)

    def narrowed(self, ending: Ending) -> Ending:
        """Return how a trigger ends the task, now that the arguments are rendered."""
        if self.has_baseline or ending.failure is Then.SKIP:
            return ending

        # The retry waits for a later sync, which a worker writes down.
        return replace(ending, failure=Then.RESUME)

    @property
    def _asked_for(self) -> str:
        before = self._baseline() or "the next"
        names = (self.connector_id, self.connector_name, self.destination_name)
        return repr((*names, before))

    @property
    def keeps_run(self) -> bool:
        """True: the first look sets the baseline, or finds the connection."""
        return True

    @property
    def run_seen(self) -> str:
        """The baseline, which outlives a restart of the triggerer."""
        return "" if self._run is None else self._run.id

    def recall_run(self, text: str) -> None:
        """Take the baseline that was found before."""
        self._run = models.Run.from_id(text) if text else None

    def _recall(self, context: Context) -> None:
        store = context.get("task_state_store")
        told = store.get(KEY) if store is not None else None
        if (
            isinstance(told, Mapping)
            and told.get("max_tries") == context["ti"].max_tries
            and told.get("asked_for") == self._asked_for
        ):
            self._told = str(told.get("run", ""))
            self._run = models.Run.from_id(self._told)

    def _remember(self, context: Context) -> None:
        store = context.get("task_state_store")
        if store is not None and self._run is not None and self._run.id != self._told:
            self._told = self._run.id
            store.set(
                KEY,
                {
                    "max_tries": context["ti"].max_tries,
                    "asked_for": self._asked_for,
                    "run": self._told,
                },
            )

    @contextlib.contextmanager
    def in_attempt(self, context: Context) -> Iterator[None]:
        """Recall the baseline; let a retry wait for a later sync than one that failed."""
        self._recall(context)
        try:
            yield
        except JobEnded as error:
            run, job = self._run, error.job
            if run is not None and job is not None and not self.has_baseline:
                told = (job.statistics.get(each) for each in _TIMES)
                times = (each if isinstance(each, str) else None for each in told)
                succeeded, failed = times
                self._run = replace(run, succeeded_at=succeeded, failed_at=failed)
                self._remember(context)

            raise

    # Looking ----------------------------------------------------------------------

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request the connection; the first look may set the baseline."""
        hook = self.make_hook()
        connector_id = self.connector_id or await self._find_id(leased)
        connection, now = await hook.get_fivetran_connection(leased, connector_id)
        run = self._run
        if run is None:
            before = self._baseline()
            times = (before, before)
            if before is None:
                times = (connection.succeeded_at, connection.failed_at)

            run = self._run_after(connection.id, *times)

            self._run = run

        job = models.judge_run(connection, run)
        if job.state.is_terminal:
            job = await hook.settle(leased, job, now=now)

        return Seen(job=job, at=now)

    def report(self, job: Job) -> None:
        """Log how the sync is doing; warn, once, of a connection that does not sync."""
        if job.word == models.PAUSED and not self._has_warned:
            self._has_warned = True
            self.log.warning("%s", models.paused_warning(job))
        else:
            super().report(job)

    async def _find_id(self, leased: LeasedAccount) -> str:
        if self._run is not None:
            return self._run.connection_id

        return await self.make_hook().find_connector_id(
            leased, self.connector_name or "", self.destination_name or ""
        )

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

    @property
    def waits_unseen(self) -> bool:
        """Only where both the connection's id and the baseline are known."""
        known = bool(self.connector_id) and self.has_baseline
        return self._run is not None or known

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
            # Fivetran could not be asked, see waits_unseen.
            before = self._baseline()
            run = self._run_after(self.connector_id or "", before, before)

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


def _as_text(value: str | datetime | None) -> str | None:
    """Return a time as text: a datetime without an offset would not stay what it is."""
    return value.isoformat() if isinstance(value, datetime) else value


def _read_time(text: str) -> datetime | None:
    """Read a time as Airflow does, None where it is none."""
    # What reads a DAG file need not load it.
    from airflow.sdk import timezone  # noqa: PLC0415

    try:
        moment: object = timezone.parse(text)
    except (ValueError, OverflowError):
        return None

    # It reads durations as well.
    return moment if isinstance(moment, datetime) else None
