"""Decoding what is not quite JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

LARGEST_ODD_BODY = 1024 * 1024
"""Bytes of a reply that are decoded once more, slowly, where they are not quite JSON."""


def decode_leniently(body: bytes) -> Any:
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
