"""Connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.airbyte.replies import page_of, paged
from async_triggers.simulator.airbyte.workspaces import wanted_workspaces
from async_triggers.simulator.exchange import SimReply, SimRequest, json_reply

if TYPE_CHECKING:
    from async_triggers.simulator.airbyte.model import AirbyteConnection
    from async_triggers.simulator.airbyte.scene import AirbyteScene


class Connections:
    """The operations on connections."""

    def __init__(self, scene: AirbyteScene) -> None:
        self._scene = scene

    def get(self, request: SimRequest, connection_id: str) -> SimReply:
        """Answer with one connection."""
        return json_reply(200, _shown(self._scene.connection(connection_id)))

    def list_all(self, request: SimRequest) -> SimReply:
        """Answer with a page of connections."""
        limit, offset = page_of(request)
        workspaces = wanted_workspaces(self._scene, request)
        deleted = request.value("includeDeleted") == "true"
        found = [
            _shown(one)
            for one in self._scene.connections.values()
            if (workspaces is None or one.workspace_id in workspaces)
            and (deleted or one.status != "deprecated")
        ]
        return paged(
            request, "/connections", found[offset : offset + limit], limit, offset
        )


def _shown(connection: AirbyteConnection) -> dict[str, Any]:
    schedule = {"scheduleType": connection.schedule_type}
    if connection.schedule_type == "cron":
        schedule["cronExpression"] = "0 0 * * * ? UTC"
    elif connection.schedule_type == "basic":
        schedule["basicTiming"] = "Every 24 HOURS"
    shown = {
        "connectionId": connection.connection_id,
        "name": connection.name,
        "sourceId": connection.source_id,
        "destinationId": connection.destination_id,
        "workspaceId": connection.workspace_id,
        "status": connection.status,
        "schedule": schedule,
        "dataResidency": "auto",
        "configurations": {
            # https://reference.airbyte.com/reference/listconnections: a stream has
            # no mark of its being selected; what is not is left out.
            "streams": [
                {"syncMode": "full_refresh_overwrite", **stream}
                for stream in connection.streams
                if stream.get("selected", True)
            ]
        },
        "createdAt": int(connection.created_at),
        "tags": [],
        "namespaceDefinition": connection.namespace_definition,
        "prefix": connection.prefix,
    }
    if connection.namespace_format is not None:
        shown["namespaceFormat"] = connection.namespace_format
    return shown
