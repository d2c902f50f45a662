"""What Fivetran's REST API says: requests, replies, runs. Pure, no I/O.

The API is described at https://fivetran.com/docs/rest-api/api-reference. A sync has no id
there: a run is known by what the connection showed before its start
(:class:`Run`), and over when the connection shows a later time of success or failure.
Server times are compared with server times alone.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from async_triggers.engine.errors import (
    AlreadyRunning,
    EngineError,
    RequestRejected,
    UnreadableReply,
)
from async_triggers.engine.jobs import Job, JobState, Scalar
from async_triggers.engine.wire import (
    LONGEST_HEAD,
    LONGEST_MESSAGE,
    Account,
    CredentialKind,
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    SourceKind,
    Token,
    format_time,
    parse_time,
    refuse_by_status,
    segment,
    short_text,
    words_of,
)
from async_triggers.engine.wording import aside, with_url

HTTP_CONFLICT = 409

DASHBOARD = "https://fivetran.com/dashboard/connections"

# https://fivetran.com/docs/rest-api/pagination: "limit" from 1 to 1000.
PAGE = 1000
START_TIMEOUT = 90.0
# A sync that begins within it was started by a start, tried again and waiting for its turn;
# one that begins later hardly was.
START_WINDOW = 300.0
# Stopping a sync takes up to a minute, and pausing one waits for that and may fail
# although it has worked, so that its answer is not worth much:
# https://fivetran.com/docs/rest-api/troubleshooting/pause-connector-500-error
PAUSE_TIMEOUT = 40.0
# https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history: a
# window of at most seven days, which must not begin earlier than seven days ago.
DAY = 86_400.0
HISTORY_WINDOW = 7 * DAY
HISTORY_MARGIN = 3_600.0
CONFIRMATION_TIMEOUT = 10.0
"""Seconds after which the connection itself is asked and not its history."""
MESSAGES = 20
"""Tasks and warnings of a connection that are looked at."""
SETTLED = 120.0
"""Seconds after which a sync that has stopped is not going to go on by itself."""

HEADERS = {"Accept": "application/json;version=2"}

ACCOUNT_LIST = Source(name="account list", kind=SourceKind.LIST, page=PAGE)
GROUP_LISTS = Source(name="group lists", kind=SourceKind.LIST, page=PAGE, scoped=True)

SCHEDULED = "scheduled"
SYNCING = "syncing"
RESCHEDULED = "rescheduled"
PAUSED = "paused"
MANUAL = "manual"
CONNECTED = "connected"
SCHEDULE_TYPES = (MANUAL, "auto")

_HISTORY_STATES = {
    # https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history
    "COMPLETED": JobState.SUCCEEDED,
    "FAILURE": JobState.FAILED,
    "CANCELED": JobState.CANCELLED,
}
_HALTED_STATES = {
    # As above. What follows them is not described; where nothing but a request starts
    # syncs, nothing does.
    "PAUSED": JobState.CANCELLED,
    "INCOMPLETE": JobState.FAILED,
}


# The code names the kind of refusal, and may name the kind of thing behind it, as in
# "NotFound_Connector".
_OWN_CODE = re.compile(
    r"(AuthFailed|Forbidden|NotFound|InvalidInput|IllegalState|Conflict|MethodNotAllowed"
    r"|NotAcceptable|UnsupportedMediaType|UnsupportedOperation|OperationNotPermitted"
    r"|TooManyRequests)(_[A-Za-z]+)*$"
)

_OWN_ANSWER = re.compile(rb'\s*\{.*"code"\s*:\s*"Success', re.DOTALL)

_FLAGS = {
    "r": "resync",
    "h": "historical",
    "b": "behind",
    "w": "whichever",
    "p": "patient",
    "s": "strict",
    "u": "through_pause",
}


# Models -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sync of a connection: the connection, and what it showed before the start.

    ``succeeded_at`` and ``failed_at`` are the server's times as it wrote them, None where
    it never did; ``at`` is the server's time of that look in epoch seconds. What ends a
    run is told by its kind:

    - ``resync``: a historical re-sync, over when the connection has also left its
      historical state. ``historical`` tells that it was in that state before the start
    - ``behind``: somebody else's sync that is in our way, over when nothing is syncing
    - ``whichever``: no certain sync, but the next that ends after the times
    - ``patient``: not over while the connection is syncing, whatever its times say
    - ``strict``: failed when the connection's last sync had, even before the times
    - ``through_pause``: not over while the connection is paused
    """

    connection_id: str
    succeeded_at: str | None = None
    failed_at: str | None = None
    at: float | None = None
    resync: bool = False
    historical: bool = False
    behind: bool = False
    whichever: bool = False
    patient: bool = False
    strict: bool = False
    through_pause: bool = False

    @property
    def mark(self) -> str:
        """Write all but the connection as text, for the poller and for storing."""
        flags = "".join(
            letter for letter, name in _FLAGS.items() if getattr(self, name)
        )
        at = "" if self.at is None else f"~{self.at:.0f}"
        return f"{self.succeeded_at or ''}~{self.failed_at or ''}~{flags}{at}"

    @property
    def before(self) -> str | None:
        """When the connection had last ended a sync, well or not."""
        return latest_time(self.succeeded_at, self.failed_at)

    @property
    def id(self) -> str:
        """An id of the run: the connection, and what it showed before the start."""
        return f"{self.connection_id}@{self.mark}"

    @property
    def label(self) -> str:
        """Name the run for people."""
        what = "Re-sync" if self.resync else "Sync"
        if self.behind:
            what = "Earlier sync"

        return f"{what} of {self.connection_id}"

    @classmethod
    def from_mark(cls, connection_id: str, mark: str | None) -> Run:
        """Read what :attr:`mark` wrote; without one the connection never synced."""
        # Arguments of a trigger come to this as well; PostgreSQL takes no such letter.
        parts = (mark or "").replace("\0", "").split("~")
        succeeded, failed, flags, at = (*parts, "", "", "", "")[:4]
        return cls(
            connection_id=connection_id,
            succeeded_at=succeeded or None,
            failed_at=failed or None,
            at=float(at) if at.isdecimal() else None,
            **{name: letter in flags for letter, name in _FLAGS.items()},
        )

    @classmethod
    def from_id(cls, run_id: str) -> Run:
        """Read what :attr:`id` wrote."""
        connection_id, _, mark = run_id.partition("@")
        return cls.from_mark(connection_id, mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection of Fivetran: what is replicated from where to where.

    ``tasks`` are the messages of what must be done for it to work again, ``failed_tests``
    the setup tests that have just failed, where they were run. ``sync_state`` is
    scheduled, syncing, paused or rescheduled, ``setup_state`` incomplete, connected or
    broken, ``schedule_type`` auto or manual.
    """

    id: str
    schema: str
    service: str
    group_id: str
    paused: bool
    schedule_type: str
    setup_state: str
    sync_state: str
    succeeded_at: str | None
    failed_at: str | None
    rescheduled_for: str | None
    historical: bool
    tasks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failed_tests: tuple[str, ...] = ()
    created_at: str | None = None

    def run(self, *, at: float | None = None, resync: bool = False) -> Run:
        """Return the run that would start now, ``at`` the server's time."""
        return Run(
            connection_id=self.id,
            succeeded_at=self.succeeded_at,
            failed_at=self.failed_at,
            at=at,
            resync=resync,
            historical=resync and self.historical,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the connections of a group load to.

    ``database`` is what its service calls so; empty where it has none.
    """

    id: str
    service: str
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that a connection loads, by its names in the destination."""

    schema: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRecord:
    """One sync in a connection's history. Volumes are in MB."""

    sync_id: str
    status: str
    start: str | None
    end: str | None
    reason: str
    volumes: Mapping[str, Scalar] = field(default_factory=dict)


def dashboard_url(connection_id: str) -> str:
    """Return where the dashboard shows a connection."""
    return f"{DASHBOARD}/{segment(connection_id, 'connection id')}/status"


def latest_time(*times: str | None) -> str | None:
    """Return the latest of some server times, as it was written."""
    known = [(parse_time(each), each) for each in times]
    found = [(moment, each) for moment, each in known if moment is not None]
    return max(found)[1] if found else None


def is_later(time: str | None, than: str | None) -> bool:
    """Return whether a server time is strictly later than a baseline; None is never."""
    moment = parse_time(time)
    if moment is None:
        return False

    baseline = parse_time(than)
    return baseline is None or moment > baseline


# Requests -----------------------------------------------------------------------------


def get_connection(connection_id: str) -> Request:
    """Request a connection.

    https://fivetran.com/docs/rest-api/api-reference/connections/connection-details
    """
    return Request(
        method="GET",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}",
        about=f"connection {connection_id}",
        headers=HEADERS,
    )


def list_connections(group_id: str = "", *, schema: str = "") -> Request:
    """Request the connections of the account or of one group, a thousand at a time.

    https://fivetran.com/docs/rest-api/api-reference/connections/list-connections
    """
    path = "/v1/connections"
    if group_id:
        path = f"/v1/groups/{segment(group_id, 'group id')}/connections"

    return _page(_Walk(path=path, params=(("schema", schema),) if schema else ()))


def list_groups() -> Request:
    """Request the groups, which are the destinations by name.

    https://fivetran.com/docs/rest-api/api-reference/groups/list-all-groups
    """
    return _page(_Walk(path="/v1/groups"))


def get_group(group_id: str) -> Request:
    """Request a group.

    https://fivetran.com/docs/rest-api/api-reference/groups/group-details
    """
    return Request(
        method="GET",
        path=f"/v1/groups/{segment(group_id, 'group id')}",
        about=f"group {group_id}",
        headers=HEADERS,
    )


def get_metadata(connection_id: str, what: str) -> Request:
    """Ask what is known of the ``tables`` or ``columns`` of a connection.

    https://fivetran.com/docs/rest-api/api-reference/metadata
    """
    place = segment(connection_id, "connector_id")
    return Request(
        method="GET",
        path=f"/v1/metadata/connectors/{place}/{segment(what, 'metadata')}",
        about=f"the {what} of connection {connection_id}",
        headers=HEADERS,
    )


def run_setup_tests(connection_id: str) -> Request:
    """Run the setup tests of a connection, which may make a broken one work again.

    https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
    """
    return Request(
        method="POST",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/test",
        about=f"the setup tests of connection {connection_id}",
        json={},
        headers=HEADERS,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def get_destination(group_id: str) -> Request:
    """Request the destination of a group, whose id it has.

    https://fivetran.com/docs/rest-api/api-reference/destinations/destination-details
    """
    return Request(
        method="GET",
        path=f"/v1/destinations/{segment(group_id, 'group id')}",
        about=f"destination {group_id}",
        headers=HEADERS,
    )


def get_schemas(connection_id: str) -> Request:
    """Request the schemas and tables of a connection.

    https://fivetran.com/docs/rest-api/api-reference/connection-schema/connection-schema-config
    """
    return Request(
        method="GET",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/schemas",
        about=f"the schemas of connection {connection_id}",
        headers=HEADERS,
    )


def start_sync(connection_id: str, *, force: bool = False) -> Request:
    """Start a sync; without ``force`` one that is under way is let be.

    https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
    """
    return Request(
        method="POST",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/sync",
        about=f"the start of a sync of connection {connection_id}",
        json={"force": force},
        headers=HEADERS,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def start_resync(
    connection_id: str, scope: Mapping[str, Sequence[str]] | None = None
) -> Request:
    """Start a historical re-sync, of some tables of some schemas or of all.

    https://fivetran.com/docs/rest-api/api-reference/connections/resync-connection
    """
    return Request(
        method="POST",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/resync",
        about=f"the start of a re-sync of connection {connection_id}",
        json={"scope": {key: list(val) for key, val in scope.items()}} if scope else {},
        headers=HEADERS,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def modify_connection(
    connection_id: str,
    *,
    paused: bool | None = None,
    schedule_type: str | None = None,
) -> Request:
    """Pause or un-pause a connection, or change what starts its syncs.

    Setup tests count against a limit of their own and are left out:
    https://fivetran.com/docs/rest-api/api-reference/connections/modify-connection
    """
    body: dict[str, Any] = {"run_setup_tests": False}
    if paused is not None:
        body["paused"] = paused

    if schedule_type is not None:
        body["schedule_type"] = schedule_type

    return Request(
        method="PATCH",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}",
        about=f"a change of connection {connection_id}",
        json=body,
        headers=HEADERS,
        lane=Lane.CANCEL if paused else Lane.START,
        timeout=PAUSE_TIMEOUT if paused else START_TIMEOUT,
    )


def sync_history(connection_id: str, *, since: float, until: float) -> Request:
    """Request the syncs in a window of server times (epoch seconds).

    https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history
    """
    path = f"/v1/connections/{segment(connection_id, 'connector_id')}/sync-history"
    window = (("start_time", format_time(since)), ("end_time", format_time(until)))
    return _page(_Walk(path=path, params=window))


def history_window(run: Run, *, now: float) -> tuple[float, float]:
    """Return the window of server times in which the record of a run lies.

    ``now`` is the server's time. Nothing can be asked for that is older than a week.
    """
    since = now - HISTORY_WINDOW + HISTORY_MARGIN
    before = parse_time(run.before)
    if before is not None:
        # A sync that a given time fell into began before it.
        since = max(since, before - (DAY if run.whichever else 1.0))

    until = now + 1.0
    return min(since, until - HISTORY_MARGIN), until


def account_info() -> Request:
    """Request who we are: https://fivetran.com/docs/rest-api/api-reference/account."""
    return Request(
        method="GET",
        path="/v1/account/info",
        about="the account",
        headers=HEADERS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """Where a walk over a list is, and which cursors it has seen."""

    path: str
    params: tuple[tuple[str, str], ...] = ()
    cursor: str = ""
    seen: frozenset[str] = frozenset()


def _page(walk: _Walk) -> Request:
    params = [("limit", str(PAGE)), *walk.params]
    if walk.cursor:
        params.append(("cursor", walk.cursor))

    return Request(
        method="GET",
        path=walk.path,
        about=f"the list at {walk.path}",
        params=tuple(params),
        headers=HEADERS,
        note=walk,
    )


# Replies ------------------------------------------------------------------------------


def read_data(request: Request, reply: Reply) -> dict[str, Any]:
    """Read ``data`` of the envelope."""
    data = reply.object(request.about).get("data")
    if not isinstance(data, dict):
        msg = f"The answer about {request.about} has no object 'data'"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_accepted(request: Request, reply: Reply) -> None:
    """Make sure that an answer is Fivetran's own; raise :class:`UnreadableReply` if not.

    A web page that a proxy serves has the status 200 as well, and nothing was started:
    https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
    """
    if not isinstance(reply.object(request.about).get("code"), str):
        msg = f"The answer about {request.about} does not say what became of it"
        raise UnreadableReply(msg, status=reply.status)


def read_items(request: Request, reply: Reply) -> tuple[list[Row], Request | None]:
    """Read a page of a list, and the request for the one that follows."""
    data = read_data(request, reply)
    items = data.get("items")
    if not isinstance(items, list) or not all(isinstance(row, dict) for row in items):
        msg = f"The answer about {request.about} has no list 'items' of objects"
        raise UnreadableReply(msg, status=reply.status)

    walk, cursor = request.note, data.get("next_cursor")
    if not isinstance(walk, _Walk) or not isinstance(cursor, str) or not cursor:
        return items, None

    if cursor in walk.seen:
        # It would be followed for ever, and without it the list is not whole.
        msg = f"The answer about {request.about} leads back to a page that was read"
        raise UnreadableReply(msg, status=reply.status)

    following = _Walk(
        path=walk.path,
        params=walk.params,
        cursor=cursor,
        seen=walk.seen | {cursor},
    )
    return items, _page(following)


def row_id(row: Row) -> str:
    """Read the id of a connection, or raise :class:`UnreadableReply`."""
    value = row.get("id")
    if not isinstance(value, str) or not value:
        msg = "A connection has no id"
        raise UnreadableReply(msg)

    return value


def read_connection(row: Row) -> Connection:
    """Read a connection."""
    status = row.get("status")
    if not isinstance(status, dict):
        msg = f"Connection {row_id(row)} has no status"
        raise UnreadableReply(msg)

    return Connection(
        id=row_id(row),
        schema=short_text(row.get("schema")) or "",
        service=short_text(row.get("service")) or "",
        group_id=short_text(row.get("group_id")) or "",
        paused=row.get("paused") is True,
        schedule_type=short_text(row.get("schedule_type")) or "",
        setup_state=short_text(status.get("setup_state")) or "",
        sync_state=short_text(status.get("sync_state")) or "",
        succeeded_at=short_text(row.get("succeeded_at")),
        failed_at=short_text(row.get("failed_at")),
        rescheduled_for=short_text(status.get("rescheduled_for")),
        historical=status.get("is_historical_sync") is True,
        tasks=_messages(status.get("tasks")),
        warnings=_messages(status.get("warnings")),
        failed_tests=_failed_tests(row.get("setup_tests")),
        created_at=short_text(row.get("created_at")),
    )


def is_set_up(connection: Connection) -> bool:
    """Return whether the setup of a connection is complete."""
    return connection.setup_state in {"", CONNECTED}


def refuse_unless_set_up(connection: Connection) -> None:
    """Raise :class:`RequestRejected` for a connection whose setup is not complete."""
    if is_set_up(connection):
        return

    tasks, failed = map("; ".join, (connection.tasks, connection.failed_tests))
    error = RequestRejected(
        f"The Fivetran connection {connection.id} is {connection.setup_state}"
        f"{f' {aside(tasks)}' if tasks else ''}"
        f"{f', and its setup tests fail {aside(failed)}' if failed else ''}: nothing was"
        " started, complete its setup"
    )
    error.link = dashboard_url(connection.id)
    raise error


# https://fivetran.com/docs/rest-api/api-reference/destinations/create-destination: what
# the services call their database.
_DATABASE_FIELDS = ("database", "project_id", "catalog")


def read_destination(row: Row) -> Destination:
    """Read a destination; of its config nothing but the database's name is kept."""
    config = row.get("config")
    names = (
        [_text(config.get(field)) for field in _DATABASE_FIELDS]
        if isinstance(config, dict)
        else []
    )
    return Destination(
        id=_text(row.get("id")) or "",
        service=_text(row.get("service")) or "",
        database=next((name for name in names if name), ""),
    )


def read_tables(data: Row) -> tuple[Table, ...]:
    """Read the tables that are synced, of the schemas that are."""
    return tuple(
        Table(schema=schema, name=table)
        for schema, tables in _enabled(data.get("schemas"))
        for table, _ in _enabled(tables.get("tables"))
    )


def _enabled(items: object) -> list[tuple[str, Row]]:
    return [
        (name, item)
        for item in (items.values() if isinstance(items, dict) else ())
        if isinstance(item, dict)
        and item.get("enabled") is not False
        and (name := _text(item.get("name_in_destination")))
    ]


def _moved(connection: Connection, run: Run) -> tuple[bool, bool]:
    """Return whether the times of a connection say that a run has succeeded, or failed.

    Where both moved the later of the two counts, unless any sync will do: then the data
    has arrived, whatever came after it.
    """
    succeeded = is_later(connection.succeeded_at, run.succeeded_at)
    failed = is_later(connection.failed_at, run.failed_at)
    if succeeded and failed:
        succeeded = run.whichever or is_later(
            connection.succeeded_at, connection.failed_at
        )
        failed = not succeeded

    if run.strict and not succeeded:
        failed = failed or is_later(connection.failed_at, connection.succeeded_at)

    return succeeded, failed


def judge_run(connection: Connection, run: Run) -> Job:
    """Return how a run is doing from what its connection shows.

    A later time of success or failure ends it. A connection that was paused or broke
    meanwhile shows no time, and ends it too.
    """
    succeeded, failed = _moved(connection, run)
    statistics: dict[str, Scalar] = {
        "connection_id": connection.id,
        "connection_name": connection.schema,
        "succeeded_at": connection.succeeded_at,
        "failed_at": connection.failed_at,
    }
    busy = connection.sync_state == SYNCING
    resyncing = run.resync and connection.historical
    state, word, message = JobState.RUNNING, connection.sync_state, ""
    ended_at: str | None = None
    if busy and (run.patient or run.behind or resyncing):
        pass
    elif failed:
        state, word, ended_at = JobState.FAILED, "failed", connection.failed_at
        message = "; ".join(connection.tasks) or "Fivetran reports a failure"
    elif succeeded and not resyncing:
        state, word, ended_at = JobState.SUCCEEDED, "succeeded", connection.succeeded_at
    elif run.behind:
        state, word, message = JobState.CANCELLED, "over", "nothing is syncing any more"
    elif connection.setup_state not in {"", CONNECTED}:
        state, word = JobState.FAILED, connection.setup_state
        told = "; ".join(connection.tasks)
        message = f"the connection is {connection.setup_state}" + (
            f": {told}" if told else ""
        )
    elif not busy and (connection.paused or connection.sync_state == PAUSED):
        word = PAUSED
        if not run.through_pause:
            state = JobState.FAILED
            message = "the connection was paused while the sync was waited for"
    elif connection.sync_state == RESCHEDULED:
        statistics["rescheduled_for"] = connection.rescheduled_for
        statistics["schedule_type"] = connection.schedule_type

    return Job(
        id=run.id,
        state=state,
        word=word,
        message=message,
        label=run.label,
        url=dashboard_url(connection.id),
        started_at=None,
        ended_at=parse_time(ended_at),
        statistics=statistics,
    )


def paused_warning(job: Job) -> str:
    """Say that a sync is waited for although its connection is paused."""
    words = (
        f"{job.title} is waited for, but its connection is paused in Fivetran: waiting"
        " until it is un-paused and has synced"
    )
    return with_url(words, job.url)


def read_history(
    request: Request, reply: Reply
) -> tuple[list[HistoryRecord], Request | None]:
    """Read a page of a connection's history, and the request for the one that follows."""
    items, following = read_items(request, reply)
    return [_record(row) for row in items], following


def _record(row: Row) -> HistoryRecord:
    stages = row.get("stages")
    volumes: dict[str, Scalar] = {}
    for stage in ("extract", "process", "load"):
        told = stages.get(stage) if isinstance(stages, dict) else None
        volume = told.get("volume") if isinstance(told, dict) else None
        if isinstance(volume, int | float) and not isinstance(volume, bool):
            volumes[f"{stage}_volume_mb"] = volume

    return HistoryRecord(
        sync_id=short_text(row.get("sync_id")) or "",
        status=short_text(row.get("status")) or "",
        start=short_text(row.get("start")),
        end=short_text(row.get("end")),
        reason=words_of(row.get("reason"), longest=LONGEST_MESSAGE),
        volumes=volumes,
    )


def records_of(run: Run, records: Sequence[HistoryRecord]) -> list[HistoryRecord]:
    """Return the records that can be a run's, in the order of their start.

    Syncs of one connection never overlap: ours began after the last one had ended, and
    ended after we had looked.
    """
    own = []
    for record in records:
        end = parse_time(record.end)
        if run.whichever:
            fits = end is not None and is_later(record.end, run.before)
        else:
            late = end is None or run.at is None or end > run.at
            fits = late and is_later(record.start, run.before)

        if fits:
            own.append(record)

    return sorted(own, key=lambda record: parse_time(record.start) or 0.0)


def settle_job(job: Job, run: Run, records: Sequence[HistoryRecord]) -> Job:
    """Add to an ended job what the history tells: id, reason and volumes.

    Where the connection shows both a later success and a later failure, two syncs have
    ended between two looks, and the first of them is the run.
    """
    ended = [
        record
        for record in records_of(run, records)
        if record.end is not None and record.status in _HISTORY_STATES
    ]
    if _both_moved(job, run):
        first = next((each for each in ended if each.status != "CANCELED"), None)
        if first is not None:
            job = _as_told(job, first, _HISTORY_STATES[first.status])

    fitting = [each for each in ended if _HISTORY_STATES[each.status] is job.state]
    if not fitting:
        return job

    return with_record(job, fitting[-1 if run.whichever or run.resync else 0])


def _both_moved(job: Job, run: Run) -> bool:
    """Return whether two syncs have ended since a run was to start."""
    succeeded, failed = (
        job.statistics.get(name) for name in ("succeeded_at", "failed_at")
    )
    return (
        not (run.whichever or run.resync)
        and isinstance(succeeded, str)
        and isinstance(failed, str)
        and is_later(succeeded, run.succeeded_at)
        and is_later(failed, run.failed_at)
    )


def _as_told(job: Job, record: HistoryRecord, state: JobState) -> Job:
    """Return a job that ended as its record says."""
    fallback = "" if state is JobState.SUCCEEDED else "Fivetran reports a failure"
    return replace(
        job,
        state=state,
        word=state.value,
        message=record.reason or fallback,
        ended_at=parse_time(record.end),
    )


def with_record(job: Job, record: HistoryRecord) -> Job:
    """Return a job with what its record in the history tells."""
    return replace(
        job,
        message=(job.message and record.reason) or job.message,
        started_at=record.start,
        statistics={
            **job.statistics,
            "sync_id": record.sync_id,
            "sync_start": record.start,
            "sync_end": record.end,
            **record.volumes,
        },
    )


def find_stop(
    connection: Connection, run: Run, records: Sequence[HistoryRecord], *, now: float
) -> Job | None:
    """Read from the history whether a run has stopped without a time that says so.

    A sync that was cancelled leaves the times of its connection as they were. None while
    the run goes on, or has not begun, or may yet be continued.
    """
    own = records_of(run, records)
    if not own or connection.sync_state != SCHEDULED:
        return None

    last = own[-1]
    end = parse_time(last.end)
    if end is None or now < end + SETTLED:
        return None

    state = _HISTORY_STATES.get(last.status)
    if state is None and connection.schedule_type == MANUAL:
        state = _HALTED_STATES.get(last.status)

    if state is None or state is JobState.SUCCEEDED:
        return None

    reason = last.reason or f"the sync history shows it as {last.status}"
    job = replace(
        judge_run(connection, run),
        state=state,
        word=last.status.lower(),
        message=reason,
        ended_at=end,
    )
    return with_record(job, last)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _messages(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()

    told = [
        words_of(each.get("message")) or words_of(each.get("code"))
        for each in value[:MESSAGES]
        if isinstance(each, dict)
    ]
    return tuple(each for each in told if each)


# https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
_TEST_FAILURES = ("FAILED", "JOB_FAILED")


def _failed_tests(value: object) -> tuple[str, ...]:
    """Name the setup tests that failed, each with its message."""
    if not isinstance(value, list):
        return ()

    failed = [
        (words_of(each.get("title")), words_of(each.get("message")))
        for each in value[:MESSAGES]
        if isinstance(each, dict) and each.get("status") in _TEST_FAILURES
    ]
    return tuple(": ".join(filter(None, parts)) for parts in failed if any(parts))


# The vendor ---------------------------------------------------------------------------


class Fivetran:
    """Fivetran as the engine sees it."""

    name = "Fivetran"
    noun = "sync"
    grid_floor = 15.0
    # There is no feed whose window could overlap.
    overlap = 0.0
    sources: Sequence[Source] = (ACCOUNT_LIST, GROUP_LISTS)

    def name_of(self, job_id: str) -> str:
        """Name a run within a sentence, by its id or that of its connection."""
        label = Run.from_id(job_id).label
        return f"the {label[0].lower()}{label[1:]}"

    def token_request(self, account: Account) -> Request | None:
        """Credentials are sent as they are."""
        return None

    def read_token(self, reply: Reply) -> Token:
        """Fivetran has no tokens."""
        raise NotImplementedError(reply.status)

    def authorize(
        self,
        account: Account,
        token: Token | None,
    ) -> Mapping[str, str]:
        """Prove who we are: https://fivetran.com/docs/rest-api/getting-started."""
        credentials = account.credentials
        if credentials.kind is CredentialKind.BEARER:
            # The dashboard also shows key and secret as one text in Base64.
            return {"Authorization": f"Basic {credentials.secret}"}

        pair = f"{credentials.login}:{credentials.secret}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with one of Fivetran's codes and a message.

        https://fivetran.com/docs/rest-api/api-reference/api-response-codes
        """
        try:
            body = reply.object("a refusal")
        except UnreadableReply:
            return False

        code = body.get("code")
        return (
            isinstance(code, str)
            and _OWN_CODE.match(code) is not None
            and isinstance(body.get("message"), str)
        )

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with the code of a success."""
        return _OWN_ANSWER.match(reply.body, 0, LONGEST_HEAD) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error.

        https://fivetran.com/docs/rest-api/api-reference/api-response-codes
        """
        detail = _explanation(reply)
        if reply.status == HTTP_CONFLICT and request.method == "POST":
            return AlreadyRunning(
                f"Fivetran did not make {request.about}: {detail}", status=reply.status
            )

        return refuse_by_status(self.name, request, reply, detail)

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        """Read what is left of the account's hour.

        https://fivetran.com/docs/rest-api/getting-started/rate-limiting
        """
        try:
            left = float(reply.headers["x-rate-limit-remaining"])
            allowed = float(reply.headers["x-rate-limit"])
        except (KeyError, ValueError):
            return None

        sane = 0.0 <= left < math.inf and 0.0 < allowed < math.inf
        return (left, allowed) if sane else None

    def single(self, account: Account, subject: str) -> Request:
        """Request one connection."""
        return get_connection(subject)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request the connections of the account, or of one group."""
        return list_connections(scope)

    def read(self, request: Request, reply: Reply) -> Page:
        """Read a page of connections, or one connection."""
        if not isinstance(request.note, _Walk):
            row = read_data(request, reply)
            return Page(rows={row_id(row): row}, count=1)

        items, following = read_items(request, reply)
        return Page(
            rows={row_id(row): row for row in items}, count=len(items), next=following
        )

    def judge(
        self,
        account: Account,
        subject: str,
        row: Row,
        mark: str | None,
    ) -> Job:
        """Return how the run is doing that a waiter waits for."""
        return judge_run(read_connection(row), Run.from_mark(subject, mark))

    def digest(self, row: Row) -> int | None:
        """Hash what a sync that goes on is judged by; lists show all that has not changed.

        Only while it is syncing: in any other state time alone may matter.
        """
        status = row.get("status")
        if not isinstance(status, dict) or status.get("sync_state") != SYNCING:
            return None

        judged = (
            row.get("schema"),
            row.get("succeeded_at"),
            row.get("failed_at"),
            status.get("is_historical_sync"),
            row.get("paused"),
            status.get("setup_state"),
        )
        # Whatever else stands there is read as if nothing did.
        return hash(
            tuple(each if isinstance(each, str | bool) else None for each in judged)
        )

    def scope_of(self, row: Row) -> str:
        """Name the group, so that only its list need be read."""
        return _text(row.get("group_id")) or ""

    def needs_confirmation(self, job: Job) -> bool:
        """Always: how far lists lag behind is not documented."""
        return True

    def confirmation(self, job: Job, *, now: float | None) -> Request | None:
        """Ask the sync history, which would be asked for the rest of it anyway.

        Only about an end that has a time. A re-sync is over when the connection says so,
        and whoever waits while anything is syncing must see that nothing is.
        """
        run = Run.from_id(job.id)
        if job.ended_at is None or run.behind or run.resync or run.patient:
            return None

        since, until = history_window(run, now=max(now or 0.0, job.ended_at))
        request = sync_history(run.connection_id, since=since, until=until)
        return replace(request, timeout=CONFIRMATION_TIMEOUT)

    def confirmed(self, request: Request, reply: Reply, job: Job) -> Job | None:
        """Find the record of the run; it confirms an end like the one that was shown."""
        records, _ = read_history(request, reply)
        settled = settle_job(job, Run.from_id(job.id), records)
        return settled if "sync_id" in settled.statistics else None


FIVETRAN = Fivetran()


def _explanation(reply: Reply) -> str:
    try:
        body = reply.object("a refusal")
    except UnreadableReply:
        return ""

    parts = (words_of(body.get("code")), words_of(body.get("message")))
    return ": ".join(part for part in parts if part)
