"""Prism holds our requests and the simulator's replies against the vendors' definitions.

The definitions are the vendors': whoever runs this fetches them, and names the files in
CONFORMANCE_AIRBYTE_SPEC, CONFORMANCE_FIVETRAN_SPEC and CONFORMANCE_DBT_CLOUD_SPEC.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from async_triggers.simulator import Simulator
from async_triggers.simulator.airbyte import DEFAULT_WORKSPACE
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.dbt_cloud import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT
from async_triggers.simulator.fivetran import DEFAULT_GROUP
from tests.conformance.environments import (
    CannotInstallError,
    plain_environment,
    prism,
)
from tests.conformance.proxy import Exchange, ValidatingProxy, validating
from tests.conformance.verdicts import Verdict, Verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractAsyncContextManager

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.timeout(900),
    pytest.mark.asyncio,
]

VENDORS: Final = ("airbyte", "fivetran", "dbt_cloud")
PREFIXES: Final = {"airbyte": "/api/public/v1", "fivetran": "", "dbt_cloud": ""}
DAGS: Final = Path(__file__).with_name("dags")
CONNECTION: Final = "6b0b9d3e-6d4f-4e55-9a1c-3c1f1f0a7a11"
ENDLESS: Final = "0f5b7c1e-1f83-4a0e-8b57-2f6d8c5a9b22"

# What the definitions say and the services do not, by the vendors' own examples.
TOLERATED: Final = {
    # The definition lists numbers as texts.
    "response.body.data.sync_frequency": "sync_frequency is a number",
    "response.body.data.items.*.sync_frequency": "sync_frequency is a number",
    # The definition wants repeated keys; the official clients send a JSON list, and the
    # poller tries both forms.
    "request.query.pk__in.*": "filters as JSON lists",
    "request.query.status__in.*": "filters as JSON lists",
    "request.query.finished_at__range.*": "filters as JSON lists",
}


def specification(vendor: str) -> Path:
    name = f"CONFORMANCE_{vendor.upper()}_SPEC"
    if not os.environ.get(name):
        pytest.skip(f"{name} names no file")
    return Path(os.environ[name]).resolve()


def command() -> Path:
    try:
        return prism()
    except CannotInstallError as error:
        pytest.skip(f"Prism cannot be installed here: {error}")


def arrange(simulator: Simulator, vendor: str) -> dict[str, Any]:
    """Arrange what the DAGs and the single requests name, and return the names."""
    if vendor == "airbyte":
        simulator.airbyte.add_connection(
            CONNECTION, streams=["orders"], lives=["pending:0.2 running:1 succeeded"]
        )
        simulator.airbyte.add_connection(ENDLESS, lives=["running"])
        return {"connection": CONNECTION, "endless": ENDLESS}
    if vendor == "fivetran":
        simulator.fivetran.add_group(DEFAULT_GROUP, name="Warehouse")
        simulator.fivetran.add_connection(
            "gentle_lion",
            schema="sales",
            succeeded_ago=3600,
            failed_ago=7200,
            warnings=[("resync_table_warning", "A table is re-synced")],
            lives=["syncing:1 succeeded"],
            tables={"sales": ["orders"]},
        )
        return {
            "connection": "gentle_lion",
            "schema": "sales",
            "group_name": "Warehouse",
        }
    dbt = simulator.dbt_cloud
    return {
        "job": dbt.add_job(name="Nightly build", lives=["running:1 success"]),
        "failing": dbt.add_job(name="Failing", lives=["running:0.2 error"]),
        "endless": dbt.add_job(name="Endless", lives=["running"]),
    }


def arrange_many(simulator: Simulator, vendor: str) -> list[str]:
    """Let several jobs run, and return what identifies each to a trigger."""
    # As many as make a list cheaper, as few as Prism can report of in one header.
    numbers = range(30 if vendor == "airbyte" else 6)
    if vendor == "airbyte":
        airbyte = simulator.airbyte
        added = [airbyte.add_connection() for _ in numbers]
        return [str(airbyte.add_job(one, "running:8 succeeded")) for one in added]
    if vendor == "fivetran":
        fivetran = simulator.fivetran
        names = [fivetran.add_connection(f"waiting_{number}") for number in numbers]
        for name in names:
            fivetran.start_sync(name, "syncing:8 succeeded")
        return names
    dbt = simulator.dbt_cloud
    jobs = [dbt.add_job() for _ in numbers]
    return [str(dbt.add_run(job, "running:8 success")) for job in jobs]


# What many waiting tasks of one account are polled with.
LISTS: Final = {
    "airbyte": "GET /jobs",
    "fivetran": "GET /v1/connections",
    "dbt_cloud": "GET /api/v2/accounts/{account_id}/runs/",
}

Call = tuple[str, str, Any]


def airbyte_calls(simulator: Simulator) -> Iterable[Call]:
    token = {
        "client_id": simulator.airbyte.settings.client_id,
        "client_secret": simulator.airbyte.settings.client_secret,
        "grant_type": "client_credentials",
        "grant-type": "client_credentials",
    }
    yield "GET", "/health", None
    yield "POST", "/applications/token", token
    yield "POST", "/jobs", {"connectionId": CONNECTION, "jobType": "sync"}
    yield "GET", "/jobs/1", None
    yield "GET", f"/jobs?connectionId={CONNECTION}&limit=5&orderBy=createdAt|DESC", None
    yield "DELETE", "/jobs/1", None
    yield "GET", f"/connections/{CONNECTION}", None
    yield "GET", "/connections?limit=10", None
    yield "GET", f"/workspaces?workspaceIds={DEFAULT_WORKSPACE}", None


def fivetran_calls(simulator: Simulator) -> Iterable[Call]:
    one = "/v1/connections/gentle_lion"
    yield "GET", "/v1/account/info", None
    yield "GET", "/v1/connections?limit=10", None
    yield "GET", one, None
    yield "POST", f"{one}/sync", None
    yield "POST", f"{one}/sync", {"force": True}
    yield "GET", f"{one}/sync-history", None
    yield "POST", f"{one}/test", {}
    yield "PATCH", one, {"paused": True, "run_setup_tests": False}
    yield "POST", f"{one}/resync", {"scope": {"schema": ["orders"]}}
    yield "GET", f"{one}/schemas", None
    yield "GET", "/v1/groups", None
    yield "GET", f"/v1/groups/{DEFAULT_GROUP}", None
    yield "GET", f"/v1/groups/{DEFAULT_GROUP}/connections", None
    yield "GET", f"/v1/destinations/{DEFAULT_GROUP}", None


def dbt_cloud_calls(simulator: Simulator) -> Iterable[Call]:
    dbt = simulator.dbt_cloud
    root = f"/api/v2/accounts/{dbt.settings.account_id}"
    job = next(iter(dbt.all_jobs))
    related = "include_related=trigger,job,run_steps"
    failed = dbt.add_run(job, "running:1 error", age=60)
    running = dbt.add_run(job, "running", age=30)
    queued = dbt.add_run(job, "queued", age=10)
    yield "GET", "/api/v2/accounts/", None
    yield "GET", f"{root}/", None
    yield "GET", f"{root}/projects/", None
    yield "GET", f"{root}/projects/{DEFAULT_PROJECT}/", None
    yield "GET", f"{root}/environments/", None
    yield "GET", f"{root}/environments/{DEFAULT_ENVIRONMENT}/", None
    yield "GET", f"{root}/jobs/", None
    yield "GET", f"{root}/jobs/{job}/", None
    yield "POST", f"{root}/jobs/{job}/run/", {"cause": "conformance"}
    yield "POST", f"{root}/jobs/{job}/rerun/", None
    for run in (failed, running, queued):
        yield "GET", f"{root}/runs/{run}/?{related}", None
    yield "GET", f"{root}/runs/?order_by=-id&include_related=trigger,job&limit=1", None
    yield "GET", f"{root}/runs/?pk__in={failed}&pk__in={running}", None
    yield "GET", f"{root}/runs/{failed}/retry/", None
    yield "GET", f"{root}/runs/{failed}/artifacts/", None
    yield "GET", f"{root}/runs/{failed}/artifacts/run_results.json", None
    yield "POST", f"{root}/runs/{running}/cancel/", None


CALLS: Final = {
    "airbyte": airbyte_calls,
    "fivetran": fivetran_calls,
    "dbt_cloud": dbt_cloud_calls,
}


def authorization(simulator: Simulator, vendor: str) -> str:
    if vendor == "fivetran":
        settings = simulator.fivetran.settings
        secret = f"{settings.api_key}:{settings.api_secret}"
        return f"Basic {base64.b64encode(secret.encode()).decode()}"
    # Airbyte's and dbt Cloud's have one static token in common.
    return "Bearer simulator-token"


def judge(client: str, exchanges: Iterable[Exchange]) -> list[Verdict]:
    """Return one verdict for each operation that was called."""
    by_operation = defaultdict(list)
    for one in exchanges:
        by_operation[one.operation].append(one)
    found = []
    for operation, calls in sorted(by_operation.items()):
        faults = sorted({fault for one in calls for fault in one.faults})
        notes = {TOLERATED[where] for fault in faults if (where := _where(fault))}
        if any(one.nulls for one in calls):
            notes.add("null where nothing is known")
        wrong = "; ".join(fault for fault in faults if not _where(fault))
        found.append(Verdict(client, operation, wrong, ", ".join(sorted(notes))))
    return found


def _where(fault: str) -> str:
    where = fault.partition(": ")[0]
    return where if where in TOLERATED else ""


def before(
    vendor: str, simulator: Simulator
) -> AbstractAsyncContextManager[ValidatingProxy]:
    """Put Prism before a simulated vendor, with that vendor's definition."""
    return validating(
        command(), specification(vendor), simulator.urls[vendor], PREFIXES[vendor]
    )


@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_reply_of_the_simulator_is_as_the_definition_says(
    vendor: str, verdicts: Verdicts
) -> None:
    async with Simulator() as simulator:
        arrange(simulator, vendor)
        async with before(vendor, simulator) as proxy:
            await send(
                proxy, CALLS[vendor](simulator), authorization(simulator, vendor)
            )
    found = judge(f"simulator, {vendor}", proxy.exchanges)
    verdicts.all += found
    assert not proxy.undescribed
    assert len(found) >= 8
    assert [one for one in found if one.wrong] == []


async def send(proxy: ValidatingProxy, calls: Iterable[Call], credentials: str) -> None:
    headers = {"Authorization": credentials, "Accept": "application/json"}
    async with aiohttp.ClientSession(
        headers=headers, skip_auto_headers=["Content-Type"]
    ) as session:
        for method, path, body in calls:
            # A request without a body has no type either.
            sent: dict[str, Any] = {}
            if body is not None:
                sent["data"] = json.dumps(body)
                sent["headers"] = {"Content-Type": "application/json"}
            url = f"{proxy.url}{proxy.prefix}{path}"
            async with session.request(method, url, **sent) as answer:
                assert answer.status == 200, (method, path, await answer.text())


@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_request_of_ours_is_as_the_definition_says(
    vendor: str, verdicts: Verdicts, tmp_path: Path
) -> None:
    async with Simulator() as simulator:
        given = arrange(simulator, vendor)
        async with before(vendor, simulator) as proxy:
            variables = {
                name: value.replace(simulator.urls[vendor], proxy.url)
                for name, value in connection_variables(simulator).items()
            }
            environment = plain_environment(
                AIRFLOW_HOME=str(tmp_path / "airflow"),
                AIRFLOW__CORE__DAGS_FOLDER=str(DAGS),
                AIRFLOW__CORE__LOAD_EXAMPLES="False",
                CONFORMANCE_GIVEN=json.dumps(given),
                CONFORMANCE_VENDOR=vendor,
                **variables,
            )
            # DAGs that are tested need Airflow's database.
            await run(environment, "-m", "airflow", "db", "migrate")
            output = await run(environment, str(DAGS / "ours.py"))
            # A deferred task alone is asked for by its id; many share a list.
            waiting = arrange_many(simulator, vendor)
            await run(environment, "-m", "tests.conformance.waiting", vendor, *waiting)
    found = judge(f"async-triggers, {vendor}", proxy.exchanges)
    verdicts.all += found
    ends = [
        json.loads(line) for line in output.splitlines() if line.startswith('{"dag"')
    ]
    assert ends, output[-3000:]
    assert [end for end in ends if end["state"] != end["wanted"]] == []
    assert LISTS[vendor] in {one.call for one in found}
    assert [one for one in found if one.wrong] == []


async def run(environment: dict[str, str], *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace")
    assert process.returncode == 0, text[-3000:]
    return text
