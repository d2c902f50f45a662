"""The words of a task: which connection of Airbyte it means, and what it starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from async_triggers.deferral.arguments import ArgumentUnusable, identifier, text

if TYPE_CHECKING:
    from async_triggers.deferral.ids import Read

JOB_TYPES = ("sync", "reset", "clear")
"""What a task can start; Airbyte's API offers no refresh."""
NAMES = ("connection_name", "workspace_name", "workspace_id")
"""The arguments that name a connection, all of them templated."""
CONNECTION: Mapping[str, Read] = {
    "connection_id": identifier,
    "connection_name": text,
    "workspace_name": text,
    "workspace_id": identifier,
}
"""The arguments that give a connection, with how each is read.

:meta hide-value:
"""


_VERSION = re.compile(r"v[0-9]+")


def read_version(value: object) -> str:
    """Return the version in the API's path, which is v1 where None is given."""
    if value is None:
        return "v1"

    if not isinstance(value, str) or not _VERSION.fullmatch(value):
        msg = f"api_version must be a version such as 'v1', not {value!r:.100}"
        raise ArgumentUnusable(msg)

    return value


class Named(Protocol):
    """A task that is given a connection by id or by name."""

    @property
    def connection_id(self) -> str | None:
        """Its id."""
        ...

    @property
    def connection_name(self) -> str | None:
        """Its name."""
        ...

    @property
    def workspace_name(self) -> str | None:
        """The name of its workspace."""
        ...

    @property
    def workspace_id(self) -> str | None:
        """The id of its workspace."""
        ...


def check_one_way(task: Named, more: Mapping[str, Any] | None = None) -> None:
    """Raise ArgumentUnusable where a connection is given in more than one way.

    ``more`` are what a constructor passes on: what comes from ``default_args`` is judged
    at run time alone.
    """
    shared = (more or {}).get("default_args") or {}
    if any(name in shared for name in CONNECTION):
        return

    if task.connection_id and task.connection_name:
        msg = "Give connection_id or connection_name, not both"
        raise ArgumentUnusable(msg)

    workspace = [name for name in NAMES[1:] if getattr(task, name)]
    if len(workspace) > 1:
        msg = "Give workspace_name or workspace_id, not both"
        raise ArgumentUnusable(msg)

    if workspace and not task.connection_name:
        msg = f"{workspace[0]} is for connection_name, which is not given"
        raise ArgumentUnusable(msg)
