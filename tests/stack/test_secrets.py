"""No secret in any log file, nor anywhere in the database, after all that can happen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from async_triggers.simulator import Fault, SimulatorThread
from async_triggers.simulator.airbyte import AirbyteSettings
from async_triggers.simulator.dbt_cloud import DbtCloudSettings
from async_triggers.simulator.fivetran import FivetranSettings
from tests.unit.secrets.planted import CLIENT, SECRET, TOKEN, forms, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.airflow_api import AirflowApi
    from async_triggers.demo.deployment import Deployment
    from async_triggers.simulator import Simulator

WRONG = "planted-Wrong_4717"
NO_SECRET = "planted-in-the-open-4718"
ENDS = {
    "airbyte_fails": "failed",
    "airbyte_killed": "failed",
    "airbyte_late": "failed",
    "airbyte_wrong": "failed",
    "fivetran_succeeds": "success",
    "fivetran_killed": "failed",
    "dbt_fails": "failed",
    "dbt_late": "failed",
    "dbt_wrong": "failed",
}


@pytest.fixture
def vendors() -> Iterator[Simulator]:
    """Vendors that know the planted credentials, and repeat wrong ones."""
    with SimulatorThread(
        airbyte=AirbyteSettings(client_id=CLIENT, client_secret=SECRET),
        fivetran=FivetranSettings(api_key=CLIENT, api_secret=SECRET),
        dbt_cloud=DbtCloudSettings(tokens=(TOKEN,)),
    ) as simulator:
        for end, rest in (
            ("succeeds", ":3 succeeded"),
            ("fails", ":3 failed"),
            ("killed", ""),
            ("late", ""),
        ):
            simulator.airbyte.add_connection(end, lives=[f"running{rest}"])
            simulator.fivetran.add_connection(end, lives=[f"syncing{rest}"])

        simulator.dbt_cloud.add_job(4711, lives=["running:3 error"])
        simulator.dbt_cloud.add_job(4712, lives=["running"])
        told = f"What is Authorization: Bearer {WRONG}?"
        words = {"user_message": told, "developer_message": told}
        body = {"message": told, "detail": told, "code": told, "status": words}
        wrong = json.dumps(body)
        simulator.dbt_cloud.faults.add(
            Fault(kind="status", path="*/4710/*", status=401, times=None, body=wrong)
        )
        yield simulator


def _connect(api: AirflowApi, vendors: Simulator) -> None:
    airbyte = {"conn_type": "airbyte", "host": vendors.airbyte_url}
    dbt = {"conn_type": "dbt_cloud", "host": vendors.dbt_cloud_url}
    keys = {"login": CLIENT, "password": SECRET}
    account = str(vendors.dbt_cloud.settings.account_id)
    api.add_connection("planted_airbyte", **airbyte, **keys)
    api.add_connection(
        "planted_fivetran", conn_type="Fivetran", host=vendors.fivetran_url, **keys
    )
    api.add_connection("planted_dbt", **dbt, login=account, password=TOKEN)
    api.add_connection("planted_wrong", **airbyte, login=CLIENT, password=WRONG)
    api.add_connection("planted_wrong_dbt", **dbt, login=account, password=WRONG)


def _written(deployment: Deployment) -> Iterator[tuple[str, bytes]]:
    """Return all that the deployment has written to the disk."""
    for path in sorted(deployment.home.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield str(path.relative_to(deployment.home)), path.read_bytes()


@pytest.mark.timeout(300)
def test_nothing_that_airflow_keeps_holds_a_secret(
    sqlite_deployment: Deployment, vendors: Simulator
) -> None:
    api = sqlite_deployment.api
    _connect(api, vendors)
    run = api.trigger_run("planted_secrets", conf={"note": NO_SECRET})
    for task in ("airbyte_killed", "fivetran_killed"):
        api.wait_for(run, task, "deferred", timeout=120)

    for task in ("airbyte_killed", "fivetran_killed"):
        api.set_state(run, task, "failed")

    for task, state in ENDS.items():
        assert api.wait_for(run, task, timeout=150).state == state, task

    assert vendors.airbyte.record.tokens_issued
    wanted = forms(WRONG, pair(CLIENT, WRONG), *vendors.airbyte._tokens)
    # The login of a connection is kept as it is, by Airflow.
    wanted = {form for form in wanted if form not in forms() or "Client" not in form}
    found = [
        f"{name}: {form}"
        for name, content in _written(sqlite_deployment)
        for form in wanted
        if form.encode() in content
    ]
    assert found == []
    # It would be found if it were there.
    names = [name for name, each in _written(sqlite_deployment) if b"planted_" in each]
    assert any(name.endswith(".db") for name in names)
    assert any("task_id=airbyte_fails" in name for name in names)
    assert any(
        NO_SECRET.encode() in content for _, content in _written(sqlite_deployment)
    )
