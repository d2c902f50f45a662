"""How a body is decoded: without a walk of the garbage collector in its midst."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from async_triggers.engine.errors import UnreadableReply
from async_triggers.engine.wire import Reply, Row, number_of, rows_of, text_of

# Far more objects than the collector lets be made without looking at them.
PAGE = orjson.dumps([{"tasks": [], "status": {"number": n}} for n in range(3000)])
CUT = PAGE[:-1]


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that are collected."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


def test_a_page_is_decoded_without_a_collection(collections: list[int]) -> None:
    gc.collect()
    collections.clear()

    rows = Reply(200, {}, PAGE).json("a list")
    while_decoding = len(collections)

    assert len(rows) == 3000
    # One may come as soon as it is allowed again, of what is young.
    assert while_decoding <= 1
    assert gc.isenabled()


@pytest.mark.parametrize("body", [PAGE, CUT])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(body: bytes, *, enabled: bool) -> None:
    try:
        if not enabled:
            gc.disable()

        with suppress(UnreadableReply):
            Reply(200, {}, body).json("a list")

        assert gc.isenabled() is enabled
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("value", "text", "number", "rows"),
    [
        ("a", "a", None, None),
        ("", "", None, None),
        (7, None, 7, None),
        (True, None, None, None),
        (0.5, None, None, None),
        (None, None, None, None),
        ([], None, None, []),
        ([{"id": 1}], None, None, [{"id": 1}]),
        ([{"id": 1}, 2], None, None, None),
        ({"id": 1}, None, None, None),
    ],
)
def test_what_has_another_type_is_none(
    value: object, text: str | None, number: int | None, rows: list[Row] | None
) -> None:
    assert (text_of(value), number_of(value), rows_of(value)) == (text, number, rows)
