"""Ids as parts of a path."""

from __future__ import annotations

import pytest

from async_triggers.engine import paths
from async_triggers.engine.errors import RequestRejected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a b", "a%20b"), (" 7 ", "7"), (7, "7"), ("a?b#c", "a%3Fb%23c")],
)
def test_an_id_is_quoted(value: object, expected: str) -> None:
    assert paths.segment(value, "job_id") == expected


@pytest.mark.parametrize("value", ["", " ", ".", "..", "a/b", "a\\b", "a\nb"])
def test_an_id_cannot_leave_its_segment(value: str) -> None:
    with pytest.raises(RequestRejected, match="job_id"):
        paths.segment(value, "job_id")
