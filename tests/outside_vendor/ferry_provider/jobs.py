"""Ferry's crossings as values: one that there is, one to start, one to wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from async_triggers.deferral.arguments import text, whole_number
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.plain_job import PlainJob, PlainQuery, PlainRequest
from async_triggers.engine.wire import words_of
from ferry_provider import api
from ferry_provider.hooks import FerryHook

if TYPE_CHECKING:
    from async_triggers.engine.wire import Request, Row


@dataclass(frozen=True, kw_only=True)
class Crossing(PlainJob):
    """A crossing."""

    hook_class = FerryHook
    trigger = "ferry_provider.triggers.FerryTrigger"

    def stop(self) -> Request:
        """Return the request that cancels it."""
        return api.cancel(self.job_id)


@dataclass(frozen=True, kw_only=True)
class CrossingRequest(PlainRequest):
    """A crossing of a route that is to be started."""

    route: str

    job_class = Crossing

    def begin(self, mark: str) -> Request:
        """Return the request that starts it."""
        return api.start(self.route, mark)

    def newest(self) -> Request:
        """Return the request for the newest crossings of the route."""
        return api.newest(self.route)

    def mark_of(self, row: Row) -> str:
        """Return the note of a crossing."""
        return words_of(row.get("note"))


@dataclass(frozen=True, kw_only=True)
class CrossingQuery(PlainQuery):
    """The crossing that a sensor waits for."""

    job_class = Crossing
    ids = Ids(required={"job_id": whole_number, "conn_id": text})
