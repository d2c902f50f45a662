"""The vendors' and Airflow's own clients call the simulator, one call after the other."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.airbyte import DEFAULT_WORKSPACE
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.dbt_cloud import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT
from async_triggers.simulator.fivetran import DEFAULT_GROUP
from tests.conformance.environments import (
    CLIENTS,
    CannotInstallError,
    Client,
    plain_environment,
)
from tests.conformance.verdicts import Verdict, Verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1200)]

CONNECTION = "6b0b9d3e-6d4f-4e55-9a1c-3c1f1f0a7a11"
OTHER_ACCOUNT = 106277


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def plain() -> Iterator[Simulator]:
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def encrypted(authority: trustme.CA) -> Iterator[Simulator]:
    """The provider for dbt Cloud speaks https whatever its connection says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with SimulatorThread(ssl_context=context) as simulator:
        yield simulator


def airbyte(simulator: Simulator) -> dict[str, Any]:
    simulator.airbyte.add_connection(
        CONNECTION,
        streams=["orders"],
        lives=["running", "pending:0.5 succeeded"],
    )
    settings = simulator.airbyte.settings
    return {
        "url": simulator.airbyte_url,
        "client_id": settings.client_id,
        "client_secret": settings.client_secret,
        "connection": CONNECTION,
        "workspace": DEFAULT_WORKSPACE,
    }


def fivetran(simulator: Simulator) -> dict[str, Any]:
    vendor = simulator.fivetran
    vendor.configure(legacy_paths=True)
    vendor.add_group(DEFAULT_GROUP, name="Warehouse")
    vendor.add_connection(
        "gentle_lion",
        schema="sales",
        lives=["syncing:0.2 succeeded"],
        tables={"sales": ["orders"]},
        succeeded_ago=3600,
    )
    vendor.add_connection(
        "brave_otter", setup_state="broken", setup_tests=["PASSED"], succeeded_ago=60
    )
    secret = f"{vendor.settings.api_key}:{vendor.settings.api_secret}"
    return {
        "url": simulator.fivetran_url,
        "host": simulator.fivetran_url.removeprefix("http://"),
        "key": base64.b64encode(secret.encode()).decode(),
        "connection": "gentle_lion",
        "connections": 2,
        "broken": "brave_otter",
        "schema": "sales",
        "group": DEFAULT_GROUP,
        "group_name": "Warehouse",
    }


def dbt_cloud(simulator: Simulator) -> dict[str, Any]:
    vendor = simulator.dbt_cloud
    vendor.add_account(OTHER_ACCOUNT)
    job = vendor.add_job(name="Nightly build", lives=["running"])
    failing = vendor.add_job(
        name="Failing", lives=["running:0 error", "running:0 success"]
    )
    return {
        "job": job,
        "failing": failing,
        "other_account": OTHER_ACCOUNT,
        "environment": DEFAULT_ENVIRONMENT,
        "project": DEFAULT_PROJECT,
    }


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.requirement)
def test_every_call_is_answered_as_the_client_expects(
    client: Client,
    plain: Simulator,
    encrypted: Simulator,
    authority: trustme.CA,
    verdicts: Verdicts,
    tmp_path: Path,
) -> None:
    try:
        client.install()
    except CannotInstallError as error:
        pytest.skip(f"{client.requirement} cannot be installed here: {error}")
    vendor = client.script.rpartition("_")[0]
    simulator = encrypted if vendor == "dbt_cloud" else plain
    simulator.reset()
    arrange = {"airbyte": airbyte, "fivetran": fivetran, "dbt_cloud": dbt_cloud}[vendor]
    given = arrange(simulator)
    variables = connection_variables(simulator)
    if vendor == "dbt_cloud":
        values = json.loads(variables["AIRFLOW_CONN_DBT_CLOUD_DEFAULT"])
        values["host"] = values["host"].removeprefix("https://")
        variables["AIRFLOW_CONN_DBT_CLOUD_DEFAULT"] = json.dumps(values)
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    done = subprocess.run(
        [
            str(client.python),
            "-m",
            f"tests.conformance.calls.{client.script}",
            json.dumps(given),
        ],
        env=plain_environment(
            AIRFLOW_HOME=str(tmp_path / "airflow"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            REQUESTS_CA_BUNDLE=str(bundle),
            SSL_CERT_FILE=str(bundle),
            **variables,
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    reports = [
        json.loads(line)
        for line in done.stdout.splitlines()
        if line.startswith('{"call"')
    ]
    found = [Verdict(client.requirement, one["call"], one["wrong"]) for one in reports]
    verdicts.all += found
    assert done.returncode == 0, done.stderr[-2000:]
    assert found
    assert [one for one in found if one.wrong] == []
