"""What lies in Airflow's database between two processes, and in which version.

Workers, the scheduler and triggerers may run different releases for a while, and a row
outlives an upgrade. A process that cannot read a row fails the one task that it belongs
to, and says what to do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from importlib import import_module
from typing import Any, ClassVar, Self

from airflow.triggers.base import BaseTrigger

# With the class of a trigger, so that none of it is loaded on the triggerer's loop.
from async_triggers.deferral.compat import (  # noqa: F401
    features,
    kills,
    store,
    talk,
)
from async_triggers.deferral.errors import TriggerUnusable
from async_triggers.engine.wording import aside

VERSION = 1
"""The version of what is written here."""

NOT_STORED: Mapping[str, bool] = {"stored": False}
"""The metadata of a field that each process finds out by itself."""


class Unreadable(Exception):
    """What is stored is from another release, or its class cannot be imported here."""


class TriggerUnreadable(TypeError):
    """The stored arguments of a trigger are from another release.

    A triggerer fails the one trigger whose constructor raises a TypeError; with any other
    error in a constructor it ends, and all triggers with it (Airflow 3.3,
    ``TriggerRunner.create_triggers``).
    """


class StoredValue:
    """A frozen dataclass that is written as plain JSON, with its class and the version."""

    kind: ClassVar[str]
    """What to call it in messages."""

    @classmethod
    def stored_fields(cls) -> list[str]:
        """Return the names of the fields that are written."""
        return [
            each.name
            for each in fields(cls)  # type: ignore[arg-type] # subclasses are
            if each.metadata.get("stored", True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Write the value as plain JSON."""
        cls = type(self)
        return {
            "v": VERSION,
            "class": f"{cls.__module__}.{cls.__qualname__}",
            "fields": {name: getattr(self, name) for name in cls.stored_fields()},
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what :meth:`to_json` wrote, or raise :class:`Unreadable`.

        It may be of any subclass.
        """
        version = value.get("v") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or version != VERSION:
            msg = (
                f"The trigger's {cls.kind} has version {version!r}, this package reads"
                f" {VERSION}: run the same release on workers and triggerers, then clear"
                " the task"
            )
            raise Unreadable(msg)

        module, _, name = str(value.get("class")).rpartition(".")
        try:
            read = getattr(import_module(module), name)(**value["fields"])
        except Exception as error:  # noqa: BLE001 - releases of Airflow differ
            msg = (
                f"The triggerer cannot make a {name}, is {module} installed there, in the"
                f" same release as on the workers? {type(error).__name__}: {error}"
            )
            raise Unreadable(msg) from None

        if not isinstance(read, cls):
            msg = f"{module}.{name} is no {cls.__name__}"
            raise Unreadable(msg)

        return read


class StoredTrigger(BaseTrigger):
    """A trigger whose stored arguments carry their version.

    Subclasses assign every argument of their constructor to an attribute of the same
    name; that is checked when their module is imported, not on the triggerer. The version
    and ``stored_at`` are none of these arguments: rows have them, code that makes a trigger
    leaves them out.
    """

    stored_at: float | None = None
    """When the row was written, in epoch seconds, where the trigger says so."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is not typed

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Reject a subclass that could not be serialized, where it is written."""
        super().__init_subclass__(**kwargs)
        constructor = vars(cls).get("__init__")
        if constructor is not None:
            cls.__init__ = _reading_rows(constructor)  # type: ignore[method-assign]

        if inspect.isabstract(cls):
            return

        for parameter in cls._parameters():
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
                msg = (
                    f"{cls.__qualname__}.__init__ takes *{parameter.name}: name every"
                    " argument, they are what is stored of a trigger"
                )
                raise TypeError(msg)

    @classmethod
    def _parameters(cls) -> list[inspect.Parameter]:
        signature = inspect.signature(cls.__init__)
        return [each for name, each in signature.parameters.items() if name != "self"]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the classpath and the arguments; none of them is secret."""
        cls = type(self)
        names = [parameter.name for parameter in self._parameters()]
        return (
            f"{cls.__module__}.{cls.__qualname__}",
            {**{name: getattr(self, name) for name in names}, "version": VERSION},
        )


def _reading_rows(constructor: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that also takes what a row has beside the arguments."""

    @wraps(constructor)
    def construct(
        self: StoredTrigger,
        *arguments: Any,
        version: object = None,
        stored_at: float | None = None,
        **named: Any,
    ) -> None:
        if stored_at is not None:
            self.stored_at = stored_at

        if version is None:
            constructor(self, *arguments, **named)
            return

        name = type(self).__name__
        if version != VERSION:
            raise TriggerUnreadable(_other_version(name, version))

        try:
            constructor(self, *arguments, **named)
        except TypeError as error:
            msg = (
                f"The stored arguments of {name} have version {VERSION}, which this"
                f" triggerer reads, but do not fit {aside(str(error))}: {_NEXT}"
            )
            raise TriggerUnreadable(msg) from None

    return construct


_NEXT = (
    "run the same release of async-triggers on workers, scheduler and triggerers, then"
    " clear the task. What it waits for was left running"
)


def _other_version(name: str, version: object) -> str:
    """Say which versions meet, and what to do."""
    is_newer = isinstance(version, int) and version > VERSION
    steps = f"upgrade the triggerer; {_NEXT}" if is_newer else _NEXT
    return (
        f"The stored arguments of {name} have version {version!r}, this triggerer reads"
        f" version {VERSION}: {steps}"
    )


def failure_of_trigger(next_kwargs: Mapping[str, Any] | None) -> TriggerUnusable | None:
    """Return what a task fails with whose trigger the triggerer could not read.

    ``next_kwargs`` is what such a task is resumed with. None where it failed otherwise.
    """
    raised = f"{TriggerUnreadable.__module__}.{TriggerUnreadable.__qualname__}: "
    for line in (next_kwargs or {}).get("traceback") or ():
        if line.startswith(raised):
            return TriggerUnusable(line.removeprefix(raised).strip())

    return None
