"""Checks of operators' arguments: which one is wrong, why, and what would be right."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeGuard

from airflow.sdk import BaseOperator

from async_triggers.deferral.errors import AsyncTriggersException
from async_triggers.engine.errors import RequestRejected
from async_triggers.engine.paths import segment

IF_RUNNING = ("wait", "attach", "fail", "skip")
"""What to do when a job that is not the task's own is under way."""
LONGEST = 100 * 365 * 86_400.0
"""A century, in seconds: dates of Airflow's cannot be much later."""

_DIGITS = re.compile(r"[0-9]{1,19}")
_MOST = 1_000_000


class ArgumentUnusable(AsyncTriggersException, ValueError):
    """An argument of an operator cannot be used."""


def one_of(name: str, value: object, choices: Sequence[str]) -> str:
    """Return a value that is one of a few words."""
    if not isinstance(value, str) or value not in choices:
        msg = f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}"
        raise ArgumentUnusable(msg)

    return value


def positive(name: str, value: object) -> float:
    """Return a number of seconds greater than zero."""
    if not _is_finite(value) or value <= 0:
        msg = f"{name} must be a number of seconds greater than 0, not {value!r}"
        raise ArgumentUnusable(msg)

    return value


def not_negative(name: str, value: object) -> float:
    """Return a number of seconds, which may be zero or a timedelta."""
    given = _seconds(name, value)
    if given > LONGEST:
        msg = f"{name} is longer than a century: give a number of seconds"
        raise ArgumentUnusable(msg)

    return given


def _seconds(name: str, value: object) -> float:
    given = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_finite(given) or given < 0:
        msg = f"{name} must be a number of seconds, at least 0, not {value!r}"
        raise ArgumentUnusable(msg)

    return given


def _is_finite(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False

    # Not isfinite(), which an int may be too large for.
    return -math.inf < value < math.inf


def time_limit(name: str, value: object) -> float | None:
    """Return the seconds after which a task gives up; None where it never does.

    None, zero, infinity and more than a century mean no limit.
    """
    if value is None or value == math.inf:
        return None

    given = _seconds(name, value)
    return given if 0 < given <= LONGEST else None


def time_out(name: str, value: object) -> float:
    """Return the seconds after which a sensor gives up, where 0 is at once.

    Infinity and more than a century are a century, which no task lives to see.
    """
    if value == math.inf:
        return LONGEST

    return min(_seconds(name, value), LONGEST)


def text(name: str, value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or value.strip() in {"", "None"}:
        msg = f"{name} must be a text that is not empty, not {value!r}"
        raise ArgumentUnusable(msg)

    return value


def identifier(name: str, value: object) -> str:
    """Return an id that the vendor's API can take as one segment of a path."""
    given = text(name, value).strip()
    try:
        segment(given, name)
    except RequestRejected as error:
        raise ArgumentUnusable(error.message) from None

    return given


def whole_number(name: str, value: object) -> int:
    """Return an id that is a whole number, also where a template made it a text."""
    is_number = isinstance(value, int | str) and not isinstance(value, bool)
    given = str(value).strip() if is_number else ""
    if not _DIGITS.fullmatch(given) or int(given) == 0:
        msg = (
            f"{name} must be a whole number greater than 0, not {value!r:.100}. If another"
            " task returns it, check that it is upstream and has succeeded"
        )
        raise ArgumentUnusable(msg)

    return int(given)


def count(name: str, value: object) -> int:
    """Return how often something is tried, which is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        msg = f"{name} must be a whole number such as 3, not {value!r:.100}"
        raise ArgumentUnusable(msg)

    return value


def switch(name: str, value: object) -> object:
    """Return what turns something on or off; raise ArgumentUnusable for a text.

    Any text would turn it on, "False" as well.
    """
    if isinstance(value, str):
        msg = f"{name} must be True or False, not the text {value!r:.100}"
        raise ArgumentUnusable(msg)

    return value


def needs_deferrable(name: str, value: object, *, deferrable: bool) -> bool:
    """Return a switch that means something only where the task is deferrable."""
    if switch(name, value) and not switch("deferrable", deferrable):
        msg = f"{name} needs deferrable=True: without it the task has no trigger"
        raise ArgumentUnusable(msg)

    return bool(value)


def _names(cls: type, until: type) -> set[str]:
    """Return the names of the arguments that the constructors of a class take."""
    names: set[str] = set()
    for each in cls.__mro__:
        if each is until:
            break

        constructor = vars(each).get("__init__")
        if constructor is not None:
            names |= {
                parameter.name
                for parameter in inspect.signature(constructor).parameters.values()
                if parameter.name != "self"
                and parameter.kind is not parameter.VAR_KEYWORD
            }

    return names


def make_plain(task: BaseOperator, until: type = BaseOperator) -> None:
    """Replace what Airflow has rendered lazily among a task's arguments, see plain().

    Reading it is a blocking request to Airflow, which a running event loop forbids.
    """
    for name in _names(type(task), until) | set(task.template_fields):
        if hasattr(task, name):
            value = getattr(task, name)
            made = plain(value)
            if made is not value:
                setattr(task, name, made)


def plain(value: Any) -> Any:
    """Return a value with plain containers at every depth, and no lazy sequence.

    The output of a mapped task is a sequence that reads one XCom after another, and so is
    what ``map``, ``zip`` and ``concat`` make of it. None of them can be written down.
    """
    if isinstance(value, str | bytes | bytearray):
        return value

    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}

    if isinstance(value, tuple):
        return tuple(plain(each) for each in value)

    if isinstance(value, Sequence):
        return [plain(each) for each in value]

    return value
