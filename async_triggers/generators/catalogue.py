"""What the connections of a vendor's account load, in one form for all vendors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from async_triggers.engine.errors import JobNotFound
from async_triggers.fivetran.api import models as fivetran_models
from async_triggers.generators.model import Landing, Loader
from async_triggers.generators.warehouses import warehouse_uri

if TYPE_CHECKING:
    from async_triggers.airbyte.api.models import Endpoint, Replication, Stream
    from async_triggers.airbyte.hooks import AirbyteHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.fivetran.hooks import FivetranHook

_NAMESPACE = "${SOURCE_NAMESPACE}"

# Where a schema is called a database, names have two parts:
# https://docs.airbyte.com/integrations/destinations/mysql,
# https://fivetran.com/docs/destinations/clickhouse
_TWO_PARTS = ("clickhouse", "maria", "mysql", "singlestore")

# https://fivetran.com/docs/logs/fivetran-platform: what Fivetran writes about itself, and
# what no connection can load.
AUDIT_TABLES = frozenset({"fivetran_audit", "fivetran_audit_warning"})


def _has_two_parts(kind: str) -> bool:
    return any(word in kind.lower() for word in _TWO_PARTS)


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
            landings=tuple(
                dict.fromkeys(
                    landing
                    for stream in each.streams
                    for landing in _airbyte_landings(each, stream, source, target)
                )
            ),
            warehouse=_airbyte_warehouse(target),
        )

    return tuple(found.values())


def _airbyte_warehouse(target: Endpoint | None) -> str:
    if target is None:
        return ""

    host, port = (target.settings.get(name, ("",))[0] for name in ("host", "port"))
    return warehouse_uri(target.kind, host, port)


def _airbyte_landings(
    connection: Replication,
    stream: Stream,
    source: Endpoint | None,
    target: Endpoint | None,
) -> Iterable[Landing]:
    database, default = _airbyte_target(target)
    table = stream.object_name or f"{connection.prefix}{stream.name}"
    for schema in _airbyte_schemas(connection, stream, source, default):
        yield Landing(database=database, schema=schema, table=table)


def _airbyte_target(target: Endpoint | None) -> tuple[str, str]:
    """Return the database and the schema of a destination, empty where it names none."""
    if target is None:
        return "", ""

    settings = {key: values[0] for key, values in target.settings.items()}
    if _has_two_parts(target.kind):
        return "", settings.get("database", "")

    database = next(
        (
            settings[key]
            for key in ("database", "project_id", "catalog")
            if key in settings
        ),
        "",
    )
    if not database and "destination_path" in settings:
        # The name of the file is that of the database; MotherDuck's begins with "md:":
        # https://docs.airbyte.com/integrations/destinations/duckdb
        path = settings["destination_path"].split("?")[0].removeprefix("md:")
        database = PurePosixPath(path).stem

    # BigQuery's may hold the project too: https://docs.airbyte.com/integrations/destinations/bigquery
    dataset = settings.get("dataset_id", "").rpartition(":")[2]
    return database, settings.get("schema") or dataset


def _airbyte_schemas(
    connection: Replication,
    stream: Stream,
    source: Endpoint | None,
    default: str,
) -> Sequence[str]:
    """Return the schemas that a stream may go to.

    https://docs.airbyte.com/platform/using-airbyte/core-concepts/namespaces: what yields
    no name goes to the destination's own schema.
    """
    if stream.namespace:
        namespaces: tuple[str, ...] = (stream.namespace,)
    elif source is not None:
        namespaces = source.settings.get("schemas") or source.settings.get("schema", ())
    else:
        namespaces = ()

    # The internal API and older servers write "customformat".
    kind = connection.namespace_definition.replace("_", "")
    if kind == "source":
        return namespaces or (default,)

    if kind == "customformat" and connection.namespace_format.strip():
        text = connection.namespace_format
        return [
            text.replace(_NAMESPACE, each).strip() or default
            for each in namespaces or ("",)
        ]

    return (default,)


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
        if _is_wanted(_fivetran_database(destinations[each.group_id]), databases)
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


def _fivetran_database(destination: fivetran_models.Destination) -> str:
    return "" if _has_two_parts(destination.service) else destination.database


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
            database = _fivetran_database(target)
            landings = tuple(
                Landing(database=database, schema=table.schema, table=table.name)
                for table in _tables(each, tables[each.id])
            )

        found[each.id] = Loader(
            id=each.id,
            name=f"{groups.get(each.group_id, each.group_id)}.{each.schema}",
            created=each.created_at or "",
            trouble="",
            landings=landings,
            warehouse=warehouse,
        )

    return tuple(found.values())


def _tables(
    connection: fivetran_models.Connection,
    shown: tuple[fivetran_models.Table, ...] | None,
) -> tuple[fivetran_models.Table, ...]:
    if shown is not None:
        return shown

    # https://fivetran.com/docs/rest-api/api-reference/connections/create-connection: some
    # connections load one table and have it in their name; those of a folder load
    # all that is there into their schema.
    schema, _, table = connection.schema.partition(".")
    return (fivetran_models.Table(schema=schema, name=table),)
