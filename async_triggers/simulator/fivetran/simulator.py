"""Fivetran's REST API: its routes, and what holds for every request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from async_triggers.simulator.fivetran.access import RateLimit, authorize
from async_triggers.simulator.fivetran.account import Account
from async_triggers.simulator.fivetran.connections import Connections
from async_triggers.simulator.fivetran.groups import Groups
from async_triggers.simulator.fivetran.replies import error
from async_triggers.simulator.fivetran.scene import FivetranScene
from async_triggers.simulator.fivetran.schemas import Schemas
from async_triggers.simulator.fivetran.setup_tests import SetupTests
from async_triggers.simulator.fivetran.syncs import Syncs
from async_triggers.simulator.vendor import Route, unslashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.settings import FivetranSettings


class FivetranSimulator(FivetranScene):
    """Fivetran's REST API: connections, syncs, history, groups, destinations.

    A life's states are ``scheduled``, ``syncing``, ``rescheduled`` and at the end
    ``succeeded``, ``failed``, ``canceled``, ``incomplete`` or ``broken``. In the state
    ``rescheduled`` a connection with the schedule ``manual`` waits for a start; with
    ``auto`` its life goes on by itself.
    """

    def __init__(
        self,
        settings: FivetranSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self._rate_limit = RateLimit(self)
        super().__init__(settings, clock=clock, seed=seed)

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        account, groups = Account(self), Groups(self)
        yield Route.to("GET", "/v1/account/info", account.info)
        yield Route.to("GET", "/v1/users", account.users)
        yield Route.to("GET", "/v1/groups", groups.list_all)
        yield Route.to("GET", "/v1/groups/{group_id}", groups.get)
        yield Route.to("GET", "/v1/destinations/{group_id}", groups.destination)
        tests = SetupTests(self)
        connections, syncs = Connections(self, tests), Syncs(self)
        schemas = Schemas(self)
        for word in ("connections", "connectors"):
            many, one = f"/v1/{word}", f"/v1/{word}/{{connection_id}}"
            yield Route.to("GET", many, connections.list_all, operation="list")
            yield Route.to("GET", one, connections.get, operation="poll")
            yield Route.to("PATCH", one, connections.patch, operation="cancel")
            yield Route.to("POST", f"{one}/sync", syncs.sync, operation="start")
            yield Route.to("POST", f"{one}/resync", syncs.resync, operation="start")
            yield Route.to("POST", f"{one}/test", tests.post)
            yield Route.to("GET", f"{one}/sync-history", syncs.history)
            yield Route.to("GET", f"{one}/schemas", schemas.get)
            many = f"/v1/groups/{{group_id}}/{word}"
            yield Route.to("GET", many, connections.list_all, operation="list")
        one = "/v1/connectors/{connection_id}/force"
        yield Route.to("POST", one, syncs.force, operation="start")

    def below(self, path: str) -> str:
        """Return the path without a slash at its end, unless it is one that is gone."""
        legacy = "connectors" in path.split("/")
        return "" if legacy and not self.settings.legacy_paths else unslashed(path)

    def clear(self) -> None:
        """Forget every connection, group and request; one group is left."""
        super().clear()
        self._rate_limit.clear()

    def airflow_connection(self, url: str) -> dict[str, str]:
        """Return the fields of an Airflow connection to it."""
        return {
            "conn_type": "fivetran",
            "host": url,
            "login": self.settings.api_key,
            "password": self.settings.api_secret,
        }

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return an error object."""
        return error(status, detail)

    def unrouted(self, request: SimRequest) -> SimReply:
        """Answer 405 where the path exists for another method, else 404."""
        path = self.below(request.path)
        known = any(route.pattern.fullmatch(path) for route in self._routes)
        return self.error(405 if known else 404)

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse with 429 what goes beyond the hourly limit."""
        return self._rate_limit.admit(request)

    def decorate(self, reply: SimReply) -> SimReply:
        """Add the rate limit's headers."""
        return self._rate_limit.decorate(reply)

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without the key and secret, or in an unknown format."""
        authorize(self.settings, request)
