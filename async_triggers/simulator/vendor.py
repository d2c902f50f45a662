"""What the simulated vendors share: routing, faults, record, control."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    http_date,
    json_reply,
)
from async_triggers.simulator.faults import Fault, FaultPlan, ListQuirks, Operation
from async_triggers.simulator.record import Record

CONTROL_PREFIX: Final = "/_simulator"

_UNKNOWN_PATH: Final = "(unknown path)"

# What a missing value looks like where a program has made text of it.
_MISSING: Final = frozenset(
    {"none", "null", "nil", "undefined", "nan", "true", "false"}
)
_MISSING_PARTS: Final = frozenset({"None", "null", "undefined", "nan", "NaN"})
_LARGEST_ID: Final = 2**63 - 1


@dataclass(slots=True, kw_only=True)
class VendorSettings:
    """Settings that every simulated vendor has.

    :ivar latency: Seconds that every answer takes longer.
    :ivar skew: Seconds by which the server's clock is ahead of the real one. All that
        the server shows and reads is shifted; job lives are not.
    :ivar accept_unknown: Whether an account, connection or job that was not arranged
        springs into being when it is requested, instead of being refused. What is no id,
        such as ``None`` or an empty text, is refused all the same: it comes from a
        template that has rendered to nothing.
    """

    latency: float = 0.0
    skew: float = 0.0
    accept_unknown: bool = False


Handler = Callable[..., SimReply]
Settings = TypeVar("Settings", bound=VendorSettings)


class Route(NamedTuple):
    """One endpoint of the API: method, path with ``{names}``, and who answers."""

    method: str
    template: str
    pattern: re.Pattern[str]
    handler: Handler
    public: bool
    operation: Operation | None

    @classmethod
    def to(
        cls,
        method: str,
        template: str,
        handler: Handler,
        *,
        public: bool = False,
        operation: Operation | None = None,
    ) -> Route:
        """Make a route; ``{name}`` is one path segment, ``{name+}`` the whole rest."""
        pattern = re.sub(
            r"\{(\w+)(\+?)\}",
            lambda found: f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})",
            template,
        )
        return cls(method, template, re.compile(pattern), handler, public, operation)

    @property
    def label(self) -> str:
        """The name under which requests are counted."""
        return f"{self.method} {self.template.replace('+}', '}')}"


class JobView(NamedTuple):
    """One job as the control API shows it; times in seconds of the real clock."""

    job: str
    target: str
    state: str
    since: float
    created: float


@dataclass(slots=True)
class _Schedule:
    """When the vendor starts a job by itself: the interval, and the next time."""

    every: float
    due: float


@dataclass(slots=True)
class _Step:
    """The server's clock was off from ``begin`` to ``end``, both in real time."""

    fault: Fault
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """By how much."""
        return self.fault.seconds


class VendorSimulator(ABC, Generic[Settings]):
    """One vendor's API as a function of the request and of the time.

    :meth:`respond` answers at once and never waits: an answer that the vendor would
    give later carries a ``delay``, and a job's state follows from the clock alone. So
    the same object serves real sockets and tests on a virtual clock.

    :param clock: Returns epoch seconds.
    :param seed: Makes rates and made-up tokens repeatable.
    :param settings: The settings to begin with and to return to on :meth:`reset`.

    :ivar faults: The troubles to make; see :class:`Fault`.
    :ivar quirks: How list endpoints differ from the truth; see :class:`ListQuirks`.
    :ivar record: What it was sent.
    """

    name: ClassVar[str]
    settings: Settings

    def __init__(
        self, settings: Settings, *, clock: Callable[[], float] = time.time, seed: int
    ) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self._seed = seed
        self._initial = settings
        # When the server's clock was off, and by how much: what happened then bears that
        # clock's time, and goes on to.
        self._steps: list[_Step] = []
        self.record = Record()
        self.random = Random(seed)
        self.faults = FaultPlan(clock, self.random)
        self.quirks = ListQuirks()
        self._schedules: dict[Any, _Schedule] = {}
        self._routes = list(self.routes())
        self.reset()

    # What a vendor provides

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""

    @abstractmethod
    def clear(self) -> None:
        """Forget every connection, job and token."""

    @abstractmethod
    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without valid credentials.

        :raises RefusalError: It has none.
        """

    @abstractmethod
    def error(self, status: int, detail: str = "") -> SimReply:
        """Return the vendor's own error answer."""

    @abstractmethod
    def airflow_connection(self, url: str) -> dict[str, str]:
        """Return the fields of an Airflow connection to it, where it listens at a URL."""

    @abstractmethod
    def arrangeable(self) -> Mapping[str, Callable[..., object]]:
        """Return what the control API can arrange, and what arranges one of each kind."""

    @abstractmethod
    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the jobs that run now; the finished ones too where requested."""

    @abstractmethod
    def finish(self, job: str, state: str) -> None:
        """Let a job be in a state from now on, in the vendor's words.

        :raises ValueError: There is no such job.
        """

    def start_by_itself(self, target: Any, at: float) -> None:
        """Let a job of a target begin at a time, as the vendor's own schedule does."""
        raise NotImplementedError

    def can_start(self, target: Any) -> bool:
        """Whether there is such a target, of which jobs can be started."""
        return True

    def schedule(self, target: Any, every: float) -> None:
        """Start jobs of a target from now on, at this interval in seconds.

        :raises ValueError: The interval is not above zero, or there is no such target.
        """
        if not every > 0:
            raise ValueError(f"'every' must be seconds above zero, not {every!r}")
        with self.lock:
            if not self.can_start(target):
                raise ValueError(
                    f"{self.name} has no {target!r} to schedule; arrange it first"
                )
            self._schedules[target] = _Schedule(every, self.now() + every)

    def run_schedules(self) -> None:
        """Start all jobs whose time has come; nothing runs between two requests."""
        now = self.now()
        for target, schedule in self._schedules.items():
            while schedule.due <= now:
                self.start_by_itself(target, schedule.due)
                schedule.due += schedule.every

    def add(self, kind: str, values: dict[str, Any]) -> None:
        """Arrange one thing that the control API was given.

        :raises ValueError: The kind or a field is unknown.
        """
        _call_with(self._arranger(kind), kind, values)

    def _arranger(self, kind: str) -> Callable[..., object]:
        known = {**self.arrangeable(), "schedules": self.schedule}
        if kind not in known:
            raise ValueError(
                f"{self.name} has no {kind!r} to arrange; it has: settings, quirks, "
                f"faults, {', '.join(known)}"
            )
        return known[kind]

    def below(self, path: str) -> str:
        """Return a path as the routes have it, or nothing where it is none of them."""
        return path

    def admit(self, request: SimRequest) -> SimReply | None:
        """Return a refusal that comes before everything else, such as a rate limit."""
        return None

    def decorate(self, reply: SimReply) -> SimReply:
        """Return an answer with the headers that all of this vendor's answers have."""
        return reply

    def occupy(self, seconds: float) -> float:
        """Return how long a request of that length waits for a free server thread."""
        return 0.0

    # Time as the server shows it

    def now(self) -> float:
        """Return the real clock's epoch seconds, in which all state is kept."""
        return self.clock()

    def shown(self, at: float) -> float:
        """Return a time as the server's clock has it."""
        off = 0.0
        # For each time of each row of a list.
        if self._steps:
            off = sum(
                step.seconds for step in self._steps if step.begin <= at <= step.end
            )
        return at + self.settings.skew + off

    def noted(self) -> float:
        """Return the time for the record: the server's clock, which no fault changes."""
        return self.now() + self.settings.skew

    def _note_step(self, fault: Fault) -> None:
        """Note that the server's clock is off now, and has been since it was first."""
        now = self.now()
        for step in self._steps:
            if step.fault is fault:
                step.end = now
                return
        self._steps.append(_Step(fault, now, now))

    # Requests

    def respond(self, request: SimRequest) -> SimReply:
        """Answer one request from the state at this moment."""
        with self.lock:
            if request.path.startswith(CONTROL_PREFIX + "/"):
                return self._control(request)
            self.run_schedules()
            route, names = self._find(request)
            label = route.label if route else f"{request.method} {_UNKNOWN_PATH}"
            fault = self.faults.pick(request, route.operation if route else None)
            if fault is not None and fault.kind == "clock":
                self._note_step(fault)
            proper = None
            if fault is None or fault.needs_answer:
                proper = self._proper(request, route, names)
            reply = fault.spoil(proper, self.error) if fault else proper
            if reply is None:  # pragma: no cover - a fault without answer spoils None
                raise AssertionError(label)
            reply = reply.after(self.occupy(reply.delay) + self.settings.latency)
            if fault is None or fault.by_vendor:
                reply = self.decorate(reply)
            date = {"Date": http_date(self.shown(self.now()))}
            reply = replace(reply, headers={**date, **reply.headers})
            if fault is not None and fault.kind == "date":
                wrong = {"Date": http_date(self.shown(self.now()) + fault.seconds)}
                reply = replace(reply, headers={**reply.headers, **wrong})
            self.record.add(
                label,
                at=self.noted(),
                path=request.path,
                query=request.query,
                status=reply.status,
                fault=fault.kind if fault else None,
                answered=reply.fault not in {"reset", "close", "hang"},
                size=len(reply.body),
            )
            return reply

    def _find(self, request: SimRequest) -> tuple[Route | None, dict[str, str]]:
        path = self.below(request.path)
        # Where GET is served, HEAD is: the server leaves the body out.
        # https://www.rfc-editor.org/rfc/rfc9110#name-head
        method = "GET" if request.method == "HEAD" else request.method
        for route in self._routes if path else ():
            if route.method == method:
                found = route.pattern.fullmatch(path)
                if found:
                    return route, found.groupdict()
        return None, {}

    def _proper(
        self, request: SimRequest, route: Route | None, names: dict[str, str]
    ) -> SimReply:
        try:
            refusal = self.admit(request)
            if refusal is not None:
                return refusal
            if route is None:
                return self.unrouted(request)
            if not route.public:
                self.authorize(request)
            return route.handler(request, **names)
        except RefusalError as refused:
            return refused.reply

    def body(self, request: SimRequest) -> dict[str, Any]:
        """Return the body of a request as a JSON object.

        :raises RefusalError: It is none.
        """
        try:
            return request.json_object()
        except ValueError as error:
            raise RefusalError(self.error(400, str(error))) from error

    def filter(self, request: SimRequest, name: str) -> str | None:
        """Return the value of a list's filter, or None where it is ignored."""
        return None if name in self.quirks.ignore_filters else request.value(name)

    def unrouted(self, request: SimRequest) -> SimReply:
        """Answer a request whose path or method the API does not have."""
        return self.error(404, f"no operation {request.method} {request.path}")

    # Control

    def reset(self) -> None:
        """Return to the state and the settings at the beginning."""
        with self.lock:
            self.settings = replace(self._initial)
            self.random.seed(self._seed)
            self.faults.clear()
            self.quirks = ListQuirks()
            self._steps.clear()
            self._schedules.clear()
            self.record.clear()
            self.clear()

    def configure(self, **settings: object) -> None:
        """Change settings.

        :raises ValueError: A setting is unknown or has a value of a wrong type.
        """
        with self.lock:
            known = {one.name for one in fields(self.settings)}
            for name, value in settings.items():
                if name not in known:
                    raise ValueError(
                        f"{self.name} has no setting {name!r}; "
                        f"it has: {', '.join(sorted(known))}"
                    )
                setattr(self.settings, name, self._checked(name, value))

    def _checked(self, name: str, value: object) -> object:
        current = getattr(self._initial, name)
        if isinstance(current, tuple) and isinstance(value, list):
            return tuple(value)
        if isinstance(current, bool) or current is None or value is None:
            good = current is None or value is None or isinstance(value, bool)
        elif isinstance(current, (int, float)):
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
        else:
            good = isinstance(value, type(current))
        if not good:
            raise ValueError(
                f"setting {name!r} of {self.name} must be like {current!r}, "
                f"not {value!r}"
            )
        return value

    def arrange(self, **things: object) -> None:
        """Arrange the scene from JSON-like values, as the control API does.

        ``settings`` and ``quirks`` are objects, ``faults`` and everything that the
        vendor knows (connections, jobs, …) are lists of objects.

        :raises ValueError: Something in it is unknown or malformed.
        """
        with self.lock:
            # What is scheduled has to be there, in any order of the fields.
            for kind in sorted(things, key=lambda kind: kind == "schedules"):
                values = things[kind]
                if kind == "settings":
                    self.configure(**_object(kind, values))
                elif kind == "quirks":
                    self.quirks = ListQuirks.from_dict(_object(kind, values))
                elif kind == "faults":
                    self.faults.add(*map(Fault.from_dict, _objects(kind, values)))
                else:
                    arranger = self._arranger(kind)
                    for one in _objects(kind, values):
                        _call_with(arranger, kind, one)

    def _control(self, request: SimRequest) -> SimReply:
        action = request.path[len(CONTROL_PREFIX) :].strip("/")
        try:
            return json_reply(200, self._act(request, f"{request.method} {action}"))
        except KeyError:
            return json_reply(
                404, {"error": f"the control API has no {request.method} {action!r}"}
            )
        except ValueError as error:
            return json_reply(400, {"error": str(error)})

    def _act(self, request: SimRequest, action: str) -> object:
        answer = self._tell(request, action)
        if answer is not None:
            return answer
        match action:
            case "POST reset":
                self.reset()
            case "POST arrange":
                self.arrange(**request.json_object())
            case "POST faults":
                self.faults.add(Fault.from_dict(request.json_object()))
            case "DELETE faults":
                self.faults.clear()
            case "POST finish":
                wanted = request.json_object()
                if not {"job", "state"} <= set(wanted):
                    raise ValueError("'finish' needs the fields 'job' and 'state'")
                self.finish(str(wanted["job"]), str(wanted["state"]))
            case _:
                raise KeyError(action)
        return {"ok": True}

    def _tell(self, request: SimRequest, action: str) -> object:
        match action:
            case "GET ":
                return {"vendor": self.name, "now": self.shown(self.now())}
            case "GET faults":
                return self.faults.as_list()
            case "GET record":
                return self.record.as_dict(exchanges=request.value("exchanges") == "1")
            case "GET jobs":
                jobs = self.jobs(finished=request.value("finished") == "1")
                return [job._asdict() for job in jobs]
            case _:
                return None


def is_text_id(text: str) -> bool:
    """Whether a text can be the id of something, such as a connection.

    Real ids are UUIDs and names of letters, digits and underscores. What a template
    renders by mistake is not: an empty text, ``None``, a list, ``<Object at 0x…>``.
    """
    parts = re.split(r"[_.-]", text)
    return (
        re.fullmatch(r"[\w.-]+", text, re.ASCII) is not None
        and any(parts)
        and text.lower() not in _MISSING
        and not _MISSING_PARTS.intersection(parts)
    )


def as_integer_id(text: str) -> int | None:
    """Return an id that is a number of 64 bits above zero, or None if it is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_LARGEST_ID))):
        return None
    number = int(text)
    return number if 0 < number <= _LARGEST_ID else None


def check_text_id(name: str, value: object) -> None:
    """Check an id to arrange that is a text.

    :raises ValueError: It is none, so that no request could name it.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, not {value!r}")


def check_integer_id(name: str, value: object) -> None:
    """Check an id to arrange that is a number.

    :raises ValueError: It is none, so that no request could name it.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or as_integer_id(str(value)) is None:
        raise ValueError(f"{name} must be an integer above zero, not {value!r}")


def not_an_id(text: str) -> str:
    """Return what to say of an id that is none."""
    return f"{text!r} is no id; has a template rendered to nothing?"


def unslashed(path: str) -> str:
    """Return a path without the slash at its end, if it has one."""
    return path[:-1] if path.endswith("/") and len(path) > 1 else path


def _object(kind: str, values: object) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind!r} must be a JSON object, not {values!r}")  # noqa: TRY004 - answered as 400
    return {str(key): value for key, value in values.items()}


def _objects(kind: str, values: object) -> list[dict[str, Any]]:
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{kind!r} must be a list of JSON objects, not {values!r}")  # noqa: TRY004 - answered as 400
    return [_object(kind, value) for value in values]


def _call_with(function: Callable[..., object], kind: str, values: object) -> None:
    """Call a function with the fields of a JSON object as keywords.

    :raises ValueError: A field is unknown or missing.
    """
    try:
        function(**_object(kind, values))
    except TypeError as error:
        raise ValueError(f"bad entry in {kind!r}: {error}") from error
