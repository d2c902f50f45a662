"""What comes back from Airbyte, read into rows and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from async_triggers.airbyte.api.models import Connection, Endpoint, Replication, Stream
from async_triggers.airbyte.api.requests import (
    FEEDS,
    OVERLAP,
    PAGE,
    Place,
    Walk,
    page_of,
)
from async_triggers.engine.errors import UnreadableReply
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    Reply,
    Request,
    Row,
    number_of,
    rows_of,
    text_of,
    words_of,
)


def read_row(request: Request, reply: Reply) -> Row:
    """Read one job; an object without any id of a job is none of Airbyte's."""
    row = reply.object(request.about)
    if "jobId" not in row:
        msg = f"The response for {request.about} shows no job"
        raise UnreadableReply(msg, status=reply.status)

    return row


def read_jobs(request: Request, reply: Reply) -> list[Row]:
    """Read the rows of a list of jobs."""
    data = rows_of(reply.object(request.about).get("data"))
    if data is None:
        msg = f"The response for {request.about} has no list 'data' of objects"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_connection(request: Request, reply: Reply) -> Connection:
    """Read a connection."""
    body = reply.object(request.about)
    if not text_of(body.get("connectionId")):
        msg = f"The response for {request.about} is not an Airbyte connection"
        raise UnreadableReply(msg, status=reply.status)

    schedule = body.get("schedule")
    kind = schedule.get("scheduleType") if isinstance(schedule, dict) else ""
    return Connection(
        id=text_of(body.get("connectionId")) or "",
        name=text_of(body.get("name")) or "",
        status=text_of(body.get("status")) or "",
        workspace_id=text_of(body.get("workspaceId")) or "",
        schedule_type=text_of(kind) or "",
    )


def read_page(request: Request, reply: Reply) -> tuple[list[Row], Request | None]:
    """Read a page of connections, sources or the like, and how to go on.

    A page may be short and yet not the last one: only an empty one ends the list.
    """
    rows, place = read_jobs(request, reply), request.note
    if not rows or not isinstance(place, Place):
        return rows, None

    return rows, page_of(request.path, place.offset + PAGE, place.only)


def read_names(rows: Sequence[Row], word: str) -> dict[str, str]:
    """Return the names of a list by their ids; ``word`` says of what the list is."""
    return {
        known: words_of(row.get("name"))
        for row in rows
        if (known := text_of(row.get(f"{word}Id")))
    }


def is_in(row: Row, workspace_id: str) -> bool:
    """Return whether a connection of a list is one of a workspace."""
    return text_of(row.get("workspaceId")) in {None, workspace_id}


def read_replication(row: Row) -> Replication:
    """Read a connection of a list with what it replicates."""
    configurations = row.get("configurations")
    streams = (
        configurations.get("streams") if isinstance(configurations, dict) else None
    )
    return Replication(
        id=text_of(row.get("connectionId")) or "",
        name=text_of(row.get("name")) or "",
        status=text_of(row.get("status")) or "",
        source_id=text_of(row.get("sourceId")) or "",
        destination_id=text_of(row.get("destinationId")) or "",
        namespace_definition=text_of(row.get("namespaceDefinition")) or "destination",
        namespace_format=text_of(row.get("namespaceFormat")) or "",
        prefix=text_of(row.get("prefix")) or "",
        streams=tuple(
            Stream(
                name=text_of(stream.get("name")) or "",
                namespace=text_of(stream.get("namespace")) or "",
                object_name=text_of(stream.get("destinationObjectName")) or "",
            )
            for stream in streams or ()
            if isinstance(stream, dict) and stream.get("selected", True)
        ),
        created_at=number_of(row.get("createdAt")) or 0,
    )


# https://docs.airbyte.com/integrations/destinations: what the destinations call the
# places that data goes to.
_PLACES = (
    "catalog",
    "database",
    "dataset_id",
    "destination_path",
    "host",
    "port",
    "project_id",
    "schema",
    "schemas",
)


def read_endpoint(row: Row, word: str) -> Endpoint:
    """Read a row of a list of sources or destinations; ``word`` says of which."""
    configuration = row.get("configuration")
    settings: dict[str, tuple[str, ...]] = {}
    for place in _PLACES:
        value = configuration.get(place) if isinstance(configuration, dict) else None
        values = value if isinstance(value, list) else [value]
        names = tuple(name for name in map(_place_name, values) if name)
        if names:
            settings[place] = names

    return Endpoint(
        id=text_of(row.get(f"{word}Id")) or "",
        name=text_of(row.get("name")) or "",
        kind=text_of(row.get(f"{word}Type")) or "",
        settings=settings,
    )


def _place_name(value: object) -> str:
    """Return a name, or a port's number as text; empty for anything else."""
    number = number_of(value)
    return (text_of(value) or "") if number is None else str(number)


def read_resume(walk: Walk, reply: Reply, data: Sequence[Row]) -> float | None:
    """Return where the next window begins: by the server's clock, never by ours."""
    if walk.source not in FEEDS or walk.offset:
        return None

    now = reply.date
    if now is None:
        times = [parse_time(row.get("lastUpdatedAt")) for row in data]
        now = max((each for each in times if each is not None), default=None)

    return None if now is None else float(int(now - OVERLAP))


def was_filtered(walk: Walk, data: Sequence[Row]) -> bool:
    """Return whether the server filtered; only rows that ended show their time."""
    if walk.since is None:
        return True

    if walk.status and any(row.get("status") != walk.status for row in data):
        return False

    ends = [parse_time(row.get("lastUpdatedAt")) for row in data]
    return all(end is None or end >= walk.since - 1.0 for end in ends)


def read_problem(reply: Reply) -> tuple[str, str]:
    """Return the case and the explanation of a problem object, empty where it is none."""
    try:
        body: Any = reply.json("a problem")
    except UnreadableReply:
        return "", ""

    if not isinstance(body, dict):
        return "", ""

    kind = (text_of(body.get("type")) or "").rpartition("#")[2]
    data = body.get("data")
    inner = data.get("message") if isinstance(data, dict) else None
    candidates = (inner, *(body.get(name) for name in ("detail", "message", "title")))
    return kind, next((words for each in candidates if (words := words_of(each))), "")
