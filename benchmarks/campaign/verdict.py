"""What a campaign has proved: each task against the jobs that the vendor has seen.

Pure. The vendor's own record is the witness, not what Airflow or a log says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.campaign.plan import TIMEOUT, PlannedJob

State = Literal["running", "succeeded", "failed", "cancelled"]

_FINAL: Final = frozenset({"success", "failed", "skipped", "upstream_failed"})
_SLACK: Final = 0.5
"""Seconds by which two clocks of one machine may differ in what they call a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenJob:
    """One job as the vendor has seen it; times in epoch seconds.

    ``ended`` is None while it runs. ``by_request`` tells that a request has started it,
    ``cancels`` how often a request has stopped it.
    """

    job_id: str
    created: float
    ended: float | None
    state: State
    by_request: bool
    cancels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One planned job, what Airflow made of it, and its jobs, the oldest first.

    ``begun`` is when its run was asked for. ``state`` is that of the task, None where
    there is none. ``wished_at`` is when the user did what was planned, None if that
    moment never came. ``ahead`` is by how many seconds the clock of a triggerer was ahead
    at most since then: a timeout comes as much sooner there.
    """

    plan: PlannedJob
    begun: float
    state: str | None
    attempts: int
    ended: float | None
    wished_at: float | None
    jobs: tuple[SeenJob, ...]
    ahead: float = 0.0


Sin = Literal[
    "duplicate start",
    "lost job",
    "wrong final state",
    "unwanted cancel",
    "missing cancel",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be."""

    sin: Sin
    told: Told
    text: str

    def __str__(self) -> str:
        """Say it with the task's name."""
        plan = self.told.plan
        return f"{self.sin}: {plan.dag_id} {plan.run_id} ({plan.target}): {self.text}"


def judge(told: Told) -> Iterator[Finding]:
    """Return what is wrong about one task; nothing if all is as it must be."""
    yield from (Finding("duplicate start", told, text) for text in _duplicates(told))
    yield from (Finding("lost job", told, text) for text in _lost(told))
    yield from (Finding("wrong final state", told, text) for text in _wrong(told))
    yield from (Finding("unwanted cancel", told, text) for text in _unwanted(told))
    yield from (Finding("missing cancel", told, text) for text in _missing(told))


def _duplicates(told: Told) -> Iterator[str]:
    plan, wished = told.plan, told.wished_at
    if plan.kind == "sensor":
        if any(job.by_request for job in told.jobs):
            yield "a sensor's job was started by a request"
        return
    for before, job in zip(told.jobs, told.jobs[1:], strict=False):
        if before.ended is None or before.ended > job.created + _SLACK:
            yield f"job {job.job_id} began while {before.job_id} was running"
        elif before.state == "succeeded":
            # A task that is cleared after its job has ended starts a new one.
            fresh = (
                wished is not None
                and plan.wish == "clear"
                and before.created < wished <= job.created + _SLACK
            )
            if not fresh:
                yield f"job {job.job_id} began though {before.job_id} had succeeded"
    if wished is not None and plan.wish != "clear":
        late = [job for job in told.jobs if job.created > wished + _SLACK]
        for job in late:
            yield f"job {job.job_id} began after the user had ended the task"


def _lost(told: Told) -> Iterator[str]:
    if told.state not in _FINAL:
        jobs = ", ".join(f"{job.job_id} {job.state}" for job in told.jobs)
        yield f"the task is {told.state} at the end (jobs: {jobs or 'none'})"
    elif told.wished_at is None and told.plan.kind != "frail":
        for job in told.jobs:
            if job.state == "running":
                yield f"job {job.job_id} runs on, the task is {told.state}"
    if not told.jobs and told.state == "success" and told.plan.wish != "mark success":
        yield "the task succeeded and no job was ever started"


def _wrong(told: Told) -> Iterator[str]:
    if told.state not in _FINAL:
        return
    expected = "success" if told.plan.ends_well else "failed"
    if told.wished_at is not None:
        expected = {
            "mark failed": "failed",
            "fail the run": "failed",
            "mark success": "success",
        }.get(told.plan.wish or "", expected)
    if told.state != expected:
        last = told.jobs[-1].state if told.jobs else "never started"
        yield (
            f"{told.state} instead of {expected} after {told.attempts} attempts"
            f" (its last job: {last})"
        )
    elif told.state == "success" and told.wished_at is None:
        last_job = told.jobs[-1] if told.jobs else None
        if last_job is not None and last_job.state != "succeeded":
            yield f"success, but its last job is {last_job.state}"


def _unwanted(told: Told) -> Iterator[str]:
    plan, wished = told.plan, told.wished_at
    for job in told.jobs:
        if not job.cancels:
            continue
        ended = job.ended if job.ended is not None else job.created
        by_user = wished is not None and ended >= wished - _SLACK
        lived = ended - job.created
        # The time runs from the task's start; an outage may leave its job little of it.
        due = told.begun + TIMEOUT - told.ahead
        by_timeout = plan.kind == "timeout" and ended >= due
        if plan.vendor == "fivetran" or plan.kind == "sensor":
            yield f"job {job.job_id} was stopped, which nothing may do"
        elif not (by_user or by_timeout):
            yield f"job {job.job_id} was cancelled after {lived:.0f} s"


def _missing(told: Told) -> Iterator[str]:
    plan, wished = told.plan, told.wished_at
    if plan.vendor == "fivetran" or plan.kind == "sensor":
        return
    if wished is None and plan.kind != "timeout":
        return
    for job in told.jobs:
        if job.state == "running":
            yield f"job {job.job_id} runs on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table that a campaign ends with."""

    name: str
    jobs: int
    starts: int
    sins: dict[Sin, int]
    slowest: float | None
    median: float | None


SINS: Final[tuple[Sin, ...]] = (
    "duplicate start",
    "lost job",
    "wrong final state",
    "unwanted cancel",
    "missing cancel",
)


def delays(told: Iterable[Told]) -> list[float]:
    """Return the seconds from a job's end to its task's, sorted.

    Only of tasks that waited undisturbed by a user for a job that ended well: any other
    task's end has another reason than its last job's.
    """
    return sorted(
        each.ended - each.jobs[-1].ended
        for each in told
        if each.state == "success"
        and each.wished_at is None
        and each.ended is not None
        and each.jobs
        and each.jobs[-1].ended is not None
        and each.jobs[-1].state == "succeeded"
    )


def table(told: Iterable[Told]) -> list[Row]:
    """Return a row for each vendor and one for all."""
    everything = list(told)
    names = [*dict.fromkeys(each.plan.vendor for each in everything)]
    groups = [
        (str(name), [each for each in everything if each.plan.vendor == name])
        for name in names
    ]
    groups.append(("all", everything))
    return [_row(name, group) for name, group in groups]


def _row(name: str, group: list[Told]) -> Row:
    findings = [finding for each in group for finding in judge(each)]
    waits = delays(group)
    return Row(
        name=name,
        jobs=len(group),
        starts=sum(job.by_request for each in group for job in each.jobs),
        sins={sin: sum(finding.sin == sin for finding in findings) for sin in SINS},
        slowest=waits[-1] if waits else None,
        median=waits[len(waits) // 2] if waits else None,
    )
