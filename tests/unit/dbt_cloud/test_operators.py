from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from airflow.sdk import DAG

from async_triggers.dbt_cloud.operators import (
    DbtCloudGetJobRunArtifactOperator,
    DbtCloudListJobRunsOperator,
    DbtCloudListJobsOperator,
    DbtCloudRunJobOperator,
)
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    VendorRefused,
)
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.simulator.faults import Fault, ListQuirks
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB, Clock, Runs, TaskRun

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud import DbtCloudSimulator
    from async_triggers.simulator.exchange import SimReply, SimRequest

MARK = re.compile(r" \[at:[0-9a-f]{10}-\d+\]$")


def dbt(**changes: Any) -> DbtCloudRunJobOperator:
    arguments = {"task_id": "a_task", "job_id": JOB, "deferrable": True, **changes}
    return DbtCloudRunJobOperator(**arguments)


def lives(simulator: DbtCloudSimulator, *words: str) -> None:
    simulator.add_job(JOB, name="Nightly", lives=words)


@pytest.fixture
def task(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> TaskRun:
    return run_of(dbt)


def test_a_run_that_succeeds(task: TaskRun, dbt_cloud: DbtCloudSimulator) -> None:
    task.work()

    assert task.deferred is not None
    assert isinstance(task.deferred.trigger, DbtCloudRunJobTrigger)
    # Pushed before the wait, for those who want to look.
    run_id = task.xcoms["job_run_id"]
    assert task.xcoms["job_run_url"].endswith(f"/runs/{run_id}/")
    asked = dbt_cloud.record.total

    event = task.wait()
    waited = dbt_cloud.record.total
    result = task.resume(event)

    assert result == run_id
    assert result > 2**32
    assert event["status"] == "success"
    assert event["run_id"] == run_id
    assert waited > asked
    assert dbt_cloud.record.total == waited, "resuming asks the vendor nothing"
    statistics = task.xcoms["dbt_cloud_run"]
    assert statistics["job_id"] == str(run_id)
    assert statistics["job_definition_id"] == JOB
    assert statistics["status"] == "success"
    assert statistics["run_duration"] == "00:01:00"
    assert statistics["attached"] is False


def test_the_link_leads_to_the_run(task: TaskRun) -> None:
    (link,) = DbtCloudRunJobOperator.operator_extra_links
    task.work()

    url = link.get_link(task.operator, ti_key=None)

    assert link.name == "Monitor Job Run"
    assert url == task.xcoms["job_run_url"] == task.xcoms[link.xcom_key]
    assert not task.operator.operator_extra_links, "Airflow need not write it again"
    task.resume()
    assert link.get_link(task.operator, ti_key=None) == url


def test_a_failed_run_names_the_step_and_the_models(
    task: TaskRun, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    lives(dbt_cloud, "queued:1 running:60 error")
    task.work()
    event = task.wait()
    asked = dbt_cloud.record.total

    with pytest.raises(JobFailed) as failure:
        task.resume(event)

    assert "step 3, 'Invoke dbt with `dbt build`', failed" in str(failure.value)
    assert "model.shop.orders (Database Error in model.shop.orders)" in str(
        failure.value
    )
    assert "model.shop.customers" not in str(failure.value)
    assert failure.value.job is not None
    assert failure.value.job.url in str(failure.value)
    assert 'column "amount" does not exist' in logged()
    assert dbt_cloud.record.total == asked, "resuming asks the vendor nothing"
    assert task.xcoms["dbt_cloud_run"]["status"] == "error"


def test_logs_and_artifacts_that_come_late_are_waited_for(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    # The run ends right before a look, when there is neither of them yet.
    dbt_cloud.configure(logs_after=1.5)
    lives(dbt_cloud, "running:64.5 error")
    task = run_of(dbt)
    task.work()

    with pytest.raises(JobFailed, match=r"not built: model\.shop\.orders"):
        task.resume()

    assert "Database Error in model.shop.orders" in logged()
    assert dbt_cloud.record.count("GET", "/artifacts/") == 2


def test_a_failure_that_cannot_be_explained_is_a_failure_all_the_same(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error")
    task.work()
    dbt_cloud.faults.add(Fault(kind="status", path="*/runs/*/artifacts/*", times=None))

    with pytest.raises(JobFailed, match="step 3"):
        task.resume()


def test_a_run_that_fails_before_the_deferral_is_explained_as_well(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "error")
    task = run_of(dbt)

    with pytest.raises(JobFailed, match=r"model\.shop\.orders"):
        task.work()

    assert task.deferred is None


def test_a_run_that_ends_before_the_deferral_completes_on_the_worker(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "success")
    task = run_of(dbt)

    result = task.work()

    assert result == task.xcoms["job_run_id"]
    assert task.deferred is None


def test_a_run_that_is_cancelled_in_dbt_cloud_fails_the_task(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    task.work()
    dbt_cloud.finish(str(task.xcoms["job_run_id"]), "cancelled")

    with pytest.raises(JobCancelled):
        task.resume()


def test_waiting_on_the_worker(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    task = run_of(lambda: dbt(deferrable=False, check_interval=10))

    result = task.work()

    assert result == task.xcoms["job_run_id"]
    assert task.deferred is None


def test_not_waiting_at_all(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    task = run_of(lambda: dbt(wait_for_termination=False))

    result = task.work()

    assert result == task.xcoms["job_run_id"]
    assert task.deferred is None
    assert [job.state for job in dbt_cloud.jobs()] == ["queued"]


def test_a_timeout_cancels_the_run(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    lives(dbt_cloud, "running")
    task = run_of(lambda: dbt(timeout=120))
    task.work()

    with pytest.raises(JobTimedOut, match="it was cancelled"):
        task.resume()

    assert dbt_cloud.record.cancels == {str(task.xcoms["job_run_id"]): 1}


def test_a_timeout_leaves_the_run_where_the_task_says_so(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running")
    task = run_of(lambda: dbt(timeout=120, cancel_on_timeout=False))
    task.work()

    with pytest.raises(JobTimedOut, match="left running"):
        task.resume()

    assert not dbt_cloud.record.cancels


# What is sent ----------------------------------------------------------------


def test_overrides_are_sent(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    task = run_of(
        lambda: dbt(
            trigger_reason="Because",
            steps_override=["dbt run"],
            schema_override="scratch",
            additional_run_config={"threads_override": 8},
        )
    )
    task.work()

    (start,) = dbt_cloud.record.started
    cause = start.details.pop("cause")
    assert start.details == {
        "steps_override": ["dbt run"],
        "schema_override": "scratch",
        "threads_override": 8,
    }
    assert MARK.sub("", cause) == "Because"


def test_the_cause_carries_a_mark(task: TaskRun, dbt_cloud: DbtCloudSimulator) -> None:
    task.work()

    (start,) = dbt_cloud.record.started
    assert MARK.search(start.details["cause"])
    assert start.details["cause"].startswith("Triggered by the task a_task")


def test_the_mark_can_be_switched_off(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run_of(lambda: dbt(mark_cause=False, trigger_reason="Because")).work()

    (start,) = dbt_cloud.record.started
    assert start.details["cause"] == "Because"


def test_a_long_reason_is_cut_and_the_mark_is_not(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    run_of(lambda: dbt(trigger_reason="x" * 300)).work()

    (start,) = dbt_cloud.record.started
    assert len(start.details["cause"]) == 255
    assert MARK.search(start.details["cause"])
    assert "trigger_reason is cut" in logged()


def test_a_reason_that_takes_the_mark_as_a_member_is_not_cut(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    run_of(lambda: dbt(trigger_reason='{"parent":{}}')).work()

    (start,) = dbt_cloud.record.started
    assert start.details["cause"].startswith('{"parent":{},"at":')
    assert "is cut" not in logged()


def test_a_cause_in_the_run_config_keeps_its_mark(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run_of(lambda: dbt(additional_run_config={"cause": "Mine"})).work()

    (start,) = dbt_cloud.record.started
    assert MARK.sub("", start.details["cause"]) == "Mine"


JSON_CAUSE = '{"parent":{"run":{"runId":"01a2"}}}'


def test_a_cause_that_is_json_stays_json(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run_of(lambda: dbt(trigger_reason=JSON_CAUSE)).work()

    (start,) = dbt_cloud.record.started
    cause = orjson.loads(start.details["cause"])
    assert re.fullmatch(r"[0-9a-f]{10}-\d+", cause.pop("at"))
    assert cause == orjson.loads(JSON_CAUSE)


def test_a_cause_that_is_json_but_too_long_for_a_mark_is_cut_as_any_other(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    reason = f'{{"a":"{"x" * 240}"}}'
    run_of(lambda: dbt(trigger_reason=reason)).work()

    (start,) = dbt_cloud.record.started
    assert len(start.details["cause"]) == 255
    assert MARK.search(start.details["cause"])


def test_a_job_is_found_by_its_names(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    dbt_cloud.add_job(JOB + 1, name="Nightly too")
    names = {
        "job_id": None,
        "project_name": "Simulated project",
        "environment_name": "Production",
        "job_name": "Nightly",
    }
    run_of(lambda: dbt(**names)).work()

    assert [start.target for start in dbt_cloud.record.started] == [str(JOB)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"job_name": "Nightl"}, "no job named 'Nightl'"),
        ({"environment_name": "production"}, "no environment named 'production'"),
        ({"project_name": "Other"}, "no project named 'Other'"),
        ({"job_name": "Twice"}, r"2 jobs named 'Twice' .*give job_id"),
    ],
)
def test_a_name_that_does_not_stand_for_one_thing(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, changes: dict[str, str], told: str
) -> None:
    dbt_cloud.add_job(JOB + 1, name="Twice")
    dbt_cloud.add_job(JOB + 2, name="Twice")
    names: dict[str, Any] = {
        "job_id": None,
        "project_name": "Simulated project",
        "environment_name": "Production",
        "job_name": "Nightly",
        **changes,
    }

    with pytest.raises(VendorRefused, match=told):
        run_of(lambda: dbt(**names)).work()

    assert not dbt_cloud.record.started


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"job_id": None}, "Give job_id, or all of project_name"),
        (
            {"job_id": None, "job_name": "x"},
            "project_name, environment_name is missing",
        ),
        ({"job_id": "seven"}, "job_id must be a whole number"),
        ({"account_id": "x"}, "account_id must be a whole number"),
        ({"steps_override": "dbt run"}, "steps_override must be a list"),
        ({"additional_run_config": "x"}, "additional_run_config must be an object"),
        ({"hook_params": {"timeout_seconds": -1}}, "timeout_seconds"),
        ({"hook_params": {"retry_limit": 0}}, "retry_limit"),
        ({"dbt_cloud_conn_id": ""}, "dbt_cloud_conn_id is empty"),
    ],
)
def test_arguments_that_cannot_be_used(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ArgumentUnusable, match=told):
        run_of(lambda: dbt(**changes)).work()

    assert dbt_cloud.record.total == 0


def test_arguments_that_have_no_effect_are_told(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    run_of(
        lambda: dbt(
            hook_params={"retry_delay": 3, "retry_limit": 2},
            openlineage_inject_parent_job_info=True,
        )
    ).work()

    assert "hook_params retry_delay have no effect" in logged()
    assert "openlineage_inject_parent_job_info has no effect" in logged()


def test_values_from_default_args(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    defaults = {"dbt_cloud_conn_id": "no_account", "account_id": ACCOUNT}

    def make() -> DbtCloudRunJobOperator:
        with DAG(
            "guide",
            schedule=None,
            default_args=defaults,
            start_date=datetime(2026, 1, 1, tzinfo=UTC),
        ):
            return DbtCloudRunJobOperator(
                task_id="a_task", job_id=JOB, check_interval=10, timeout=300
            )

    operator = make()
    assert operator.dbt_cloud_conn_id == "no_account"
    assert run_of(make).work() > 0
    assert len(dbt_cloud.record.started) == 1


def test_an_account_that_nobody_names(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    with pytest.raises(ConnectionUnusable, match=r"Account ID \(login\) is empty"):
        run_of(lambda: dbt(dbt_cloud_conn_id="no_account")).work()


def test_an_unknown_job_is_told_before_anything_is_started(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    with pytest.raises(VendorRefused, match="Check job_id and account_id"):
        run_of(lambda: dbt(job_id=1)).work()

    assert not dbt_cloud.record.started


# Retries, clears, lost answers -------------------------------------------------


def test_a_retry_while_the_run_goes_on_attaches_to_it(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    task.work()
    first = task.xcoms["job_run_id"]

    assert task.retry().finish() == first
    assert len(dbt_cloud.record.started) == 1


def test_a_retry_after_a_failure_starts_a_whole_run_by_default(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 success")
    with pytest.raises(JobFailed):
        task.finish()

    task.retry().finish()

    assert "retrying_run_id" not in dbt_cloud.record.started[1].details
    assert dbt_cloud.record.count("POST", "/runs/{run}/retry/") == 0


def test_a_retry_may_start_from_the_failure(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 success")
    task = run_of(
        lambda: dbt(retry_from_failure=True, steps_override=["dbt build -s x"])
    )
    with pytest.raises(JobFailed):
        task.finish()

    failed = task.xcoms["job_run_id"]
    assert task.retry().finish() == task.xcoms["job_run_id"] != failed
    second = dbt_cloud.record.started[1]
    assert second.details == {"retrying_run_id": failed}


def test_each_retry_starts_from_the_failure_before_it(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 error", "running:60 success")
    task = run_of(lambda: dbt(retry_from_failure=True))
    with pytest.raises(JobFailed):
        task.finish()

    first = task.xcoms["job_run_id"]
    again = task.retry()
    with pytest.raises(JobFailed):
        again.finish()

    second = again.xcoms["job_run_id"]
    again.retry().finish()

    retried = [
        start.details.get("retrying_run_id") for start in dbt_cloud.record.started
    ]
    assert retried == [None, first, second]


def test_a_run_that_cannot_be_retried_is_started_anew_with_its_overrides(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    dbt_cloud.add_job(
        JOB,
        lives=["running:60 error", "running:60 success"],
        retry_refusal="RETRY_UNSUPPORTED_CMD",
    )
    task = run_of(lambda: dbt(retry_from_failure=True, steps_override=["dbt run"]))
    with pytest.raises(JobFailed):
        task.finish()

    task.retry().finish()

    assert dbt_cloud.record.started[1].details["steps_override"] == ["dbt run"]
    assert "RETRY_UNSUPPORTED_CMD" in logged()


def test_a_clear_starts_a_whole_run_whatever_failed(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 success")
    task = run_of(lambda: dbt(retry_from_failure=True))
    with pytest.raises(JobFailed):
        task.finish()

    task.clear().finish()

    assert "retrying_run_id" not in dbt_cloud.record.started[1].details
    causes = [start.details["cause"] for start in dbt_cloud.record.started]
    assert causes[0] != causes[1]


def test_the_next_scheduled_run_is_no_retry(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 success")
    with pytest.raises(JobFailed):
        run_of(lambda: dbt(retry_from_failure=True)).finish()

    run_of(lambda: dbt(retry_from_failure=True)).finish()

    assert "retrying_run_id" not in dbt_cloud.record.started[1].details


def test_a_clear_while_the_run_goes_on_cancels_it_first(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running", "running:60 success")
    task.work()
    first = task.xcoms["job_run_id"]

    result = task.clear().finish()

    assert result != first
    assert dbt_cloud.record.cancels == {str(first): 1}


@pytest.mark.parametrize("mark_cause", [True, False])
@pytest.mark.parametrize("reason", [None, JSON_CAUSE])
def test_a_start_whose_answer_is_lost_is_found(
    run_of: Runs,
    dbt_cloud: DbtCloudSimulator,
    reason: str | None,
    *,
    mark_cause: bool,
) -> None:
    dbt_cloud.add_run(JOB, "success", age=500, cause="Scheduled")
    dbt_cloud.faults.add(
        Fault(kind="reset", method="POST", path="*/run/", takes_effect=True)
    )
    task = run_of(lambda: dbt(mark_cause=mark_cause, trigger_reason=reason))

    result = task.finish()

    (start,) = dbt_cloud.record.started
    assert str(result) == start.job


@pytest.mark.parametrize("skew", [-3600, 0, 3600])
def test_without_a_mark_a_run_that_was_there_before_is_not_taken_for_a_lost_one(
    run_of: Runs,
    dbt_cloud: DbtCloudSimulator,
    monkeypatch: pytest.MonkeyPatch,
    skew: float,
) -> None:
    """That of the attempt before bears the same cause, and has failed seconds ago."""
    lives(dbt_cloud, "running:1 error", "running:60 success")
    task = run_of(lambda: dbt(mark_cause=False))
    with pytest.raises(JobFailed):
        task.finish()

    dbt_cloud.faults.add(
        Fault(kind="reset", method="POST", path="*/run/", takes_effect=True)
    )
    respond = dbt_cloud.respond

    def wrongly_dated(request: SimRequest) -> SimReply:
        reply = respond(request)
        moment = parsedate_to_datetime(reply.headers["Date"]).timestamp() + skew
        told = {**reply.headers, "Date": formatdate(moment, usegmt=True)}
        return replace(reply, headers=told)

    monkeypatch.setattr(dbt_cloud, "respond", wrongly_dated)

    result = task.retry().finish()

    assert [start.job for start in dbt_cloud.record.started][1:] == [str(result)]


def test_a_start_that_never_arrived_is_repeated_after_a_while(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    dbt_cloud.faults.add(Fault(kind="reset", method="POST", path="*/run/"))

    task.finish()

    assert len(dbt_cloud.record.started) == 1


def test_a_retry_from_failure_whose_answer_is_lost_is_found(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 success")
    task = run_of(lambda: dbt(retry_from_failure=True))
    with pytest.raises(JobFailed):
        task.finish()

    dbt_cloud.faults.add(
        Fault(kind="reset", method="POST", path="*/retry/", takes_effect=True)
    )
    task.retry().finish()

    assert len(dbt_cloud.record.started) == 2


def test_a_worker_that_dies_after_the_start_leaves_a_run_to_be_found(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    task.work()
    # The id was never written down.
    task.store["async_triggers"]["job_id"] = None
    task.xcoms.clear()

    task.retry().finish()

    assert len(dbt_cloud.record.started) == 1


def test_too_many_requests_defer_the_start(
    task: TaskRun, dbt_cloud: DbtCloudSimulator, clock: Clock
) -> None:
    dbt_cloud.faults.add(Fault(kind="status", status=429, method="POST"))

    task.work()

    assert task.deferred is not None
    assert isinstance(task.deferred.trigger, MomentTrigger)
    assert task.deferred.trigger.moment >= clock() + 299
    task.resume()
    assert task.resume() == task.xcoms["job_run_id"]
    assert len(dbt_cloud.record.started) == 1


def test_a_retry_from_failure_that_had_to_wait_is_still_one(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:60 error", "running:60 success")
    task = run_of(lambda: dbt(retry_from_failure=True))
    with pytest.raises(JobFailed):
        task.finish()

    dbt_cloud.faults.add(Fault(kind="status", status=429, method="POST"))
    task.retry().work()
    task.resume()
    task.resume()

    assert "retrying_run_id" in dbt_cloud.record.started[1].details


# Runs of others ------------------------------------------------------------------


def test_a_run_of_somebody_else_is_no_hindrance(
    task: TaskRun, dbt_cloud: DbtCloudSimulator
) -> None:
    other = dbt_cloud.add_run(JOB, "running:300 success")

    result = task.finish()

    assert result != other
    # One after another.
    assert len(dbt_cloud.record.started) == 1


def test_a_run_that_is_there_can_be_reused(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    dbt_cloud.add_run(JOB, "success", age=900)
    other = dbt_cloud.add_run(JOB, "running:300 success")
    task = run_of(lambda: dbt(reuse_existing_run=True, timeout=60))

    task.work()

    assert task.xcoms["job_run_id"] == other
    assert not dbt_cloud.record.started
    # It is not ours: a timeout leaves it.
    with pytest.raises(JobTimedOut, match="left running"):
        task.resume()

    assert not dbt_cloud.record.cancels


def test_nothing_is_reused_where_something_is_overridden(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    other = dbt_cloud.add_run(JOB, "running:300 success")
    task = run_of(lambda: dbt(reuse_existing_run=True, schema_override="scratch"))

    task.work()

    assert task.xcoms["job_run_id"] != other
    assert len(dbt_cloud.record.started) == 1


def test_where_nothing_runs_reuse_starts_a_run(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    dbt_cloud.add_run(JOB, "success", age=900)

    run_of(lambda: dbt(reuse_existing_run=True)).finish()

    assert len(dbt_cloud.record.started) == 1


def test_stopping_the_task_on_the_worker_cancels_the_run(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    task = run_of(lambda: dbt(execution_timeout=timedelta(hours=1)))
    task.work()

    task.operator.on_kill()

    assert dbt_cloud.record.cancels == {str(task.xcoms["job_run_id"]): 1}


def test_cancelling_a_run_that_is_over_is_no_error(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    task = run_of(dbt)
    task.work()
    dbt_cloud.finish(str(task.xcoms["job_run_id"]), "success")
    dbt_cloud.faults.add(Fault(kind="status", status=409, method="POST"))

    task.operator.on_kill()

    assert "could not be cancelled" not in logged()


# The other operators -----------------------------------------------------------


def test_an_artifact_is_downloaded(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, tmp_path: Path
) -> None:
    dbt_cloud.add_job(JOB, artifacts={"compiled/a b.sql": "select 1"})
    run = dbt_cloud.add_run(JOB, "success")
    target = tmp_path / "new" / "results.json"

    task = run_of(
        lambda: DbtCloudGetJobRunArtifactOperator(
            task_id="a_task",
            run_id=run,
            path="run_results.json",
            output_file_name=str(target),
        )
    )

    assert task.work() == str(target)
    assert orjson.loads(target.read_bytes())["results"]


def test_an_artifact_in_a_folder_is_named_after_its_run(
    run_of: Runs,
    dbt_cloud: DbtCloudSimulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dbt_cloud.add_job(JOB, artifacts={"compiled/a.sql": "select 1"})
    run = dbt_cloud.add_run(JOB, "success")
    monkeypatch.chdir(tmp_path)

    name = run_of(
        lambda: DbtCloudGetJobRunArtifactOperator(
            task_id="a_task", run_id=run, path="compiled/a.sql", step=1
        )
    ).work()

    assert name == f"{run}_compiled-a.sql"
    assert (tmp_path / name).read_text() == "select 1"


def test_an_artifact_that_is_not_there(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    run = dbt_cloud.add_run(JOB, "success")

    with pytest.raises(VendorRefused, match=r"does not know artifact nothing\.json"):
        run_of(
            lambda: DbtCloudGetJobRunArtifactOperator(
                task_id="a_task", run_id=run, path="nothing.json"
            )
        ).work()


def test_jobs_are_listed_page_by_page(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    for number in range(1, 121):
        dbt_cloud.add_job(JOB + number)

    found = run_of(lambda: DbtCloudListJobsOperator(task_id="a_task")).work()

    assert sorted(found) == [JOB + number for number in range(121)]


def test_jobs_of_another_project(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    found = run_of(
        lambda: DbtCloudListJobsOperator(task_id="a_task", project_id=1)
    ).work()

    assert found == []


@pytest.mark.parametrize("ignored", [(), ("status__in",)])
def test_runs_are_listed_by_status(
    run_of: Runs, dbt_cloud: DbtCloudSimulator, ignored: tuple[str, ...]
) -> None:
    dbt_cloud.quirks = ListQuirks(ignore_filters=ignored)
    runs = [
        dbt_cloud.add_run(JOB, "success", age=500 - number) for number in range(120)
    ]
    failed = dbt_cloud.add_run(JOB, "error", age=10)

    def listed(**changes: Any) -> Any:
        return run_of(
            lambda: DbtCloudListJobRunsOperator(task_id="a_task", job_id=JOB, **changes)
        ).work()

    assert [row["id"] for row in listed(status_filter=10)] == runs
    assert [row["id"] for row in listed(status_filter=[20, 30])] == [failed]
    assert listed(latest_only=True)["id"] == failed
    assert listed(latest_only=True, status_filter=10)["id"] == runs[-1]
    assert listed(latest_only=True, status_filter=30) is None
    assert listed(latest_only=True, order_by="id")["id"] == runs[0]
    assert listed(include_related=["trigger"])[0]["trigger"]["cause"] == "Scheduled"


def test_a_status_that_there_is_not(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    with pytest.raises(ArgumentUnusable, match="status_filter must be of"):
        run_of(
            lambda: DbtCloudListJobRunsOperator(task_id="a_task", status_filter=4)
        ).work()
