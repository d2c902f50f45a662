"""What is sent to Fivetran: paths, parameters, bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from async_triggers.engine.paths import segment
from async_triggers.engine.times import format_time
from async_triggers.engine.wire import Lane, Request, Source, SourceKind

HEADERS = {"Accept": "application/json;version=2"}
# https://fivetran.com/docs/rest-api/pagination: "limit" from 1 to 1000.
PAGE = 1000
START_TIMEOUT = 90.0
# A sync that begins within it was started by a start, tried again and waiting for its turn;
# one that begins later hardly was.
START_WINDOW = 300.0
# Stopping a sync takes up to a minute, and pausing one waits for that and may fail
# although it has worked, so that its answer is not worth much:
# https://fivetran.com/docs/rest-api/troubleshooting/pause-connector-500-error
PAUSE_TIMEOUT = 40.0
CONFIRMATION_TIMEOUT = 10.0
"""Seconds after which the connection itself is requested and not its history."""

ACCOUNT_LIST = Source(name="account list", kind=SourceKind.LIST, page=PAGE)
GROUP_LISTS = Source(name="group lists", kind=SourceKind.LIST, page=PAGE, scoped=True)


def get_connection(connection_id: str) -> Request:
    """Request a connection.

    https://fivetran.com/docs/rest-api/api-reference/connections/connection-details
    """
    return Request(
        method="GET",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}",
        about=f"connection {connection_id}",
        headers=HEADERS,
    )


def list_connections(group_id: str = "", *, schema: str = "") -> Request:
    """Request the connections of the account or of one group, a thousand at a time.

    https://fivetran.com/docs/rest-api/api-reference/connections/list-connections
    """
    path = "/v1/connections"
    if group_id:
        path = f"/v1/groups/{segment(group_id, 'group id')}/connections"

    return page_of(Walk(path=path, params=(("schema", schema),) if schema else ()))


def list_groups() -> Request:
    """Request the groups, which are the destinations by name.

    https://fivetran.com/docs/rest-api/api-reference/groups/list-all-groups
    """
    return page_of(Walk(path="/v1/groups"))


def get_group(group_id: str) -> Request:
    """Request a group.

    https://fivetran.com/docs/rest-api/api-reference/groups/group-details
    """
    return Request(
        method="GET",
        path=f"/v1/groups/{segment(group_id, 'group id')}",
        about=f"group {group_id}",
        headers=HEADERS,
    )


def get_metadata(connection_id: str, what: str) -> Request:
    """Request what is known of the ``tables`` or ``columns`` of a connection.

    https://fivetran.com/docs/rest-api/api-reference/metadata
    """
    place = segment(connection_id, "connector_id")
    return Request(
        method="GET",
        path=f"/v1/metadata/connectors/{place}/{segment(what, 'metadata')}",
        about=f"the {what} of connection {connection_id}",
        headers=HEADERS,
    )


def run_setup_tests(connection_id: str) -> Request:
    """Run the setup tests of a connection, which may make a broken one work again.

    https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
    """
    return Request(
        method="POST",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/test",
        about=f"the setup tests of connection {connection_id}",
        json={},
        headers=HEADERS,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def get_destination(group_id: str) -> Request:
    """Request the destination of a group, whose id it has.

    https://fivetran.com/docs/rest-api/api-reference/destinations/destination-details
    """
    return Request(
        method="GET",
        path=f"/v1/destinations/{segment(group_id, 'group id')}",
        about=f"destination {group_id}",
        headers=HEADERS,
    )


def get_schemas(connection_id: str) -> Request:
    """Request the schemas and tables of a connection.

    https://fivetran.com/docs/rest-api/api-reference/connection-schema/connection-schema-config
    """
    return Request(
        method="GET",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/schemas",
        about=f"the schemas of connection {connection_id}",
        headers=HEADERS,
    )


def start_sync(connection_id: str, *, force: bool = False) -> Request:
    """Start a sync; without ``force`` one that is under way is let be.

    https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
    """
    return Request(
        method="POST",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/sync",
        about=f"the start of a sync of connection {connection_id}",
        json={"force": force},
        headers=HEADERS,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def start_resync(
    connection_id: str, scope: Mapping[str, Sequence[str]] | None = None
) -> Request:
    """Start a historical re-sync, of some tables of some schemas or of all.

    https://fivetran.com/docs/rest-api/api-reference/connections/resync-connection
    """
    return Request(
        method="POST",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}/resync",
        about=f"the start of a re-sync of connection {connection_id}",
        json={"scope": {key: list(val) for key, val in scope.items()}} if scope else {},
        headers=HEADERS,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def modify_connection(
    connection_id: str,
    *,
    paused: bool | None = None,
    schedule_type: str | None = None,
) -> Request:
    """Pause or un-pause a connection, or change what starts its syncs.

    Setup tests count against a separate limit and are left out:
    https://fivetran.com/docs/rest-api/api-reference/connections/modify-connection
    """
    body: dict[str, Any] = {"run_setup_tests": False}
    if paused is not None:
        body["paused"] = paused

    if schedule_type is not None:
        body["schedule_type"] = schedule_type

    return Request(
        method="PATCH",
        path=f"/v1/connections/{segment(connection_id, 'connector_id')}",
        about=f"a change of connection {connection_id}",
        json=body,
        headers=HEADERS,
        lane=Lane.CANCEL if paused else Lane.START,
        timeout=PAUSE_TIMEOUT if paused else START_TIMEOUT,
    )


def sync_history(connection_id: str, *, since: float, until: float) -> Request:
    """Request the syncs in a window of server times (epoch seconds).

    https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history
    """
    path = f"/v1/connections/{segment(connection_id, 'connector_id')}/sync-history"
    window = (("start_time", format_time(since)), ("end_time", format_time(until)))
    return page_of(Walk(path=path, params=window))


def account_info() -> Request:
    """Request who we are: https://fivetran.com/docs/rest-api/api-reference/account."""
    return Request(
        method="GET",
        path="/v1/account/info",
        about="the account",
        headers=HEADERS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where a walk over a list is, and which cursors it has seen."""

    path: str
    params: tuple[tuple[str, str], ...] = ()
    cursor: str = ""
    seen: frozenset[str] = frozenset()


def page_of(walk: Walk) -> Request:
    """Request the page of a list at which a walk is."""
    params = [("limit", str(PAGE)), *walk.params]
    if walk.cursor:
        params.append(("cursor", walk.cursor))

    return Request(
        method="GET",
        path=walk.path,
        about=f"the list at {walk.path}",
        params=tuple(params),
        headers=HEADERS,
        note=walk,
    )
