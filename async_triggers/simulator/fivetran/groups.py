"""Groups, and the destination that each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.fivetran.replies import data, items, not_found, page_of

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.scene import FivetranScene


class Groups:
    """The operations on groups and destinations."""

    def __init__(self, scene: FivetranScene) -> None:
        self._scene = scene

    def list_all(self, request: SimRequest) -> SimReply:
        """Answer with a page of groups."""
        scene = self._scene
        page, cursor = page_of(scene.settings, request, list(scene.groups))
        return items(scene.settings, [self._shown(one) for one in page], cursor)

    def get(self, request: SimRequest, group_id: str) -> SimReply:
        """Answer with one group."""
        if group_id not in self._scene.groups:
            raise not_found("Group", group_id)
        return data(self._shown(group_id))

    def _shown(self, group_id: str) -> dict[str, Any]:
        return {
            "id": group_id,
            "name": self._scene.groups[group_id],
            "created_at": "2026-01-01T00:00:00Z",
        }

    def destination(self, request: SimRequest, group_id: str) -> SimReply:
        """Answer with the destination of a group."""
        if group_id not in self._scene.groups:
            raise not_found("Destination", group_id)
        service, config = self._scene.destinations.get(group_id, ("snowflake", {}))
        return data(
            {
                "id": group_id,
                "group_id": group_id,
                "service": service,
                "region": "GCP_US_EAST4",
                "time_zone_offset": "0",
                "setup_status": "CONNECTED",
                "config": config,
            }
        )
