"""The ends of syncs, no matter who has started them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from async_triggers.engine.errors import UnreadableReply
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.times import parse_time
from async_triggers.engine.watch import End
from async_triggers.fivetran.api.history import HISTORY_STATES, with_record
from async_triggers.fivetran.api.models import (
    Connection,
    HistoryRecord,
    dashboard_url,
)

SAME = 60.0
"""Seconds by which a connection and its history may disagree about one end."""
_NO_REASON = "Fivetran reports a failure"


def last_ends(connection: Connection) -> tuple[End, ...]:
    """Return the last success and the last failure of a connection, by their times."""
    times = (
        (JobState.SUCCEEDED, connection.succeeded_at),
        (JobState.FAILED, connection.failed_at),
    )
    ends = [
        End(key=connection.id, at=at, job=_sync(connection, state, text, at))
        for state, text in times
        if text is not None and (at := parse_time(text)) is not None
    ]
    return tuple(sorted(ends, key=lambda end: end.at))


def _sync(connection: Connection, state: JobState, text: str, at: float) -> Job:
    message = ""
    if state is JobState.FAILED:
        message = "; ".join(connection.tasks) or _NO_REASON

    return Job(
        # The same sync has the same id, whenever it is shown.
        id=f"{connection.id}@{text}",
        state=state,
        word=state.value,
        label=f"Sync of {connection.id}",
        message=message,
        url=dashboard_url(connection.id),
        ended_at=at,
        statistics={
            "connection_id": connection.id,
            "connection_name": connection.schema,
            "group_id": connection.group_id,
            "service": connection.service,
        },
    )


def ends_in(records: Sequence[HistoryRecord], shown: End, *, since: float) -> list[End]:
    """Return the ends later than a server time that a history shows, the last as shown.

    ``shown`` is the last end by the connection's own row. Raise
    :class:`~async_triggers.engine.errors.UnreadableReply` where the history does not show
    that one yet.
    """
    ends = []
    own: HistoryRecord | None = None
    for record in records:
        at, state = parse_time(record.end), HISTORY_STATES.get(record.status)
        if at is None or state is None or at > shown.at + SAME:
            continue

        if state is shown.job.state and abs(at - shown.at) <= SAME:
            own = _nearest(own, record, shown.at)

        ends.append(_end(record, at, state, shown))

    if own is None:
        msg = f"The history of {shown.key} does not show its last sync yet"
        raise UnreadableReply(msg)

    known = replace(
        _end(own, shown.at, shown.job.state, shown),
        job=_with_id(with_record(shown.job, own), own, shown),
    )
    others = [end for end in ends if since < end.at and end.job.id != known.job.id]
    return sorted([*others, known], key=lambda end: end.at)


def _nearest(
    known: HistoryRecord | None, other: HistoryRecord, at: float
) -> HistoryRecord:
    """Return which of two records ended nearer to a time."""
    if known is None:
        return other

    return min(known, other, key=lambda each: abs((parse_time(each.end) or 0.0) - at))


def _end(record: HistoryRecord, at: float, state: JobState, shown: End) -> End:
    failed = state is not JobState.SUCCEEDED
    job = replace(
        shown.job,
        state=state,
        word=state.value,
        message=(record.reason or _NO_REASON) if failed else "",
        ended_at=at,
    )
    return End(
        key=shown.key, at=at, job=_with_id(with_record(job, record), record, shown)
    )


def _with_id(job: Job, record: HistoryRecord, shown: End) -> Job:
    return replace(job, id=record.sync_id or f"{shown.key}@{record.end}")
