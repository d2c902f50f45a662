"""What a task's log says while its job goes on and when it ends, in every mode."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from async_triggers.deferral.trigger import JobTrigger
from tests.unit.deferral.stage import TARGET, Task, World, deferred, sync

URL = "http://localhost:8000/workspaces/"
MODES = pytest.mark.parametrize(
    "mode",
    [
        pytest.param({"deferrable": False}, id="on the worker"),
        pytest.param({"deferrable": True}, id="deferred"),
        pytest.param({"deferrable": True, "end_from_trigger": True}, id="ended there"),
        pytest.param(
            {"deferrable": True, "start_in_trigger": True}, id="started there"
        ),
    ],
)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "task"]


@pytest.fixture(autouse=True)
def _in_one_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers that a task or another trigger makes write to the task's log, too."""
    monkeypatch.setattr(JobTrigger, "_log", logging.getLogger("task"))


def run(task: Task) -> str:
    """Run a task to its end; return what it failed with, or nothing."""
    try:
        task.run()
    except AirflowException as failure:
        return str(failure)

    return ""


@MODES
@pytest.mark.parametrize(
    ("life", "words"),
    [
        ("running:840 succeeded", r"Job 1 succeeded \(1,000 rows, 1\.0 MB, 14 min\)"),
        ("running:840 failed", r"Job 1 failed \([\d,]+ rows?, [\d.]+ \w+, 14 min\)"),
        (
            "running:840 cancelled",
            r"Job 1 was cancelled \([\d,]+ rows?, [\d.]+ \w+, 14 min\)",
        ),
    ],
)
def test_the_end_says_how_much_how_long_and_where(
    world: World,
    caplog: pytest.LogCaptureFixture,
    mode: dict[str, Any],
    life: str,
    words: str,
) -> None:
    caplog.set_level("INFO", "task")
    world.airbyte.add_connection(TARGET, lives=[life])

    failure = run(Task(world, sync(**mode)))

    lines = [line for line in [*said(caplog), failure] if re.search(words, line)]
    assert lines
    assert any(URL in line for line in lines)


@MODES
def test_the_log_says_every_ten_minutes_how_the_job_goes_on(
    world: World, caplog: pytest.LogCaptureFixture, mode: dict[str, Any]
) -> None:
    caplog.set_level("INFO", "task")
    world.airbyte.add_connection(TARGET, lives=["running:10000 succeeded"])

    run(Task(world, sync(timeout=None, **mode)))

    lines = [line for line in said(caplog) if re.match(r"Job 1 is (still )?run", line)]
    assert 15 <= len(lines) <= 18
    assert all(re.search(r" rows?, .* (s|min|h)\)$", line) for line in lines)


def test_a_retry_that_attaches_says_the_same(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "task")
    world.airbyte.add_connection(TARGET, lives=["running:840 succeeded"])
    task = Task(world, sync(deferrable=True))
    deferred(task.execute())
    task.retry()

    task.run()

    line = next(line for line in said(caplog) if "Job 1 succeeded" in line)
    assert "(1,000 rows, 1.0 MB, 14 min): " in line
    assert URL in line


def test_a_deadline_says_how_far_the_job_was(world: World) -> None:
    world.airbyte.add_connection(TARGET, lives=["running"])

    failure = run(Task(world, sync(deferrable=True, timeout=840)))

    assert re.search(
        r"Job 1 \([\d,]+ rows, .*, 14 min\) had not ended when .* cancelled", failure
    )
    assert URL in failure
