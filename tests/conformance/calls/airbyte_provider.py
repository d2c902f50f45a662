"""The hook of apache-airflow-providers-airbyte."""

from __future__ import annotations

from airflow.providers.airbyte.hooks.airbyte import AirbyteHook

from tests.conformance.calls.reporting import Calls

calls = Calls()
CONNECTION = calls.given["connection"]
hook = AirbyteHook(airbyte_conn_id="airbyte_default")

calls.check("test_connection", hook.test_connection, lambda found: found[0])
job = calls.check(
    "submit_sync_connection",
    lambda: hook.submit_sync_connection(CONNECTION),
    lambda found: found.connection_id == CONNECTION,
)
calls.check(
    "get_job_details",
    lambda: hook.get_job_details(job.job_id),
    lambda found: found.job_id == job.job_id,
)
calls.check(
    "get_job_status",
    lambda: hook.get_job_status(job.job_id),
    lambda found: found.value == "running",
)
calls.check(
    "cancel_job",
    lambda: hook.cancel_job(job.job_id),
    lambda found: found.status.value == "cancelled",
)
reset = calls.check(
    "submit_reset_connection",
    lambda: hook.submit_reset_connection(CONNECTION),
    lambda found: found.job_type.value == "reset",
)
calls.check(
    "wait_for_job",
    lambda: hook.wait_for_job(reset.job_id, wait_seconds=0.1, timeout=10),
    lambda found: found is None,
)
