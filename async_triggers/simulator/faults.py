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
from async_triggers.simulator.proxies import PROXY_ANSWERS

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
    "proxy",
    "date",
    "clock",
]

Operation = Literal["poll", "list", "start", "cancel", "token"]
"""What a request is for. Fivetran's cancel is the change by which a sync is stopped."""

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
        answers 200 with half a JSON document; ``empty`` answers 200 with no body;
        ``proxy`` answers what a proxy or gateway would, see ``answer``; ``date`` answers
        properly with a ``Date`` that is ``seconds`` off; ``clock`` answers as a server
        whose clock is ``seconds`` off; what happens meanwhile keeps that clock's time.
    :param method: HTTP method, or ``*`` for any.
    :param path: Shell pattern (``*``, ``?``) that the whole path must match.
    :param operation: Only requests of this kind: ``poll`` for one job, ``list``,
        ``start``, ``cancel`` or ``token``; None for any.
    :param answer: Name of the answer for ``kind="proxy"``, such as ``nginx-403``: one of
        ``PROXY_ANSWERS``.
    :param status: Status code for ``kind="status"``.
    :param retry_after: Value of a ``Retry-After`` header; none is sent where None.
    :param body: Text of the answer for ``kind="status"``; the vendor's own error body
        where None.
    :param seconds: How long ``slow`` and ``delay`` take, or how far ``date`` and
        ``clock`` are ahead (below zero: behind), in seconds.
    :param times: How many requests to hit; None for as many as match.
    :param skip: How many matching requests to let pass first.
    :param rate: Share of the matching requests that are hit, 0 to 1.
    :param start_in: Seconds from now until the fault begins.
    :param lasts: Seconds for which it goes on; None for ever.
    :param takes_effect: Whether the server acts on the request before it goes wrong:
        a start whose answer is lost has still started a job. ``slow``, ``truncate``,
        ``delay``, ``cut``, ``empty``, ``date`` and ``clock`` spoil a proper answer and
        always take effect.
    """

    kind: FaultKind
    method: str = "*"
    path: str = "*"
    operation: Operation | None = None
    answer: str | None = None
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
        if self.operation not in (None, *get_args(Operation)):
            known = ", ".join(get_args(Operation))
            message = f"operation {self.operation!r} is unknown; use one of: {known}"
            raise ValueError(message)
        if (self.kind == "proxy") != (self.answer is not None):
            message = "a fault has an answer if its kind is 'proxy', and only then"
            raise ValueError(message)
        if self.answer is not None and self.answer not in PROXY_ANSWERS:
            known = ", ".join(PROXY_ANSWERS)
            message = f"no proxy answers {self.answer!r}; use one of: {known}"
            raise ValueError(message)
        _check_numbers(self, "status", "seconds", "skip", "rate", "start_in")
        _check_numbers(self, "times", "lasts", optional=True)
        for name in ("method", "path"):
            if not isinstance(getattr(self, name), str):
                message = (
                    f"{name} of a fault must be a text, not {getattr(self, name)!r}"
                )
                raise ValueError(message)  # noqa: TRY004 - answered as 400
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

    def matches(self, request: SimRequest, operation: Operation | None) -> bool:
        """Return whether the request is one of those meant."""
        return (
            self.method in ("*", request.method)
            and self.operation in (None, operation)
            and fnmatchcase(request.path, self.path)
        )

    def spoil(
        self, reply: SimReply | None, error: Callable[[int], SimReply]
    ) -> SimReply:
        """Return what the client gets instead of ``reply``.

        ``reply`` is None where the server never did the work. ``error`` makes the
        vendor's own error answer for a status.
        """
        whole = reply or SimReply(200, {"Content-Type": "application/json"}, b"{}")
        match self.kind:
            case "status" | "proxy":
                found = self._refusal(error).after(reply.delay if reply else 0.0)
            case "html":
                found = text_reply(200, HTML_PAGE, content_type="text/html")
            case "delay":
                found = whole.after(self.seconds)
            case "empty":
                found = replace(whole, body=b"")
            case "cut":
                found = replace(whole, body=whole.body[: max(1, len(whole.body) // 2)])
            case "date" | "clock":
                # The simulator shows the time; nothing else is wrong.
                found = whole
            case "slow":
                found = replace(whole, fault=self.kind, drip=self.seconds)
            case "reset" | "close" | "hang" | "truncate":
                found = replace(whole, fault=self.kind)
        return found

    def _refusal(self, error: Callable[[int], SimReply]) -> SimReply:
        if self.answer is not None:
            found = PROXY_ANSWERS[self.answer].reply()
        elif self.body is None:
            found = error(self.status)
        else:
            found = text_reply(self.status, self.body)
        if self.retry_after is None:
            return found
        later = {"Retry-After": str(self.retry_after)}
        return replace(found, headers={**found.headers, **later})

    @property
    def needs_answer(self) -> bool:
        """Whether the proper answer has to be computed first."""
        return self.takes_effect or self.kind in {
            "slow",
            "delay",
            "cut",
            "empty",
            "truncate",
            "date",
            "clock",
        }

    @property
    def by_vendor(self) -> bool:
        """Whether the answer is the vendor's own, with the headers it always sends."""
        return self.kind not in {"proxy", "html"}


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

    def pick(
        self, request: SimRequest, operation: Operation | None = None
    ) -> Fault | None:
        """Return the fault that hits this request, if one does, and use it up."""
        now = self.clock()
        for armed in list(self._armed):
            fault = armed.fault
            begin = armed.since + fault.start_in
            if fault.lasts is not None and now >= begin + fault.lasts:
                self._armed.remove(armed)
                continue
            if now < begin or not fault.matches(request, operation):
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

    def __post_init__(self) -> None:
        """Check the values.

        :raises ValueError: One is no number.
        """
        _check_numbers(self, "lag", "skip", "repeat", "churn")

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


def _check_numbers(checked: object, *names: str, optional: bool = False) -> None:
    """Check fields that are numbers, or where optional also None.

    :raises ValueError: One is none: it would break every later request.
    """
    for name in names:
        value = getattr(checked, name)
        if value is None and optional:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            message = f"{name!r} must be a number, not {value!r}"
            raise ValueError(message)  # noqa: TRY004 - answered as 400


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
