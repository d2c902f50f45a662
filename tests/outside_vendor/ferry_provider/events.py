"""Events when crossings have ended, no matter what has started them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.deferral.plain_watching import PlainWatcher
from ferry_provider import api
from ferry_provider.hooks import FerryHook

if TYPE_CHECKING:
    from async_triggers.engine.wire import Request


class CrossingEnded(PlainWatcher):
    """An event for each crossing of a route that ends."""

    hook_class = FerryHook
    place = "route"

    def find(self) -> Request:
        """Request the route's newest crossings, which a route that is gone has none of."""
        return api.newest(self.target)
