from __future__ import annotations

import difflib
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from async_triggers.deferral.landings import Landing
from async_triggers.generators import matching
from async_triggers.generators.matching import EXPLAINED, match, wanted_databases
from async_triggers.generators.model import Loader, SourceTable


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
        ('"RAW".shop.orders', "raw.shop.orders"),
        ('"RAW"."Shop"."Orders"', "raw.shop.orders"),
        ("`raw`.`shop`.`orders`", "raw.shop.orders"),
        ("[raw].[shop].[my orders]", "raw.shop.my orders"),
        ("raw.'shop'.orders", "raw.shop.orders"),
        ('raw.shop.""orders""', 'raw.shop."orders"'),
        ("raw.airbyte_internal.shop_raw__stream_orders", "raw.shop.orders"),
        ("raw.AIRBYTE_INTERNAL.SHOP_RAW__STREAM_ORDERS", "raw.shop.Orders"),
        ("raw.airbyte_internal.my__shop_raw___stream_orders", "raw.my__shop.orders"),
        ("raw.airbyte_internal.shop_raw__stream_pg_orders", "raw.shop.pg_orders"),
        ("raw.airbyte_internal.my_shop_raw__stream_a_b", "raw.my-shop.a b"),
        ("raw.internal.shop_raw__stream_orders", "raw.shop.orders"),
        ("raw.airbyte_internal.shop_raw__stream_orders", "raw..orders"),
        ("raw.airbyte_internal.a_raw__stream_b_raw__stream_c", "raw.a.b_raw__stream_c"),
    ],
)
def test_what_is_the_same_table(wanted: str, landing: str) -> None:
    found = match([source(wanted)], [loader("a", landing)])

    assert [each.loader.name for each in found.chosen] == ["a"]
    assert found.missed == ()


@pytest.mark.parametrize(
    "landing",
    [
        "raw2.shop.orders",
        "raw.shops.orders",
        "raw.shop.order",
        'raw.shop."orders',
        "raw.shop.[orders)",
    ],
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


@pytest.mark.parametrize(
    ("wanted", "landing"),
    [
        ("raw.airbyte_internal.shop_raw__stream_orders", "raw2.shop.orders"),
        ("raw.airbyte_internal.shop_raw__stream_orders", "raw.shop.order"),
        ("raw.airbyte_internal.shop_raw_stream_orders", "raw.shop.orders"),
        ("raw.airbyte_internal.shop_raw__streams_orders", "raw.shop.orders"),
    ],
)
def test_what_is_not_the_raw_table_of_a_stream(wanted: str, landing: str) -> None:
    assert match([source(wanted)], [loader("a", landing)]).chosen == ()


def test_a_table_that_only_looks_like_a_raw_one_is_itself() -> None:
    loaders = [
        loader("a", "raw.x.shop_raw__stream_orders"),
        loader("b", "raw.shop.orders"),
    ]

    found = match([source("raw.x.shop_raw__stream_orders")], loaders)

    assert [each.loader.name for each in found.chosen] == ["a"]


def test_quoted_databases_are_wanted_without_their_quotes() -> None:
    wanted = [source('"RAW".a.b'), source("raw.a.c"), source("`dev`.a.b")]

    assert wanted_databases(wanted) == ("dev", "raw")


def test_the_work_grows_with_the_tables_and_not_with_their_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thousands of sources, of which no connection loads a half."""
    counted = Counter[str]()

    def count(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        return counting

    monkeypatch.setattr(matching, "_fold", count("names", matching._fold))
    monkeypatch.setattr(Landing, "__str__", count("texts", Landing.__str__))
    alike = count("alike", difflib.get_close_matches)
    monkeypatch.setattr(difflib, "get_close_matches", alike)
    loaders = [loader(f"c{n}", f"raw.s{n}.t", f"raw.s{n}.u") for n in range(400)]
    sources = [source(f"raw.{'s' if n % 2 else 'miss'}{n}.t") for n in range(1000)]

    found = match(sources, loaders)

    assert len(found.missed) == 800
    assert counted["names"] <= 8 * (len(sources) + 2 * len(loaders))
    assert counted["alike"] == EXPLAINED
    assert counted["texts"] <= 3 * 2 * len(loaders)
    assert [bool(each.nearest) for each in found.missed[: EXPLAINED + 1]] == (
        [True] * EXPLAINED + [False]
    )
    counted.clear()
    assert len(match(sources, loaders, explained=0).missed) == 800
    assert counted["alike"] == counted["texts"] == 0
