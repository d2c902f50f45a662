"""What the page shows of the arguments that Airflow stores of a trigger."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from async_triggers.airbyte.ends import AirbyteSyncsTrigger
from async_triggers.airbyte.job_query import AirbyteJobQuery
from async_triggers.airbyte.remote_job import AirbyteJobRequest
from async_triggers.board.rows import LONGEST, Waiting, is_ours, read_waiting
from async_triggers.dbt_cloud.ends import DbtCloudRunsQuery, DbtCloudRunsTrigger
from async_triggers.dbt_cloud.sensors import DbtCloudJobSensor
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.sensor_trigger import SensorTrigger
from async_triggers.deferral.start_trigger import StartTrigger
from async_triggers.fivetran.ends import FivetranSyncsTrigger
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, Entry, every_vendor

ROOT = Path(__file__).parents[3]


def shown(trigger: Any, *, since: float | None = None) -> Waiting:
    classpath, arguments = trigger.serialize()
    return read_waiting(classpath, arguments, since=since)


@every_vendor
def test_a_trigger_of_every_vendor_is_shown(case: Entry) -> None:
    job = "abc_def" if case is FIVETRAN else 812

    found = shown(case.trigger(job, "my_conn", end_time=100.0))

    # One of another package is shown by that package's name.
    name = "ferry_provider" if case.name == "ferry" else case.noun
    assert found.vendor == name
    assert found.job == str(job)
    assert found.conn_id == "my_conn"
    assert found.deadline == 100.0
    assert found.is_started


@every_vendor
def test_a_trigger_of_every_vendor_is_known_as_ours(case: Entry) -> None:
    job = "abc_def" if case is FIVETRAN else 812
    _, arguments = case.trigger(job, "my_conn").serialize()

    assert is_ours("acme.triggers.X", arguments)
    assert not is_ours("acme.triggers.X", {"version": 1, "job_id": 5})
    assert not is_ours("asyncXtriggers.airbyte.X", {})


@pytest.mark.parametrize("case", [AIRBYTE, DBT_CLOUD], ids=lambda case: case.name)
def test_the_address_that_a_trigger_knows_is_shown(case: Entry) -> None:
    found = shown(case.trigger(1, "c", job_url="https://vendor.test/1"))

    assert found.url == "https://vendor.test/1"


def test_the_address_of_a_fivetran_connection_is_its_dashboard_s() -> None:
    found = shown(FIVETRAN.trigger("abc_def", "c"))

    assert found.url == "https://fivetran.com/dashboard/connections/abc_def/status"


def test_a_job_that_is_still_to_be_started_is_named_by_what_starts_it() -> None:
    fields = {"conn_id": "my_conn", "connection_id": "c-1"}
    name = f"{AirbyteJobRequest.__module__}.{AirbyteJobRequest.__qualname__}"
    request = {"v": 1, "class": name, "fields": fields}

    found = shown(StartTrigger(request, 2, 500.0, 400.0))

    assert found == Waiting(
        vendor="Airbyte",
        job="c-1",
        url="",
        conn_id="my_conn",
        deadline=400.0,
        is_started=False,
    )


def test_a_sensor_that_waits_from_the_start_has_a_deadline_too() -> None:
    task = AIRBYTE.sensor(812, airbyte_conn_id="my_conn")()
    query = AirbyteJobQuery.of(task).to_json()

    found = shown(SensorTrigger(query, 60.0), since=1000.0)

    assert (found.vendor, found.job, found.conn_id) == ("Airbyte", "812", "my_conn")
    assert found.deadline == 1060.0


@pytest.mark.parametrize(("limit", "deadline"), [(30.0, 1030.0), (90.0, 1060.0)])
def test_the_earlier_one_of_its_two_timeouts_counts(
    limit: float, deadline: float
) -> None:
    task = AIRBYTE.sensor(812, airbyte_conn_id="my_conn")()
    query = AirbyteJobQuery.of(task).to_json()

    found = shown(SensorTrigger(query, 60.0, limit), since=1000.0)

    assert found.deadline == deadline


ENDS = {
    "Airbyte": AirbyteSyncsTrigger,
    "Fivetran": FivetranSyncsTrigger,
    "dbt Cloud": DbtCloudRunsTrigger,
}


@pytest.mark.parametrize("vendor", ENDS)
@pytest.mark.parametrize("targets", [["12"], ["12", "34"]])
def test_what_the_next_end_of_is_waited_for_is_shown(
    vendor: str, targets: list[str]
) -> None:
    found = shown(ENDS[vendor](targets, 5.0, "my_conn", 100.0, 30.0))

    assert (found.vendor, found.job) == (vendor, ", ".join(targets))
    assert (found.conn_id, found.deadline) == ("my_conn", 100.0)
    assert bool(found.url) is (vendor == "Fivetran" and len(targets) == 1)


@pytest.mark.parametrize("ids", [["12", "34"], "12, 34"])
def test_a_sensor_of_several_is_named_by_all_of_them(ids: Any) -> None:
    sensor = DbtCloudJobSensor(
        task_id="s", job_ids=ids, dbt_cloud_conn_id="c", deferrable=True
    )
    query = DbtCloudRunsQuery.of(sensor).to_json()

    assert shown(SensorTrigger(query, 60.0), since=1.0).job == "12, 34"


def test_a_trigger_that_only_waits_for_a_time_has_no_vendor() -> None:
    assert shown(MomentTrigger(50.0)).vendor == ""


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,<script>",
        "//evil.test",
        "https//",
        "http://[",
        5,
        None,
        ["https://x.test"],
    ],
)
def test_only_web_addresses_become_links(url: object) -> None:
    found = read_waiting("async_triggers.airbyte.X", {"job_url": url}, since=None)

    assert found.url == ""


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"request": {}},
        {"request": {"class": None, "fields": "x"}},
        {"query": {"class": "os.system", "fields": {"job_id": {"a": 1}}}},
        {"request": "text", "job_id": True, "conn_id": ["x"]},
        {"end_time": "soon", "execution_deadline": float("nan"), "lasts": "x"},
        {"connector_id": "a/b"},
        {"job_id": "x" * 10_000},
        {"targets": [{"a": 1}, None, "x" * 10_000]},
        {"targets": ["x"] * 10_000},
    ],
)
@pytest.mark.parametrize("vendor", ["airbyte", "fivetran", "dbt_cloud", "acme"])
def test_a_row_of_another_release_is_shown_as_far_as_it_is_known(
    arguments: dict[str, Any], vendor: str
) -> None:
    found = read_waiting(f"async_triggers.{vendor}.X", arguments, since=1.0)

    assert len(found.job) <= LONGEST
    assert found.deadline is None
    assert "a/b" not in found.url


def test_what_the_row_names_is_not_imported() -> None:
    before = set(sys.modules)
    request = {"class": "antigravity.Request", "fields": {}}

    read_waiting("async_triggers.deferral.X", {"request": request}, since=None)

    assert "antigravity" not in set(sys.modules) - before


# The plugin -------------------------------------------------------------------------

LOADED = """
import sys
import airflow.plugins_manager
before = set(sys.modules)
from async_triggers.board.plugin import AsyncTriggersPlugin
assert AsyncTriggersPlugin().external_views[0]["url_route"] == "external-jobs"
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(new - {"async_triggers"}))
print(*sorted(each for each in sys.modules if each.startswith("async_triggers.board.")))
"""


def test_the_plugin_costs_other_processes_no_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == ["", "async_triggers.board.plugin"]


def test_the_plugin_has_an_entry_point_of_its_own() -> None:
    declared = (ROOT / "pyproject.toml").read_text()

    points = tomllib.loads(declared)["project"]["entry-points"]
    assert points["airflow.plugins"] == {
        "async_triggers": "async_triggers.board.plugin:AsyncTriggersPlugin"
    }
