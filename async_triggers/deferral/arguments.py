"""Checks of operators' arguments: which one is wrong, why, and what would be right."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from async_triggers.deferral.errors import AsyncTriggersException
from async_triggers.engine.errors import RequestRejected
from async_triggers.engine.wire import segment


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
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        msg = f"{name} must be a number of seconds greater than 0, not {value!r}"
        raise ArgumentUnusable(msg)

    return value


def text(name: str, value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        msg = f"{name} must be a text that is not empty, not {value!r}"
        raise ArgumentUnusable(msg)

    return value


def identifier(name: str, value: object) -> str:
    """Return an id that the vendor's API can take as one segment of a path."""
    given = text(name, value)
    try:
        segment(given, name)
    except RequestRejected as error:
        raise ArgumentUnusable(error.message) from None

    return given


def whole_number(name: str, value: object) -> int:
    """Return an id that is a whole number, also where a template made it a text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError  # noqa: TRY004, TRY301 - one message for all

        return int(value)
    except ValueError:
        msg = (
            f"{name} must be a whole number, not {value!r}: is the task that should have"
            " returned it upstream, and did it succeed?"
        )
        raise ArgumentUnusable(msg) from None


def needs_deferrable(name: str, value: object, *, deferrable: bool) -> bool:
    """Return a switch that means something only where the task is deferrable."""
    if value and not deferrable:
        msg = f"{name} needs deferrable=True: the trigger is what it speaks of"
        raise ArgumentUnusable(msg)

    return bool(value)


def constructor_arguments(task: object, until: type) -> dict[str, Any]:
    """Return the arguments of a task's constructor, by which it can be built again.

    Those of its class and of the classes above it, up to ``until``; each is kept in an
    attribute of its own name.
    """
    names: set[str] = set()
    for cls in type(task).__mro__:
        if cls is until:
            break

        constructor = vars(cls).get("__init__")
        if constructor is not None:
            names |= {
                each.name
                for each in inspect.signature(constructor).parameters.values()
                if each.name != "self" and each.kind is not each.VAR_KEYWORD
            }

    return {name: getattr(task, name) for name in sorted(names)}
