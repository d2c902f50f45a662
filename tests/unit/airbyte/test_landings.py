"""Where the streams of a connection come from, and go to."""

from __future__ import annotations

from typing import Any

import pytest

from async_triggers.airbyte.api.models import Endpoint, Replication, Stream
from async_triggers.airbyte.landings import read_by

ORDERS = Stream(name="orders", namespace="public")
CALLS = Stream(name="calls")


def endpoint(kind: str, **settings: str) -> Endpoint:
    known = {key: (value,) for key, value in settings.items()}
    return Endpoint(id="e", name="E", kind=kind, settings=known)


def connection(*streams: Stream, **changes: Any) -> Replication:
    return Replication(
        id="c",
        name="C",
        status="active",
        source_id="e",
        destination_id="d",
        namespace_definition="destination",
        namespace_format="",
        prefix="raw_",
        streams=streams,
        created_at=0,
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (endpoint("postgres", database="shop"), ["shop.public.orders", "shop.*.calls"]),
        (
            endpoint("postgres", database="shop", schema="crm"),
            ["shop.public.orders", "shop.crm.calls"],
        ),
        (endpoint("mysql", database="shop"), ["*.public.orders", "*.shop.calls"]),
        (endpoint("github"), ["*.public.orders", "*.*.calls"]),
    ],
)
def test_what_a_source_calls_its_tables(source: Endpoint, expected: list[str]) -> None:
    """Prefixes are those of the destination alone."""
    assert [*map(str, read_by(connection(ORDERS, CALLS), source))] == expected
