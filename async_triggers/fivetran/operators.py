"""Runs a sync, or a historical re-sync, of a Fivetran connection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.arguments import (
    ArgumentUnusable,
    identifier,
    needs_deferrable,
    not_negative,
    one_of,
    text,
    time_limit,
)
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.operator import IF_RUNNING, Before, JobOperator
from async_triggers.deferral.record import Intent, Unsettled
from async_triggers.engine.errors import (
    JobNotFound,
    PermanentError,
    RequestRejected,
    TransientError,
)
from async_triggers.engine.jobs import Job, JobState, Seen
from async_triggers.engine.wire import format_time, parse_time
from async_triggers.fivetran import api
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.links import FivetranConnectionLink
from async_triggers.fivetran.triggers import FivetranTrigger, stopped_job

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount

__all__ = [
    "FivetranHook",
    "FivetranOperator",
    "FivetranResyncOperator",
    "FivetranTrigger",
    "RegistryLink",
]

RegistryLink = FivetranConnectionLink
"""The other provider's name of the link: here it opens the connection in Fivetran."""

OLD_SCHEDULE_KEY = "fivetran_schedule_type_before"
"""XCom key of the schedule type that a connection had before it was changed."""


def connector(name: str, value: object) -> str:
    """Return the id of a connection."""
    given = identifier(name, value)
    if "@" in given:
        msg = f"{name} {given!r} is not an id of Fivetran's"
        raise ArgumentUnusable(msg)

    return given


IDS = Ids(
    required={"fivetran_conn_id": text},
    optional={
        "connector_id": connector,
        "connector_name": text,
        "destination_name": text,
    },
    either=(("connector_id",), ("connector_name", "destination_name")),
    hint="Give connector_id, or both connector_name and destination_name",
)
"""The ids of Fivetran's tasks."""


class FivetranOperator(JobOperator):
    """Starts a sync of a Fivetran connection and waits until it has ended.

    Returns the time of the success as Fivetran writes it; with
    ``wait_for_completion=False`` the connection's last time before the start (the time of
    the start where it never synced), which a sensor takes as its baseline. The statistics
    are pushed to the XCom ``fivetran_sync``.

    A connection that is not set up, say because it is broken, has its setup tests run once.
    The sync starts if they pass.

    Unlike the peers, a sync that is under way is never stopped and started anew.

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
    # A connection shows that it is syncing some seconds after its start.
    start_grace = 60.0

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
        self.fivetran_retry_limit = fivetran_retry_limit
        self.fivetran_retry_delay = fivetran_retry_delay
        self.poll_frequency = not_negative("poll_frequency", poll_frequency)
        if schedule_type is not None:
            one_of("schedule_type", schedule_type, api.SCHEDULE_TYPES)

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
        self.note_ids(kwargs)

    # What is asked for ------------------------------------------------------------

    resync = False
    _found_id: str | None = None
    _connection: api.Connection | None = None
    _tested: api.Connection | None = None
    """The connection as its setup tests have left it."""
    _stopped = False
    # The server's time of the last look.
    _now: float | None = None

    @property
    def hook(self) -> FivetranHook:
        """The hook of the operator's connection, for calls made by hand."""
        return self.make_hook()

    @property
    def waits(self) -> bool:
        """False when the task hands back the baseline and does not wait."""
        return self.wait_for_completion

    def make_hook(self) -> FivetranHook:
        """Return the hook of the operator's connection."""
        return FivetranHook(
            self.fivetran_conn_id,
            retry_limit=self.fivetran_retry_limit,
            retry_delay=self.fivetran_retry_delay,
        )

    def describe_request(self) -> Mapping[str, Any]:
        """Return what is asked for."""
        return {
            "connector_id": self.connector_id,
            "connector_name": self.connector_name,
            "destination_name": self.destination_name,
            "resync": self.resync,
        }

    async def _id(self, leased: LeasedAccount) -> str:
        if self.connector_id:
            return self.connector_id

        if self._found_id is None:
            self._found_id = await self.make_hook().find_connector_id(
                leased, self.connector_name or "", self.destination_name or ""
            )

        return self._found_id

    # The start --------------------------------------------------------------------

    async def before_start(self, leased: LeasedAccount) -> Before:
        """Look at the connection: what it last did, and whether it can sync at all."""
        connector_id = await self._id(leased)
        try:
            connection, now = await self.make_hook().get_fivetran_connection(
                leased, connector_id
            )
        except JobNotFound as error:
            msg = f"{error.message}: check connector_id"
            raise RequestRejected(msg, status=error.status) from None

        if not api.is_set_up(connection):
            connection, tested_at = await self._healed(leased, connection)
            now = tested_at or now

        self._connection, self._now = connection, now
        run = connection.run(at=now, resync=self.resync)
        running = None
        if connection.sync_state == api.SYNCING:
            # Unless we may attach to it, all that matters of it is when it has stopped.
            attaches = self.if_running == "attach" and not self.resync
            theirs = replace(run, behind=not attaches)
            running = Seen(job=api.judge_run(connection, theirs), at=now)

        changes = self._wants_schedule_of(connection)
        intent = Intent(
            at=now,
            baseline=run.id,
            marker=connection.schedule_type if changes else "",
        )
        return Before(intent=intent, running=running)

    async def _healed(
        self, leased: LeasedAccount, connection: api.Connection
    ) -> tuple[api.Connection, float | None]:
        """Return a connection that its setup tests have healed; refuse any other.

        They run once. What they have shown holds for each further try of the start.
        """
        shown, now = connection, None
        if self._tested is None:
            try:
                shown, now = await self.make_hook().run_setup_tests(
                    leased, connection.id
                )
            except (JobNotFound, RequestRejected) as error:
                self.log.warning("The setup tests could not be run: %s", error.message)

            self._tested = shown

        api.refuse_unless_set_up(self._tested)
        self.log.info(
            "Connection %s was %s and has passed its setup tests: starting the sync",
            connection.id,
            connection.setup_state,
        )
        return shown, now

    def _wants_schedule_of(self, connection: api.Connection) -> bool:
        """Tell whether a connection must be given another schedule type."""
        wanted = self.schedule_type
        return wanted is not None and connection.schedule_type not in {"", wanted}

    async def start(self, leased: LeasedAccount, intent: Intent) -> Seen:
        """Make the connection ready, and start the sync."""
        run = api.Run.from_id(intent.baseline)
        try:
            await self._make_ready(leased, run.connection_id)
        except TransientError as error:
            # Whatever became of the change: no start has been sent.
            error.ambiguous = False
            raise

        at = await self.send_start(leased, run.connection_id)
        job = Job(
            id=run.id,
            state=JobState.RUNNING,
            word=api.SYNCING,
            label=run.label,
            url=api.dashboard_url(run.connection_id),
        )
        return Seen(job=job, at=at)

    async def send_start(
        self, leased: LeasedAccount, connector_id: str
    ) -> float | None:
        """Ask for the sync; return the server's time of the answer."""
        return await self.make_hook().start_sync(leased, connector_id)

    async def _make_ready(self, leased: LeasedAccount, connector_id: str) -> None:
        hook = self.make_hook()
        connection = self._connection
        if connection is None:
            connection, _ = await hook.get_fivetran_connection(leased, connector_id)

        wanted = self.schedule_type
        if wanted is not None and self._wants_schedule_of(connection):
            self.log.warning(
                "The schedule type of connection %s is changed from %s to %s, as"
                " schedule_type says; None would leave it",
                connector_id,
                connection.schedule_type,
                wanted,
            )
            await hook.change_schedule_type(leased, connector_id, wanted)

        if connection.paused:
            self.log.info("Connection %s is paused: un-pausing it", connector_id)
            await hook.set_paused(leased, connector_id, paused=False)

    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """See whether the connection has moved since the intent."""
        run = api.Run.from_id(intent.baseline)
        connection, now = await self.make_hook().get_fivetran_connection(
            leased, run.connection_id
        )
        self._now = now
        job = api.judge_run(connection, run)
        moved = (
            job.ended_at is not None
            or connection.sync_state == api.SYNCING
            or (run.resync and connection.historical and not run.historical)
        )
        return Seen(job=job, at=now) if moved else None

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Tell by the time and the schedule: a sync does not say who has started it.

        Where the look comes late, the history tells when the sync began.
        """
        hook, run = self.make_hook(), api.Run.from_id(intent.baseline)
        connection, now = await hook.get_fivetran_connection(leased, run.connection_id)
        if connection.schedule_type != api.MANUAL or now is None or intent.at is None:
            return False

        latest = intent.at + api.START_WINDOW
        if now <= latest:
            return True

        since, until = api.history_window(run, now=now)
        records = await hook.list_syncs(
            leased, run.connection_id, since=since, until=until
        )
        own = api.records_of(run, records)
        began = parse_time(own[0].start) if own else None
        return began is not None and own[0].end is None and began <= latest

    async def find_unsettled(
        self, leased: LeasedAccount, unsettled: Unsettled
    ) -> Seen | None:
        """Look for a sync that has begun since the cleared attempt, to attach to it.

        Somebody else may have started it, so it is never what a cancel would stop; and a
        sync is no re-sync.
        """
        if self.resync or not self.attaches_when_cleared:
            return None

        hook = self.make_hook()
        connection, now = await hook.get_fivetran_connection(
            leased, await self._id(leased)
        )
        if connection.sync_state != api.SYNCING or now is None:
            return None

        run = connection.run(at=now)
        since, until = api.history_window(run, now=now)
        try:
            records = await hook.list_syncs(
                leased, connection.id, since=since, until=until
            )
        except PermanentError as error:
            self.log.info("The sync history could not be read: %s", error.message)
            return None

        # The attempt's time is by our clock, the history's by the vendor's.
        earliest = unsettled.at + now - wall_clock()
        began = [
            parse_time(record.start)
            for record in api.records_of(run, records)
            if record.end is None
        ]
        if not any(each is not None and each >= earliest for each in began):
            return None

        return Seen(job=api.judge_run(connection, run), at=now)

    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Return the sync that is under way."""
        return (await self.before_start(leased)).running

    def start_xcoms(self, job: Job, intent: Intent) -> Mapping[str, Any]:
        """Return the schedule type that was changed, if it was."""
        return {OLD_SCHEDULE_KEY: intent.marker} if intent.marker else {}

    # The sync ---------------------------------------------------------------------

    async def look(self, leased: LeasedAccount, job_id: str) -> Seen:
        """Ask how a run is doing.

        One that was cancelled at Fivetran leaves its connection as if it were still to
        come; an attempt that attached to it would wait in vain.
        """
        run, hook = api.Run.from_id(job_id), self.make_hook()
        connection, now = await hook.get_fivetran_connection(leased, run.connection_id)
        self._now = now
        job = api.judge_run(connection, run)
        if self._stopped:
            return Seen(job=stopped_job(job), at=now)

        if job.word == api.SCHEDULED and run.at is not None and now is not None:
            try:
                stop = await hook.find_stop(leased, connection, run, now=now)
            except PermanentError as error:
                self.log.info("The sync history could not be read: %s", error.message)
            else:
                job = stop or job

        return Seen(job=job, at=now)

    async def cancel(self, leased: LeasedAccount, job_id: str) -> None:
        """Stop the sync by pausing its connection, if it is still that sync which runs."""
        await self.make_hook().stop_sync(
            leased, api.Run.from_id(job_id), unpause=self.unpause_after_cancel
        )
        self._stopped = True

    def is_over(self, job: Job) -> bool:
        """Tell that from a sync: a re-sync goes on after a failure, with the next sync."""
        return not self.resync

    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Add what the sync history tells."""
        return await self.make_hook().settle(leased, job, now=self._now)

    @property
    def attaches_when_cleared(self) -> bool:
        """Fivetran cannot cancel a sync, except by pausing where that is wanted."""
        return not self.cancel_on_kill

    def may_attach(self, job: Job) -> bool:
        """Attach to a sync, unless a re-sync is wanted, which does more."""
        return not self.resync

    def make_trigger(
        self,
        seen: Seen | str,
        *,
        owned: bool,
        end_time: float | None,
        execution_deadline: float | None,
    ) -> FivetranTrigger:
        """Return the trigger that waits for a run."""
        run = api.Run.from_id(seen if isinstance(seen, str) else seen.job.id)
        return FivetranTrigger(
            self.task_id,
            run.connection_id,
            self.fivetran_conn_id,
            poke_interval=self.poll_frequency,
            reschedule_wait_time=self.reschedule_wait_time,
            baseline=run.mark,
            end_time=end_time,
            execution_deadline=execution_deadline,
            owned=owned,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
            unpause_after_cancel=self.unpause_after_cancel,
            seen_at=None if isinstance(seen, str) else seen.at,
        )

    def result(self, job_id: str, job: Job | None) -> str | None:
        """Return the time of the success, or the baseline of a sync not waited for."""
        if job is None or not self.wait_for_completion:
            # Also where a retry finds that the sync has ended: a sensor waits for it.
            run = api.Run.from_id(job_id)
            return run.before or format_time(run.at or 0.0)

        done = job.statistics.get("succeeded_at")
        return done if isinstance(done, str) else None


class FivetranResyncOperator(FivetranOperator):
    """Starts a historical re-sync of a Fivetran connection and waits until it has ended.

    :param scope: the tables to re-sync by schema, for example ``{"sales": ["orders"]}``;
        None for all
    """

    resync = True

    def __init__(
        self, scope: Mapping[str, Sequence[str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scope = scope

    def describe_request(self) -> Mapping[str, Any]:
        """Return what is asked for."""
        return {**super().describe_request(), "scope": self.scope}

    async def send_start(
        self, leased: LeasedAccount, connector_id: str
    ) -> float | None:
        """Ask for the re-sync; return the server's time of the answer."""
        return await self.make_hook().start_resync(leased, connector_id, self.scope)


def deprecated(old: str, new: str) -> None:
    """Warn of an argument that has a new name."""
    warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=3)
