from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.generators.catalogue import airbyte_loaders, fivetran_loaders

if TYPE_CHECKING:
    from async_triggers.generators.model import Loader
    from async_triggers.simulator.server import Simulator


def airbyte() -> dict[str, Loader]:
    hook = AirbyteHook("airbyte_default")
    found = hook.run(lambda leased: airbyte_loaders(hook, leased))
    return {each.id: each for each in found}


def fivetran(*databases: str, tables: bool = True) -> dict[str, Loader]:
    hook = FivetranHook("fivetran_default")
    wanted = databases if tables else None
    found = hook.run(lambda leased: fivetran_loaders(hook, leased, wanted))
    return {each.id: each for each in found}


def landings(loader: Loader) -> list[str]:
    return [str(each) for each in loader.landings]


@pytest.mark.parametrize(
    ("kind", "configuration", "expected"),
    [
        ("snowflake", {"database": "RAW", "schema": "S"}, "RAW.S.t"),
        ("postgres", {"database": "raw", "schema": "public"}, "raw.public.t"),
        ("mssql", {"database": "raw", "schema": "dbo"}, "raw.dbo.t"),
        ("redshift", {"database": "raw", "schema": "s"}, "raw.s.t"),
        ("bigquery", {"project_id": "my-p", "dataset_id": "d"}, "my-p.d.t"),
        ("bigquery", {"project_id": "p", "dataset_id": "p:d"}, "p.d.t"),
        ("databricks", {"database": "cat", "schema": "s"}, "cat.s.t"),
        ("mysql", {"database": "raw"}, "*.raw.t"),
        ("clickhouse", {"database": "raw", "schema": "x"}, "*.raw.t"),
        ("duckdb", {"destination_path": "/local/raw.duckdb", "schema": "s"}, "raw.s.t"),
        ("motherduck", {"destination_path": "md:raw", "schema": "s"}, "raw.s.t"),
        ("strange", {}, "*.*.t"),
    ],
)
def test_where_airbytes_destinations_put_tables(
    vendors: Simulator, kind: str, configuration: dict[str, Any], expected: str
) -> None:
    vendors.airbyte.add_destination(
        "d", name="D", destination_type=kind, configuration=configuration
    )
    vendors.airbyte.add_connection("c", destination_id="d", streams=["t"])

    assert landings(airbyte()["c"]) == [expected]


@pytest.mark.parametrize(
    ("rule", "stream", "source", "expected"),
    [
        (("destination", None), {}, {"schema": "public"}, ["raw.dest.t"]),
        (("source", None), {"namespace": "ns"}, {"schema": "public"}, ["raw.ns.t"]),
        (("source", None), {}, {"schema": "public"}, ["raw.public.t"]),
        (("source", None), {}, {"schemas": ["a", "b"]}, ["raw.a.t", "raw.b.t"]),
        (("source", None), {}, {}, ["raw.dest.t"]),
        (("custom_format", "fixed"), {}, {}, ["raw.fixed.t"]),
        (
            ("custom_format", "x_${SOURCE_NAMESPACE}_y"),
            {"namespace": "ns"},
            {},
            ["raw.x_ns_y.t"],
        ),
        (("custom_format", "${SOURCE_NAMESPACE}"), {}, {}, ["raw.dest.t"]),
        (("customformat", "old"), {}, {}, ["raw.old.t"]),
    ],
)
def test_namespaces_of_airbyte(
    vendors: Simulator,
    rule: tuple[str, str | None],
    stream: dict[str, str],
    source: dict[str, Any],
    expected: list[str],
) -> None:
    vendors.airbyte.add_source("s", name="S", configuration=source)
    vendors.airbyte.add_destination(
        "d", name="D", configuration={"database": "raw", "schema": "dest"}
    )
    vendors.airbyte.add_connection(
        "c",
        source_id="s",
        destination_id="d",
        namespace_definition=rule[0],
        namespace_format=rule[1],
        streams=[{"name": "t", **stream}],
    )

    assert landings(airbyte()["c"]) == expected


def test_prefixes_and_names_of_airbytes_tables(vendors: Simulator) -> None:
    vendors.airbyte.add_connection(
        "c",
        destination_id="d",
        prefix="pg_",
        streams=[
            "orders",
            {"name": "people", "destinationObjectName": "Contact"},
            {"name": "old", "selected": False},
        ],
    )

    assert landings(airbyte()["c"]) == ["raw.shop.pg_orders", "raw.shop.Contact"]


def test_airbytes_connections_of_all_workspaces_and_pages(vendors: Simulator) -> None:
    for number in range(250):
        vendors.airbyte.add_connection(
            f"c{number}", workspace_id=f"w{number % 3}", streams=["t"]
        )
    vendors.airbyte.set_connection_status("c7", "inactive")

    found = airbyte()

    assert len(found) == 251
    assert found["c7"].trouble == "it is inactive"
    assert found["a1"].name == "Shop → Warehouse"
    assert found["c1"].name == "Connection 3"


@pytest.mark.parametrize(
    ("service", "config", "expected"),
    [
        ("snowflake", {"database": "RAW"}, "RAW.s.t"),
        ("big_query", {"project_id": "my-p"}, "my-p.s.t"),
        ("databricks", {"catalog": "cat"}, "cat.s.t"),
        ("mysql_warehouse", {"database": "raw"}, "*.s.t"),
        ("clickhouse", {"host": "h"}, "*.s.t"),
        ("motherduck", {"token": "secret"}, "*.s.t"),
    ],
)
def test_where_fivetrans_destinations_put_tables(
    vendors: Simulator, service: str, config: dict[str, str], expected: str
) -> None:
    vendors.fivetran.add_group("g", name="G", service=service, config=config)
    vendors.fivetran.add_connection("c", group_id="g", tables={"s": ["t"]})

    assert landings(fivetran("raw", "my-p", "cat")["c"]) == [expected]


def test_what_fivetran_does_not_sync_is_left_out(vendors: Simulator) -> None:
    vendors.fivetran.add_connection(
        "c", group_id="wh", tables={"s": ["t", {"name": "old", "enabled": False}]}
    )

    assert landings(fivetran("raw")["c"]) == ["raw.s.t"]


def test_connections_without_a_schema_config(vendors: Simulator) -> None:
    vendors.fivetran.add_connection("sheet", group_id="wh", schema="sheets.budget")
    vendors.fivetran.add_connection("folder", group_id="wh", schema="files")

    found = fivetran("raw")

    assert landings(found["sheet"]) == ["raw.sheets.budget"]
    assert landings(found["folder"]) == ["raw.files.*"]


def test_schemas_are_asked_for_only_where_they_are_wanted(vendors: Simulator) -> None:
    vendors.fivetran.add_group("other", name="Other", config={"database": "dev"})
    for number in range(5):
        vendors.fivetran.add_connection(f"o{number}", group_id="other", tables={})
    asked = vendors.fivetran.record.requests
    schemas = "GET /v1/connections/{connection_id}/schemas"

    found = fivetran("raw")

    assert len(found) == 6
    assert asked[schemas] == 1
    assert landings(found["o1"]) == []

    assert fivetran(tables=False)["f1"].name == "Warehouse.shop"
    assert asked[schemas] == 1


def test_all_pages_of_fivetran(vendors: Simulator) -> None:
    for number in range(1005):
        vendors.fivetran.add_connection(f"c{number}", group_id="wh")

    assert len(fivetran(tables=False)) == 1006
    assert vendors.fivetran.record.requests["GET /v1/connections"] == 2


def test_a_group_without_a_destination_is_no_obstacle(vendors: Simulator) -> None:
    vendors.fivetran.add_connection("c", group_id="gone", tables={"s": ["t"]})
    del vendors.fivetran.groups["gone"]

    assert landings(fivetran("raw")["c"]) == ["*.s.t"]
