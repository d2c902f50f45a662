"""Retries, and the counters of Airflow's own resumable operators."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from async_triggers.deferral import compat
from async_triggers.deferral.metrics import AirflowMetrics, tag_of
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import TARGET, Task, World, deferred, sync

LIFE = "running:60 succeeded"


class Stats:
    """Keeps what is counted."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.gauges: list[str] = []

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
        own = [tags[key] for key in ("result", "why", "operator") if key in tags]
        self.counts[name, *own] += count

    def gauge(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.gauges.append(name)

    def timing(self, name: str, taken: object, *, tags: dict[str, str]) -> None:
        """Take no note."""

    def of(self, name: str) -> dict[str, int]:
        """Return the counts of a metric by its own tag."""
        return {key[1]: n for key, n in self.counts.items() if key[0] == name}

    @property
    def resumed(self) -> dict[str, int]:
        """The counters of resumable jobs."""
        prefix = "resumable_job."
        assert {key[1] for key in self.counts if key[0].startswith(prefix)} <= {
            "AirbyteTriggerSyncOperator"
        }
        return {
            key[0].removeprefix(prefix): n
            for key, n in self.counts.items()
            if key[0].startswith(prefix)
        }


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> Stats:
    found = Stats()
    monkeypatch.setattr(compat, "stats", lambda: found)
    return found


def lives(world: World, *lives: str) -> None:
    world.airbyte.add_connection(TARGET, lives=lives)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_first_attempt_is_fresh(
    world: World, stats: Stats, *, deferrable: bool
) -> None:
    Task(world, sync(deferrable=deferrable)).run()

    assert stats.resumed == {"fresh_submit": 1}
    assert stats.of("async_triggers.starts") == {"started": 1}


@pytest.mark.parametrize(
    ("life", "pause", "result"),
    [
        (LIFE, 0.0, "reconnect_success"),
        (LIFE, 100.0, "already_succeeded"),
        ("running:60 failed", 100.0, "terminal_resubmit"),
    ],
)
def test_a_retry_counts_what_became_of_the_job(
    world: World, stats: Stats, life: str, pause: float, result: str
) -> None:
    lives(world, life, LIFE)
    task = Task(world, sync(deferrable=True))
    deferred(task.execute())
    stats.counts.clear()
    world.pass_time(pause)
    task.retry()

    task.run()

    assert stats.resumed == {"reconnect_attempt": 1, result: 1}
    again = "started" if result == "terminal_resubmit" else "found_again"
    assert stats.of("async_triggers.starts") == {again: 1}


def test_without_durable_each_attempt_starts_a_job(world: World, stats: Stats) -> None:
    lives(world, "running:600 succeeded", LIFE)
    task = Task(world, sync(deferrable=True, durable=False, timeout=7200))
    deferred(task.execute())
    task.retry()

    # Airbyte runs one sync of a connection at a time: the other is waited for.
    assert task.run() == 2

    assert world.starts == 2
    assert world.cancels == 0
    assert stats.resumed == {}


def test_without_durable_a_start_in_the_trigger_knows_of_no_earlier_one(
    world: World, stats: Stats
) -> None:
    task = Task(world, sync(deferrable=True, durable=False, start_in_trigger=True))
    task.run()
    task.retry()

    arguments = deferred(task.execute()).arguments

    assert arguments["record"] is None
    assert arguments["unsettled"] is None


def test_a_start_of_another_is_attached_to(world: World, stats: Stats) -> None:
    world.airbyte.add_job(TARGET, LIFE)

    Task(world, sync(deferrable=True, if_running="attach")).run()

    assert stats.of("async_triggers.starts") == {"attached": 1}


def test_a_lost_start_is_found_again(world: World, stats: Stats) -> None:
    lives(world, LIFE)
    world.airbyte.faults.add(Fault(kind="reset", operation="start", takes_effect=True))

    Task(world, sync(deferrable=True)).run()

    assert stats.of("async_triggers.starts") == {"found_again": 1}
    # It was no earlier attempt that has started it.
    assert stats.resumed == {"fresh_submit": 1}


def test_a_refused_start_is_counted(world: World, stats: Stats) -> None:
    task = Task(world, sync(deferrable=True, connection_id="unknown"))

    with pytest.raises(AirflowException):
        task.run()

    assert stats.of("async_triggers.starts") == {"refused": 1}
    assert stats.resumed == {}


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_cancel_at_a_deadline_is_counted(
    world: World, stats: Stats, *, deferrable: bool
) -> None:
    lives(world, "running")

    with pytest.raises(AirflowException):
        Task(world, sync(deferrable=deferrable, timeout=60)).run()

    assert stats.of("async_triggers.cancels") == {"timeout": 1}


def test_the_cancel_of_a_cleared_attempt_is_counted(world: World, stats: Stats) -> None:
    lives(world, "running", LIFE)
    task = Task(world, sync(deferrable=True))
    deferred(task.execute())
    task.clear()

    task.run()

    assert stats.of("async_triggers.cancels") == {"cleared": 1}


def test_a_worker_has_no_gauges(world: World, stats: Stats) -> None:
    lives(world, LIFE)

    Task(world, sync(deferrable=False)).run()

    assert stats.gauges == []
    assert stats.counts


def test_tags_hold_what_every_backend_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class Backend(Stats):
        def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
            seen.update(tags)

    monkeypatch.setattr(compat, "stats", Backend)
    AirflowMetrics(has_gauges=False).count("x", 1, {"account": "a b:c,d=e|f/é"})

    assert seen == {"account": "a_b_c_d_e_f__"}
    assert tag_of("airbyte_default.2") == "airbyte_default.2"
