"""What the connections of a vendor's account load, in one form for all vendors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from async_triggers.airbyte.landings import landings_of as landings_of_airbyte
from async_triggers.airbyte.landings import warehouse_of as warehouse_of_airbyte
from async_triggers.deferral.landings import warehouse_uri
from async_triggers.engine.errors import JobNotFound
from async_triggers.fivetran.api import models as fivetran_models
from async_triggers.fivetran.landings import database_of
from async_triggers.fivetran.landings import landings_of as landings_of_fivetran
from async_triggers.generators.model import Loader

if TYPE_CHECKING:
    from async_triggers.airbyte.api.models import Endpoint, Replication
    from async_triggers.airbyte.hooks import AirbyteHook
    from async_triggers.deferral.landings import Landing
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.fivetran.hooks import FivetranHook

# https://fivetran.com/docs/logs/fivetran-platform: what Fivetran writes about itself, and
# what no connection can load.
AUDIT_TABLES = frozenset({"fivetran_audit", "fivetran_audit_warning"})


# Airbyte ------------------------------------------------------------------------------


async def airbyte_loaders(
    hook: AirbyteHook, leased: LeasedAccount
) -> tuple[Loader, ...]:
    """Request all connections of all workspaces, and where their streams go."""
    connections, sources, destinations = await asyncio.gather(
        hook.list_replications(leased),
        hook.list_sources(leased),
        hook.list_destinations(leased),
    )
    return read_airbyte(connections, sources, destinations)


def read_airbyte(
    connections: Iterable[Replication],
    sources: Iterable[Endpoint],
    destinations: Iterable[Endpoint],
) -> tuple[Loader, ...]:
    """Return where the streams of the connections go."""
    source_by_id = {each.id: each for each in sources}
    target_by_id = {each.id: each for each in destinations}
    found = {}
    for each in connections:
        source = source_by_id.get(each.source_id)
        target = target_by_id.get(each.destination_id)
        names: tuple[str, ...] = (each.name,)
        if source is not None and target is not None:
            names = (source.name, target.name)

        found[each.id] = Loader(
            id=each.id,
            name=" → ".join(names),
            created=f"{each.created_at:012}",
            trouble="" if each.status == "active" else f"it is {each.status}",
            landings=landings_of_airbyte(each, source, target),
            warehouse=warehouse_of_airbyte(target),
        )

    return tuple(found.values())


# Fivetran -----------------------------------------------------------------------------


async def fivetran_loaders(
    hook: FivetranHook, leased: LeasedAccount, databases: Sequence[str] | None
) -> tuple[Loader, ...]:
    """Request all connections of all groups.

    ``databases``, in lower case, are those whose tables are wanted: only for connections
    that load into one of them is their schema requested. The empty one stands for any;
    None wants no tables at all.
    """
    groups = await hook.list_groups(leased)
    connections = await hook.list_fivetran_connections(leased)
    if databases is None:
        return read_fivetran(groups, {}, connections, {})

    used = sorted({each.group_id for each in connections})
    destinations = dict(
        zip(
            used,
            await asyncio.gather(*(_destination(hook, leased, each) for each in used)),
            strict=True,
        )
    )
    wanted = [
        each
        for each in connections
        if _is_wanted(database_of(destinations[each.group_id]), databases)
    ]
    tables = dict(
        zip(
            [each.id for each in wanted],
            await asyncio.gather(
                *(hook.list_tables(leased, each.id) for each in wanted)
            ),
            strict=True,
        )
    )
    return read_fivetran(groups, destinations, connections, tables)


async def _destination(
    hook: FivetranHook, leased: LeasedAccount, group_id: str
) -> fivetran_models.Destination:
    try:
        return await hook.get_destination(leased, group_id)
    except JobNotFound:
        # A group whose destination was never set up, or which may not be seen.
        return fivetran_models.Destination(id=group_id, service="", database="")


def _is_wanted(database: str, databases: Sequence[str]) -> bool:
    return not database or "" in databases or database.lower() in databases


def read_fivetran(
    groups: Mapping[str, str],
    destinations: Mapping[str, fivetran_models.Destination],
    connections: Iterable[fivetran_models.Connection],
    tables: Mapping[str, tuple[fivetran_models.Table, ...] | None],
) -> tuple[Loader, ...]:
    """Return where the tables of the connections go."""
    found = {}
    for each in connections:
        landings: tuple[Landing, ...] = ()
        warehouse = ""
        if each.id in tables and each.group_id in destinations:
            target = destinations[each.group_id]
            warehouse = warehouse_uri(target.service, target.host, target.port)
            landings = landings_of_fivetran(each, target, tables[each.id])

        found[each.id] = Loader(
            id=each.id,
            name=f"{groups.get(each.group_id, each.group_id)}.{each.schema}",
            created=each.created_at or "",
            trouble="",
            landings=landings,
            warehouse=warehouse,
        )

    return tuple(found.values())
