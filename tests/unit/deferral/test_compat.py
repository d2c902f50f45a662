from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    TaskStatesResult,
)

from async_triggers.deferral import compat
from async_triggers.deferral.compat import talk


class Supervisor:
    """Knows the states of tasks, as the triggerer's supervisor tells them."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: Any = None

    async def asend(self, message: Any) -> Any:
        self.asked = message
        return self.answer


def state_of(
    monkeypatch: pytest.MonkeyPatch, answer: Any, map_index: int | None
) -> tuple[str | None, Any]:
    supervisor = Supervisor(answer)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=map_index)
    return asyncio.run(compat.task_state(ti)), supervisor.asked


@pytest.mark.parametrize(
    ("map_index", "states", "state", "asked"),
    [
        (-1, {"t": "deferred"}, "deferred", None),
        (None, {"t": "failed"}, "failed", None),
        # The key of a mapped task holds its index.
        (0, {"t_0": "success"}, "success", 0),
        (3, {"t_3": "running", "t": "deferred"}, "running", 3),
        (-1, {}, None, None),
        # Put back, as a clear does and a scheduler that adopts.
        (-1, {"t": None}, "no_status", None),
    ],
)
def test_the_state_of_a_task_is_asked_of_the_supervisor(
    monkeypatch: pytest.MonkeyPatch,
    map_index: int | None,
    states: dict[str, Any],
    state: str | None,
    asked: int | None,
) -> None:
    answer = TaskStatesResult(task_states={"r": states})

    found, message = state_of(monkeypatch, answer, map_index)

    assert found == state
    assert isinstance(message, GetTaskStates)
    assert (message.dag_id, message.task_ids, message.run_ids) == ("d", ["t"], ["r"])
    assert message.map_index == asked


def test_a_run_that_is_gone_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(monkeypatch, TaskStatesResult(task_states={}), -1)[0] is None


def test_a_state_that_cannot_be_learnt_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RuntimeError, match="the supervisor answered ErrorResponse"):
        state_of(monkeypatch, ErrorResponse(), -1)


@pytest.mark.parametrize(
    ("configured", "seconds"), [(None, 7.5), ("1", 7.5), ("20", 22.5)]
)
def test_no_event_before_the_workers_next_heartbeat(
    monkeypatch: pytest.MonkeyPatch, configured: str | None, seconds: float
) -> None:
    if configured is not None:
        name = "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"
        monkeypatch.setenv(name, configured)

    compat.earliest_event.cache_clear()
    try:
        assert compat.earliest_event() == seconds
    finally:
        compat.earliest_event.cache_clear()


def test_the_configuration_is_not_asked_for_each_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = compat.earliest_event()
    monkeypatch.setattr(talk, "conf", None)

    assert compat.earliest_event() == known


@pytest.fixture
def sdk_stats(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module of another Airflow that metrics are sent with."""
    module = ModuleType("airflow.sdk.observability.stats")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    talk.stats.cache_clear()
    yield module
    talk.stats.cache_clear()


def test_metrics_are_sent_with_the_class_of_airflow_3_2(sdk_stats: Any) -> None:
    sdk_stats.Stats = type("Stats", (), {})

    assert compat.stats() is sdk_stats.Stats


def test_metrics_are_sent_with_the_functions_of_airflow_3_3(sdk_stats: Any) -> None:
    sdk_stats.Stats = type("Stats", (), {})
    sdk_stats.incr = print

    assert compat.stats() is sdk_stats


def test_metrics_can_be_sent_with_this_airflow() -> None:
    stats = compat.stats()

    assert all(callable(getattr(stats, name)) for name in ("incr", "gauge", "timing"))
