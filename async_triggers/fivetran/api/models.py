"""Connections of Fivetran and their runs, and what the words of a run mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_triggers.engine.errors import RequestRejected, UnreadableRow
from async_triggers.engine.jobs import Job, JobState, Scalar
from async_triggers.engine.paths import segment
from async_triggers.engine.times import parse_time
from async_triggers.engine.wording import aside, with_url

if TYPE_CHECKING:
    from async_triggers.engine.wire import Row

DASHBOARD = "https://fivetran.com/dashboard/connections"

SCHEDULED = "scheduled"
SYNCING = "syncing"
RESCHEDULED = "rescheduled"
PAUSED = "paused"
MANUAL = "manual"
CONNECTED = "connected"

_FLAGS = {
    "r": "resync",
    "h": "historical",
    "b": "behind",
    "w": "whichever",
    "p": "patient",
    "s": "strict",
    "u": "through_pause",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One sync of a connection: the connection, and what it showed before the start.

    ``succeeded_at`` and ``failed_at`` are the server's times as it wrote them, None where
    it never did; ``at`` is the server's time of that look in epoch seconds. What ends a
    run is known by its kind:

    - ``resync``: a historical re-sync, over when the connection has also left its
      historical state. ``historical`` says that it was in that state before the start
    - ``behind``: another user's sync that is in our way, over when nothing is syncing
    - ``whichever``: no certain sync, but the next that ends after the times
    - ``patient``: not over while the connection is syncing, even if its times say
      that it is over
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

    ``database`` is what its service calls so; empty where it has none. ``host`` and
    ``port`` are where it is, as far as that is known.
    """

    id: str
    service: str
    database: str
    host: str = ""
    port: str = ""


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


def row_id(row: Row) -> str:
    """Read the id of a connection, or raise :class:`UnreadableRow`."""
    value = row.get("id")
    if not isinstance(value, str) or not value:
        msg = "A connection has no id"
        raise UnreadableRow(msg)

    return value


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


def _moved(connection: Connection, run: Run) -> tuple[bool, bool]:
    """Return whether the times of a connection say that a run has succeeded, or failed.

    Where both moved the later of the two counts, unless any sync will do: then the data
    has arrived, even if a failure came after it.
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
        tasks = "; ".join(connection.tasks)
        message = f"the connection is {connection.setup_state}" + (
            f": {tasks}" if tasks else ""
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
