"""Jobs, connections and endpoints of Airbyte, and what the words of a job mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from async_triggers.engine.amounts import counted, sized
from async_triggers.engine.errors import UnreadableRow
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.times import format_time, parse_time
from async_triggers.engine.wire import number_of, short_text

if TYPE_CHECKING:
    from async_triggers.engine.wire import Row

log = logging.getLogger(__name__)

# The states of a job as the server has them; "incomplete" lies between two attempts and
# is no end: https://docs.airbyte.com/understanding-airbyte/jobs
_STATES = {
    "pending": JobState.PENDING,
    "queued": JobState.PENDING,
    "running": JobState.RUNNING,
    "incomplete": JobState.RUNNING,
    "succeeded": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
}
_NO_REASON = "Airbyte's API gives no reason, the job's log in its UI does"
_MOST_STRANGE_WORDS = 100
_strange_words: set[str] = set()


class JobStatusEnum(StrEnum):
    """The statuses of a job: https://reference.airbyte.com/reference/getjob."""

    PENDING = "pending"
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResponse:
    """A job, in the words of Airbyte's API.

    ``status`` is a :class:`JobStatusEnum`, a plain text where Airbyte has a status that is
    not among these. The times are in ISO 8601; ``last_updated_at`` is None while the job
    runs.
    """

    job_id: int
    status: str
    job_type: str
    start_time: str
    connection_id: str
    bytes_synced: int | None = None
    duration: str | None = None
    last_updated_at: str | None = None
    rows_synced: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection of Airbyte: what is replicated from where to where.

    ``status`` is active, inactive, deprecated or locked. ``schedule_type`` is manual,
    scheduled, basic or cron; empty where the server does not say.
    """

    id: str
    name: str
    status: str
    workspace_id: str
    schedule_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of a connection. ``object_name`` is set where it names the table."""

    name: str
    namespace: str = ""
    object_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """A connection with what it replicates; ``streams`` are the selected ones.

    ``namespace_definition`` is source, destination or custom_format, for which
    ``namespace_format`` is the pattern. ``created_at`` is in epoch seconds.
    """

    id: str
    name: str
    status: str
    source_id: str
    destination_id: str
    namespace_definition: str
    namespace_format: str
    prefix: str
    streams: tuple[Stream, ...]
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A source or a destination.

    ``kind`` is its type, such as snowflake. ``settings`` are those parts of its
    configuration that say where data lies, and no others: no credentials.
    """

    id: str
    name: str
    kind: str
    settings: Mapping[str, tuple[str, ...]]


def row_id(row: Row) -> str:
    """Read the id of a job, or raise :class:`UnreadableRow`."""
    value = row.get("jobId")
    text = "" if isinstance(value, bool) or not isinstance(value, int | str) else value
    text = str(text)
    if not (text.isascii() and text.isdigit()):
        msg = "A job has no jobId that is a whole number"
        raise UnreadableRow(msg)

    return text


def read_job(row: Row) -> Job:
    """Read one job; an unknown status counts as running and is warned about once."""
    word = short_text(row.get("status"))
    if word is None:
        msg = f"Job {row_id(row)} has no status"
        raise UnreadableRow(msg)

    state = _STATES.get(word)
    if state is None:
        state = JobState.RUNNING
        if word not in _strange_words and len(_strange_words) < _MOST_STRANGE_WORDS:
            _strange_words.add(word)
            log.warning("Airbyte has a job status %r, which counts as running", word)

    return Job(
        id=row_id(row),
        state=state,
        word=word,
        message=_NO_REASON if state is JobState.FAILED else "",
        started_at=short_text(row.get("startTime")),
        ended_at=parse_time(row.get("lastUpdatedAt")) if state.is_terminal else None,
        statistics={
            "connection_id": short_text(row.get("connectionId")),
            "job_type": short_text(row.get("jobType")),
            "rows_synced": number_of(row.get("rowsSynced")),
            "bytes_synced": number_of(row.get("bytesSynced")),
            "duration": short_text(row.get("duration")),
        },
        amounts=(
            counted(number_of(row.get("rowsSynced")), "row"),
            sized(number_of(row.get("bytesSynced"))),
        ),
    )


def describe_job(job: Job) -> JobResponse:
    """Return a job in the words of Airbyte's API."""
    known: Mapping[str, Any] = job.statistics
    try:
        status: str = JobStatusEnum(job.word)
    except ValueError:
        status = job.word

    return JobResponse(
        job_id=int(job.id),
        status=status,
        job_type=known["job_type"] or "",
        start_time=job.started_at or "",
        connection_id=known["connection_id"] or "",
        bytes_synced=known["bytes_synced"],
        duration=known["duration"],
        last_updated_at=None if job.ended_at is None else format_time(job.ended_at),
        rows_synced=known["rows_synced"],
    )
