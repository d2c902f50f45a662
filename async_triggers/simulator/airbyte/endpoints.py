"""Sources and destinations: what a connection joins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from async_triggers.simulator.airbyte.model import AirbyteEndpoint, derived
from async_triggers.simulator.airbyte.replies import page_of, paged, refuse
from async_triggers.simulator.airbyte.workspaces import wanted_workspaces
from async_triggers.simulator.exchange import SimReply, SimRequest, json_reply

if TYPE_CHECKING:
    from async_triggers.simulator.airbyte.scene import AirbyteScene


class Endpoints:
    """The operations on sources, or those on destinations."""

    def __init__(
        self, scene: AirbyteScene, word: Literal["source", "destination"]
    ) -> None:
        self._scene = scene
        self._word = word

    @property
    def _known(self) -> Mapping[str, AirbyteEndpoint]:
        scene = self._scene
        return scene.sources if self._word == "source" else scene.destinations

    def list_all(self, request: SimRequest) -> SimReply:
        """Answer with a page of them."""
        # https://reference.airbyte.com/reference/listsources
        limit, offset = page_of(request)
        workspaces = wanted_workspaces(self._scene, request)
        found = [
            self._shown(one)
            for one in self._known.values()
            if workspaces is None or one.workspace_id in workspaces
        ]
        page = found[offset : offset + limit]
        return paged(request, f"/{self._word}s", page, limit, offset)

    def get(self, request: SimRequest, endpoint_id: str) -> SimReply:
        """Answer with one of them."""
        if endpoint_id not in self._known:
            self._add_named(endpoint_id)
        found = self._known.get(endpoint_id)
        if found is None:
            raise refuse(404, self._word)
        return json_reply(200, self._shown(found))

    def _add_named(self, endpoint_id: str) -> None:
        """Add the source and the destination of the connection that names one of them."""
        for one in self._scene.connections.values():
            if endpoint_id in (one.source_id, one.destination_id):
                self._scene.add_endpoints(one)
                return

    def _shown(self, one: AirbyteEndpoint) -> dict[str, Any]:
        return {
            f"{self._word}Id": one.endpoint_id,
            "name": one.name,
            f"{self._word}Type": one.kind,
            "definitionId": derived(f"{self._word} definition", one.kind),
            "workspaceId": one.workspace_id,
            "configuration": dict(one.configuration),
            "createdAt": int(one.created_at),
        }
