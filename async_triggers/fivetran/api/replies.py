"""What comes back from Fivetran, read into rows and values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from async_triggers.engine.errors import UnreadableReply, UnreadableRow
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    LONGEST_MESSAGE,
    Reply,
    Request,
    Row,
    number_of,
    readable,
    rows_of,
    short_text,
    text_of,
    words_of,
)
from async_triggers.fivetran.api.models import (
    Connection,
    Destination,
    HistoryRecord,
    Table,
    row_id,
)
from async_triggers.fivetran.api.requests import Walk, page_of

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Scalar

_TIMES = ("succeeded_at", "failed_at")
MESSAGES = 20
"""Tasks and warnings of a connection that are read."""


def read_data(request: Request, reply: Reply) -> dict[str, Any]:
    """Read ``data`` of the envelope."""
    data = reply.object(request.about).get("data")
    if not isinstance(data, dict):
        msg = f"The response for {request.about} has no object 'data'"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_row(request: Request, reply: Reply) -> Row:
    """Read an envelope with one connection; without any id it is none of Fivetran's."""
    row = read_data(request, reply)
    if "id" not in row:
        msg = f"The response for {request.about} shows no connection"
        raise UnreadableReply(msg, status=reply.status)

    return row


def read_accepted(request: Request, reply: Reply) -> None:
    """Make sure that an answer is Fivetran's own; raise :class:`UnreadableReply` if not.

    A web page that a proxy serves has the status 200 as well, and nothing was started:
    https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
    """
    code = reply.object(request.about).get("code")
    if not isinstance(code, str) or not code.startswith("Success"):
        msg = f"The response for {request.about} does not say what became of it"
        raise UnreadableReply(msg, status=reply.status)


def read_items(request: Request, reply: Reply) -> tuple[list[Row], Request | None]:
    """Read a page of a list, and the request for the one that follows."""
    data = read_data(request, reply)
    items = rows_of(data.get("items"))
    if items is None:
        msg = f"The response for {request.about} has no list 'items' of objects"
        raise UnreadableReply(msg, status=reply.status)

    walk, cursor = request.note, data.get("next_cursor")
    if not isinstance(walk, Walk) or not isinstance(cursor, str) or not cursor:
        return items, None

    if cursor in walk.seen:
        # It would be followed for ever, and without it the list is not whole.
        msg = f"The response for {request.about} leads back to a page that was read"
        raise UnreadableReply(msg, status=reply.status)

    following = Walk(
        path=walk.path,
        params=walk.params,
        cursor=cursor,
        seen=walk.seen | {cursor},
    )
    return items, page_of(following)


def read_connections(rows: Iterable[Row]) -> list[Connection]:
    """Read the connections of a list, for what they are: no run is judged by it.

    One bad row keeps no other from being read, and an odd time keeps none.
    """
    return [connection for connection, _ in readable(rows, _read_listed)]


def _read_listed(row: Row) -> Connection:
    odd = [name for name in _TIMES if parse_time(row.get(name)) is None]
    return read_connection({**row, **dict.fromkeys(odd)})


def read_connection(row: Row) -> Connection:
    """Read a connection."""
    status = row.get("status")
    if not isinstance(status, dict):
        msg = f"Connection {row_id(row)} has no status"
        raise UnreadableRow(msg)

    return Connection(
        id=row_id(row),
        schema=short_text(row.get("schema")) or "",
        service=short_text(row.get("service")) or "",
        group_id=short_text(row.get("group_id")) or "",
        paused=row.get("paused") is True,
        schedule_type=short_text(row.get("schedule_type")) or "",
        setup_state=short_text(status.get("setup_state")) or "",
        sync_state=short_text(status.get("sync_state")) or "",
        succeeded_at=_time(row, "succeeded_at"),
        failed_at=_time(row, "failed_at"),
        rescheduled_for=short_text(status.get("rescheduled_for")),
        historical=status.get("is_historical_sync") is True,
        tasks=_messages(status.get("tasks")),
        warnings=_messages(status.get("warnings")),
        failed_tests=_failed_tests(row.get("setup_tests")),
        created_at=short_text(row.get("created_at")),
    )


def _time(row: Row, name: str) -> str | None:
    """Read a time that a run is judged by, as it is written; None where it never was."""
    value = row.get(name)
    if value is None or value == "":
        return None

    if parse_time(value) is None:
        msg = f"Connection {row_id(row)} has a {name} that is not a time"
        raise UnreadableRow(msg)

    return short_text(value)


def _messages(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()

    found = [
        words_of(each.get("message")) or words_of(each.get("code"))
        for each in value[:MESSAGES]
        if isinstance(each, dict)
    ]
    return tuple(each for each in found if each)


# https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
_TEST_FAILURES = ("FAILED", "JOB_FAILED")


def _failed_tests(value: object) -> tuple[str, ...]:
    """Name the setup tests that failed, each with its message."""
    if not isinstance(value, list):
        return ()

    failed = [
        (words_of(each.get("title")), words_of(each.get("message")))
        for each in value[:MESSAGES]
        if isinstance(each, dict) and each.get("status") in _TEST_FAILURES
    ]
    return tuple(": ".join(filter(None, parts)) for parts in failed if any(parts))


# https://fivetran.com/docs/rest-api/api-reference/destinations/create-destination: what
# the services call their database.
_DATABASE_FIELDS = ("database", "project_id", "catalog")


def read_destination(row: Row) -> Destination:
    """Read a destination; of its config nothing but where it is is kept."""
    config = row.get("config")
    config = config if isinstance(config, dict) else {}
    names = [text_of(config.get(field)) for field in _DATABASE_FIELDS]
    port = config.get("port")
    return Destination(
        id=text_of(row.get("id")) or "",
        service=text_of(row.get("service")) or "",
        database=next((name for name in names if name), ""),
        host=text_of(config.get("host")) or "",
        port=text_of(port) or str(number_of(port) or ""),
    )


def read_tables(data: Row) -> tuple[Table, ...]:
    """Read the tables that are synced, of the schemas that are."""
    return tuple(
        Table(schema=schema, name=table)
        for schema, _, tables in _enabled(data.get("schemas"))
        for table, _, _ in _enabled(tables.get("tables"))
    )


def read_source_tables(data: Row) -> tuple[Table, ...]:
    """Read the same tables by their names in the source."""
    return tuple(
        Table(schema=schema, name=table)
        for _, schema, tables in _enabled(data.get("schemas"))
        for _, table, _ in _enabled(tables.get("tables"))
    )


def _enabled(items: object) -> list[tuple[str, str, Row]]:
    """Return what is synced, with its names in the destination and in the source."""
    return [
        (name, source, item)
        for source, item in (items.items() if isinstance(items, dict) else ())
        if isinstance(item, dict)
        and item.get("enabled") is not False
        and (name := text_of(item.get("name_in_destination")))
    ]


def read_history(
    request: Request, reply: Reply
) -> tuple[list[HistoryRecord], Request | None]:
    """Read a page of a connection's history, and the request for the one that follows."""
    items, following = read_items(request, reply)
    return [_record(row) for row in items], following


def _record(row: Row) -> HistoryRecord:
    stages = row.get("stages")
    volumes: dict[str, Scalar] = {}
    for stage in ("extract", "process", "load"):
        found = stages.get(stage) if isinstance(stages, dict) else None
        volume = found.get("volume") if isinstance(found, dict) else None
        if isinstance(volume, int | float) and not isinstance(volume, bool):
            volumes[f"{stage}_volume_mb"] = volume

    return HistoryRecord(
        sync_id=short_text(row.get("sync_id")) or "",
        status=short_text(row.get("status")) or "",
        start=short_text(row.get("start")),
        end=short_text(row.get("end")),
        reason=words_of(row.get("reason"), longest=LONGEST_MESSAGE),
        volumes=volumes,
    )


def read_explanation(reply: Reply) -> str:
    """Return the code and the message of a refusal, empty where it has none."""
    try:
        body = reply.object("a refusal")
    except UnreadableReply:
        return ""

    parts = (words_of(body.get("code")), words_of(body.get("message")))
    return ": ".join(part for part in parts if part)
