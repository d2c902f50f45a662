"""Trouble on demand: what goes wrong, for which requests, how often."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Final, Literal, TypeVar, cast, get_args

from async_triggers.simulator.exchange import (
    SimReply,
    SimRequest,
    text_reply,
)

FaultKind = Literal[
    "status",
    "reset",
    "close",
    "hang",
    "slow",
    "truncate",
    "delay",
    "html",
    "cut",
    "empty",
]

HTML_PAGE: Final = (
    "<!doctype html><html><head><title>Sign in</title></head>"
    "<body><h1>One moment, please</h1></body></html>"
)

_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of trouble for the requests that match.

    :param kind: ``status`` answers with ``status``; ``reset`` and ``close`` end the
        connection without an answer; ``hang`` never answers; ``slow`` lets the body
        drip for ``seconds``; ``truncate`` closes in mid-body; ``delay`` answers
        properly, ``seconds`` late; ``html`` answers 200 with a web page; ``cut``
        answers 200 with half a JSON document; ``empty`` answers 200 with no body.
    :param method: HTTP method, or ``*`` for any.
    :param path: Shell pattern (``*``, ``?``) that the whole path must match.
    :param status: Status code for ``kind="status"``.
    :param retry_after: Value of a ``Retry-After`` header; none is sent where None.
    :param body: Text of the answer for ``kind="status"``; the vendor's own error body
        where None.
    :param seconds: How long ``slow`` and ``delay`` take, in seconds.
    :param times: How many requests to hit; None for as many as match.
    :param skip: How many matching requests to leave alone first.
    :param rate: Share of the matching requests that are hit, 0 to 1.
    :param start_in: Seconds from now until the fault begins.
    :param lasts: Seconds for which it goes on; None for ever.
    :param takes_effect: Whether the server does what was asked before it goes wrong:
        a start whose answer is lost has still started a job. ``slow``, ``truncate``,
        ``delay``, ``cut`` and ``empty`` spoil a proper answer and always take effect.
    """

    kind: FaultKind
    method: str = "*"
    path: str = "*"
    status: int = 503
    retry_after: str | int | None = None
    body: str | None = None
    seconds: float = 5.0
    times: int | None = 1
    skip: int = 0
    rate: float = 1.0
    start_in: float = 0.0
    lasts: float | None = None
    takes_effect: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        :raises ValueError: A value lies outside of its range.
        """
        if self.kind not in get_args(FaultKind):
            known = ", ".join(get_args(FaultKind))
            message = f"kind of fault {self.kind!r} is unknown; use one of: {known}"
            raise ValueError(message)
        if not 0.0 <= self.rate <= 1.0:
            message = f"rate of a fault must be between 0 and 1, not {self.rate!r}"
            raise ValueError(message)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fault:
        """Make a fault from JSON.

        :raises ValueError: A field is unknown or missing.
        """
        return _from_dict(cls, values, "fault")

    def as_dict(self) -> dict[str, Any]:
        """Return the fault as JSON values."""
        return asdict(self)

    def matches(self, request: SimRequest) -> bool:
        """Tell whether the request is one of those meant."""
        return self.method in ("*", request.method) and fnmatchcase(
            request.path, self.path
        )

    def spoil(
        self, reply: SimReply | None, error: Callable[[int], SimReply]
    ) -> SimReply:
        """Return what the client gets instead of ``reply``.

        ``reply`` is None where the server never did the work. ``error`` makes the
        vendor's own error answer for a status.
        """
        if self.kind == "status":
            found = (
                error(self.status)
                if self.body is None
                else text_reply(self.status, self.body)
            )
            if self.retry_after is not None:
                found = replace(
                    found,
                    headers={**found.headers, "Retry-After": str(self.retry_after)},
                )
            return found.after(reply.delay if reply else 0.0)
        if self.kind == "html":
            return text_reply(200, HTML_PAGE, content_type="text/html")
        whole = reply or SimReply(200, {"Content-Type": "application/json"}, b"{}")
        if self.kind == "delay":
            return whole.after(self.seconds)
        if self.kind == "empty":
            return replace(whole, body=b"")
        if self.kind == "cut":
            return replace(whole, body=whole.body[: max(1, len(whole.body) // 2)])
        return replace(
            whole,
            fault=self.kind,
            drip=self.seconds if self.kind == "slow" else 0.0,
        )

    @property
    def needs_answer(self) -> bool:
        """Whether the proper answer has to be computed first."""
        return self.takes_effect or self.kind in {
            "slow",
            "delay",
            "cut",
            "empty",
            "truncate",
        }


@dataclass(slots=True)
class _Armed:
    fault: Fault
    since: float
    seen: int = 0
    hits: int = 0


@dataclass(slots=True)
class FaultPlan:
    """The faults of one vendor's API, tried in the order they were added."""

    clock: Callable[[], float]
    random: Random
    _armed: list[_Armed] = field(default_factory=list)

    def add(self, *faults: Fault) -> None:
        """Arm faults; their times count from now."""
        now = self.clock()
        self._armed.extend(_Armed(fault, now) for fault in faults)

    def clear(self) -> None:
        """Disarm all of them."""
        self._armed.clear()

    def pick(self, request: SimRequest) -> Fault | None:
        """Return the fault that hits this request, if one does, and use it up."""
        now = self.clock()
        for armed in list(self._armed):
            fault = armed.fault
            begin = armed.since + fault.start_in
            if fault.lasts is not None and now >= begin + fault.lasts:
                self._armed.remove(armed)
                continue
            if now < begin or not fault.matches(request):
                continue
            armed.seen += 1
            if armed.seen <= fault.skip:
                continue
            if fault.rate < 1.0 and self.random.random() >= fault.rate:
                continue
            armed.hits += 1
            if fault.times is not None and armed.hits >= fault.times:
                self._armed.remove(armed)
            return fault
        return None

    def as_list(self) -> list[dict[str, Any]]:
        """Return the armed faults, with how often each has hit."""
        return [{**one.fault.as_dict(), "hits": one.hits} for one in self._armed]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuirks:
    """How the list endpoints of a vendor differ from the truth.

    :param lag: The list shows rows as they were this many seconds ago.
    :param skip: Share of the rows left out of a page, 0 to 1.
    :param repeat: Share of the rows that appear twice in a page, 0 to 1.
    :param ignore_filters: Query parameters that the server takes no notice of.
    :param churn: How many running jobs change right after each page was served.
    """

    lag: float = 0.0
    skip: float = 0.0
    repeat: float = 0.0
    ignore_filters: Sequence[str] = ()
    churn: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ListQuirks:
        """Make quirks from JSON.

        :raises ValueError: A field is unknown.
        """
        return _from_dict(cls, values, "list quirk")

    def spoil(self, rows: Iterable[_Row], random: Random) -> list[_Row]:
        """Return a page with rows left out and repeated."""
        if not self.skip and not self.repeat:
            return list(rows)
        shown: list[_Row] = []
        for row in rows:
            if self.skip and random.random() < self.skip:
                continue
            shown.append(row)
            if self.repeat and random.random() < self.repeat:
                shown.append(row)
        return shown


_Value = TypeVar("_Value")


def _from_dict(
    cls: Callable[..., _Value], values: Mapping[str, Any], what: str
) -> _Value:
    known = [one.name for one in fields(cast("Any", cls))]
    for name in values:
        if name not in known:
            message = f"{what} has no field {name!r}; it has: {', '.join(known)}"
            raise ValueError(message)
    try:
        return cls(**values)
    except TypeError as error:
        message = f"bad {what}: {error}"
        raise ValueError(message) from error
