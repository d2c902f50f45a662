"""Runs a sync, or a historical re-sync, of a Fivetran connection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.arguments import (
    IF_RUNNING,
    ArgumentUnusable,
    count,
    needs_deferrable,
    not_negative,
    one_of,
    time_limit,
)
from async_triggers.deferral.on_demand import on_demand
from async_triggers.deferral.operator import JobOperator
from async_triggers.fivetran.links import FivetranConnectionLink
from async_triggers.fivetran.naming import IDS, SCHEDULE_TYPES

if TYPE_CHECKING:
    from async_triggers.fivetran.hooks import FivetranHook
    from async_triggers.fivetran.remote_job import FivetranSyncRequest
    from async_triggers.fivetran.triggers import FivetranTrigger
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "async_triggers.fivetran.hooks": ("FivetranHook",),
            "async_triggers.fivetran.triggers": ("FivetranTrigger",),
        },
    )

__all__ = [
    "FivetranHook",
    "FivetranOperator",
    "FivetranResyncOperator",
    "FivetranTrigger",
    "RegistryLink",
]

RegistryLink = FivetranConnectionLink
"""The other provider's name of the link: here it opens the connection in Fivetran."""


class FivetranOperator(JobOperator):
    """Starts a sync of a Fivetran connection and waits until it has ended.

    Returns the time of the success as Fivetran writes it; with
    ``wait_for_completion=False`` the connection's last time before the start (the time of
    the start where it never synced), which a sensor takes as its baseline. The statistics
    are pushed to the XCom ``fivetran_sync``.

    A connection that is not set up, say because it is broken, has its setup tests run once.
    The sync starts if they pass.

    Unlike the peers, a sync that is under way is never stopped and started again.

    :param connector_id: the connection in Fivetran (templated)
    :param connector_name: its name, together with ``destination_name`` (templated)
    :param destination_name: the name of its destination (templated)
    :param run_name: accepted as the peers do, and not used
    :param fivetran_conn_id: the Airflow connection
    :param fivetran_retry_limit: how often a single call is tried
    :param fivetran_retry_delay: accepted as the peers do; the waits between tries follow
        the vendor's word and double from one second
    :param poll_frequency: how often to look, in seconds; never more often than every 15
    :param schedule_type: what may start syncs: ``manual`` (requests only) or ``auto``
        (Fivetran's schedule too). Changed where the connection has the other, with a
        warning and the old value in the XCom ``fivetran_schedule_type_before``; None
        leaves it
    :param reschedule_wait_time: seconds after which a sync that Fivetran has put off is
        started again, where the schedule is manual; 0 or None waits until the time it
        names
    :param deferrable: wait on the triggerer and not on a worker
    :param wait_for_completion: False hands back the baseline and does not wait
    :param timeout: seconds after which the task gives up; None or 0 for never
    :param if_running: what to do when a sync is under way that is not our own: ``wait``
        for it to end and start our own, ``attach`` to it, ``fail``, or ``skip``
    :param cancel_on_kill: pause the connection when a user stops the task. Off, because
        pausing is the only way to stop a sync and stops the schedule with it
    :param cancel_on_timeout: pause the connection when a deadline passes
    :param unpause_after_cancel: un-pause it once the sync has stopped
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_in_trigger: leave the start to the triggerer as well; needs ``deferrable``
    :param durable: a retry attaches to what an earlier attempt has started, as Airflow's
        own resumable operators do; False starts a new job in each attempt, and
        leaves an earlier one running
    """

    # A list, as subclasses and mixins of users add lists to it.
    template_fields: list[str] = [  # noqa: RUF012
        "connector_id",
        "connector_name",
        "destination_name",
    ]
    ui_color = "#D5E8FF"
    operator_extra_links = (FivetranConnectionLink(),)

    ids = IDS
    statistics_key = "fivetran_sync"

    def __init__(
        self,
        connector_id: str | None = None,
        connector_name: str | None = None,
        destination_name: str | None = None,
        run_name: str | None = None,
        fivetran_conn_id: str = "fivetran_default",
        fivetran_retry_limit: int = 3,
        fivetran_retry_delay: float = 1,
        poll_frequency: float | timedelta = 15,
        schedule_type: str | None = "manual",
        reschedule_wait_time: float | None = 0,
        deferrable: bool = True,
        wait_for_completion: bool = True,
        *,
        timeout: float | timedelta | None = None,
        if_running: str = "wait",
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        unpause_after_cancel: bool = False,
        end_from_trigger: bool = False,
        start_in_trigger: bool = False,
        durable: bool = True,
        **kwargs: Any,
    ) -> None:
        if "timeout_seconds" in kwargs:
            old = kwargs.pop("timeout_seconds")
            timeout = old if timeout is None else timeout
            deprecated("timeout_seconds", "timeout")

        if "reschedule_time" in kwargs:
            old = kwargs.pop("reschedule_time")
            reschedule_wait_time = reschedule_wait_time or old or 0
            deprecated("reschedule_time", "reschedule_wait_time")

        super().__init__(**kwargs)
        self.connector_id = connector_id
        self.connector_name = connector_name
        self.destination_name = destination_name
        self.run_name = run_name
        self.fivetran_conn_id = fivetran_conn_id
        self.fivetran_retry_limit = count("fivetran_retry_limit", fivetran_retry_limit)
        self.fivetran_retry_delay = fivetran_retry_delay
        self.poll_frequency = not_negative("poll_frequency", poll_frequency)
        if schedule_type is not None:
            one_of("schedule_type", schedule_type, SCHEDULE_TYPES)

        self.schedule_type = schedule_type
        self.reschedule_wait_time = not_negative(
            "reschedule_wait_time", reschedule_wait_time or 0
        )
        self.deferrable = deferrable
        self.wait_for_completion = wait_for_completion
        self.timeout = time_limit("timeout", timeout)
        self.if_running = one_of("if_running", if_running, IF_RUNNING)
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.unpause_after_cancel = unpause_after_cancel
        self.end_from_trigger = end_from_trigger
        self.start_in_trigger = needs_deferrable(
            "start_in_trigger", start_in_trigger, deferrable=deferrable
        )
        self.durable = durable
        self.note_ids(kwargs)

    @property
    def hook(self) -> FivetranHook:
        """The hook of the operator's connection, for calls made by hand."""
        # From this module, where tests of DAGs patch it.
        from async_triggers.fivetran.operators import FivetranHook

        return FivetranHook(
            self.fivetran_conn_id,
            retry_limit=self.fivetran_retry_limit,
            retry_delay=self.fivetran_retry_delay,
        )

    def make_request(self) -> FivetranSyncRequest:
        """Return what the rendered arguments request."""
        from async_triggers.fivetran.remote_job import FivetranSyncRequest

        return FivetranSyncRequest(
            conn_id=self.fivetran_conn_id,
            connector_id=self.connector_id,
            connector_name=self.connector_name,
            destination_name=self.destination_name,
            schedule_type=self.schedule_type,
            reschedule_wait_time=self.reschedule_wait_time,
            unpause_after_cancel=self.unpause_after_cancel,
            retry_limit=self.fivetran_retry_limit,
            retry_delay=self.fivetran_retry_delay,
            poll_interval=self.poll_frequency,
            waits=self.wait_for_completion,
            if_running=self.if_running,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
        )


class FivetranResyncOperator(FivetranOperator):
    """Starts a historical re-sync of a Fivetran connection and waits until it has ended.

    :param scope: the tables to re-sync by schema, for example ``{"sales": ["orders"]}``;
        None for all
    """

    # The constructor fills none of them in.
    ids = FivetranOperator.ids

    def __init__(
        self, scope: Mapping[str, Sequence[str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scope = _read_scope(scope)

    def make_request(self) -> FivetranSyncRequest:
        """Return what the rendered arguments request."""
        return replace(super().make_request(), resync=True, scope=self.scope)


def _read_scope(value: object) -> Mapping[str, Sequence[str]] | None:
    """Return the tables to re-sync by schema, or raise ArgumentUnusable."""
    if value is None:
        return None

    if not isinstance(value, Mapping) or not all(
        isinstance(schema, str)
        and isinstance(tables, Sequence)
        and not isinstance(tables, str)
        and all(isinstance(each, str) for each in tables)
        for schema, tables in value.items()
    ):
        msg = (
            'scope must be lists of tables by schema, such as {"sales": ["orders"]}, not'
            f" {value!r:.100}"
        )
        raise ArgumentUnusable(msg)

    return value


def deprecated(old: str, new: str) -> None:
    """Warn of an argument that has a new name.

    Python does not show a DeprecationWarning that a DAG file causes.
    """
    warnings.warn(f"{old} is deprecated: use {new}", FutureWarning, stacklevel=3)
