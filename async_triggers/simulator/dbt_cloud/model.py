"""What a simulated dbt Cloud knows: accounts, projects, environments, jobs and runs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from async_triggers.simulator.lives import Life, Timeline

# https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs
STATUSES: Final = {
    "queued": 1,
    "starting": 2,
    "running": 3,
    "success": 10,
    "error": 20,
    "cancelled": 30,
}
TERMINAL: Final = frozenset({"success", "error", "cancelled"})
_UNKNOWN_STATUS: Final = 99
HUMANIZED: Final = {number: word.title() for word, number in STATUSES.items()}

# Ids do not fit into 32 bits: https://github.com/apache/airflow/issues/61979
FIRST_RUN_ID: Final = 70_403_194_297_680
DEFAULT_ACCOUNT: Final = 70_403_103_916_001
DEFAULT_PROJECT: Final = 70_403_103_900_101
DEFAULT_ENVIRONMENT: Final = 70_403_103_900_201

DBT_VERSION: Final = "1.9.0"
PREAMBLE: Final = ("Clone git repository", "Create profile from connection Simulated")


@dataclass(slots=True)
class DbtCloudJob:
    """One job; ``queue`` are its runs that have not ended, the oldest first."""

    account_id: int
    job_id: int
    project_id: int
    environment_id: int
    name: str
    execute_steps: tuple[str, ...] = ("dbt build",)
    models: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    artifacts: dict[str, Any] = field(default_factory=dict)
    lives: list[Life] = field(default_factory=list)
    created_at: float = 0.0
    job_type: str = "other"
    state: int = 1
    retry_refusal: str | None = None
    runs: list[DbtCloudRun] = field(default_factory=list)
    queue: deque[DbtCloudRun] = field(default_factory=deque)
    free_at: float = -math.inf

    def settle(self, now: float) -> None:
        """Let the runs begin whose turn has come by now.

        https://docs.getdbt.com/docs/deploy/job-scheduler: runs of one job are run one
        after another.
        """
        while self.queue:
            run = self.queue[0]
            if run.begun is None:
                ready = run.timeline.start + queued_for(run.life)
                begin = max(ready, self.free_at)
                if begin > now:
                    return
                run.begin(begin)
            if run.end > now:
                return
            self.queue.popleft()
            self.free_at = max(self.free_at, run.end)


@dataclass(slots=True)
class DbtCloudRun:
    """One run; what comes after its time in the queue is known when it begins."""

    run_id: int
    job: DbtCloudJob
    timeline: Timeline
    life: Life
    body: dict[str, Any]
    cause_category: str = "api"
    retrying: int | None = None
    begun: float | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The dbt commands of the run."""
        return tuple(self.body.get("steps_override") or self.job.execute_steps)

    @property
    def end(self) -> float:
        """When the run ends, as far as that is known."""
        last = self.timeline.last
        return last.since if last.word in TERMINAL else math.inf

    def begin(self, at: float) -> None:
        """Let the run leave the queue."""
        self.begun = at
        if not math.isinf(at):
            skip = 1 if self.life.steps[0][0] == "queued" else 0
            self.timeline.follow(at, self.life.steps[skip:])

    def finish(self, at: float, word: str) -> None:
        """Let the run be in a state from a time on, for good."""
        self.timeline.end(at, word)
        if self.begun is None:
            self.begun = at


@dataclass(slots=True)
class Account:
    """One account, with its share of requests and its first project."""

    account_id: int
    name: str
    plan: str
    created_at: float
    project_id: int
    environment_id: int
    requests: deque[float] = field(default_factory=deque)
    refused_until: float = 0.0


class Project(NamedTuple):
    """One project of an account; ``connection`` is that to its warehouse."""

    account_id: int
    project_id: int
    name: str
    created_at: float
    connection: Mapping[str, Any] | None = None


class Environment(NamedTuple):
    """One environment of a project."""

    account_id: int
    environment_id: int
    project_id: int
    name: str
    created_at: float


class Times(NamedTuple):
    """When a run came to its states, in epoch seconds; None for not yet."""

    created: float
    dequeued: float | None
    started: float | None
    finished: float | None


def queued_for(life: Life) -> float:
    """Return for how many seconds a life waits in the queue."""
    word, seconds = life.steps[0]
    return seconds if word == "queued" else 0.0


def number(word: str) -> int:
    """Return the number that stands for a status."""
    if word.isdigit():
        return int(word)
    return STATUSES.get(word, _UNKNOWN_STATUS)


def run_id_at(origin: float, created: float) -> int:
    """Return an id that grows with the time of creation."""
    return FIRST_RUN_ID + math.floor((created - origin) * 1000) * 1000
