"""Syncs: starting them, and the history of those that there were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from async_triggers.simulator.exchange import json_reply, parse_instant
from async_triggers.simulator.fivetran.replies import (
    error,
    flag,
    items,
    page_of,
    refuse,
)
from async_triggers.simulator.fivetran.rows import sync_row

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.scene import FivetranScene

_WEEK: Final = 7 * 86400.0
_HOUR: Final = 3600.0


class Syncs:
    """The operations on the syncs of a connection."""

    def __init__(self, scene: FivetranScene) -> None:
        self._scene = scene

    def sync(self, request: SimRequest, connection_id: str) -> SimReply:
        """Start a sync."""
        # https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
        force = flag(self._scene.body(request), "force")
        return self._start(connection_id, force=force)

    def force(self, request: SimRequest, connection_id: str) -> SimReply:
        """Start a sync at the older path, which stops the one that runs."""
        return self._start(connection_id, force=True)

    def _start(self, connection_id: str, *, force: bool) -> SimReply:
        scene = self._scene
        connection = scene.connection(connection_id)
        state = connection.state
        done = json_reply(
            200,
            {
                "code": "Success",
                "message": "Sync has been successfully triggered for connection "
                f"with id '{connection_id}'",
            },
        )
        refused = ""
        if state.paused or state.setup_state != "connected":
            refused = scene.settings.paused_sync
        elif connection.is_busy and not force:
            refused = scene.settings.already_syncing
        if refused:
            scene.record.refused_starts[connection_id] += 1
            if refused == "conflict":
                return error(409, "The connection cannot sync now")
            return done
        blocks = 0.0
        if connection.is_busy:
            scene.stop(connection, "CANCELED")
            blocks = scene.settings.stop_blocks
        self._note(connection_id, {"force": force})
        scene.begin(connection, scene.now())
        return done.after(blocks)

    def _note(self, connection_id: str, details: dict[str, Any]) -> None:
        at = self._scene.noted()
        self._scene.record.note_start(at, connection_id, connection_id, details)

    def resync(self, request: SimRequest, connection_id: str) -> SimReply:
        """Start a historical sync, of all or of some tables."""
        scene = self._scene
        # https://fivetran.com/docs/rest-api/api-reference/connections/resync-connection
        connection = scene.connection(connection_id)
        scope = scene.body(request).get("scope")
        if scope is not None and not (
            isinstance(scope, dict)
            and scope
            and all(_are_names(tables) for tables in scope.values())
        ):
            raise refuse(400, "scope must name tables of at least one schema")
        if connection.is_busy:
            scene.record.refused_starts[connection_id] += 1
            raise refuse(409, "The running sync cannot be completed")
        self._note(connection_id, {"resync": True, "scope": scope})
        if connection.state.paused:
            connection.resync_wanted = True
        else:
            connection.change(scene.now(), is_historical_sync=scope is None)
            scene.begin(connection, scene.now())
        return json_reply(
            200, {"code": "Success", "message": "Re-sync has been triggered"}
        )

    def history(self, request: SimRequest, connection_id: str) -> SimReply:
        """Answer with a page of the sync history."""
        scene = self._scene
        # https://fivetran.com/docs/rest-api/api-reference/connections
        if not scene.settings.sync_history:
            raise refuse(404)
        connection = scene.connection(connection_id)
        begin, end = self._window(request)
        found = [
            sync
            for sync in connection.history
            if scene.shown(sync.start) <= end
            and (sync.end is None or scene.shown(sync.end) >= begin)
        ]
        page, cursor = page_of(scene.settings, request, found)
        return items(scene.settings, [sync_row(scene, sync) for sync in page], cursor)

    def _window(self, request: SimRequest) -> tuple[float, float]:
        now = self._scene.shown(self._scene.now())
        given: dict[str, float] = {}
        for name in ("start_time", "end_time"):
            text = request.value(name)
            if text is not None:
                try:
                    given[name] = parse_instant(text)
                except ValueError as error:
                    raise refuse(400, f"{name}: {error}") from error
        if "start_time" in given:
            begin = given["start_time"]
            end = given.get("end_time", begin + _HOUR)
        else:
            end = given.get("end_time", now)
            begin = end - _HOUR
        if begin >= end or end - begin > _WEEK or begin < now - _WEEK:
            raise refuse(400, "start_time and end_time must be within 7 days")
        return begin, end


def _are_names(tables: object) -> bool:
    if not isinstance(tables, list) or not tables:
        return False
    return all(isinstance(table, str) for table in tables)
