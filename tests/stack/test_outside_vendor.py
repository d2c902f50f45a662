"""A vendor of another package in a whole Airflow, with every switch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from ferry_provider.simulator import FerrySimulator

from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import Run
    from async_triggers.demo.deployment import Deployment

PATIENCE = 240


@pytest.fixture
def ferry(sqlite_deployment: Deployment) -> Iterator[FerrySimulator]:
    """A simulated Ferry, and the Airflow connection that leads to it."""
    with SimulatorThread(others=[FerrySimulator]) as simulator:
        fields = connection_variables(simulator)["AIRFLOW_CONN_FERRY_DEFAULT"]
        sqlite_deployment.api.add_connection("ferry_default", **json.loads(fields))
        found = simulator.vendor("ferry")
        assert isinstance(found, FerrySimulator)
        found.add_route("dover-calais", lives=["sailing:12 arrived"])
        found.add_route("turku-visby", lives=["sailing:12 arrived"])
        found.add_route("oslo-kiel", lives=["sailing"])
        found.add_route("harwich-hook", lives=["sailing:45 arrived"])
        assert found.add_crossing("harwich-hook") == 1
        yield found


def _instance(deployment: Deployment, run: Run, task: str) -> dict[str, Any]:
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}"
    found: dict[str, Any] = deployment.api.request("GET", path)
    return found


@pytest.mark.timeout(900)
def test_crossings_begin_and_end_on_the_triggerer(
    sqlite_deployment: Deployment, ferry: FerrySimulator
) -> None:
    api = sqlite_deployment.api
    run = api.trigger_run("outside_vendor")
    api.wait_until(
        lambda: ferry.record.starts["oslo-kiel"] or None,
        what="the crossing that is to be stopped",
        timeout=PATIENCE,
    )
    api.wait_for(run, "stopped", "deferred", timeout=PATIENCE)
    api.set_state(run, "stopped", "failed")
    for task in ("cross", "wait", "watch", "on_a_worker"):
        api.wait_for(run, task, "success", timeout=PATIENCE)

    # Started once each, and the one of the stopped task is cancelled.
    assert set(ferry.record.starts.values()) == {1}
    api.wait_until(
        lambda: sum(ferry.record.cancels.values()) or None,
        what="the crossing of the stopped task to be cancelled",
        timeout=PATIENCE,
    )
    assert not ferry.jobs()
    assert api.xcom(run, "cross", key="ferry_crossing")["status"] == "arrived"
    assert api.xcom(run, "cross", key="_link_FerryLink").startswith("https://ferry.")
    for task in ("wait", "watch"):
        # No worker has ever had it.
        assert not _instance(sqlite_deployment, run, task)["hostname"]

    assert "is ignored" not in api.log(run, "cross")
