"""What is kept of a run's results, and what is logged of its steps."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from async_triggers.dbt_cloud.api.run_results import MOST_NODES, summarize
from async_triggers.dbt_cloud.explanation import Explanation
from async_triggers.deferral.errors import JobFailed
from async_triggers.engine.errors import Unreachable
from async_triggers.engine.jobs import Job, JobState
from async_triggers.simulator.faults import Fault
from tests.unit.dbt_cloud.stage import JOB, Runs
from tests.unit.dbt_cloud.test_api import AN_ACCOUNT
from tests.unit.dbt_cloud.test_operators import dbt, lives
from tests.unit.dbt_cloud.test_triggers import event_of, trigger

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.engine.wire import Reply, Request
    from async_triggers.simulator.dbt_cloud import DbtCloudSimulator

SAMPLE = Path(__file__).parent / "replies" / "run_results.json"


def a_result(name: str, status: str, **more: Any) -> dict[str, Any]:
    return {"unique_id": name, "status": status, "execution_time": 1.0, **more}


def test_a_summary_counts_names_the_slowest_and_says_what_failed() -> None:
    summary = summarize(orjson.loads(SAMPLE.read_bytes()))

    assert summary["counts"] == {
        "success": 1,
        "error": 1,
        "skipped": 1,
        "fail": 1,
        "warn": 1,
    }
    assert summary["elapsed_time"] == 12.5
    assert summary["slowest"][0] == {
        "unique_id": "model.shop.customers",
        "execution_time": 1.5,
    }
    (test,) = summary["failed_tests"]
    assert test["message"] == "Got 3 results, configured to fail if != 0"
    assert test["status"] == "fail"
    (node,) = summary["failed_nodes"]
    assert node["unique_id"] == "model.shop.orders"
    assert 'column "amount" does not exist' in node["message"]


def test_a_partial_success_is_a_failure_with_its_message() -> None:
    summary = summarize(
        {
            "results": [
                a_result("model.a", "partial success", message="PARTIAL 3/4"),
                a_result("model.b", "success"),
            ]
        }
    )

    assert summary["counts"] == {"partial success": 1, "success": 1}
    assert [node["message"] for node in summary["failed_nodes"]] == ["PARTIAL 3/4"]


def test_a_summary_stays_small() -> None:
    results = [
        a_result(f"{kind}.n{n}", "error", message="x" * 10_000)
        for n in range(500)
        for kind in ("test", "model")
    ]

    summary = summarize({"results": results})

    assert len(summary["failed_tests"]) == len(summary["slowest"]) == MOST_NODES
    assert len(orjson.dumps(summary)) < 20_000
    assert summary["counts"] == {"error": 1000}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"results": None, "elapsed_time": "long"},
        {"results": [None, "a", {}, {"unique_id": 5, "status": [], "message": {}}]},
        {"results": [a_result("test.a", "fail", execution_time=None, failures="3")]},
    ],
)
def test_results_of_another_shape_break_nothing(body: dict[str, Any]) -> None:
    assert orjson.dumps(summarize(body))


def test_a_failed_run_has_its_summary_in_the_xcom(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error")
    task = run_of(dbt)
    task.work()
    event = task.wait()

    with pytest.raises(JobFailed):
        task.resume(event)

    results = task.xcoms["dbt_cloud_run"]["run_results"]
    assert results["counts"] == {"success": 1, "error": 1}
    assert results["failed_nodes"][0]["unique_id"] == "model.shop.orders"
    assert dbt_cloud.record.count("GET", "/artifacts/") == 1


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize(("wanted", "requests"), [(False, 0), (True, 1)])
def test_a_success_is_summarized_where_that_is_asked_for(
    run_of: Runs,
    dbt_cloud: DbtCloudSimulator,
    *,
    wanted: bool,
    requests: int,
    deferrable: bool,
) -> None:
    lives(dbt_cloud, "running:60 success")
    task = run_of(lambda: dbt(summarize_results=wanted, deferrable=deferrable))
    task.work()
    if deferrable:
        task.resume(task.wait())

    statistics = task.xcoms["dbt_cloud_run"]
    assert ("run_results" in statistics) is wanted
    assert dbt_cloud.record.count("GET", "/artifacts/") == requests


def test_a_success_without_results_is_a_success(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    lives(dbt_cloud, "running:60 success")
    dbt_cloud.faults.add(
        Fault(kind="status", status=404, path="*/artifacts/*", times=None)
    )
    task = run_of(lambda: dbt(summarize_results=True))
    task.work()
    task.resume(task.wait())

    assert "run_results" not in task.xcoms["dbt_cloud_run"]


STEPS = ("dbt seed", "dbt run", "dbt test")


def step_lines(text: str) -> list[str]:
    return re.findall(r"^.*Run \d+: step .*$", text, re.MULTILINE)


def requests_for_steps(dbt_cloud: DbtCloudSimulator) -> int:
    wanted = ("include_related", "run_steps")
    return sum(wanted in each.query for each in dbt_cloud.record.exchanges)


def test_steps_are_logged_once_as_they_are_seen_to_end(
    dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    job = dbt_cloud.add_job(JOB + 1, execute_steps=STEPS)
    run = dbt_cloud.add_run(job, "running:3000 success")

    event = asyncio.run(event_of(trigger(run, log_steps=True)))

    assert event["status"] == "success"
    lines = step_lines(logged())
    seed = f"Run {run}: step 3, Invoke dbt with `dbt seed`, succeeded (16 min)"
    assert sum(seed in line for line in lines) == 1
    assert sum("`dbt test`, succeeded" in line for line in lines) == 1
    assert len(lines) == len(set(lines)) == 5
    # One request each ten minutes, and one at the end.
    assert requests_for_steps(dbt_cloud) <= 3000 // 600 + 1


@pytest.mark.parametrize(
    ("life", "last"),
    [
        ("running:500 success", "`dbt test`, succeeded (2 min)"),
        ("running:500 error", "`dbt test`, failed (2 min)"),
        ("running:500 cancelled", "`dbt test`, was cancelled (2 min)"),
    ],
)
def test_steps_of_a_short_run_are_logged_at_its_end(
    dbt_cloud: DbtCloudSimulator, logged: Callable[[], str], life: str, last: str
) -> None:
    job = dbt_cloud.add_job(JOB + 1, execute_steps=STEPS)
    run = dbt_cloud.add_run(job, life)

    asyncio.run(event_of(trigger(run, log_steps=True)))

    lines = step_lines(logged())
    assert len(lines) == len(set(lines)) == 5
    assert last in lines[-1]
    assert requests_for_steps(dbt_cloud) == 1


@pytest.mark.parametrize(
    ("life", "lines", "requests"),
    [
        ("running:3000 success", 0, 0),
        ("running:3000 cancelled", 0, 0),
        # Why it failed is learnt from them in any case.
        ("running:3000 error", 5, 1),
    ],
)
def test_steps_that_nobody_wants_cost_no_request(
    dbt_cloud: DbtCloudSimulator,
    logged: Callable[[], str],
    life: str,
    lines: int,
    requests: int,
) -> None:
    job = dbt_cloud.add_job(JOB + 1, execute_steps=STEPS)
    run = dbt_cloud.add_run(job, life)

    asyncio.run(event_of(trigger(run)))

    assert len(step_lines(logged())) == lines
    assert requests_for_steps(dbt_cloud) == requests


def test_the_steps_of_a_run_are_one_record(
    dbt_cloud: DbtCloudSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    # Each record costs the triggerer a millisecond.
    caplog.set_level("INFO")
    job = dbt_cloud.add_job(JOB + 1, execute_steps=tuple(f"dbt {n}" for n in range(50)))
    run = dbt_cloud.add_run(job, "running:500 success")
    waiting = trigger(run, log_steps=True)
    waiting._log = cast("Logger", logging.getLogger("task"))

    asyncio.run(event_of(waiting))

    texts = [each.getMessage() for each in caplog.records]
    assert [len(step_lines(text)) for text in texts if step_lines(text)] == [52]


@pytest.mark.asyncio
async def test_steps_that_cannot_be_learnt_cost_only_their_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def send(request: Request) -> Reply:
        msg = "The host is away"
        raise Unreachable(msg)

    ended = Job(id="5", state=JobState.SUCCEEDED, word="success")
    log = logging.getLogger("task")

    found = await Explanation(ended, send, cast("Logger", log)).of(
        AN_ACCOUNT, summarize=False, with_steps=True
    )

    assert found == ended
    assert "The steps of run 5 could not be determined: The host is away" in caplog.text
