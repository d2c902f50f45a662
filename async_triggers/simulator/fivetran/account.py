"""The account and its users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.simulator.fivetran.replies import data, items, page_of

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.scene import FivetranScene


class Account:
    """The operations on the account."""

    def __init__(self, scene: FivetranScene) -> None:
        self._scene = scene

    def users(self, request: SimRequest) -> SimReply:
        """Answer with the only user."""
        # https://fivetran.com/docs/rest-api/api-reference/users/list-all-users
        user = {
            "id": "simulator",
            "email": "simulator@example.com",
            "given_name": "Simulated",
            "family_name": "User",
            "verified": True,
            "invited": False,
            "picture": None,
            "phone": None,
            "role": "Account Administrator",
            "active": True,
            "logged_in_at": "2026-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z",
        }
        page, cursor = page_of(self._scene.settings, request, [user])
        return items(self._scene.settings, page, cursor)

    def info(self, request: SimRequest) -> SimReply:
        """Answer with the account."""
        return data(
            {
                "account_id": "simulated_account",
                "account_name": "Simulated account",
                "user_id": "simulator",
            }
        )
