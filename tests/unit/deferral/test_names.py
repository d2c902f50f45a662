"""Things at a vendor that are given by name."""

from __future__ import annotations

import pytest

from async_triggers.deferral.names import one_named
from async_triggers.engine.errors import RequestRejected


def named(name: str, names: dict[str, str]) -> str:
    return one_named("Airbyte", "connection", name, names, instead="connection_id")


def test_the_one_of_a_name_is_found() -> None:
    assert named("orders", {"1": "orders", "2": "orders_eu"}) == "1"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ordrs", "'orders'"),
        ("Orders", "'orders', 'orders_eu'"),
        ("ORDERS_EU", "'orders_eu', 'orders'"),
        ("zzz", "'customers', 'orders', 'orders_eu'"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_the_nearest(
    name: str, near: str
) -> None:
    with pytest.raises(RequestRejected) as caught:
        named(name, {"1": "orders", "2": "orders_eu", "3": "customers", "4": ""})

    assert caught.value.message.startswith(
        f"Airbyte has no connection named {name!r}: check the name, letter by letter."
        f" Nearest: {near.split(',', maxsplit=1)[0]}"
    )


def test_where_nothing_is_there_nothing_is_near() -> None:
    with pytest.raises(RequestRejected, match=r"letter by letter$"):
        named("orders", {})


def test_a_name_of_several_is_answered_with_all_ids() -> None:
    with pytest.raises(
        RequestRejected,
        match=r"has 2 connections named 'orders' \(1, 3\): give connection_id$",
    ):
        named("orders", {"1": "orders", "2": "other", "3": "orders"})


def test_thousands_of_names_are_searched_in_no_time() -> None:
    names = {str(i): f"source {i} to warehouse {i % 7}" for i in range(20_000)}

    with pytest.raises(RequestRejected, match="Nearest"):
        named("source 1 to warehouze", names)
