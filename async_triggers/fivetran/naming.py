"""The words of a task: which connection of Fivetran it means, and what may start it."""

from __future__ import annotations

from async_triggers.deferral.arguments import ArgumentUnusable, identifier, text
from async_triggers.deferral.ids import Ids

SCHEDULE_TYPES = ("manual", "auto")
"""What may start syncs of a connection: requests only, or Fivetran's schedule too."""


def connector(name: str, value: object) -> str:
    """Return the id of a connection."""
    given = identifier(name, value)
    if "@" in given:
        msg = f"{name} {given!r} is not an id of Fivetran's"
        raise ArgumentUnusable(msg)

    return given


IDS = Ids(
    required={"fivetran_conn_id": text},
    optional={
        "connector_id": connector,
        "connector_name": text,
        "destination_name": text,
    },
    either=(("connector_id",), ("connector_name", "destination_name")),
    hint="Give connector_id, or both connector_name and destination_name",
)
"""The ids of Fivetran's tasks.

:meta hide-value:
"""
