"""Runs of dbt Cloud, and what their statuses mean."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Self

from async_triggers.engine.amounts import lasted
from async_triggers.engine.errors import UnreadableRow
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    LONGEST_MESSAGE,
    Account,
    Row,
    number_of,
    short_text,
    words_of,
)

log = logging.getLogger(__name__)


class DbtCloudJobRunStatus(IntEnum):
    """The states of a run: https://docs.getdbt.com/dbt-cloud/api-v2.

    The ``value`` of the last two is a tuple of the numbers of those before them.
    """

    QUEUED = 1
    STARTING = 2
    RUNNING = 3
    SUCCESS = 10
    ERROR = 20
    CANCELLED = 30
    NON_TERMINAL_STATUSES = (QUEUED, STARTING, RUNNING)
    TERMINAL_STATUSES = (SUCCESS, ERROR, CANCELLED)

    def __new__(cls, *numbers: int) -> Self:
        """Make one status, or a group of some, which no number is equal to."""
        is_one = len(numbers) == 1
        status = int.__new__(cls, numbers[0] if is_one else -sum(numbers))
        status._value_ = numbers[0] if is_one else numbers  # type: ignore[assignment]
        return status

    def __repr__(self) -> str:
        """Name the status and its value, which is no number for a group."""
        return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

    @classmethod
    def check_is_valid(cls, statuses: int | Sequence[int] | set[int]) -> None:
        """Raise ValueError for a number that is no status, or for one among some."""
        for status in (statuses,) if isinstance(statuses, int) else statuses:
            cls(status)

    @classmethod
    def is_terminal(cls, status: int) -> bool:
        """Return whether a run with this status has ended; ValueError if it is none."""
        return _STATES[cls(status)].is_terminal


UNFINISHED = (
    DbtCloudJobRunStatus.QUEUED,
    DbtCloudJobRunStatus.STARTING,
    DbtCloudJobRunStatus.RUNNING,
)

_STATES = {
    DbtCloudJobRunStatus.QUEUED: JobState.PENDING,
    DbtCloudJobRunStatus.STARTING: JobState.PENDING,
    DbtCloudJobRunStatus.RUNNING: JobState.RUNNING,
    DbtCloudJobRunStatus.SUCCESS: JobState.SUCCEEDED,
    DbtCloudJobRunStatus.ERROR: JobState.FAILED,
    DbtCloudJobRunStatus.CANCELLED: JobState.CANCELLED,
}

_NAMED_NODES = 10
_MOST_STRANGE_STATUSES = 100
_strange_statuses: set[int] = set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run; ``index`` counts from 1, ``lines`` are the last of its log."""

    index: int
    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedStep:
    """A step that has ended, and how; ``took`` is in seconds, None where unknown."""

    index: int
    name: str
    word: str
    took: float | None


def describe_steps(run_id: str, steps: Sequence[EndedStep]) -> str:
    """Return a line for each step, such as ``Run 5: step 3, dbt build, failed (2 min)``."""
    lines = []
    for step in steps:
        took = lasted(step.took)
        how = f"{step.word} ({took})" if took else step.word
        lines.append(f"Run {run_id}: step {step.index}, {step.name}, {how}")

    return "\n".join(lines)


def row_id(row: Row) -> str:
    """Read the id of a run, or raise :class:`UnreadableRow`."""
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, int):
        msg = "A run has no id"
        raise UnreadableRow(msg)

    return str(value)


def read_run(row: Row) -> Job:
    """Read one run; an unknown status counts as running and is warned about once."""
    number = row.get("status")
    if not isinstance(number, int) or isinstance(number, bool):
        msg = f"Run {row_id(row)} has no status"
        raise UnreadableRow(msg)

    try:
        status = DbtCloudJobRunStatus(number)
    except ValueError:
        state, word = JobState.RUNNING, f"status {number}"
        if (
            number not in _strange_statuses
            and len(_strange_statuses) < _MOST_STRANGE_STATUSES
        ):
            _strange_statuses.add(number)
            log.warning(
                "dbt Cloud has a run status %d (%s), which counts as running",
                number,
                short_text(row.get("status_humanized")) or "no name",
            )
    else:
        state, word = _STATES[status], status.name.lower()

    explained = state in {JobState.FAILED, JobState.CANCELLED}
    return Job(
        id=row_id(row),
        state=state,
        word=word,
        label=f"Run {row_id(row)}",
        message=_message(row) if explained else "",
        url=_link(row),
        started_at=short_text(row.get("started_at"))
        or short_text(row.get("created_at")),
        ended_at=parse_time(row.get("finished_at")) if state.is_terminal else None,
        statistics={
            "job_definition_id": number_of(row.get("job_definition_id")),
            "project_id": number_of(row.get("project_id")),
            "environment_id": number_of(row.get("environment_id")),
            "duration": short_text(row.get("duration")),
            "queued_duration": short_text(row.get("queued_duration")),
            "run_duration": short_text(row.get("run_duration")),
            "dbt_version": short_text(row.get("dbt_version")),
            "git_branch": short_text(row.get("git_branch")),
            "git_sha": short_text(row.get("git_sha")),
        },
    )


def read_cause(row: Row) -> str | None:
    """Return why a run was started, None where its row was requested without that."""
    trigger = row.get("trigger")
    return short_text(trigger.get("cause")) if isinstance(trigger, dict) else None


def _message(row: Row) -> str:
    return words_of(row.get("status_message"), longest=LONGEST_MESSAGE)


def run_url(account: Account, row: Row) -> str:
    """Return where dbt Cloud shows a run."""
    given = _link(row)
    if given:
        return given

    project = number_of(row.get("project_id"))
    if project is None:
        return ""

    return (
        f"{account.base_url}/deploy/{account.account_id}/projects/{project}"
        f"/runs/{row_id(row)}/"
    )


def _link(row: Row) -> str:
    """Return where the vendor says that a run is shown: people will click on it."""
    href = short_text(row.get("href")) or ""
    usable = href.startswith(("https://", "http://")) and href.isprintable()
    return href if usable else ""


def with_results(job: Job, results: Mapping[str, Any] | None) -> Job:
    """Return a run with the summary of its ``run_results.json``."""
    return job if results is None else replace(job, summary={"run_results": results})


def explain(job: Job, step: Step | None, nodes: Sequence[str]) -> Job:
    """Return a failed run whose message names the step and the nodes that failed."""
    parts = []
    if step is not None:
        parts.append(f"step {step.index}, {step.name!r}, failed")

    if nodes:
        named = ", ".join(nodes[:_NAMED_NODES])
        rest = len(nodes) - _NAMED_NODES
        parts.append(f"not built: {named}" + (f" and {rest} more" if rest > 0 else ""))

    if job.message and job.message not in " ".join(parts):
        parts.append(job.message)

    return replace(job, message="; ".join(parts))
