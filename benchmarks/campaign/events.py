"""What a campaign has proved of its watchers: each end at the vendor against the events.

Pure. The vendor's own record is the witness of the ends, Airflow's table of asset events
of what was reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from benchmarks.campaign.plan import PlannedWatch
    from benchmarks.campaign.verdict import SeenJob, State

SAME: Final = 1.0
"""Seconds by which two times of one end may differ in their spelling."""
WRITTEN: Final = 15.0
"""Seconds after an event in which its mark is written, if nothing comes in between."""
LATE: Final = 10.0
"""Seconds after a triggerer was replaced in which it may still hand over an event."""

EventSin = Literal["event missed", "event twice", "event wrong"]
EVENT_SINS: Final[tuple[EventSin, ...]] = (
    "event missed",
    "event twice",
    "event wrong",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """One asset event, and what its payload says of a job; times in epoch seconds.

    ``at`` is when Airflow took it in.
    """

    job_id: str
    state: State
    ended: float | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a watcher had to report, and the events in Airflow's order.

    An end must be reported if it was later than ``since``, when the watcher had certainly
    begun, and no later than ``until``. ``interruptions`` are when triggerers were hit,
    or were taken for dead, and when that was over. ``hidden`` are the ids of jobs that
    ended by a clock so far behind that the vendor's times deny them.
    """

    plan: PlannedWatch
    since: float
    until: float
    jobs: tuple[SeenJob, ...]
    events: tuple[SeenEvent, ...]
    interruptions: tuple[tuple[float, float], ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def due(self) -> list[SeenJob]:
        """The jobs whose ends must be reported."""
        return [
            job
            for job in self.jobs
            if job.ended is not None
            and self.since <= job.ended <= self.until
            and job.job_id not in self.hidden
        ]


@dataclass(frozen=True, slots=True)
class EventFinding:
    """Something that must not be."""

    sin: EventSin
    watched: Watched
    text: str

    def __str__(self) -> str:
        """Say it with what was watched."""
        plan = self.watched.plan
        return f"{self.sin}: {plan.vendor} {plan.target}: {self.text}"


def judge_events(watched: Watched) -> Iterator[EventFinding]:
    """Return what is wrong about the events of one watcher; nothing if all is well."""
    for job in missed(watched):
        yield EventFinding(
            "event missed", watched, f"the end of {job.job_id} ({job.state})"
        )
    for first, again in _repeats(watched):
        if not _is_explained(watched, first, again):
            text = f"{again.job_id} again after {again.at - first.at:.0f} s"
            yield EventFinding("event twice", watched, text)
    for event in watched.events:
        shown = _job_of(watched, event)
        if shown is None or shown.ended is None:
            yield EventFinding("event wrong", watched, f"{event.job_id} has not ended")
        elif shown.state != event.state:
            text = f"{event.job_id} is {shown.state}, not {event.state}"
            yield EventFinding("event wrong", watched, text)


def missed(watched: Watched) -> list[SeenJob]:
    """Return the jobs whose ends no event shows."""
    shown = {job.job_id for event in watched.events if (job := _job_of(watched, event))}
    return [
        job
        for job in watched.due
        if job.job_id not in shown and not _is_covered(watched, job)
    ]


def _is_covered(watched: Watched, job: SeenJob) -> bool:
    """Return whether a later event stands for the end of this job as well.

    Fivetran's connection shows its last end alone. The history has those before it, and
    where it cannot be read, several ends become one event. That event bears no id of a sync
    then, which only the history shows.
    """
    assert job.ended is not None
    ended = job.ended
    later = [each for each in watched.events if each.ended and each.ended > ended]
    following = min(later, key=lambda each: each.ended or 0.0, default=None)
    return following is not None and _is_of_the_row(watched, following)


def _is_of_the_row(watched: Watched, event: SeenEvent) -> bool:
    is_fivetran = watched.plan.vendor == "fivetran"
    return is_fivetran and event.job_id.startswith(f"{watched.plan.target}@")


def _job_of(watched: Watched, event: SeenEvent) -> SeenJob | None:
    """Return the job of what is watched that an event reports."""
    of_the_row = _is_of_the_row(watched, event)
    for job in watched.jobs:
        if job.job_id == event.job_id:
            return job
        if of_the_row and job.ended and abs(job.ended - (event.ended or 0.0)) <= SAME:
            return job
    return None


def _repeats(watched: Watched) -> Iterator[tuple[SeenEvent, SeenEvent]]:
    """Return each event that repeats another one, after that."""
    last: dict[str, SeenEvent] = {}
    for event in watched.events:
        job = _job_of(watched, event)
        key = event.job_id if job is None else job.job_id
        if key in last:
            yield last[key], event
        last[key] = event


def _is_explained(watched: Watched, first: SeenEvent, again: SeenEvent) -> bool:
    """Return whether a triggerer was hit before the mark of an event was written.

    Events come at least once. One that was handed over shortly before is reported again,
    and a triggerer that was frozen hands over what another one has reported meanwhile.
    """
    return any(
        (begin - WRITTEN <= first.at <= begin + LATE and begin <= again.at + SAME)
        or end - SAME <= again.at <= end + LATE
        for begin, end in watched.interruptions
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One line of the table of events.

    ``ends`` had to be reported. ``repeats`` are what hit triggerers explain, ``hidden``
    the ends that the vendor's times deny.
    """

    name: str
    ends: int
    events: int
    sins: dict[EventSin, int]
    repeats: int
    hidden: int


def event_table(watched: Iterable[Watched]) -> list[EventRow]:
    """Return a row for each vendor and one for all."""
    everything = list(watched)
    return [
        *(_row(str(each.plan.vendor), [each]) for each in everything),
        _row("all", everything),
    ]


def _row(name: str, group: Sequence[Watched]) -> EventRow:
    found = [finding.sin for each in group for finding in judge_events(each)]
    return EventRow(
        name=name,
        ends=sum(len(each.due) for each in group),
        events=sum(len(each.events) for each in group),
        sins={sin: found.count(sin) for sin in EVENT_SINS},
        repeats=sum(
            _is_explained(each, *pair) for each in group for pair in _repeats(each)
        ),
        hidden=sum(len(each.hidden) for each in group),
    )
