"""Ferry's API on paper: requests in, answers out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    json_reply,
    micro_instant,
)
from async_triggers.simulator.lives import Life, Timeline, as_life, next_life
from async_triggers.simulator.vendor import (
    JobView,
    Route,
    VendorSettings,
    VendorSimulator,
    is_text_id,
)

ENDS: Final = frozenset({"arrived", "stranded", "cancelled"})
NEWEST: Final = 20
PAGE: Final = 50


@dataclass(slots=True, kw_only=True)
class FerrySettings(VendorSettings):
    """How this Ferry behaves.

    :ivar passes: The boarding passes that it accepts.
    :ivar life: The life of a crossing for which nothing else was arranged.
    :ivar cancel_takes: Seconds until a cancelled crossing has stopped.
    """

    passes: tuple[str, ...] = ("simulator-pass",)
    life: str = "boarding:1 sailing:5 arrived"
    cancel_takes: float = 0.0


@dataclass(slots=True)
class _Crossing:
    number: int
    route: str
    note: str
    timeline: Timeline

    def word(self, at: float) -> str:
        moment = self.timeline.at(at)
        return self.timeline.last.word if moment is None else moment.word


@dataclass(slots=True)
class _Sea:
    routes: dict[str, list[Life]] = field(default_factory=dict)
    crossings: dict[int, _Crossing] = field(default_factory=dict)


class FerrySimulator(VendorSimulator[FerrySettings]):
    """Ferry's API: crossings of routes, one at a time on each."""

    name = "ferry"

    def __init__(
        self,
        settings: FerrySettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self._sea = _Sea()
        super().__init__(settings or FerrySettings(), clock=clock, seed=seed)

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        yield Route.to("GET", "/v1/harbour", self._harbour)
        every, one = "/v1/crossings", "/v1/crossings/{crossing}"
        yield Route.to("POST", every, self._start, operation="start")
        yield Route.to("GET", every, self._list, operation="list")
        yield Route.to("GET", one, self._get, operation="poll")
        yield Route.to("POST", f"{one}/cancel", self._cancel, operation="cancel")

    def airflow_connection(self, url: str) -> dict[str, str]:
        """Return an Airflow connection to it."""
        return {
            "conn_type": "ferry",
            "host": url,
            "password": self.settings.passes[0],
        }

    def clear(self) -> None:
        """Forget every route and crossing."""
        self._sea = _Sea()

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return Ferry's error."""
        return _refusal(status, "error", detail or "Something went wrong.")

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without a boarding pass."""
        scheme, _, value = request.header("Authorization").partition(" ")
        if scheme != "Bearer" or value not in self.settings.passes:
            raise RefusalError(_refusal(401, "no_pass", "Show your boarding pass."))

    # The scene

    def arrangeable(self) -> Mapping[str, Callable[..., object]]:
        """Return what can be arranged."""
        return {"routes": self.add_route, "crossings": self.add_crossing}

    def add_route(self, route: str, *, lives: Iterable[Life | str] = ()) -> None:
        """Add a route, whose next crossings take the lives."""
        with self.lock:
            self._sea.routes[route] = [as_life(each) for each in lives]

    def remove_route(self, route: str) -> None:
        """Remove a route."""
        with self.lock:
            del self._sea.routes[route]

    def add_crossing(
        self,
        route: str,
        life: Life | str | None = None,
        *,
        note: str = "",
        at: float | None = None,
    ) -> int:
        """Let a crossing begin, now or at a time, and return its id."""
        with self.lock:
            taken = (
                next_life(self._sea.routes[route], self.settings.life)
                if life is None
                else as_life(life)
            )
            number = len(self._sea.crossings) + 1
            timeline = Timeline(self.now() if at is None else at, taken)
            self._sea.crossings[number] = _Crossing(number, route, note, timeline)
            return number

    def start_by_itself(self, target: Any, at: float) -> None:
        """Let a crossing begin."""
        self.add_crossing(target, at=at)

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the crossings under way; the ended ones too where asked for."""
        with self.lock:
            self.run_schedules()
            now = self.now()
            found = []
            for each in self._sea.crossings.values():
                moment = each.timeline.at(now) or each.timeline.last
                if finished or moment.word not in ENDS:
                    view = (str(each.number), each.route, *moment, each.timeline.start)
                    found.append(JobView(*view))
            return found

    def finish(self, job: str, state: str) -> None:
        """Let a crossing be in a state from now on."""
        with self.lock:
            self._sea.crossings[int(job)].timeline.end(self.now(), state)

    # The operations

    def _harbour(self, request: SimRequest) -> SimReply:
        return json_reply(200, {"harbour": "Simulated"})

    def _start(self, request: SimRequest) -> SimReply:
        body = self.body(request)
        route, note = str(body.get("route")), str(body.get("note"))
        if route not in self._sea.routes:
            if not (self.settings.accept_unknown and is_text_id(route)):
                raise RefusalError(_refusal(404, "no_route", f"No route {route}."))
            self.add_route(route)
        if any(view.target == route for view in self.jobs()):
            self.record.refused_starts[route] += 1
            raise RefusalError(_refusal(409, "route_busy", f"{route} is sailing."))
        number = self.add_crossing(route, note=note)
        self.record.note_start(self.noted(), route, number, {"note": note})
        return json_reply(201, self._row(self._sea.crossings[number]))

    def _list(self, request: SimRequest) -> SimReply:
        if request.value("ended_since") is not None:
            return self._ended(request)
        route, ids = request.value("route"), set(request.values("id"))
        found = [
            self._row(each)
            for each in reversed(self._sea.crossings.values())
            if (str(each.number) in ids if ids else each.route == route)
        ]
        if route is not None and route not in self._sea.routes:
            raise RefusalError(_refusal(404, "no_route", f"No route {route}."))
        rows = self.quirks.spoil(found if ids else found[:NEWEST], self.random)
        return json_reply(200, {"crossings": rows})

    def _ended(self, request: SimRequest) -> SimReply:
        since = float(request.value("ended_since") or 0)
        after = int(request.value("after") or 0)
        now = self.now() - self.quirks.lag
        found = [
            self._row(each)
            for each in self._sea.crossings.values()
            if each.number > after
            and (moment := each.timeline.at(now)) is not None
            and moment.word in ENDS
            and self.shown(moment.since) >= since
        ]
        rows = self.quirks.spoil(found[:PAGE], self.random)
        return json_reply(200, {"crossings": rows})

    def _get(self, request: SimRequest, crossing: str) -> SimReply:
        return json_reply(200, self._row(self._crossing(crossing)))

    def _cancel(self, request: SimRequest, crossing: str) -> SimReply:
        found = self._crossing(crossing)
        now = self.now()
        if found.word(now) in ENDS:
            raise RefusalError(_refusal(409, "not_under_way", "It has ended."))
        if found.timeline.last.word != "cancelled":
            self.record.cancels[crossing] += 1
            found.timeline.end(now + self.settings.cancel_takes, "cancelled")
        return json_reply(200, self._row(found))

    def _crossing(self, crossing: str) -> _Crossing:
        number = int(crossing) if crossing.isdecimal() else 0
        if number not in self._sea.crossings:
            raise RefusalError(_refusal(404, "no_crossing", f"No {crossing}."))
        return self._sea.crossings[number]

    def _row(self, crossing: _Crossing) -> dict[str, Any]:
        now = self.now()
        moment = crossing.timeline.at(now) or crossing.timeline.last
        is_over = moment.word in ENDS
        failed = moment.word == "stranded"
        return {
            "id": crossing.number,
            "route": crossing.route,
            "note": crossing.note,
            "state": moment.word,
            "reason": "A storm came up." if failed else None,
            "departed_at": micro_instant(self.shown(crossing.timeline.start)),
            "ended_at": micro_instant(self.shown(moment.since)) if is_over else None,
            "url": f"https://ferry.example/crossings/{crossing.number}",
        }


def _refusal(status: int, code: str, message: str) -> SimReply:
    return json_reply(status, {"error": {"code": code, "message": message}})
