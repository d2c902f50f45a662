"""Waits for a Fivetran sync that something else started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from async_triggers.deferral import compat
from async_triggers.deferral.after import as_text
from async_triggers.deferral.arguments import count, not_negative
from async_triggers.deferral.errors import JobEnded
from async_triggers.deferral.finding_sensor import FindingSensor
from async_triggers.deferral.record import KEY
from async_triggers.deferral.sensor import JobSensor
from async_triggers.engine.times import parse_time
from async_triggers.fivetran.api import models
from async_triggers.fivetran.ends import FivetranSyncsQuery
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.job_query import FivetranSyncQuery
from async_triggers.fivetran.naming import IDS
from async_triggers.fivetran.operators import deprecated
from async_triggers.fivetran.triggers import FivetranTrigger

__all__ = ["FivetranHook", "FivetranSensor", "FivetranSyncSensor", "FivetranTrigger"]

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.bases.sensor import PokeReturnValue

    from async_triggers.engine.jobs import Job, Seen

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
        ``[core] default_timezone``. None, ``now``, or a template that renders to nothing,
        waits for the next sync
    :param reschedule_wait_time: seconds after which a sync that Fivetran has put off is
        started again, where the schedule is manual; None waits until the time it names
    :param always_wait_when_syncing: wait for as long as the connection is syncing,
        even if another has ended before
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
    query_class = FivetranSyncQuery

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
        self.fivetran_retry_limit = count("fivetran_retry_limit", fivetran_retry_limit)
        self.fivetran_retry_delay = fivetran_retry_delay
        # A template may make a datetime of it again.
        self.completed_after_time: str | datetime | None = as_text(completed_after_time)
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

    # The baseline as it was written down last.
    _noted: str = ""
    _has_warned: bool = False

    @property
    def hook(self) -> FivetranHook:
        """The hook of the sensor's connection, for calls made by hand."""
        return FivetranSyncQuery.of(self).make_hook()

    @property
    def xcom(self) -> str | datetime | None:
        """The older name of ``completed_after_time``."""
        deprecated("xcom", "completed_after_time")
        return self.completed_after_time

    @xcom.setter
    def xcom(self, value: str | datetime | None) -> None:
        deprecated("xcom", "completed_after_time")
        self.completed_after_time = as_text(value)

    @property
    def previous_completed_at(self) -> datetime | None:
        """The time after which a sync counts, once the sensor has looked."""
        run = self._sync_query.run
        moment = parse_time(None if run is None else run.before)
        return None if moment is None else datetime.fromtimestamp(moment, tz=UTC)

    @property
    def _sync_query(self) -> FivetranSyncQuery:
        query = self.query
        assert isinstance(query, FivetranSyncQuery)  # noqa: S101 - as query_class says
        return query

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

    def _recall(self, context: Context) -> None:
        store, query = compat.airflows_store(context), self._sync_query
        noted = store.get(KEY) if store is not None else None
        if (
            isinstance(noted, Mapping)
            and noted.get("max_tries") == context["ti"].max_tries
            and noted.get("asked_for") == query.wording
        ):
            self._noted = str(noted.get("run", ""))
            self.query = query.recalling(self._noted)

    def _remember(self, context: Context) -> None:
        store, query = compat.airflows_store(context), self._sync_query
        if store is not None and query.found and query.found != self._noted:
            self._noted = query.found
            store.set(
                KEY,
                {
                    "max_tries": context["ti"].max_tries,
                    "asked_for": query.wording,
                    "run": self._noted,
                },
            )

    @contextlib.contextmanager
    def in_attempt(self, context: Context) -> Iterator[None]:
        """Recall the baseline; let a retry wait for a later sync than one that failed."""
        self._recall(context)
        try:
            yield
        except JobEnded as error:
            query, job = self._sync_query, error.job
            run = query.run
            if run is not None and job is not None and not query.has_baseline:
                shown = (job.statistics.get(each) for each in _TIMES)
                succeeded, failed = (
                    each if isinstance(each, str) else None for each in shown
                )
                run = replace(run, succeeded_at=succeeded, failed_at=failed)
                self.query = query.recalling(run.id)
                self._remember(context)

            raise

    def report(self, job: Job) -> None:
        """Log how the sync is doing; warn, once, of a connection that does not sync."""
        if job.word == models.PAUSED and not self._has_warned:
            self._has_warned = True
            self.log.warning("%s", models.paused_warning(job))
        else:
            super().report(job)


class FivetranSyncSensor(FindingSensor):
    """Waits until several connections have synced, no matter what has started the syncs.

    Without ``completed_after_time`` the sensor waits for the next sync of each to end after
    it has first looked. A success counts, also where a later sync has failed since. All
    must succeed; one that has failed fails the sensor at once.

    Returns the id of the sync, a list of ids for ``connector_ids``.

    :param connector_id: the connection in Fivetran (templated)
    :param connector_ids: several connections instead: a list, or a template of one
        (templated)
    :param completed_after_time: as for :class:`FivetranSensor` (templated)
    :param fivetran_conn_id: the Airflow connection (templated)
    :param deferrable: wait on the triggerer and not on a worker
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_from_trigger: wait without ever having been on a worker; needs
        ``deferrable``. A mapped sensor begins on a worker all the same
    """

    template_fields: Sequence[str] = FivetranSyncsQuery.template_fields
    ui_color = "#D5E8FF"

    ids = FivetranSyncsQuery.ids
    query_class = FivetranSyncsQuery

    def __init__(
        self,
        *,
        connector_id: str | None = None,
        connector_ids: Sequence[str] | str | XComArg | None = None,
        completed_after_time: str | datetime | None = None,
        fivetran_conn_id: str = "fivetran_default",
        deferrable: bool = True,
        end_from_trigger: bool = False,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connector_id = connector_id
        self.connector_ids = connector_ids
        # A template may make a datetime of it again.
        self.completed_after_time: str | datetime | None = as_text(completed_after_time)
        self.fivetran_conn_id = fivetran_conn_id
        self.deferrable = deferrable
        self.end_from_trigger = end_from_trigger
        self.begin_on_triggerer(wanted=start_from_trigger)
        self.note_ids(kwargs)
