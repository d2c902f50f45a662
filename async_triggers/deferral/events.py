"""The event that a trigger sends to its task, and the one reader of it.

An event crosses the metadata database as a small JSON object. It carries all that
``execute_complete`` needs, so that resuming sends the vendor no request::

    {"v": 1, "status": "success" | "error" | "cancelled" | "timeout" | "skipped",
     "message": "...", "job_id": "42", "job": {...} | null,
     "kind": "ended" | "refused" | "deadline" | "started" | "not started",
     "error": "JobNotFound" | null,
     "cancel": "none" | "confirmed" | "unconfirmed"}

Reading fails closed: an event that is malformed or of another version raises
:class:`~async_triggers.deferral.errors.EventUnusable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import AirflowException, AirflowSkipException
from async_triggers.deferral.errors import (
    AsyncTriggersException,
    ConnectionUnusable,
    EventUnusable,
    JobAlreadyRunning,
    VendorRefused,
    VendorUnavailable,
)
from async_triggers.engine.amounts import lasted
from async_triggers.engine.errors import AccountMisconfigured, CredentialsRejected
from async_triggers.engine.jobs import Job, JobState, Scalar
from async_triggers.engine.times import parse_time
from async_triggers.engine.wording import spaced, with_url

VERSION = 1


class Status(StrEnum):
    """How the wait ended, in the words that users of Airflow's providers know."""

    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    SKIPPED = "skipped"


class Kind(StrEnum):
    """What ended the wait: the job, the vendor's refusal, or a deadline.

    Where the trigger makes the start: that it is made, for a task that does not wait for
    the job's end, or why it was not.
    """

    ENDED = "ended"
    REFUSED = "refused"
    DEADLINE = "deadline"
    STARTED = "started"
    NOT_STARTED = "not started"


class Cancel(StrEnum):
    """What became of the job at a deadline."""

    NONE = "none"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"


STATUS_OF = {
    JobState.SUCCEEDED: Status.SUCCESS,
    JobState.FAILED: Status.ERROR,
    JobState.CANCELLED: Status.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a wait ended."""

    status: Status
    kind: Kind
    job_id: str
    message: str
    job: Job | None = None
    error: str | None = None
    cancel: Cancel = Cancel.NONE


_OF_THE_CONNECTION = {CredentialsRejected.__name__, AccountMisconfigured.__name__}
_ENDINGS = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "was cancelled",
}


def ended(job: Job) -> Outcome:
    """Return the outcome of a job that has ended."""
    return Outcome(
        status=STATUS_OF[job.state],
        kind=Kind.ENDED,
        job_id=job.id,
        message=describe_end(job),
        job=job,
    )


def describe_end(job: Job) -> str:
    """Say how a job has ended, with how much, why, and where the vendor shows it."""
    words = f"{job.title} {_ENDINGS[job.state]}{progress_of(job, job.ended_at)}"
    if job.message:
        words += f": {spaced(job.message)}"

    return with_url(words, job.url)


def progress_of(job: Job, at: float | None, since: float | None = None) -> str:
    """Return in parentheses how far a job is at a time, and how long it has taken.

    ``at`` is in epoch seconds, as is ``since``, which takes the place of a start that the
    vendor does not show.
    """
    started = parse_time(job.started_at)
    begun = since if started is None else started
    took = None if begun is None or at is None else at - begun
    facts = [fact for fact in (*job.amounts, lasted(took)) if fact]
    return f" ({', '.join(facts)})" if facts else ""


def not_started(error: Exception) -> Outcome:
    """Return the outcome of a trigger that could not start a job, or would not."""
    is_skip = isinstance(error, AirflowSkipException)
    return Outcome(
        status=Status.SKIPPED if is_skip else Status.ERROR,
        kind=Kind.NOT_STARTED,
        job_id="",
        message=str(error),
        error=type(error).__name__,
    )


_RAISED: Mapping[str | None, type[AsyncTriggersException]] = {
    each.__name__: each
    for each in (
        ArgumentUnusable,
        ConnectionUnusable,
        JobAlreadyRunning,
        VendorRefused,
        VendorUnavailable,
    )
}


def refusal(outcome: Outcome) -> AirflowException:
    """Return what a task fails with when the vendor, or Airflow, refused its trigger."""
    if outcome.status is Status.SKIPPED:
        return AirflowSkipException(outcome.message)

    if outcome.kind is Kind.NOT_STARTED:
        return _RAISED.get(outcome.error, VendorRefused)(outcome.message)

    if outcome.error in _OF_THE_CONNECTION:
        return ConnectionUnusable(outcome.message)

    return VendorRefused(outcome.message)


def to_payload(outcome: Outcome) -> dict[str, Any]:
    """Write an outcome as the payload of an event."""
    job = outcome.job
    return {
        "v": VERSION,
        "status": outcome.status.value,
        "message": outcome.message,
        "job_id": outcome.job_id,
        "kind": outcome.kind.value,
        "error": outcome.error,
        "cancel": outcome.cancel.value,
        "job": None if job is None else job_to_json(job),
    }


def from_payload(event: object) -> Outcome:
    """Read the payload of an event, or raise :class:`EventUnusable`."""
    if not isinstance(event, Mapping):
        msg = (
            f"The trigger's event is {type(event).__name__}, not an object:"
            " is the trigger from this package?"
        )
        raise EventUnusable(msg)

    if "v" not in event:
        msg = (
            "The trigger's event is not from this package, but as a rule from the"
            " provider whose operator has deferred the task. The job may have succeeded:"
            " check it at the vendor, then mark the task or clear it"
        )
        raise EventUnusable(msg)

    if event.get("v") != VERSION:
        msg = (
            f"The trigger's event has version {event.get('v')!r}, this package reads"
            f" {VERSION}: run the same release on workers and triggerers, then clear the"
            " task"
        )
        raise EventUnusable(msg)

    try:
        job = event["job"]
        return Outcome(
            status=Status(event["status"]),
            kind=Kind(event["kind"]),
            job_id=_id(event["job_id"]),
            message=_text(event["message"]),
            job=None if job is None else job_from_json(job),
            error=None if event["error"] is None else _text(event["error"]),
            cancel=Cancel(event["cancel"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        msg = f"The trigger's event is malformed: {type(error).__name__}: {error}"
        raise EventUnusable(msg) from None


def job_to_json(job: Job) -> dict[str, Any]:
    """Write a job as plain JSON."""
    summary = {"summary": dict(job.summary)} if job.summary else {}
    return {
        **summary,
        "id": job.id,
        "state": job.state.value,
        "word": job.word,
        "label": job.label,
        "message": job.message,
        "url": job.url,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "statistics": dict(job.statistics),
    }


def job_from_json(value: object) -> Job:
    """Read what :func:`job_to_json` wrote; raise TypeError, KeyError or ValueError."""
    if not isinstance(value, Mapping):
        msg = "job is not an object"
        raise TypeError(msg)

    started_at, ended_at = value["started_at"], value["ended_at"]
    statistics = value["statistics"]
    if not isinstance(statistics, Mapping):
        msg = "statistics is not an object"
        raise TypeError(msg)

    summary = value.get("summary", {})
    if not isinstance(summary, Mapping):
        msg = "summary is not an object"
        raise TypeError(msg)

    return Job(
        id=_text(value["id"]),
        state=JobState(value["state"]),
        word=_text(value["word"]),
        label=_text(value["label"]),
        message=_text(value["message"]),
        url=_text(value["url"]),
        started_at=None if started_at is None else _text(started_at),
        ended_at=None if ended_at is None else float(ended_at),
        statistics={_text(key): _scalar(val) for key, val in statistics.items()},
        summary=summary,
    )


def _id(value: object) -> str:
    """Read an id, which some vendors' triggers give as the number that it is."""
    return str(value) if type(value) is int else _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = f"{value!r} is no text"
        raise TypeError(msg)

    return value


def _scalar(value: object) -> Scalar:
    if value is not None and not isinstance(value, str | int | float | bool):
        msg = f"{value!r} is no scalar"
        raise TypeError(msg)

    return value
