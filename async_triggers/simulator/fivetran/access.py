"""Who may call, in which format, and how often."""

from __future__ import annotations

import hmac
import math
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from async_triggers.simulator.fivetran.replies import error, refuse

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.scene import FivetranScene
    from async_triggers.simulator.fivetran.settings import FivetranSettings

_HOUR: Final = 3600.0


class RateLimit:
    """The requests of the last hour."""

    def __init__(self, scene: FivetranScene) -> None:
        self._scene = scene
        self._requests: deque[float] = deque()

    def clear(self) -> None:
        """Forget every request."""
        self._requests.clear()

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse with 429 what goes beyond the hourly limit."""
        scene = self._scene
        # https://fivetran.com/docs/rest-api/getting-started/rate-limiting
        now = scene.now()
        while self._requests and self._requests[0] <= now - _HOUR:
            self._requests.popleft()
        if len(self._requests) < scene.settings.hourly_limit:
            self._requests.append(now)
            return None
        wait = scene.settings.retry_after
        if wait is None:
            free = self._requests[0] + _HOUR - now if self._requests else _HOUR
            wait = math.ceil(free)
        reply = error(429, "Rate limit exceeded")
        return replace(reply, headers={**reply.headers, "Retry-After": str(wait)})

    def decorate(self, reply: SimReply) -> SimReply:
        """Add the rate limit's headers."""
        limit = self._scene.settings.hourly_limit
        left = max(0, limit - len(self._requests))
        headers = {"X-Rate-Limit": str(limit), "X-Rate-Limit-Remaining": str(left)}
        return replace(reply, headers={**headers, **reply.headers})


def authorize(settings: FivetranSettings, request: SimRequest) -> None:
    """Refuse a request without the key and secret, or in an unknown format."""
    wanted = f"{settings.api_key}:{settings.api_secret}".encode()
    if not hmac.compare_digest(request.basic_credentials(), wanted):
        raise refuse(401, "Missing or invalid authorization")
    # Case makes no difference in either header:
    # https://www.rfc-editor.org/rfc/rfc9110#name-media-type
    accept = request.header("Accept", "*/*").replace(" ", "").lower()
    if not _acceptable(accept):
        raise refuse(406, f"Cannot answer with {accept}")
    content = request.header("Content-Type").partition(";")[0].strip().lower()
    # Most bodies are optional, and what is not sent needs no type.
    has_type = request.method in {"POST", "PATCH"} and (request.body or content)
    if has_type and content != "application/json":
        raise refuse(415, "Content-Type must be application/json")


def _acceptable(accept: str) -> bool:
    # https://fivetran.com/docs/rest-api/getting-started: versions 1 and 2 exist.
    for one in accept.split(","):
        kind, _, options = one.partition(";")
        version = options.partition("version=")[2].partition(";")[0]
        if kind in {"*/*", "application/*", "application/json"} and version in {
            "",
            "1",
            "2",
        }:
            return True
    return False
