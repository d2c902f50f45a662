from __future__ import annotations

import pytest

from async_triggers.deferral.landings import Landing, warehouse_uri
from async_triggers.generators.model import Loader
from async_triggers.generators.warehouses import asset_uris


@pytest.mark.parametrize(
    ("kind", "host", "port", "expected"),
    [
        ("snowflake", "ab12.eu-west-1.snowflakecomputing.com", "", "ab12.eu-west-1"),
        ("snowflake", "https://AB12.snowflakecomputing.com/", "443", "ab12"),
        ("snowflake_db", "ab12.snowflakecomputing.com", "", "ab12"),
    ],
)
def test_an_account_of_snowflake(
    kind: str, host: str, port: str, expected: str
) -> None:
    assert warehouse_uri(kind, host, port) == f"snowflake://{expected}"


@pytest.mark.parametrize(
    ("kind", "host", "port", "expected"),
    [
        ("postgres", "db.test", "", "postgres://db.test:5432"),
        ("postgres_rds_warehouse", "db.test", "6000", "postgres://db.test:6000"),
        ("redshift", "r.test", "", "redshift://r.test:5439"),
        ("mysql", "m.test", "3307", "mysql://m.test:3307"),
        ("maria_warehouse", "m.test", "", "mysql://m.test:3306"),
        ("mssql", "s.test", "", "mssql://s.test:1433"),
        ("bigquery", "", "", "bigquery:/"),
        ("big_query", "", "", "bigquery:/"),
        ("postgres", "", "5432", ""),
        ("snowflake", "", "", ""),
        ("duckdb", "x", "", ""),
    ],
)
def test_other_warehouses(kind: str, host: str, port: str, expected: str) -> None:
    assert warehouse_uri(kind, host, port) == expected


def loader(warehouse: str, *landings: tuple[str, str, str]) -> Loader:
    return Loader(
        id="a",
        name="a",
        created="",
        trouble="",
        landings=tuple(map(Landing._make, landings)),
        warehouse=warehouse,
    )


@pytest.mark.parametrize(
    ("warehouse", "expected"),
    [
        ("snowflake://acct", "snowflake://acct/RAW/SHOP/ORDERS"),
        ("bigquery:/", "bigquery://raw/shop/orders"),
        ("postgres://h:5432", "postgres://h:5432/raw/shop/orders"),
        ("mysql://h:3306", "mysql://h:3306/shop/orders"),
    ],
)
def test_a_table_has_the_uri_of_its_warehouse(warehouse: str, expected: str) -> None:
    assert asset_uris(loader(warehouse, ("raw", "shop", "orders"))) == [expected]


@pytest.mark.parametrize(
    "landing", [("", "shop", "orders"), ("raw", "", "orders"), ("raw", "a/b", "c")]
)
def test_what_is_not_wholly_known_is_no_asset(landing: tuple[str, str, str]) -> None:
    assert asset_uris(loader("postgres://h:5432", landing)) == []


def test_without_a_warehouse_there_is_no_asset() -> None:
    assert asset_uris(loader("", ("raw", "shop", "orders"))) == []


def test_a_loader_comes_back_from_json() -> None:
    one = loader("bigquery:/", ("raw", "shop", "orders"))

    assert Loader.from_json(one.to_json()) == one
