from __future__ import annotations

import random

import pytest

from async_triggers.generators.matching import match
from async_triggers.generators.model import Landing, Loader, SourceTable


def loader(
    name: str, *landings: str, created: str = "", trouble: str = "", key: str = ""
) -> Loader:
    return Loader(
        id=key or name,
        name=name,
        created=created,
        trouble=trouble,
        landings=tuple(
            Landing(database=database, schema=schema, table=table)
            for database, schema, table in (each.split(".") for each in landings)
        ),
    )


def source(text: str) -> SourceTable:
    database, schema, name = text.split(".")
    return SourceTable(
        unique_id=f"source.p.{schema}.{name}",
        database=database,
        schema=schema,
        identifier=name,
    )


@pytest.mark.parametrize(
    ("wanted", "landing"),
    [
        ("RAW.Shop.ORDERS", "raw.shop.orders"),
        ("raw.shop.my_orders", "raw.shop.My-Orders"),
        (".shop.orders", "raw.shop.orders"),
        ("raw.shop.orders", ".shop.orders"),
        ("raw.shop.orders", "raw..orders"),
        ("raw.shop.orders", "raw.shop."),
        ("raw.shop._airbyte_raw_orders", "raw.shop.orders"),
        ("my-project.shop.orders", "My-Project.shop.orders"),
    ],
)
def test_what_is_the_same_table(wanted: str, landing: str) -> None:
    found = match([source(wanted)], [loader("a", landing)])

    assert [each.loader.name for each in found.chosen] == ["a"]
    assert found.missed == ()


@pytest.mark.parametrize(
    "landing", ["raw2.shop.orders", "raw.shops.orders", "raw.shop.order"]
)
def test_what_is_not_the_same_table(landing: str) -> None:
    found = match([source("raw.shop.orders")], [loader("a", landing)])

    assert found.chosen == ()
    assert [str(each.source) for each in found.missed] == ["raw.shop.orders"]
    assert landing in found.missed[0].nearest[0]


def test_all_connections_that_load_a_table_are_chosen_in_a_stable_order() -> None:
    loaders = [
        loader("b", "raw.shop.orders"),
        loader("a", "raw.shop.orders", created="2", key="younger"),
        loader("a", "raw.shop.orders", created="1", key="older"),
        loader("c", "raw.shop.customers"),
    ]
    wanted = [source("raw.shop.orders"), source("raw.shop.customers")]

    for seed in range(5):
        random.Random(seed).shuffle(loaders)
        found = match(wanted, loaders)
        assert [each.loader.id for each in found.chosen] == [
            "older",
            "younger",
            "b",
            "c",
        ]


def test_a_connection_that_cannot_run_is_a_near_miss() -> None:
    loaders = [loader("a", "raw.shop.orders", trouble="it is inactive")]

    found = match([source("raw.shop.orders")], loaders)

    assert found.chosen == ()
    assert found.missed[0].nearest[0] == "raw.shop.orders of 'a', but it is inactive"


def test_another_database_is_the_nearest_miss() -> None:
    loaders = [loader("a", "raw.shop.ordered"), loader("b", "dev.shop.orders")]

    nearest = match([source("raw.shop.orders")], loaders).missed[0].nearest

    assert nearest[0] == "dev.shop.orders of 'b', but its database is another"
    assert nearest[1] == "raw.shop.ordered of 'a'"
