"""Where Fivetran's connections put what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.deferral.landings import Landing, has_two_parts
from async_triggers.fivetran.api.models import Table

if TYPE_CHECKING:
    from async_triggers.fivetran.api.models import Connection, Destination


def database_of(place: Destination) -> str:
    """Return the database that names tables there, empty where there is none."""
    return "" if has_two_parts(place.service) else place.database


def landings_of(
    connection: Connection, place: Destination, tables: tuple[Table, ...] | None
) -> tuple[Landing, ...]:
    """Return the tables that a connection loads; None is for no schema config."""
    database = database_of(place)
    return tuple(
        Landing(database=database, schema=table.schema, table=table.name)
        for table in _tables(connection, tables)
    )


def _tables(
    connection: Connection,
    shown: tuple[Table, ...] | None,
) -> tuple[Table, ...]:
    if shown is not None:
        return shown

    # https://fivetran.com/docs/rest-api/api-reference/connections/create-connection: some
    # connections load one table and have it in their name; those of a folder load
    # all that is there into their schema.
    schema, _, table = connection.schema.partition(".")
    return (Table(schema=schema, name=table),)
