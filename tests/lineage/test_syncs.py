"""What OpenLineage's own listener sends of syncs of Airbyte and Fivetran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator.fivetran import DEFAULT_GROUP

if TYPE_CHECKING:
    from tests.lineage.conftest import Emitted, Stage

pytest.importorskip("airflow.providers.openlineage")

pytestmark = [pytest.mark.lineage, pytest.mark.timeout(600)]

SOURCE = {"host": "db.test", "port": 5433, "database": "shop", "password": "pw-secret"}


@pytest.fixture(scope="module")
def emitted(stage: Stage) -> Emitted:
    airbyte = stage.simulator.airbyte
    airbyte.add_source("source", name="Shop", configuration=SOURCE)
    airbyte.add_destination(
        "target",
        name="Warehouse",
        configuration={
            "host": "ab12345.eu-west-1.snowflakecomputing.com",
            "database": "raw",
            "schema": "shop",
        },
    )
    airbyte.add_source("api", name="Calls", source_type="github")
    both: dict[str, Any] = {"source_id": "source", "destination_id": "target"}
    streams = [{"name": "orders", "namespace": "public"}]
    airbyte.add_connection(
        "two",
        streams=[*streams, {"name": "customers", "namespace": "crm"}],
        namespace_definition="source",
        lives=["running:1 succeeded"],
        **both,
    )
    airbyte.add_connection(
        "one", streams=streams, lives=["running:9 succeeded"], **both
    )
    airbyte.add_connection(
        "failing",
        streams=["issues"],
        lives=["running:1 failed"],
        source_id="api",
        destination_id="target",
    )
    fivetran = stage.simulator.fivetran
    fivetran.add_group(
        DEFAULT_GROUP,
        name="Warehouse",
        service="big_query",
        config={"project_id": "acme"},
    )
    fivetran.add_connection(
        "gentle_lion",
        schema="shop",
        service="postgres",
        tables={"shop_public": ["orders"], "shop_crm": ["customers", "calls"]},
        lives=["syncing:1 succeeded"],
    )
    fivetran.connections["gentle_lion"].config = SOURCE
    return stage.run(
        "of_syncs.py",
        airbyte="two",
        slow="one",
        failing="failing",
        fivetran="gentle_lion",
    )


def tables(event: dict[str, Any], key: str) -> list[str]:
    return [f"{each['namespace']} {each['name']}" for each in event[key]]


AIRBYTE = "snowflake://ab12345.eu-west-1.aws RAW"


@pytest.mark.parametrize("task", ["airbyte_deferred", "airbyte_waited"])
def test_all_schemas_of_airbyte(emitted: Emitted, task: str) -> None:
    event = emitted.of_task(f"syncs.{task}", "COMPLETE")

    assert tables(event, "inputs") == [
        "postgres://db.test:5433 shop.public.orders",
        "postgres://db.test:5433 shop.crm.customers",
    ]
    assert tables(event, "outputs") == [
        f"{AIRBYTE}.PUBLIC.ORDERS",
        f"{AIRBYTE}.CRM.CUSTOMERS",
    ]
    # Airbyte counts for all of them together.
    assert all(each["outputFacets"] == {} for each in event["outputs"])
    facet = event["run"]["facets"]["async_triggers_job"]
    assert facet["vendor"] == "Airbyte"
    assert facet["statistics"]["rows_synced"] == 1000
    assert f"jobId={facet['job_id']}" in facet["url"]


@pytest.mark.parametrize("task", ["airbyte_watched", "airbyte_poked"])
def test_what_airbyte_counts_of_one_table_is_its_own(
    emitted: Emitted, task: str
) -> None:
    event = emitted.of_task(f"syncs.{task}", "COMPLETE")

    (output,) = event["outputs"]
    assert tables(event, "outputs") == [f"{AIRBYTE}.SHOP.ORDERS"]
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (1000, 1048576)
    assert output["facets"]["dataSource"]["uri"].startswith("snowflake://")


def test_a_failed_sync_and_a_source_without_an_address(emitted: Emitted) -> None:
    event = emitted.of_task("syncs.airbyte_failed", "FAIL")

    assert tables(event, "inputs") == ["airbyte://api issues"]
    assert tables(event, "outputs") == [f"{AIRBYTE}.SHOP.ISSUES"]
    assert event["run"]["facets"]["async_triggers_job"]["status"] == "failed"


@pytest.mark.parametrize(
    "task",
    ["fivetran_deferred", "fivetran_waited", "fivetran_watched", "fivetran_poked"],
)
def test_all_schemas_of_fivetran(emitted: Emitted, task: str) -> None:
    event = emitted.of_task(f"syncs.{task}", "COMPLETE")

    assert tables(event, "inputs") == [
        "postgres://db.test:5433 shop.shop_public.source_orders",
        "postgres://db.test:5433 shop.shop_crm.source_customers",
        "postgres://db.test:5433 shop.shop_crm.source_calls",
    ]
    assert tables(event, "outputs") == [
        "bigquery acme.shop_public.orders",
        "bigquery acme.shop_crm.customers",
        "bigquery acme.shop_crm.calls",
    ]
    facet = event["run"]["facets"]["async_triggers_job"]
    assert facet["vendor"] == "Fivetran"
    assert facet["url"].endswith("/gentle_lion/status")


def test_no_secret_of_a_source_is_sent(emitted: Emitted) -> None:
    assert "pw-secret" not in str(emitted.events)
