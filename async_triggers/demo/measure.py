"""What the demo counts while it runs, and what it concludes. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from statistics import median_low
from typing import TYPE_CHECKING

from async_triggers.demo.airflow_api import FINISHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from async_triggers.demo.airflow_api import TaskInstance
    from async_triggers.demo.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Sample:
    """One scenario at one moment: its tasks by state, its jobs that run."""

    states: Mapping[str, int]
    jobs: int

    @property
    def slots(self) -> int:
        """How many worker slots its tasks hold."""
        return self.states.get("running", 0)

    @property
    def over(self) -> bool:
        """Whether it has tasks and all of them are finished."""
        return bool(self.states) and self.states.keys() <= FINISHED


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything at one moment: ``elapsed`` seconds, a sample of each DAG by its id.

    ``events`` holds the states of all runs of each DAG that events start.
    """

    elapsed: float
    samples: Mapping[str, Sample]
    requests: int
    capacity: int
    events: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many jobs run at all vendors."""
        return sum(sample.jobs for sample in self.samples.values())

    @property
    def over(self) -> bool:
        """Whether all tasks are finished and each event has started a DAG."""
        return all(sample.over for sample in self.samples.values()) and all(
            FINISHED.intersection(states) for states in self.events.values()
        )

    @property
    def slots(self) -> int:
        """How many worker slots are held."""
        return sum(sample.slots for sample in self.samples.values())


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When a job was started and when it ended, None if it still runs; in seconds."""

    target: str
    start: float
    end: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one scenario came to.

    ``at_once`` is the greatest number of its jobs that ran at one time, and ``slots``
    how many worker slots its tasks held then, None if that was never seen. ``separate``
    is how many requests it takes to poll each of its jobs by itself, once an
    interval. ``wrong`` says what was not as expected.
    """

    scenario: Scenario
    tasks: Sequence[TaskInstance]
    at_once: int
    slots: int | None
    separate: int
    wrong: Sequence[str]


def sample(tasks: Iterable[TaskInstance], jobs: int) -> Sample:
    """Return a scenario's sample from its task instances and its running jobs."""
    return Sample(Counter(ti.state or "none" for ti in tasks), jobs)


def conclude(
    scenario: Scenario,
    *,
    tasks: Sequence[TaskInstance],
    jobs: Sequence[JobTimes],
    moments: Iterable[Moment],
) -> Outcome:
    """Compare what a scenario came to with what was expected of it.

    ``jobs`` are those of all scenarios; each is known by its target.
    """
    ours = [job for job in jobs if job.target in scenario.targets]
    slots = slots_while_waiting(
        [moment.samples[scenario.dag_id] for moment in moments],
    )
    wrong = [*_wrong_tasks(scenario, tasks), *_wrong_starts(scenario, ours)]
    if scenario.slots is not None and slots != scenario.slots:
        held = "never seen" if slots is None else slots
        wrong.append(f"worker slots held while waiting: {held}, not {scenario.slots}")
    return Outcome(
        scenario=scenario,
        tasks=tasks,
        at_once=most_at_once(ours),
        slots=slots,
        separate=separate_requests(ours, interval=scenario.interval),
        wrong=wrong,
    )


def wrong_events(events: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Name the DAGs of which no run that an event has started has succeeded."""
    for dag_id, states in events.items():
        if "success" not in states:
            found = ", ".join(states) or "none"
            yield f"{dag_id}: runs that an event has started: {found}"


def most_at_once(jobs: Iterable[JobTimes]) -> int:
    """Return how many of the jobs ran at one time, at most."""
    changes: list[tuple[float, int]] = []
    for job in jobs:
        changes.append((job.start, 1))
        if job.end is not None:
            changes.append((job.end, -1))
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def separate_requests(jobs: Iterable[JobTimes], *, interval: float) -> int:
    """Return how many requests see each finished job through, one an interval."""
    return sum(
        math.ceil((job.end - job.start) / interval)
        for job in jobs
        if job.end is not None
    )


def slots_while_waiting(samples: Sequence[Sample]) -> int | None:
    """Return how many slots were held while the most jobs ran; None if none ever ran.

    At the first of these moments a task may just be deferring, so it is their median.
    """
    most = max((sample.jobs for sample in samples), default=0)
    if not most:
        return None
    return median_low([sample.slots for sample in samples if sample.jobs == most])


def _wrong_tasks(scenario: Scenario, tasks: Sequence[TaskInstance]) -> Iterable[str]:
    found = Counter(ti.task_id for ti in tasks)
    for task_id, number in scenario.tasks.items():
        if found[task_id] != number:
            yield f"task {task_id!r} has {found[task_id]} instances, not {number}"
    for ti in tasks:
        if ti.state != scenario.state:
            yield f"task {ti.label!r} is {ti.state}, not {scenario.state}"
        if ti.task_id not in scenario.tasks:
            yield f"task {ti.label!r} is not expected at all"


def _wrong_starts(scenario: Scenario, jobs: Sequence[JobTimes]) -> Iterable[str]:
    starts = Counter(job.target for job in jobs)
    for target in scenario.targets:
        if starts[target] != 1:
            yield f"{starts[target]} jobs of {target!r} were started, not 1"
