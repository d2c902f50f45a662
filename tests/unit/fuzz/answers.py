"""Answers as no vendor should give them, and as all of them may."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

UNIT = Path(__file__).parents[1]

# JSON as text, so that there are numbers and repetitions that Python would not write.
_odd = st.sampled_from(
    [
        "NaN",
        "-Infinity",
        "1e999",
        "-1e-999",
        "0.1",
        "-0",
        "9223372036854775807",
        "18446744073709551616",
        "123456789012345678901234567890",
        r'"\u0000"',
        r'"\ud800"',
        r'"\u202e\n"',
        '"9999-12-31T23:59:59+00:00"',
        '"0001-01-01T00:00:00+23:59"',
        '"2026-03-25T01:30Z"',
        '"' + "x" * 5000 + '"',
        "[" * 300 + "]" * 300,
        '{"a":' * 300 + "1" + "}" * 300,
        "[" * 2000 + "]" * 2000,
        "",
    ]
)
_words = st.sampled_from(
    [
        "data",
        "items",
        "status",
        "message",
        "code",
        "id",
        "jobId",
        "running",
        "succeeded",
        "success",
        "syncing",
        "rescheduled",
        "connected",
        "COMPLETED",
        "CANCELED",
        "finished_at",
        "succeeded_at",
        "next_cursor",
        "extra",
        "pagination",
        "total_count",
        "run_steps",
        "results",
        "stages",
        "extract",
        "volume",
        "schemas",
        "tables",
        "configuration",
        "configurations",
        "streams",
        "error",
    ]
)
_leaf = (
    st.sampled_from(["null", "true", "false"])
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
    | st.text(max_size=20).map(json.dumps)
    | _words.map(json.dumps)
    | _odd
)
_key = (_words | st.text(max_size=5)).map(json.dumps)
json_texts = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(_key, inner), max_size=5).map(
            lambda pairs: "{" + ",".join(f"{key}:{val}" for key, val in pairs) + "}"
        )
    ),
    max_leaves=12,
)


def samples(vendor: str) -> list[Any]:
    """Return the answers of a vendor that are kept with its tests."""
    found = sorted((UNIT / vendor / "replies").glob("*.json"))
    return [json.loads(path.read_text()) for path in found]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)

    return [path, *(each for key, val in inner for each in _places(val, (*path, key)))]


@st.composite
def spoiled(draw: st.DrawFn, vendor: str) -> str:
    """Take a good answer and put something else into some of its places."""
    value = copy.deepcopy(draw(st.sampled_from(samples(vendor))))
    marks: dict[str, str] = {}
    for number in range(draw(st.integers(1, 3))):
        mark = f"@{number}@"
        path = draw(st.sampled_from(_places(value)))
        marks[json.dumps(mark)] = draw(json_texts)
        value = _with(value, path, mark)

    text = json.dumps(value)
    for mark, other in marks.items():
        text = text.replace(mark, other)

    return text


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new

    value[path[0]] = _with(value[path[0]], path[1:], new)
    return value


ODD = (
    "null",
    "true",
    "-1",
    "1e300",
    "18446744073709551616",
    '"x"',
    r'"a\u0000b"',
    '"javascript:x()"',
    '"' + "x" * 5000 + '"',
    "[]",
    "[[]]",
    "[null]",
    '["x"]',
    "{}",
    '{"a":{}}',
    "[" * 300 + "]" * 300,
)


def spoiled_once(vendor: str) -> Iterator[str]:
    """Put each odd value into each place of each good answer, once."""
    for sample in samples(vendor):
        known = set()
        for path in _places(sample):
            kind = tuple("*" if isinstance(step, int) else step for step in path)
            if kind in known:
                continue

            known.add(kind)
            text = json.dumps(_with(copy.deepcopy(sample), path, "@"))
            for odd in ODD:
                yield text.replace('"@"', odd)


@st.composite
def cut(draw: st.DrawFn, vendor: str) -> bytes:
    """Take a good answer and lose, repeat or change some of its bytes."""
    body = json.dumps(draw(st.sampled_from(samples(vendor)))).encode()
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, len(body)))
    return body[:start] + draw(st.binary(max_size=20)) + body[end:]


def bodies(vendor: str) -> st.SearchStrategy[bytes]:
    """Return bodies from sheer noise to almost right."""
    return st.one_of(
        st.binary(max_size=200),
        json_texts.map(str.encode),
        spoiled(vendor).map(str.encode),
        spoiled(vendor).map(str.encode),
        cut(vendor),
    )


dates = st.sampled_from(
    [
        "Wed, 25 Mar 2026 01:30:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 0100 00:00:00 GMT",
        "Wed, 25 Mar 2026 01:30:00 +9999",
        "Wed, 25 Mar 2026 01:30:00 -0000",
    ]
)
headers = st.dictionaries(
    st.sampled_from(
        [
            "date",
            "retry-after",
            "content-type",
            "location",
            "x-rate-limit",
            "x-rate-limit-remaining",
        ]
    ),
    st.text(max_size=30)
    | dates
    | st.sampled_from(["-1", "1e999", "nan", "3600", "http://[", "0"]),
)
