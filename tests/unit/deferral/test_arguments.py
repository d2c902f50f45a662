from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

import pytest

from async_triggers.deferral.arguments import (
    LONGEST,
    ArgumentUnusable,
    identifier,
    not_negative,
    one_of,
    positive,
    text,
    time_limit,
    time_out,
    whole_number,
)


def test_what_is_right_comes_back() -> None:
    assert one_of("mode", "a", ("a", "b")) == "a"
    assert positive("wait", 0.5) == 0.5
    assert text("name", "x") == "x"
    assert identifier("id", "connection-uuid-123") == "connection-uuid-123"
    assert whole_number("job", "42") == 42
    assert whole_number("job", 42) == 42


@pytest.mark.parametrize("value", [None, "c", 1, "A"])
def test_one_of_names_the_choices(value: object) -> None:
    with pytest.raises(ArgumentUnusable, match=r"mode must be one of 'a', 'b'"):
        one_of("mode", value, ("a", "b"))


@pytest.mark.parametrize("value", [0, -1, True, "3", None, math.nan, math.inf])
def test_a_number_of_seconds_is_finite_and_greater_than_zero(value: object) -> None:
    with pytest.raises(ArgumentUnusable, match="wait must be a number of seconds"):
        positive("wait", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0.0), (0.0, 0.0), (5, 5), (timedelta(minutes=1), 60.0), (timedelta(0), 0.0)],
)
def test_an_interval_may_be_zero(value: object, expected: float) -> None:
    assert not_negative("wait", value) == expected


@pytest.mark.parametrize("value", [None, 0, 0.0, math.inf, timedelta(0)])
def test_no_limit_can_be_written_in_several_ways(value: object) -> None:
    assert time_limit("timeout", value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (7, 7),
        (timedelta(days=1), 86_400.0),
        (math.inf, LONGEST),
        (1e300, LONGEST),
        (10**400, LONGEST),
        (timedelta.max, LONGEST),
    ],
)
def test_a_sensor_s_timeout_is_a_century_at_most(
    value: object, expected: float
) -> None:
    assert time_out("timeout", value) == expected


@pytest.mark.parametrize("value", [timedelta.max, 1e300, 10**400])
def test_an_interval_is_shorter_than_a_century(value: object) -> None:
    with pytest.raises(ArgumentUnusable, match="wait is longer than a century"):
        not_negative("wait", value)


@pytest.mark.parametrize("check", [not_negative, time_limit, time_out])
@pytest.mark.parametrize(
    "value", [-1, True, False, "3", "", math.nan, -math.inf, -timedelta(1)]
)
def test_what_is_no_number_of_seconds_is_refused(
    check: Callable[[str, object], object], value: object
) -> None:
    with pytest.raises(
        ArgumentUnusable, match="wait must be a number of seconds, at least 0"
    ):
        check("wait", value)


@pytest.mark.parametrize("value", [None, "", "  ", 5])
def test_a_text_is_not_empty(value: object) -> None:
    with pytest.raises(ArgumentUnusable, match="name must be a text"):
        text("name", value)


@pytest.mark.parametrize("value", ["a/b", "..", "a\\b", "a\nb", "", None])
def test_an_identifier_is_one_segment_of_a_path(value: object) -> None:
    with pytest.raises(ArgumentUnusable, match="id"):
        identifier("id", value)


@pytest.mark.parametrize("value", [None, "", "x", "None", 1.5, True, [1]])
def test_a_whole_number_asks_after_the_upstream_task(value: object) -> None:
    with pytest.raises(ArgumentUnusable, match=r"job must be a whole number.*upstream"):
        whole_number("job", value)


def test_wrong_arguments_are_value_errors_too() -> None:
    with pytest.raises(ValueError, match="mode"):
        one_of("mode", "c", ("a",))
