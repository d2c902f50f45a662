"""What lies in Airflow's database between two processes, and in which version.

Workers, the scheduler and triggerers may run different releases for a while, and a row
outlives an upgrade. A process that cannot read a row fails the one task that it belongs
to, and says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, ClassVar, Self

VERSION = 1
"""The version of what is written here."""

NOT_STORED: Mapping[str, bool] = {"stored": False}
"""The metadata of a field that each process finds out by itself."""


class Unreadable(Exception):
    """What is stored is from another release, or its class cannot be imported here."""


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
        except Exception as error:  # noqa: BLE001 - whatever a release may have changed
            msg = (
                f"The triggerer cannot make a {name}, is {module} installed there, in the"
                f" same release as on the workers? {type(error).__name__}: {error}"
            )
            raise Unreadable(msg) from None

        if not isinstance(read, cls):
            msg = f"{module}.{name} is no {cls.__name__}"
            raise Unreadable(msg)

        return read
