"""Airbyte's public API: its routes, and what holds for every request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from async_triggers.simulator.airbyte.connections import Connections
from async_triggers.simulator.airbyte.endpoints import Endpoints
from async_triggers.simulator.airbyte.jobs import Jobs
from async_triggers.simulator.airbyte.replies import error
from async_triggers.simulator.airbyte.scene import AirbyteScene
from async_triggers.simulator.airbyte.threads import Threads
from async_triggers.simulator.airbyte.tokens import Tokens
from async_triggers.simulator.airbyte.workspaces import Workspaces
from async_triggers.simulator.exchange import SimReply, SimRequest, text_reply
from async_triggers.simulator.vendor import Route, unslashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from async_triggers.simulator.airbyte.settings import AirbyteSettings


class AirbyteSimulator(AirbyteScene):
    """Airbyte's public API: tokens, jobs, connections and what they join, health.

    Served below ``/api/public/v1`` (self-managed) and ``/v1`` (Cloud).
    """

    def __init__(
        self,
        settings: AirbyteSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.tokens = Tokens(self)
        self._threads = Threads(self)
        self._shed_until = 0.0
        super().__init__(settings, clock=clock, seed=seed)

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        token = "/applications/token"  # noqa: S105 - a path
        yield Route.to("POST", token, self.tokens.issue, public=True, operation="token")
        yield Route.to("GET", "/health", self._health, public=True)
        jobs = Jobs(self)
        yield Route.to("POST", "/jobs", jobs.start, operation="start")
        yield Route.to("GET", "/jobs", jobs.list_all, operation="list")
        yield Route.to("GET", "/jobs/{job_id}", jobs.get, operation="poll")
        yield Route.to("DELETE", "/jobs/{job_id}", jobs.cancel, operation="cancel")
        connections = Connections(self)
        yield Route.to("GET", "/connections", connections.list_all)
        yield Route.to("GET", "/connections/{connection_id}", connections.get)
        sources = Endpoints(self, "source")
        yield Route.to("GET", "/sources", sources.list_all)
        yield Route.to("GET", "/sources/{endpoint_id}", sources.get)
        destinations = Endpoints(self, "destination")
        yield Route.to("GET", "/destinations", destinations.list_all)
        yield Route.to("GET", "/destinations/{endpoint_id}", destinations.get)
        workspaces = Workspaces(self)
        yield Route.to("GET", "/workspaces", workspaces.list_all)
        yield Route.to("GET", "/workspaces/{workspace_id}", workspaces.get)

    def below(self, path: str) -> str:
        """Return a path without the root of the API, self-managed or Cloud's.

        A slash at its end makes no difference:
        https://github.com/micronaut-projects/micronaut-core (UriMatchTemplate).
        """
        path = unslashed(path)
        if path == "/api/v1/applications/token":
            # The older place of the token endpoint; nothing else is there.
            return "/applications/token"
        for root in ("/api/public/v1", "/v1"):
            if path.startswith(root + "/"):
                return path[len(root) :]
        return ""

    def clear(self) -> None:
        """Forget every connection, job and token; one workspace is left."""
        super().clear()
        self.tokens.issued.clear()
        self._threads.clear()
        self._shed_until = 0.0

    def expire_tokens(self) -> None:
        """Let every access token issued so far be expired."""
        with self.lock:
            self.tokens.issued.clear()

    def shed(self, seconds: float) -> None:
        """Refuse everything with 429, as the operator's kill switch does."""
        with self.lock:
            self._shed_until = self.now() + seconds

    def arrangeable(self) -> Mapping[str, Callable[..., object]]:
        """Return what can be arranged: the scene, token expiry and load shedding."""
        return {
            **super().arrangeable(),
            "expire_tokens": self.expire_tokens,
            "shed": self.shed,
        }

    def airflow_connection(self, url: str) -> dict[str, str]:
        """Return the fields of an Airflow connection to it."""
        return {
            "conn_type": "airbyte",
            "host": f"{url}/api/public/v1",
            "login": self.settings.client_id,
            "password": self.settings.client_secret,
            "schema": "v1/applications/token",
        }

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return a problem object."""
        return error(status, detail)

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse while this user is being shed."""
        return self.error(429) if self.now() < self._shed_until else None

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without a live token, static token or basic credentials."""
        self.tokens.authorize(request)

    def occupy(self, seconds: float) -> float:
        """Return how long a request waits until one of the threads is free."""
        return self._threads.occupy(seconds)

    def _health(self, request: SimRequest) -> SimReply:
        return text_reply(200, "Successful operation")
