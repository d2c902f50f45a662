"""What the history of a connection's syncs adds to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from async_triggers.engine.amounts import sized
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.times import parse_time
from async_triggers.fivetran.api.models import (
    MANUAL,
    SCHEDULED,
    Connection,
    HistoryRecord,
    Run,
    is_later,
    judge_run,
)

# https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history: a
# window of at most seven days, which must not begin earlier than seven days ago.
DAY = 86_400.0
HISTORY_WINDOW = 7 * DAY
HISTORY_MARGIN = 3_600.0
SETTLED = 120.0
"""Seconds after which a sync that has stopped is not going to go on by itself."""

HISTORY_STATES = {
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


def history_window(run: Run, *, now: float) -> tuple[float, float]:
    """Return the window of server times in which the record of a run lies.

    ``now`` is the server's time. Nothing can be requested that is older than a week.
    """
    before = parse_time(run.before)
    # A sync that a given time fell into began before it.
    since = 0.0 if before is None else before - (DAY if run.whichever else 1.0)
    return window_of(since, now=now)


def window_of(since: float, *, now: float) -> tuple[float, float]:
    """Return the window of server times since one of them that may be requested."""
    until = now + 1.0
    since = max(since, now - HISTORY_WINDOW + HISTORY_MARGIN)
    return min(since, until - HISTORY_MARGIN), until


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
    """Add to an ended job what the history shows: id, reason and volumes.

    Where the connection shows both a later success and a later failure, two syncs have
    ended between two looks, and the first of them is the run.
    """
    ended = [
        record
        for record in records_of(run, records)
        if record.end is not None and record.status in HISTORY_STATES
    ]
    if _both_moved(job, run):
        first = next((each for each in ended if each.status != "CANCELED"), None)
        if first is not None:
            job = _as_told(job, first, HISTORY_STATES[first.status])

    fitting = [each for each in ended if HISTORY_STATES[each.status] is job.state]
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
    """Return a job with what its record in the history shows."""
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
        amounts=_amounts(record),
    )


def _amounts(record: HistoryRecord) -> tuple[str, ...]:
    """Return how much was loaded, else how much was extracted."""
    for stage, done in (("load", "loaded"), ("extract", "extracted")):
        volume = record.volumes.get(f"{stage}_volume_mb")
        if isinstance(volume, int | float):
            return (f"{sized(volume * 1_000_000)} {done}",)

    return ()


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

    state = HISTORY_STATES.get(last.status)
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
