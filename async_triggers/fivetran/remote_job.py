"""Fivetran's syncs as values: what to start, and a sync that there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.record import Intent, Unsettled, earlier_clock
from async_triggers.deferral.remote_job import Before, JobRequest, RemoteJob
from async_triggers.engine.errors import (
    JobNotFound,
    PermanentError,
    RequestRejected,
    TransientError,
)
from async_triggers.engine.jobs import Job, JobState, Seen
from async_triggers.engine.times import format_time, parse_time
from async_triggers.engine.wording import sentence
from async_triggers.fivetran.api import history, models, requests
from async_triggers.fivetran.gathering import gather
from async_triggers.fivetran.hooks import FivetranHook

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.lineage.facets import Lineage

log = logging.getLogger(__name__)

OLD_SCHEDULE_KEY = "fivetran_schedule_type_before"
"""XCom key of the schedule type that a connection had before it was changed."""


@dataclass(frozen=True, kw_only=True)
class FivetranSync(RemoteJob):
    """A sync of a Fivetran connection.

    Fivetran's syncs have no ids while they run: ``job_id`` is that of an
    :class:`~async_triggers.fivetran.api.models.Run`, which says what the connection
    showed before.
    ``stopped`` says that the sync was stopped by pausing its connection.
    """

    reschedule_wait_time: float | None = None
    unpause_after_cancel: bool = False
    retry_limit: int = 3
    retry_delay: float = 1.0
    stopped: bool = False

    trigger = "async_triggers.fivetran.triggers.FivetranTrigger"
    stops_whatever_runs = True

    @property
    def run(self) -> models.Run:
        """The run, as its connection showed itself before the start."""
        return models.Run.from_id(self.job_id)

    @property
    def polled_id(self) -> str:
        """The id of the connection, which is what Fivetran's rows go by."""
        return self.run.connection_id

    @property
    def mark(self) -> str:
        """What the connection showed before the sync."""
        return self.run.mark

    @property
    def title(self) -> str:
        """What to call the sync at the beginning of a sentence."""
        return self.run.label

    def make_hook(self) -> FivetranHook:
        """Return the hook of the sync's connection."""
        return FivetranHook(
            self.conn_id, retry_limit=self.retry_limit, retry_delay=self.retry_delay
        )

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request how the sync is doing."""
        _, seen = await self._look(leased)
        return seen

    async def _look(self, leased: LeasedAccount) -> tuple[models.Connection, Seen]:
        run, hook = self.run, self.make_hook()
        connection, now = await hook.get_fivetran_connection(leased, run.connection_id)
        job = models.judge_run(connection, run)
        return connection, Seen(job=stopped_job(job) if self.stopped else job, at=now)

    async def recheck(self, leased: LeasedAccount) -> Seen:
        """Request how the sync of an earlier attempt is doing.

        One that was cancelled at Fivetran leaves its connection as if it were still to
        come; an attempt that attached to it would wait in vain. So its history is checked.
        """
        connection, seen = await self._look(leased)
        run, now = self.run, seen.at
        if seen.job.word != models.SCHEDULED or run.at is None or now is None:
            return seen

        try:
            stop = await self.make_hook().find_stop(leased, connection, run, now=now)
        except PermanentError as error:
            log.info("The sync history could not be read: %s", error.message)
            return seen

        return seen if stop is None else replace(seen, job=stop)

    async def cancel(self, leased: LeasedAccount) -> Self:
        """Stop the sync by pausing its connection: Fivetran has no other way."""
        await self.make_hook().stop_sync(
            leased, self.run, unpause=self.unpause_after_cancel
        )
        return replace(self, stopped=True)

    async def complete(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Add what the sync history shows."""
        return await self.make_hook().settle(leased, job, now=now)

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return what the connection reads and loads."""
        return await gather(self.make_hook(), leased, job, [self.polled_id])

    def result(self, job: Job | None) -> str | None:
        """Return the time of the success, or the baseline of a sync not waited for."""
        if job is None:
            run = self.run
            return run.before or format_time(run.at or 0.0)

        return succeeded_at(job)


def succeeded_at(job: Job) -> str | None:
    """Return the time of a sync's success."""
    done = job.statistics.get("succeeded_at")
    return done if isinstance(done, str) else None


def stopped_job(job: Job) -> Job:
    """Return a job that we have stopped as what it is, a cancelled one."""
    if job.word == models.SYNCING or job.state not in {
        JobState.RUNNING,
        JobState.FAILED,
    }:
        return job

    return replace(job, state=JobState.CANCELLED, word="stopped")


@dataclass(frozen=True, kw_only=True)
class FivetranSyncRequest(JobRequest):
    """A sync, or a historical re-sync, of a Fivetran connection that is to be started.

    The connection is ``connector_id``, or what the two names stand for. ``scope`` are the
    tables of a re-sync by schema, None for all. ``tested`` says that the setup tests of the
    connection have passed.
    """

    connector_id: str | None = None
    connector_name: str | None = None
    destination_name: str | None = None
    schedule_type: str | None = "manual"
    reschedule_wait_time: float | None = None
    unpause_after_cancel: bool = False
    resync: bool = False
    scope: Mapping[str, Sequence[str]] | None = None
    retry_limit: int = 3
    retry_delay: float = 1.0
    found_id: str = ""
    tested: bool = False

    # A connection shows that it is syncing some seconds after its start.
    start_grace = 60.0

    def make_hook(self) -> FivetranHook:
        """Return the hook of the request's connection."""
        return FivetranHook(
            self.conn_id, retry_limit=self.retry_limit, retry_delay=self.retry_delay
        )

    def describe(self) -> Mapping[str, Any]:
        """Return what is requested."""
        return {
            "connector_id": self.connector_id,
            "connector_name": self.connector_name,
            "destination_name": self.destination_name,
            "resync": self.resync,
            "scope": self.scope,
        }

    def job(self, job_id: str, *, owned: bool, url: str = "") -> FivetranSync:
        """Return a sync that this request has led to."""
        run = models.Run.from_id(job_id)
        return FivetranSync(
            conn_id=self.conn_id,
            job_id=job_id,
            url=models.dashboard_url(run.connection_id),
            owned=owned,
            reschedule_wait_time=self.reschedule_wait_time,
            unpause_after_cancel=self.unpause_after_cancel,
            retry_limit=self.retry_limit,
            retry_delay=self.retry_delay,
        )

    async def resolved(self, leased: LeasedAccount) -> Self:
        """Return the request with the id of the connection, found by name if need be."""
        if self.connector_id or self.found_id:
            return self

        found = await self.make_hook().find_connector_id(
            leased, self.connector_name or "", self.destination_name or ""
        )
        return replace(self, found_id=found)

    # The start --------------------------------------------------------------------

    async def before_start(self, leased: LeasedAccount) -> Before:
        """Read the connection: what it last did, and whether it can sync at all."""
        try:
            connection, now = await self.make_hook().get_fivetran_connection(
                leased, self.connector_id or self.found_id
            )
        except JobNotFound as error:
            msg = f"{sentence(error.message)} Check connector_id"
            raise RequestRejected(msg, status=error.status) from None

        request = self
        if not models.is_set_up(connection) and not self.tested:
            connection, tested_at = await self._healed(leased, connection)
            now = tested_at or now
            request = replace(self, tested=True)

        # The end of the sync must lie behind it, by the vendor's own clock.
        at = earlier_clock(now, wall_clock())
        run = connection.run(at=at, resync=self.resync)
        running = None
        if connection.sync_state == models.SYNCING:
            # Unless we may attach to it, all that matters of it is when it has stopped.
            attaches = self.if_running == "attach" and not self.resync
            theirs = replace(run, behind=not attaches)
            running = Seen(job=models.judge_run(connection, theirs), at=now)

        changes = self._wants_schedule_of(connection)
        intent = Intent(
            at=now,
            baseline=run.id,
            marker=connection.schedule_type if changes else "",
        )
        return Before(intent=intent, running=running, facts=connection, request=request)

    async def _healed(
        self, leased: LeasedAccount, connection: models.Connection
    ) -> tuple[models.Connection, float | None]:
        """Return a connection that its setup tests have healed; refuse any other.

        They run once. What they have shown holds for each further try of the start.
        """
        shown, now = connection, None
        try:
            shown, now = await self.make_hook().run_setup_tests(leased, connection.id)
        except (JobNotFound, RequestRejected) as error:
            log.warning("The setup tests could not be run: %s", error.message)

        models.refuse_unless_set_up(shown)
        log.info(
            "Connection %s was %s and has passed its setup tests: starting the sync",
            connection.id,
            connection.setup_state,
        )
        return shown, now

    def _wants_schedule_of(self, connection: models.Connection) -> bool:
        """Return True if a connection must be given another schedule type."""
        wanted = self.schedule_type
        return wanted is not None and connection.schedule_type not in {"", wanted}

    async def start(self, leased: LeasedAccount, before: Before) -> Seen:
        """Make the connection ready, and start the sync."""
        run = models.Run.from_id(before.intent.baseline)
        try:
            await self._make_ready(leased, before.facts)
        except TransientError as error:
            # The change may have been made or not: no start has been sent.
            error.ambiguous = False
            raise

        hook = self.make_hook()
        if self.resync:
            at = await hook.start_resync(leased, run.connection_id, self.scope)
        else:
            at = await hook.start_sync(leased, run.connection_id)

        job = Job(
            id=run.id,
            state=JobState.RUNNING,
            word=models.SYNCING,
            label=run.label,
            url=models.dashboard_url(run.connection_id),
        )
        return Seen(job=job, at=at)

    async def _make_ready(
        self, leased: LeasedAccount, connection: models.Connection
    ) -> None:
        hook, wanted = self.make_hook(), self.schedule_type
        if wanted is not None and self._wants_schedule_of(connection):
            log.warning(
                "The schedule type of connection %s is changed from %s to %s, as"
                " schedule_type says; None would leave it",
                connection.id,
                connection.schedule_type,
                wanted,
            )
            await hook.change_schedule_type(leased, connection.id, wanted)

        if connection.paused:
            log.info("Connection %s is paused: un-pausing it", connection.id)
            await hook.set_paused(leased, connection.id, paused=False)

    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """See whether the connection has moved since the intent."""
        run = models.Run.from_id(intent.baseline)
        connection, now = await self.make_hook().get_fivetran_connection(
            leased, run.connection_id
        )
        job = models.judge_run(connection, run)
        moved = (
            job.ended_at is not None
            or connection.sync_state == models.SYNCING
            or (run.resync and connection.historical and not run.historical)
        )
        return Seen(job=job, at=now) if moved else None

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Decide by the time and the schedule: a sync does not say who has started it.

        Where the look comes late, the history shows when the sync began.
        """
        hook, run = self.make_hook(), models.Run.from_id(intent.baseline)
        connection, now = await hook.get_fivetran_connection(leased, run.connection_id)
        if (
            connection.schedule_type != models.MANUAL
            or now is None
            or intent.at is None
        ):
            return False

        followed_by = partial(
            intent.is_followed_by,
            within=requests.START_WINDOW,
            server_now=now,
            now=wall_clock(),
        )
        if followed_by(None):
            return True

        # Some plans have no history, and it never began in time then.
        window = history.history_window(run, now=now)
        records = await self._history(leased, run.connection_id, window)
        own = history.records_of(run, records)
        began = parse_time(own[0].start) if own and own[0].end is None else None
        return followed_by(began)

    async def is_settled(self, leased: LeasedAccount, unsettled: Unsettled) -> bool:
        """Decide by when the syncs of the history began and ended."""
        connection, now = await self.make_hook().get_fivetran_connection(
            leased, self.connector_id or self.found_id
        )
        # What does not sync is in no one's way.
        if connection.sync_state != models.SYNCING or now is None:
            return False

        window = history.window_of(unsettled.latest or unsettled.at, now=now)
        records = await self._history(leased, connection.id, window)
        return unsettled.has_ended(
            [(parse_time(each.start), parse_time(each.end)) for each in records],
            ahead=now - wall_clock(),
            within=requests.START_WINDOW + self.poll_interval,
        )

    async def find_unsettled(
        self, leased: LeasedAccount, unsettled: Unsettled
    ) -> Seen | None:
        """Look for a sync that has begun since the cleared attempt, to attach to it.

        Others may have started it, so it is never what a cancel would stop; and a sync is
        no re-sync.
        """
        if self.resync or not self.attaches_when_cleared:
            return None

        connection, now = await self.make_hook().get_fivetran_connection(
            leased, self.connector_id or self.found_id
        )
        if connection.sync_state != models.SYNCING or now is None:
            return None

        run = connection.run(at=now)
        window = history.history_window(run, now=now)
        records = await self._history(leased, connection.id, window)
        # The attempt's time is by our clock, the history's by the vendor's.
        earliest = unsettled.at + now - wall_clock()
        began = [
            parse_time(record.start)
            for record in history.records_of(run, records)
            if record.end is None
        ]
        if not any(each is not None and each >= earliest for each in began):
            return None

        return Seen(job=models.judge_run(connection, run), at=now)

    async def _history(
        self, leased: LeasedAccount, connection_id: str, window: tuple[float, float]
    ) -> list[models.HistoryRecord]:
        """Return the syncs in a window of server times; none without the history."""
        since, until = window
        try:
            return await self.make_hook().list_syncs(
                leased, connection_id, since=since, until=until
            )
        except PermanentError as error:
            log.info("The sync history could not be read: %s", error.message)
            return []

    def start_xcoms(self, job: Job, intent: Intent) -> Mapping[str, Any]:
        """Return the schedule type that was changed, if it was."""
        return {OLD_SCHEDULE_KEY: intent.marker} if intent.marker else {}

    def is_over(self, job: Job) -> bool:
        """Say so of a sync: a re-sync goes on after a failure, with the next sync."""
        return not self.resync

    @property
    def attaches_when_cleared(self) -> bool:
        """Fivetran cannot cancel a sync, except by pausing where that is wanted."""
        return not self.cancel_on_kill

    def may_attach(self, job: Job) -> bool:
        """Attach to a sync, unless a re-sync is wanted, which does more."""
        return not self.resync
