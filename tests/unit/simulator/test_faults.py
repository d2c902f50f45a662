from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from async_triggers.simulator import (
    PROXY_ANSWERS,
    PROXY_REFUSALS,
    Fault,
    Life,
    ListQuirks,
    SimRequest,
)
from async_triggers.simulator.faults import FaultPlan
from async_triggers.simulator.lives import Timeline, as_lives

if TYPE_CHECKING:

    class Clock(Protocol):
        time: float

        def __call__(self) -> float: ...

        def advance(self, seconds: float) -> None: ...


LOOK = SimRequest("GET", "/v1/jobs/1")
START = SimRequest("POST", "/v1/jobs")


@pytest.fixture
def plan(clock: Clock) -> FaultPlan:
    return FaultPlan(clock, Random(0))


def hits(plan: FaultPlan, *requests: SimRequest) -> list[bool]:
    return [plan.pick(request) is not None for request in requests]


def test_a_fault_hits_once_unless_told_otherwise(plan: FaultPlan) -> None:
    plan.add(Fault(kind="reset"))
    assert hits(plan, LOOK, LOOK) == [True, False]
    plan.add(Fault(kind="reset", times=2))
    assert hits(plan, LOOK, LOOK, LOOK) == [True, True, False]
    plan.add(Fault(kind="reset", times=None))
    assert all(hits(plan, *[LOOK] * 50))
    plan.clear()
    assert hits(plan, LOOK) == [False]


def test_a_fault_hits_only_what_matches(plan: FaultPlan) -> None:
    plan.add(Fault(kind="reset", method="POST", path="*/jobs"))
    other = SimRequest("POST", "/v1/jobs/1")
    assert hits(plan, LOOK, other, START, START) == [False, False, True, False]


def test_a_fault_can_leave_the_first_ones_alone(plan: FaultPlan) -> None:
    plan.add(Fault(kind="reset", method="GET", skip=2))
    assert hits(plan, LOOK, START, LOOK, LOOK, LOOK) == [
        False,
        False,
        False,
        True,
        False,
    ]


def test_a_dead_period_begins_and_ends(plan: FaultPlan, clock: Clock) -> None:
    plan.add(Fault(kind="reset", times=None, start_in=10, lasts=5))
    seen = []
    for _ in range(4):
        seen += hits(plan, LOOK)
        clock.advance(5)
    assert seen == [False, False, True, False]
    assert plan.as_list() == []


def test_a_rate_hits_its_share_and_is_repeatable(clock: Clock) -> None:
    seen = []
    for _ in range(2):
        plan = FaultPlan(clock, Random(7))
        plan.add(Fault(kind="reset", times=None, rate=0.25))
        seen.append(hits(plan, *[LOOK] * 1000))
    assert seen[0] == seen[1]
    assert 200 <= sum(seen[0]) <= 300
    assert plan.as_list()[0]["hits"] == sum(seen[1])


def test_faults_are_tried_in_order(plan: FaultPlan) -> None:
    plan.add(Fault(kind="reset", method="POST"), Fault(kind="hang"))
    found = [plan.pick(request) for request in (LOOK, START)]
    assert [one.kind for one in found if one] == ["hang", "reset"]


def test_a_fault_hits_only_the_operation_that_is_meant(plan: FaultPlan) -> None:
    plan.add(Fault(kind="reset", operation="start", times=None))
    assert plan.pick(START, "start") is not None
    assert plan.pick(START, "token") is None
    assert plan.pick(START, None) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "proxy"}, "has an answer if"),
        ({"kind": "reset", "answer": "nginx-403"}, "has an answer if"),
        ({"kind": "proxy", "answer": "iis-403"}, "'iis-403'; use one of: go-404, "),
        ({"kind": "reset", "operation": "stop"}, "poll, list, start, cancel, token"),
    ],
)
def test_a_fault_that_cannot_be_made_is_refused(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Fault.from_dict(values)


def test_proxies_answer_with_many_refusals_and_none_of_them_is_a_vendors() -> None:
    assert {answer.status for answer in PROXY_REFUSALS.values()} >= {
        *(301, 302, 400, 401, 403, 404, 408, 421, 422, 425, 429)
    }
    assert set(PROXY_ANSWERS) > set(PROXY_REFUSALS)
    for name, answer in PROXY_REFUSALS.items():
        assert name.endswith(f"-{answer.status}")
        assert "airbyte" not in answer.body.decode().lower()
        assert b"is_success" not in answer.body
        if answer.status < 400:
            assert "Location" in answer.headers


def test_a_life_is_written_as_it_is_read() -> None:
    script = "pending:1.5 running:10 succeeded"
    assert str(Life.parse(script)) == script


def test_a_timeline_answers_for_every_time() -> None:
    line = Timeline(100.0, Life.parse("pending:1 running:5 failed"))
    words = []
    for time in (99.9, 100, 101, 105.9, 106, 1e9):
        moment = line.at(time)
        words.append(moment.word if moment else None)
    assert words == [None, "pending", "running", "running", "failed", "failed"]
    line.end(103, "cancelled")
    assert line.at(1e9) == ("cancelled", 103)
    assert line.first("running") == 101
    assert line.first("failed") is None
    assert line.first("running", until=100) is None


def test_a_state_that_never_ends_hides_what_follows() -> None:
    line = Timeline(0.0, Life((("running", float("inf")), ("failed", 0.0))))
    assert line.last == ("running", 0.0)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "status", "status": "503"},
        {"kind": "status", "status": None},
        {"kind": "status", "times": "3"},
        {"kind": "status", "lasts": [60]},
        {"kind": "slow", "seconds": "5"},
        {"kind": "status", "skip": True},
        {"kind": "status", "rate": "0.5"},
        {"kind": "status", "path": 5},
        {"kind": "status", "method": ["GET"]},
    ],
)
def test_a_value_of_a_wrong_type_is_refused_when_it_is_arranged(
    values: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=r"must be a (number|text), not"):
        Fault.from_dict(values)


@pytest.mark.parametrize("name", ["lag", "skip", "repeat", "churn"])
def test_quirks_are_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' must be a number"):
        ListQuirks.from_dict({name: "1"})


@pytest.mark.parametrize("life", [5, None, ["running:5"], {"running": 5}])
def test_a_life_is_a_text(life: Any) -> None:
    with pytest.raises(ValueError, match="a life is a text"):
        as_lives([life])
