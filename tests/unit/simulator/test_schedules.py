"""Jobs that a simulated vendor starts by itself."""

from __future__ import annotations

from typing import Any

import pytest

from async_triggers.simulator.exchange import SimRequest
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor
from tests.vendors import Entry as Case


class Clock:
    def __init__(self) -> None:
        self.now = 1_774_402_200.0

    def __call__(self) -> float:
        return self.now


def ended(simulator: Any) -> int:
    """Return how many jobs there have been, after a request that lets time have been."""
    simulator.respond(SimRequest.to("GET", "http://vendor.test/nothing"))
    if simulator.name == "fivetran":
        return sum(len(each.history) for each in simulator.connections.values())

    return len(simulator.jobs(finished=True))


def add(case: Case, simulator: Any, every: float, *lives: str) -> None:
    case.add_target(simulator, case.target, *lives)
    simulator.arrange(schedules=[{"target": case.target, "every": every}])


@every_vendor
def test_jobs_begin_at_an_interval_without_a_request(case: Case) -> None:
    clock = Clock()
    simulator: Any = case.simulator(clock=clock)
    add(case, simulator, 60.0, case.life("success", lasts=10))
    assert ended(simulator) == 0

    clock.now += 605.0

    assert ended(simulator) == 10
    assert not simulator.record.started


@every_vendor
def test_a_reset_ends_the_schedule(case: Case) -> None:
    clock = Clock()
    simulator: Any = case.simulator(clock=clock)
    add(case, simulator, 60.0, case.life("success", lasts=10))
    simulator.reset()
    clock.now += 605.0

    assert ended(simulator) == 0


@every_vendor
@pytest.mark.parametrize("every", [0.0, -1.0, float("nan")])
def test_an_interval_is_above_zero(case: Case, every: float) -> None:
    with pytest.raises(ValueError, match="above zero"):
        add(case, case.simulator(clock=Clock()), every)


def test_a_connection_that_syncs_does_not_begin_again() -> None:
    for case in (AIRBYTE, FIVETRAN):
        clock = Clock()
        simulator: Any = case.simulator(clock=clock)
        add(case, simulator, 60.0, case.life())
        clock.now += 605.0

        assert ended(simulator) == 1


@pytest.mark.parametrize(
    "case", [AIRBYTE, FIVETRAN, DBT_CLOUD], ids=lambda one: one.name
)
@pytest.mark.parametrize("target", ["nowhere", "5", None, [5], 5.5])
def test_only_what_is_there_is_scheduled(case: Case, target: Any) -> None:
    clock = Clock()
    simulator: Any = case.simulator(clock=clock)
    with pytest.raises(ValueError, match=r"arrange it first|unhashable"):
        simulator.arrange(schedules=[{"target": target, "every": 60}])
    clock.now += 605.0

    # A schedule that cannot be kept would break every later request.
    assert ended(simulator) == 0


def test_a_schedule_may_stand_before_its_connection() -> None:
    for case in (AIRBYTE, FIVETRAN):
        clock = Clock()
        simulator: Any = case.simulator(clock=clock)
        simulator.arrange(
            schedules=[{"target": "orders", "every": 60}],
            connections=[{"connection_id": "orders"}],
        )
        clock.now += 65.0

        assert ended(simulator) == 1
