"""The ids among a task's arguments: when each is judged, and what is wrong with it.

What stands literally in a DAG is judged when the DAG is parsed, where a mistake is an
import error. What is only known at run time is judged on the worker, before anything is
requested: templates, other tasks' outputs, and what came from ``default_args``, which many
tasks share.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from async_triggers.deferral.arguments import ArgumentUnusable, switch

Read = Callable[[str, object], object]
"""Returns the id of an argument's name and value, or raises ArgumentUnusable."""

# A DAG may give its templates other brackets than Jinja's.
_LITERAL = re.compile(r"[\w\s.:/-]*")
_VALUES = (int, float, bytes, UUID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """The ids that a class of tasks takes, with how each is read.

    ``required`` may not be left out, ``optional`` may. ``either`` are groups of optional
    ones, of which one must be complete; ``hint`` says so.
    """

    required: Mapping[str, Read] = field(default_factory=dict)
    optional: Mapping[str, Read] = field(default_factory=dict)
    either: tuple[tuple[str, ...], ...] = ()
    hint: str = ""

    @property
    def _all(self) -> dict[str, Read]:
        return {**self.required, **self.optional}

    def given(self, task: object) -> frozenset[str]:
        """Return which ids a task was made with, before they are rendered."""
        return frozenset(name for name in self._all if not _is_left_out(task, name))

    def check_written(
        self, task: object, default_args: Mapping[str, Any] | None
    ) -> None:
        """Raise ArgumentUnusable for a literal mistake; called by the constructor.

        A subclass with another constructor may yet fill in what is missing.
        """
        if type(task).__init__ is not _declaring(type(task)).__init__:
            return

        shared = {
            name
            for name, value in (default_args or {}).items()
            if getattr(task, name, None) is value
        }
        for name, read in self._all.items():
            value = getattr(task, name)
            if name in shared or not is_literal(value):
                continue

            if not _is_left_out(task, name):
                read(name, value)
            elif name in self.required:
                msg = f"{name} is empty: give an id, a template or a task's output"
                raise ArgumentUnusable(msg)

        if not shared & {name for group in self.either for name in group}:
            self._check_groups(task)

    def read(self, task: object, given: frozenset[str]) -> dict[str, str]:
        """Return a task's rendered ids that lose blanks, or raise ArgumentUnusable.

        ``given`` is what the task was made with.
        """
        bare = {}
        for name, read in self._all.items():
            value = getattr(task, name)
            if is_nothing(value):
                if name in given or name in self.required:
                    raise rendered_to_nothing(name, value)

                continue

            read(name, value)
            if isinstance(value, str) and value != value.strip():
                bare[name] = value.strip()

        self._check_groups(task)
        return bare

    def _check_groups(self, task: object) -> None:
        lacks = [
            [name for name in group if _is_left_out(task, name)]
            for group in self.either
        ]
        if not lacks or not all(lacks):
            return

        begun = next(
            (
                absent
                for group, absent in zip(self.either, lacks, strict=True)
                if len(absent) < len(group)
            ),
            None,
        )
        missing = "" if begun is None else f": {', '.join(begun)} is missing"
        raise ArgumentUnusable(self.hint + missing)


class TakesIds:
    """A task that takes ids.

    It stands behind Airflow's own class among the bases: Airflow compares constructors with
    that of the first one, and takes the defaults of mapped tasks from what is new.
    """

    ids: ClassVar[Ids]
    _given: frozenset[str] = frozenset()

    def note_ids(self, more: Mapping[str, Any]) -> None:
        """Judge what stands literally in the DAG; called at the end of the constructor.

        ``more`` are the arguments that the constructor passes on, and ``default_args``.
        """
        for name in _switches(_declaring(type(self))):
            switch(name, getattr(self, name, None))

        self._given = self.ids.given(self)
        self.ids.check_written(self, more.get("default_args"))

    def settle_ids(self) -> None:
        """Judge what was rendered; called on the worker before anything is requested."""
        for name, value in self.ids.read(self, self._given).items():
            setattr(self, name, value)


@cache
def _switches(cls: type) -> frozenset[str]:
    """Return what is on or off by default among the arguments that a class declares."""
    return frozenset(
        name
        for each in cls.__mro__
        if issubclass(each, TakesIds) and "__init__" in vars(each)
        for name, parameter in inspect.signature(
            vars(each)["__init__"]
        ).parameters.items()
        if isinstance(parameter.default, bool)
    )


def _declaring(cls: type) -> Any:
    """Return the class that says which ids there are; its constructor judges them."""
    return next(each for each in cls.__mro__ if "ids" in vars(each))


def is_nothing(value: object) -> bool:
    """Return True for None, for an empty text, and for what a template makes of either.

    Jinja's own objects for what is undefined are an empty text.
    """
    return str(value).strip() in {"", "None"}


def rendered_to_nothing(name: str, value: object) -> ArgumentUnusable:
    """Return the error about an id that was given and is not there at run time."""
    what = str(value).strip() or "an empty text"
    return ArgumentUnusable(
        f"{name} is {what} at run time. Check the argument; if another task returns it,"
        " check that it is upstream and has succeeded"
    )


def _is_left_out(task: object, name: str) -> bool:
    value = getattr(task, name)
    return value is None or (isinstance(value, str) and not value.strip())


def is_literal(value: object) -> bool:
    """Return whether a value is known when the DAG is parsed, and rendered to itself."""
    if isinstance(value, str):
        return _LITERAL.fullmatch(value) is not None

    if isinstance(value, list | tuple | dict):
        return all(
            map(is_literal, value.values() if isinstance(value, dict) else value)
        )

    return value is None or isinstance(value, _VALUES)
