"""Where Airbyte's connections put what their streams read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from async_triggers.deferral.landings import Landing, has_two_parts, warehouse_uri

if TYPE_CHECKING:
    from async_triggers.airbyte.api.models import Endpoint, Replication, Stream

_NAMESPACE = "${SOURCE_NAMESPACE}"


def warehouse_of(target: Endpoint | None) -> str:
    """Return how the URIs of an endpoint's tables begin; empty where that is unknown."""
    if target is None:
        return ""

    host, port = (target.settings.get(name, ("",))[0] for name in ("host", "port"))
    return warehouse_uri(target.kind, host, port)


def landings_of(
    connection: Replication, source: Endpoint | None, target: Endpoint | None
) -> tuple[Landing, ...]:
    """Return the tables that the streams of a connection go to."""
    return tuple(
        dict.fromkeys(
            landing
            for stream in connection.streams
            for landing in _landings_of(connection, stream, source, target)
        )
    )


def read_by(connection: Replication, source: Endpoint) -> tuple[Landing, ...]:
    """Return what the streams of a connection read, by its names in the source."""
    database, default = target_of(source)
    return tuple(
        Landing(
            database=database, schema=stream.namespace or default, table=stream.name
        )
        for stream in connection.streams
    )


def _landings_of(
    connection: Replication,
    stream: Stream,
    source: Endpoint | None,
    target: Endpoint | None,
) -> Iterable[Landing]:
    database, default = target_of(target)
    table = stream.object_name or f"{connection.prefix}{stream.name}"
    for schema in _schemas(connection, stream, source, default):
        yield Landing(database=database, schema=schema, table=table)


def target_of(target: Endpoint | None) -> tuple[str, str]:
    """Return the database and the schema of a destination, empty where it names none."""
    if target is None:
        return "", ""

    settings = {key: values[0] for key, values in target.settings.items()}
    if has_two_parts(target.kind):
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


def _schemas(
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
