"""The hook of apache-airflow-providers-dbt-cloud."""

from __future__ import annotations

import asyncio

from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook

from tests.conformance.calls.reporting import Calls

calls = Calls()
given = calls.given
JOB, FAILING, OTHER = given["job"], given["failing"], given["other_account"]
ENVIRONMENT, PROJECT = given["environment"], given["project"]
hook = DbtCloudHook(dbt_cloud_conn_id="dbt_cloud_default")


def data(reply: object) -> object:
    return reply.json()["data"]  # type: ignore[attr-defined]


def rows(replies: list[object]) -> list[object]:
    return [row for reply in replies for row in data(reply)]  # type: ignore[attr-defined]


def named(found: list[object], wanted: object) -> bool:
    return wanted in [row["id"] for row in found]  # type: ignore[index]


calls.check("test_connection", hook.test_connection, lambda found: found[0])
calls.check("list_accounts", hook.list_accounts, lambda found: found.status_code == 200)
calls.check(
    "get_account", lambda: data(hook.get_account()), lambda found: found["plan"]
)
calls.check(
    "get_account of another one",
    lambda: data(hook.get_account(OTHER)),
    lambda found: found["id"] == OTHER,
)
calls.check(
    "list_projects",
    lambda: rows(hook.list_projects(name_contains="Simulated")),
    lambda found: named(found, PROJECT),
)
calls.check(
    "get_project",
    lambda: data(hook.get_project(PROJECT)),
    lambda found: found["id"] == PROJECT,
)
calls.check(
    "list_environments",
    lambda: rows(hook.list_environments(PROJECT)),
    lambda found: named(found, ENVIRONMENT),
)
calls.check(
    "get_environment",
    lambda: data(hook.get_environment(PROJECT, ENVIRONMENT)),
    lambda found: found["id"] == ENVIRONMENT,
)
calls.check(
    "list_jobs", lambda: rows(hook.list_jobs()), lambda found: named(found, JOB)
)
calls.check(
    "list_jobs of another account",
    lambda: rows(hook.list_jobs(account_id=OTHER)),
    lambda found: not named(found, JOB),
)
calls.check(
    "get_job", lambda: data(hook.get_job(JOB)), lambda found: found["id"] == JOB
)
calls.check(
    "get_job_by_name",
    lambda: hook.get_job_by_name(
        project_name="Simulated project",
        environment_name="Production",
        job_name="Nightly build",
    ),
    lambda found: found["id"] == JOB,
)
run = calls.check(
    "trigger_job_run",
    lambda: data(
        hook.trigger_job_run(JOB, "conformance", steps_override=["dbt build"])
    ),
    lambda found: found["job_definition_id"] == JOB,
)
calls.check(
    "list_job_runs",
    lambda: rows(
        hook.list_job_runs(
            job_definition_id=JOB, order_by="-id", include_related=["trigger", "job"]
        )
    ),
    lambda found: found[0]["trigger"]["cause"] and found[0]["job"]["id"] == JOB,
)
calls.check(
    "get_job_runs",
    lambda: data(hook.get_job_runs(payload={"status__in": str([1, 2, 3])})),
    lambda found: named(found, run["id"]),
)
calls.check(
    "get_job_run",
    lambda: data(hook.get_job_run(run["id"], include_related=["run_steps", "job"])),
    lambda found: found["run_steps"] and found["job"]["id"] == JOB,
)
calls.check(
    "get_job_run_status",
    lambda: hook.get_job_run_status(run["id"]),
    lambda found: found == 3,
)
calls.check(
    "get_job_status (asynchronous)",
    lambda: asyncio.run(hook.get_job_status(run["id"], include_related=["job"])),
    lambda found: found == 3,
)
calls.check(
    "cancel_job_run",
    lambda: (hook.cancel_job_run(run["id"]), hook.get_job_run_status(run["id"]))[1],
    lambda found: found == 30,
)
failed = calls.check(
    "trigger_job_run of one that fails",
    lambda: data(hook.trigger_job_run(FAILING, "conformance")),
    lambda found: found["is_error"],
)
calls.check(
    "log_job_run_failure_details",
    lambda: hook.log_job_run_failure_details(failed["id"]),
    lambda found: found is None,
)
calls.check(
    "list_job_run_artifacts",
    lambda: data(hook.list_job_run_artifacts(failed["id"])),
    lambda found: "run_results.json" in found,
)
calls.check(
    "get_job_run_artifact",
    lambda: hook.get_job_run_artifact(failed["id"], "run_results.json").json(),
    lambda found: found["results"],
)
calls.check(
    "retry_failed_job_run",
    lambda: data(hook.retry_failed_job_run(FAILING)),
    lambda found: found["retrying_run_id"] == failed["id"],
)
calls.refuses("get_job_run of an unknown id", lambda: hook.get_job_run(1), "404")
