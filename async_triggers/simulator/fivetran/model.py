"""What a simulated Fivetran knows of a connection: its row, syncs and setup tests."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from async_triggers.simulator.lives import Life

# https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history
HISTORY: Final = {
    "succeeded": "COMPLETED",
    "failed": "FAILURE",
    "broken": "FAILURE",
    "canceled": "CANCELED",
    "incomplete": "INCOMPLETE",
}

# https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
_TEST_STATUSES: Final = frozenset(
    {"PASSED", "SKIPPED", "WARNING", "FAILED", "JOB_FAILED"}
)
TEST_FAILURES: Final = frozenset({"FAILED", "JOB_FAILED"})

RECONNECT: Final = ("reconnect", "Reconnect")

DEFAULT_GROUP: Final = "simulated_group"


@dataclass(frozen=True, slots=True)
class FivetranState:
    """What a connection's row shows; times in seconds of the real clock."""

    sync_state: str
    paused: bool
    schedule_type: str
    setup_state: str
    succeeded_at: float | None
    failed_at: float | None
    rescheduled_for: float | None = None
    is_historical_sync: bool = False
    update_state: str = "on_schedule"
    tasks: tuple[tuple[str, str], ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    sync_frequency: int = 360


@dataclass(slots=True)
class FivetranSync:
    """One entry of the sync history; ``status`` is empty while it runs."""

    sync_id: str
    start: float
    end: float | None = None
    status: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FivetranTest:
    """One setup test and its result."""

    title: str
    status: str
    message: str = ""
    details: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the status.

        :raises ValueError: Fivetran has no such status.
        """
        if self.status not in _TEST_STATUSES:
            raise ValueError(
                f"the setup test {self.title!r} cannot have the status {self.status!r}; "
                f"it must be one of: {', '.join(sorted(_TEST_STATUSES))}"
            )

    def shown(self) -> dict[str, Any]:
        """Return the test as the API shows it."""
        row = {"title": self.title, "status": self.status, "message": self.message}
        return row if self.details is None else {**row, "details": dict(self.details)}


TestRun = tuple[FivetranTest, ...]
"""The results of one run of a connection's setup tests."""


@dataclass(slots=True)
class FivetranConnection:
    """One connection: its row at every time so far, its history, what is to come."""

    connection_id: str
    group_id: str
    service: str
    schema: str
    created_at: float
    lives: list[Life]
    states: list[FivetranState]
    # A list that lags still knows a connection that tests have just added.
    times: list[float] = field(default_factory=lambda: [-math.inf])
    history: list[FivetranSync] = field(default_factory=list)
    plan: deque[tuple[float, str]] = field(default_factory=deque)
    waiting: Life | None = None
    resync_wanted: bool = False
    due: float = field(init=False)
    tables: Mapping[str, Any] | None = None
    test_runs: list[TestRun] = field(default_factory=list)
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let its schedule begin."""
        self.wait_from(self.created_at)

    def wait_from(self, at: float) -> None:
        """Let the next scheduled sync be due a whole interval after a time."""
        self.due = at + self.state.sync_frequency * 60

    @property
    def state(self) -> FivetranState:
        """The row as it is now."""
        return self.states[-1]

    def at(self, time: float) -> FivetranState | None:
        """Return the row as it was at a time, or None before there was one."""
        index = bisect_right(self.times, time) - 1
        return self.states[index] if index >= 0 else None

    def change(self, at: float, **changes: Any) -> None:
        """Change the row from a time on."""
        self.states.append(replace(self.state, **changes))
        self.times.append(at)

    @property
    def running(self) -> FivetranSync | None:
        """The history's entry of the sync that runs, if one does."""
        if self.history and self.history[-1].end is None:
            return self.history[-1]
        return None

    def schedule(self, at: float, life: Life) -> None:
        """Let a life follow from a time on."""
        for word, seconds in life.steps:
            if math.isinf(at):
                break
            self.plan.append((at, word))
            at += seconds
        else:
            if life.steps[-1][0] not in {*HISTORY, "rescheduled"}:
                # The last state never ends: something is always still to come.
                self.plan.append((math.inf, "succeeded"))

    def rest(self) -> Life | None:
        """Return what is left of the plan as a life."""
        steps = [(at, word) for at, word in self.plan if at < math.inf]
        if not steps:
            return None
        ends = [at for at, _ in steps[1:]] + [math.inf]
        return Life(
            tuple((word, end - at) for (at, word), end in zip(steps, ends, strict=True))
        )

    @property
    def is_busy(self) -> bool:
        """Whether a start would do nothing: a sync runs or is about to."""
        return bool(self.plan) and self.state.sync_state != "rescheduled"


def test_run(results: str | Sequence[Mapping[str, Any]]) -> TestRun:
    """Read the results of one run of setup tests.

    :raises ValueError: They are neither a status nor a list of tests.
    """
    if isinstance(results, str):
        message = "The simulated test has failed" if results in TEST_FAILURES else ""
        return (FivetranTest("Test Connection", results, message),)
    try:
        return tuple(FivetranTest(**one) for one in results)
    except TypeError as error:
        raise ValueError(
            "setup_tests are statuses, or lists of objects with title, status, message "
            f"and details, not {results!r}"
        ) from error


def pairs(notes: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """Read pairs of code and message.

    :raises ValueError: They are no pairs.
    """
    try:
        return tuple((code, message) for code, message in notes)
    except ValueError as error:
        raise ValueError(
            f"tasks and warnings are pairs of code and message, not {notes!r}"
        ) from error
