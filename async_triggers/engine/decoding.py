"""JSON as vendors write it, decoded quickly and, where that fails, leniently."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson

LARGEST_ODD_BODY = 1024 * 1024
"""Bytes of a reply that are decoded once more, slowly, where they are not quite JSON."""


class NotJsonError(ValueError):
    """What was to be decoded is not JSON; says why, without the text itself."""


def decode(body: bytes) -> Any:
    """Decode the body of a reply, or raise :class:`NotJsonError`."""
    try:
        with _uncollected():
            return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = str(error)

    # Not within the except clause: the decoder's error holds the whole body.
    if len(body) <= LARGEST_ODD_BODY:
        with suppress(ValueError, RecursionError):
            return _decode_leniently(body)

    raise NotJsonError(why)


def _decode_leniently(body: bytes) -> Any:
    """Decode JSON with what no JSON may hold, as servers write it all the same.

    Bytes that are no UTF-8 and halves of a surrogate pair are replaced, NaN and infinite
    numbers are null: nothing that keeps a value takes any of them.
    """

    def finite(text: str) -> float | None:
        number = float(text)
        return number if math.isfinite(number) else None

    value = json.loads(
        body.decode("utf-8-sig", "replace"),
        strict=False,
        parse_float=finite,
        parse_constant=lambda _: None,
    )
    return orjson.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold Python's garbage collector back for the length of a block without an await.

    A page of a thousand rows is ten thousand objects, which are gone again before the
    next. Collections in the midst of decoding it would take them for objects that stay,
    and that soon leads to a full one, which walks over all that Airflow has loaded and
    stops the loop for tenths of a second.
    """
    if not gc.isenabled():
        yield
        return

    gc.disable()
    try:
        yield
    finally:
        gc.enable()
