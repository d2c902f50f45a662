"""Workspaces, and the filter by them that every list has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.airbyte.replies import page_of, paged, refuse
from async_triggers.simulator.exchange import SimReply, SimRequest, json_reply

if TYPE_CHECKING:
    from async_triggers.simulator.airbyte.scene import AirbyteScene


def wanted_workspaces(scene: AirbyteScene, request: SimRequest) -> set[str] | None:
    """Return the workspaces to which a list is limited, or None for all."""
    wanted = {
        one
        for value in request.values("workspaceIds")
        for one in value.split(",")
        if one
    }
    if wanted - set(scene.workspaces):
        raise refuse(403)
    return wanted or None


class Workspaces:
    """The operations on workspaces."""

    def __init__(self, scene: AirbyteScene) -> None:
        self._scene = scene

    def list_all(self, request: SimRequest) -> SimReply:
        """Answer with a page of workspaces."""
        limit, offset = page_of(request)
        wanted = wanted_workspaces(self._scene, request)
        found = [
            self._shown(one)
            for one in self._scene.workspaces
            if wanted is None or one in wanted
        ]
        return paged(
            request, "/workspaces", found[offset : offset + limit], limit, offset
        )

    def get(self, request: SimRequest, workspace_id: str) -> SimReply:
        """Answer with one workspace."""
        if workspace_id not in self._scene.workspaces:
            raise refuse(403)
        return json_reply(200, self._shown(workspace_id))

    def _shown(self, workspace_id: str) -> dict[str, Any]:
        return {
            "workspaceId": workspace_id,
            "name": self._scene.workspaces[workspace_id],
            "dataResidency": "auto",
            "notifications": {},
        }
