"""The official provider's calls, made by hand: they block, on a virtual clock."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from async_triggers.dbt_cloud.hooks import (
    TRIGGER_EVENT_STATUSES,
    DbtCloudHook,
    DbtCloudJobRunException,
    DbtCloudJobRunStatus,
    DbtCloudResourceLookupError,
    DbtCloudTriggerEventException,
    JobRunInfo,
    validate_execute_complete_event,
)
from async_triggers.dbt_cloud.operators import (
    DbtCloudListJobRunsOperator,
    DbtCloudRunJobOperator,
)
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    VendorRefused,
    VendorUnavailable,
)
from async_triggers.simulator.dbt_cloud import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT
from async_triggers.simulator.faults import Fault
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB, Clock, Runs

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud import DbtCloudSimulator

pytestmark = pytest.mark.usefixtures("dbt_cloud")


def lives(simulator: DbtCloudSimulator, *words: str) -> None:
    simulator.add_job(JOB, name="Nightly", lives=words)


def start(hook: DbtCloudHook, **how: Any) -> int:
    run: int = hook.trigger_job_run(JOB, "By hand", **how).json()["data"]["id"]
    return run


def rows(pages: list[Any]) -> list[dict[str, Any]]:
    return [row for page in pages for row in page.json()["data"]]


# What there is ------------------------------------------------------------------------


def test_what_there_is(dbt_cloud: DbtCloudSimulator) -> None:
    dbt_cloud.add_project(5, name="Another")
    dbt_cloud.add_environment(6, name="Staging")
    hook = DbtCloudHook()

    assert ACCOUNT in {row["id"] for row in rows(hook.list_accounts())}
    assert hook.get_account().json()["data"]["id"] == ACCOUNT
    assert {row["id"] for row in rows(hook.list_projects())} == {5, DEFAULT_PROJECT}
    found = hook.list_projects(name_contains="anoth")
    assert [row["id"] for row in rows(found)] == [5]
    assert hook.get_project(5).json()["data"]["name"] == "Another"
    found = hook.list_environments(DEFAULT_PROJECT, name_contains="stag")
    assert [row["id"] for row in rows(found)] == [6]
    environment = hook.get_environment(DEFAULT_PROJECT, DEFAULT_ENVIRONMENT)
    assert environment.json()["data"]["name"] == "Production"
    assert [row["id"] for row in rows(hook.list_jobs(order_by="-id"))] == [JOB]
    assert rows(hook.list_jobs(project_id=5)) == []
    assert hook.get_job(JOB).json()["data"]["name"] == "Nightly"


def test_a_response_has_the_shape_of_those_of_requests() -> None:
    response = DbtCloudHook().get_job(JOB)

    assert response.ok
    assert response.status_code == 200
    assert response.reason == "OK"
    assert "Nightly" in response.text
    assert response.text.encode() == response.content
    assert "json" in response.headers["content-type"]
    response.raise_for_status()


def test_a_job_by_its_name() -> None:
    hook = DbtCloudHook()

    def find(name: str) -> Any:
        return hook.get_job_by_name(
            project_name="Simulated project",
            environment_name="Production",
            job_name=name,
        )

    assert find("Nightly")["id"] == JOB
    with pytest.raises(DbtCloudResourceLookupError, match="no job named 'nightly'"):
        find("nightly")


def test_the_account_of_a_call_wins_over_the_connections() -> None:
    with pytest.raises(ConnectionUnusable, match="login"):
        DbtCloudHook("no_account").get_account()

    hook = DbtCloudHook("no_account")
    assert hook.get_account(ACCOUNT).json()["data"]["id"] == ACCOUNT
    assert hook.account_id is None


# Runs ---------------------------------------------------------------------------------


def test_a_run_from_start_to_end(clock: Clock) -> None:
    hook, began = DbtCloudHook(), clock()
    run = start(hook, steps_override=["dbt seed"], schema_override="s")

    row = hook.get_job_run(run, include_related=["trigger"]).json()["data"]
    assert row["trigger"]["cause"] == "By hand"
    assert row["trigger"]["steps_override"] == ["dbt seed"]
    assert row["trigger"]["schema_override"] == "s"
    assert hook.get_job_run_status(run) == DbtCloudJobRunStatus.QUEUED.value
    info = JobRunInfo(account_id=None, run_id=run)
    assert hook.wait_for_job_run_status(**info, check_interval=10) is True
    assert 80 <= clock() - began <= 95
    assert hook.get_job_run_status(run) == 10


def test_a_run_is_waited_for_until_it_runs(clock: Clock) -> None:
    hook, began = DbtCloudHook(), clock()

    hook.wait_for_job_run_status(
        start(hook), expected_statuses=[3, 10], check_interval=5
    )

    assert 20 <= clock() - began <= 30


@pytest.mark.parametrize(
    ("life", "failure"),
    [("running:60 error", JobFailed), ("running:60 cancelled", JobCancelled)],
)
def test_a_run_that_does_not_succeed(
    dbt_cloud: DbtCloudSimulator, life: str, failure: type[Exception]
) -> None:
    lives(dbt_cloud, life)
    hook = DbtCloudHook()
    run = start(hook)

    with pytest.raises(DbtCloudJobRunException, match=f"{run} ") as caught:
        hook.wait_for_job_run_status(run)

    assert type(caught.value) is failure
    assert caught.value.job is not None
    assert caught.value.job.id == str(run)


def test_a_run_that_ends_as_nobody_expected() -> None:
    hook = DbtCloudHook()
    run = start(hook)

    with pytest.raises(DbtCloudJobRunException, match="succeeded"):
        hook.wait_for_job_run_status(run, expected_statuses={20, 30})


def test_a_wait_that_is_over_leaves_the_run(dbt_cloud: DbtCloudSimulator) -> None:
    hook = DbtCloudHook()
    run = start(hook)

    with pytest.raises(DbtCloudJobRunException, match="after 30 s") as caught:
        hook.wait_for_job_run_status(run, timeout=30, check_interval=10)

    assert type(caught.value) is JobTimedOut
    assert not dbt_cloud.record.cancels


def test_a_wait_of_no_time_checks_once(dbt_cloud: DbtCloudSimulator) -> None:
    lives(dbt_cloud, "success", "running:60 success")
    hook = DbtCloudHook()
    ended, runs = start(hook), start(hook)

    assert hook.wait_for_job_run_status(ended, timeout=0)
    with pytest.raises(JobTimedOut, match="after 0 s"):
        hook.wait_for_job_run_status(runs, timeout=0)


def test_a_wait_outlives_an_outage(dbt_cloud: DbtCloudSimulator) -> None:
    hook = DbtCloudHook()
    run = start(hook)
    dbt_cloud.faults.add(Fault(kind="status", status=503, seconds=60))

    assert hook.wait_for_job_run_status(run)


def test_a_run_is_cancelled() -> None:
    hook = DbtCloudHook()
    run = start(hook)

    hook.cancel_job_run(run)
    hook.cancel_job_run(run)

    assert hook.get_job_run_status(run) == DbtCloudJobRunStatus.CANCELLED.value


def test_lists_of_runs() -> None:
    hook = DbtCloudHook()
    runs = [start(hook) for _ in range(3)]

    pages = hook.list_job_runs(job_definition_id=JOB, order_by="-id")
    assert [row["id"] for row in rows(pages)] == runs[::-1]
    payload = {
        "order_by": "id",
        "limit": 2,
        "offset": None,
        "include_related": ["trigger", "job"],
    }
    page = hook.get_job_runs(payload=payload).json()["data"]
    assert [row["id"] for row in page] == runs[:2]
    assert page[0]["trigger"]["cause"] == "By hand"


def test_a_list_of_many_pages() -> None:
    hook = DbtCloudHook()
    runs = [start(hook) for _ in range(101)]

    pages = hook.list_job_runs(order_by="id")

    assert len(pages) == 2
    assert [row["id"] for row in rows(pages)] == runs


def test_a_failed_run_is_retried(dbt_cloud: DbtCloudSimulator, clock: Clock) -> None:
    lives(dbt_cloud, "running:5 error", "running:5 success")
    hook = DbtCloudHook()
    first = start(hook, retry_from_failure=True)
    clock.base += 60

    with pytest.warns(UserWarning, match="have no effect"):
        again = start(hook, retry_from_failure=True, additional_run_config={"a": 1})

    assert dbt_cloud.record.count("POST", "jobs/{job}/rerun/") == 1
    assert again != first
    clock.base += 60
    start(hook, retry_from_failure=True)
    assert dbt_cloud.record.count("POST", "jobs/{job}/run/") == 2


def test_a_long_cause_is_cut() -> None:
    hook = DbtCloudHook()

    with pytest.warns(UserWarning, match="cut to the 255 characters"):
        run = hook.trigger_job_run(JOB, "x" * 300).json()["data"]["id"]

    row = hook.get_job_run(run, include_related=["trigger"]).json()["data"]
    assert row["trigger"]["cause"] == "x" * 255


def test_a_retry_needs_no_cause(dbt_cloud: DbtCloudSimulator, clock: Clock) -> None:
    lives(dbt_cloud, "running:5 error", "running:5 success")
    hook = DbtCloudHook()
    start(hook)
    clock.base += 60

    assert hook.trigger_job_run(JOB, None, retry_from_failure=True).ok
    with pytest.raises(VendorRefused, match="cause: This field is required"):
        hook.trigger_job_run(JOB, None)


def test_a_call_is_tried_as_often_as_the_hook_says(
    dbt_cloud: DbtCloudSimulator,
) -> None:
    dbt_cloud.faults.add(Fault(kind="status", status=503, times=1))
    with pytest.raises(VendorUnavailable, match="503"):
        DbtCloudHook().get_job(JOB)

    dbt_cloud.faults.add(Fault(kind="status", status=503, times=1))
    assert DbtCloudHook(retry_limit=2).get_job(JOB).ok
    with pytest.raises(ArgumentUnusable, match="retry_limit must be at least 1"):
        DbtCloudHook(retry_limit=0)


def test_why_a_run_failed_is_logged(
    dbt_cloud: DbtCloudSimulator, clock: Clock, logged: Callable[[], str]
) -> None:
    lives(dbt_cloud, "running:5 error")
    hook = DbtCloudHook()
    run = start(hook)
    clock.base += 60

    hook.log_job_run_failure_details(run)

    assert f"Run {run} is error: step" in logged()
    assert "The last lines of step" in logged()


def test_why_a_run_failed_is_logged_of_what_is_given(
    dbt_cloud: DbtCloudSimulator, logged: Callable[[], str]
) -> None:
    DbtCloudHook().log_job_run_failure_details(
        7, job_run={"status": 20, "status_message": "out of money", "run_steps": None}
    )

    assert "Run 7 is error: out of money" in logged()
    assert dbt_cloud.record.total == 0


# What runs leave ----------------------------------------------------------------------


def test_artifacts(clock: Clock) -> None:
    hook = DbtCloudHook()
    run = start(hook)
    clock.base += 120

    paths = hook.list_job_run_artifacts(run).json()["data"]

    assert {"manifest.json", "run_results.json"} <= set(paths)
    results = hook.get_job_run_artifact(run, "run_results.json", step=None).json()
    assert "results" in results
    several = hook.get_job_run_artifacts_concurrently(
        run, ["run_results.json", "manifest.json"]
    )
    found = clock.run(several)
    assert list(found) == ["run_results.json", "manifest.json"]
    assert found["run_results.json"] == results
    with pytest.raises(DbtCloudResourceLookupError, match=r"artifact none\.json"):
        clock.run(hook.get_job_run_artifacts_concurrently(run, ["none.json"]))


# From a running loop ------------------------------------------------------------------


def test_a_run_from_a_loop(clock: Clock) -> None:
    hook = DbtCloudHook("no_account")
    run = start(hook, account_id=ACCOUNT)

    details = clock.run(hook.get_job_details(run, ACCOUNT, ["trigger"]))

    assert details["data"]["trigger"]["cause"] == "By hand"
    assert clock.run(hook.get_job_status(run, account_id=ACCOUNT)) == 1
    trigger = DbtCloudRunJobTrigger("dbt_cloud_default", run, None, 5, None)
    assert clock.run(trigger.is_still_running(DbtCloudHook()))
    clock.base += 120
    assert not clock.run(trigger.is_still_running(DbtCloudHook()))


def test_a_request_of_ones_own() -> None:
    hook = DbtCloudHook()

    headers, tenant = asyncio.run(hook.get_headers_tenants_from_connection())

    assert headers["Authorization"] == "Token simulator-token"
    assert hook.get_request_url_params(tenant, "5/jobs/", ["a"], api_version="v3") == (
        "https://ab123.us1.dbt.com/api/v3/accounts/5/jobs/",
        {"include_related": ["a"]},
    )
    assert hook.get_request_url_params(tenant, "")[1] == {}


# The connection -----------------------------------------------------------------------


def test_the_connection_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = DbtCloudHook()

    assert hook.connection is hook.connection
    assert hook.connection.login == str(ACCOUNT)
    empty = Connection(conn_id="empty", login="1")
    monkeypatch.setattr(DbtCloudHook, "get_connection", staticmethod(lambda _: empty))
    with pytest.raises(ConnectionUnusable, match=r"API Token \(password\) is empty"):
        _ = DbtCloudHook("empty").connection


def test_the_form_of_connections() -> None:
    shown = DbtCloudHook.get_ui_field_behaviour()

    assert shown["relabeling"]["password"] == "API Token"
    assert shown["hidden_fields"] == ["schema", "port"]


# Statuses and events ------------------------------------------------------------------


def test_groups_of_statuses() -> None:
    ended: Any = DbtCloudJobRunStatus.TERMINAL_STATUSES
    others: Any = DbtCloudJobRunStatus.NON_TERMINAL_STATUSES

    assert ended.value == (10, 20, 30)
    assert others.value == (1, 2, 3)
    assert ended != others
    assert repr(ended) == "<DbtCloudJobRunStatus.TERMINAL_STATUSES: (10, 20, 30)>"
    assert pickle.loads(pickle.dumps(ended)) is ended
    assert DbtCloudJobRunStatus(10) is DbtCloudJobRunStatus.SUCCESS
    with pytest.raises(ValueError, match="is not a valid"):
        DbtCloudJobRunStatus(int(ended))


def test_what_a_status_says() -> None:
    assert [DbtCloudJobRunStatus.is_terminal(each) for each in (1, 2, 3)] == [False] * 3
    assert [DbtCloudJobRunStatus.is_terminal(each) for each in (10, 20, 30)] == (
        [True] * 3
    )
    for fine in (10, [10, 20], {1}, ended_values()):
        DbtCloudJobRunStatus.check_is_valid(fine)

    for bad in (99, [10, 99], {0}):
        with pytest.raises(ValueError, match="is not a valid"):
            DbtCloudJobRunStatus.check_is_valid(bad)

    with pytest.raises(ValueError, match="99"):
        DbtCloudJobRunStatus.is_terminal(99)


def ended_values() -> Any:
    return DbtCloudJobRunStatus.TERMINAL_STATUSES.value


def test_a_group_is_no_filter_of_a_list() -> None:
    with pytest.raises(ArgumentUnusable, match=r"must be of \[1, 2, 3, 10, 20, 30\]"):
        DbtCloudListJobRunsOperator(
            task_id="t", status_filter=DbtCloudJobRunStatus.TERMINAL_STATUSES
        )


@pytest.mark.parametrize("status", sorted(TRIGGER_EVENT_STATUSES))
def test_an_event_that_can_be_read(status: str) -> None:
    event = {"status": status}

    assert validate_execute_complete_event(event) is event


@pytest.mark.parametrize("event", [None, {}, {"status": "done"}])
def test_an_event_that_cannot_be_read(event: Any) -> None:
    with pytest.raises(DbtCloudTriggerEventException, match="event"):
        validate_execute_complete_event(event)


# Tasks ------------------------------------------------------------------------------


def dbt(**changes: Any) -> DbtCloudRunJobOperator:
    arguments = {"task_id": "a_task", "job_id": JOB, "deferrable": True, **changes}
    return DbtCloudRunJobOperator(**arguments)


def test_a_task_knows_its_run(run_of: Runs, dbt_cloud: DbtCloudSimulator) -> None:
    lives(dbt_cloud, "running:60 error")
    assert dbt().run_id is None
    task = run_of(dbt)

    task.work()

    run = task.xcoms["job_run_id"]
    assert task.operator.run_id == run
    with pytest.raises(DbtCloudJobRunException):
        task.resume()

    # On another worker, for callbacks.
    assert task.operator.run_id == run
    assert task.operator.job_id == JOB
    assert task.operator.hook.get_job_run_status(run) == 20


def test_a_name_that_stands_for_nothing_has_the_official_providers_error(
    run_of: Runs,
) -> None:
    names = {"project_name": "Nowhere", "environment_name": "x", "job_name": "y"}

    with pytest.raises(DbtCloudResourceLookupError, match="no project named 'Nowhere'"):
        run_of(lambda: dbt(job_id=None, **names)).work()


def test_a_sensor_fails_with_the_official_providers_error(
    run_of: Runs, dbt_cloud: DbtCloudSimulator
) -> None:
    lives(dbt_cloud, "running:5 error")
    hook = DbtCloudHook()
    run = start(hook)
    with pytest.raises(DbtCloudJobRunException):
        hook.wait_for_job_run_status(run)

    task = run_of(lambda: DbtCloudJobRunSensor(task_id="a_task", run_id=run))
    task.operator = task.make()
    with pytest.raises(DbtCloudJobRunException):
        task.operator.poke(task.context)

    assert task.operator.hook.conn_id == "dbt_cloud_default"
