"""How a body is decoded: without a walk of the garbage collector in its midst."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from async_triggers.engine.decoding import LARGEST_ODD_BODY
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
    ("body", "value"),
    [
        (rb'{"a": "cut \ud83d"}', {"a": "cut ?"}),
        (rb'{"\udc00": 1}', {"?": 1}),
        (rb'{"a": "\ud83d\ude00 \ud83d"}', {"a": "\U0001f600 ?"}),
        (b'{"a": NaN, "b": [Infinity, -Infinity]}', {"a": None, "b": [None, None]}),
        (b'{"a": 1e999, "b": 0.5}', {"a": None, "b": 0.5}),
        (b'{"a": "M\xfcller"}', {"a": "M\N{REPLACEMENT CHARACTER}ller"}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": "b\tc\0"}', {"a": "b\tc\0"}),
        (b'{"id": 123456789012345, "a": NaN}', {"id": 123456789012345, "a": None}),
    ],
)
def test_what_is_not_quite_json_is_read_all_the_same(body: bytes, value: Any) -> None:
    read = Reply(200, {}, body).json("a job")

    assert read == value
    # An event and Airflow's database must take it.
    orjson.dumps(read)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"a": NaN',
        b'{"a": nan}',
        b"{'a': 1}",
        b'{"a": ' + b"9" * 5000 + b', "b": NaN}',
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": NaN}' + b" " * LARGEST_ODD_BODY,
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=range(9),
)
def test_what_is_none_or_too_large_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableReply, match="The response for a job is not JSON"):
        Reply(200, {}, body).json("a job")


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
