"""Fivetran's REST API on paper: requests in, answers out.

Written from the vendor's documentation and API definition, not from any client.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    json_reply,
    micro_instant,
    parse_instant,
)
from async_triggers.simulator.lives import Life, as_life
from async_triggers.simulator.vendor import (
    JobView,
    Route,
    VendorSettings,
    VendorSimulator,
    call_with,
    is_text_id,
    not_an_id,
    unslashed,
)

# https://fivetran.com/docs/rest-api/api-reference/connections/connection-sync-history
_HISTORY: Final = {
    "succeeded": "COMPLETED",
    "failed": "FAILURE",
    "broken": "FAILURE",
    "canceled": "CANCELED",
    "incomplete": "INCOMPLETE",
}
_WEEK: Final = 7 * 86400.0
_HOUR: Final = 3600.0

# https://fivetran.com/docs/rest-api/pagination
_DEFAULT_LIMIT: Final = 100
_MAX_LIMIT: Final = 1000

# https://fivetran.com/docs/rest-api/getting-started/api-response-codes
_CODES: Final = {
    400: "InvalidInput",
    401: "AuthFailed",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    415: "UnsupportedMediaType",
    429: "TooManyRequests",
    500: "InternalServerError",
}

# https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
_TEST_STATUSES: Final = frozenset(
    {"PASSED", "SKIPPED", "WARNING", "FAILED", "JOB_FAILED"}
)
_TEST_FAILURES: Final = frozenset({"FAILED", "JOB_FAILED"})

# https://fivetran.com/docs/rest-api/api-reference/connections/modify-connection
_TEST_CONTROLS: Final = frozenset(
    {"run_setup_tests", "trust_certificates", "trust_fingerprints"}
)

_RECONNECT: Final = ("reconnect", "Reconnect")

DEFAULT_GROUP: Final = "simulated_group"


@dataclass(slots=True, kw_only=True)
class FivetranSettings(VendorSettings):
    """How this Fivetran behaves.

    :ivar api_key: The key to accept, with its secret.
    :ivar life: The life of a sync for which nothing else was arranged.
    :ivar reschedule_after: Seconds until the next try, where a life ends rescheduled.
    :ivar run_schedules: Whether connections with the schedule ``auto`` sync by
        themselves, every ``sync_frequency`` minutes.
    :ivar already_syncing: What a start answers while a sync runs: ``ok`` answers 200
        and does nothing, ``conflict`` answers 409.
    :ivar paused_sync: What a start answers while the connection is paused or its setup
        is incomplete or broken, likewise; nothing is started either way.
    :ivar setup_tests_take: Seconds for which the setup tests keep the caller waiting.
    :ivar stop_blocks: Seconds that stopping a sync takes, for ``force`` and pausing.
    :ivar pause_answers_500: Whether pausing a running sync answers 500 although the
        connection is paused then.
    :ivar paused_history: The history's status of a sync that pausing has stopped.
    :ivar running_history: The history's status of a sync while it runs.
    :ivar sync_history: Whether the history endpoint exists.
    :ivar hourly_limit: Requests within any hour; 500 on a trial.
    :ivar retry_after: Seconds in ``Retry-After``; None tells when a request is free.
    :ivar null_cursor: Whether the last page has ``next_cursor: null`` or none at all.
    :ivar stuck_cursor: Whether the list gives the same cursor again and again.
    :ivar config_padding: Bytes of ``config`` in every row.
    :ivar legacy_paths: Whether ``/v1/connectors`` and ``/force`` are served too.
    """

    api_key: str = "simulator-key"
    api_secret: str = "simulator-secret"  # noqa: S105 - made up
    life: str = "scheduled:1 syncing:5 succeeded"
    reschedule_after: float = 3600.0
    run_schedules: bool = False
    already_syncing: str = "ok"
    paused_sync: str = "ok"
    setup_tests_take: float = 0.0
    stop_blocks: float = 0.0
    pause_answers_500: bool = False
    paused_history: str = "PAUSED"
    running_history: str = "INCOMPLETE"
    sync_history: bool = True
    # https://fivetran.com/docs/rest-api/getting-started/rate-limiting
    hourly_limit: int = 20_000
    retry_after: int | None = None
    null_cursor: bool = True
    stuck_cursor: bool = False
    config_padding: int = 0
    legacy_paths: bool = False


@dataclass(frozen=True, slots=True)
class FivetranState:
    """What a connection's row tells; times in seconds of the real clock."""

    sync_state: str
    paused: bool
    schedule_type: str
    setup_state: str
    succeeded_at: float | None
    failed_at: float | None
    rescheduled_for: float | None = None
    is_historical_sync: bool = False
    update_state: str = "on_schedule"
    tasks: tuple[tuple[str, str], ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    sync_frequency: int = 360


@dataclass(slots=True)
class FivetranSync:
    """One entry of the sync history; ``status`` is empty while it runs."""

    sync_id: str
    start: float
    end: float | None = None
    status: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FivetranTest:
    """One setup test and its result."""

    title: str
    status: str
    message: str = ""
    details: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check the status.

        :raises ValueError: Fivetran has no such status.
        """
        if self.status not in _TEST_STATUSES:
            raise ValueError(
                f"the setup test {self.title!r} cannot have the status {self.status!r}; "
                f"it must be one of: {', '.join(sorted(_TEST_STATUSES))}"
            )

    def shown(self) -> dict[str, Any]:
        """Return the test as the API shows it."""
        row = {"title": self.title, "status": self.status, "message": self.message}
        return row if self.details is None else {**row, "details": dict(self.details)}


TestRun = tuple[FivetranTest, ...]
"""The results of one run of a connection's setup tests."""


@dataclass(slots=True)
class FivetranConnection:
    """One connection: its row at every time so far, its history, what is to come."""

    connection_id: str
    group_id: str
    service: str
    schema: str
    created_at: float
    lives: list[Life]
    times: list[float]
    states: list[FivetranState]
    history: list[FivetranSync] = field(default_factory=list)
    plan: deque[tuple[float, str]] = field(default_factory=deque)
    waiting: Life | None = None
    resync_wanted: bool = False
    due: float = math.inf
    tables: Mapping[str, Any] | None = None
    test_runs: list[TestRun] = field(default_factory=list)

    @property
    def state(self) -> FivetranState:
        """The row as it is now."""
        return self.states[-1]

    def at(self, time: float) -> FivetranState | None:
        """Return the row as it was at a time, or None before there was one."""
        index = bisect_right(self.times, time) - 1
        return self.states[index] if index >= 0 else None

    def change(self, at: float, **changes: Any) -> None:
        """Change the row from a time on."""
        self.states.append(replace(self.state, **changes))
        self.times.append(at)

    @property
    def running(self) -> FivetranSync | None:
        """The history's entry of the sync that runs, if one does."""
        if self.history and self.history[-1].end is None:
            return self.history[-1]
        return None

    @property
    def is_busy(self) -> bool:
        """Whether a start would do nothing: a sync runs or is about to."""
        return bool(self.plan) and self.state.sync_state != "rescheduled"


class FivetranSimulator(VendorSimulator[FivetranSettings]):
    """Fivetran's REST API: connections, syncs, history, groups, destinations.

    A life's states are ``scheduled``, ``syncing``, ``rescheduled`` and at the end
    ``succeeded``, ``failed``, ``canceled``, ``incomplete`` or ``broken``. In the state
    ``rescheduled`` a connection with the schedule ``manual`` waits for a start; with
    ``auto`` its life goes on by itself.
    """

    name: ClassVar[str] = "fivetran"

    def __init__(
        self,
        settings: FivetranSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.groups: dict[str, str] = {}
        self.destinations: dict[str, tuple[str, dict[str, Any]]] = {}
        self.connections: dict[str, FivetranConnection] = {}
        self._requests: deque[float] = deque()
        self._next_sync = 1
        super().__init__(settings or FivetranSettings(), clock=clock, seed=seed)

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        yield Route.to("GET", "/v1/account/info", self._account)
        yield Route.to("GET", "/v1/users", self._list_users)
        yield Route.to("GET", "/v1/groups", self._list_groups)
        yield Route.to("GET", "/v1/groups/{group_id}", self._get_group)
        yield Route.to("GET", "/v1/destinations/{group_id}", self._get_destination)
        for word in ("connections", "connectors"):
            one = f"/v1/{word}/{{connection_id}}"
            yield Route.to(
                "GET", f"/v1/{word}", self._list_connections, operation="list"
            )
            yield Route.to("GET", one, self._get_connection, operation="poll")
            yield Route.to("PATCH", one, self._patch, operation="cancel")
            yield Route.to("POST", f"{one}/sync", self._sync, operation="start")
            yield Route.to("POST", f"{one}/resync", self._resync, operation="start")
            yield Route.to("POST", f"{one}/test", self._test)
            yield Route.to("GET", f"{one}/sync-history", self._get_history)
            yield Route.to("GET", f"{one}/schemas", self._get_schemas)
            yield Route.to(
                "GET",
                f"/v1/groups/{{group_id}}/{word}",
                self._list_connections,
                operation="list",
            )
        yield Route.to(
            "POST",
            "/v1/connectors/{connection_id}/force",
            self._force,
            operation="start",
        )

    def below(self, path: str) -> str:
        """Return the path without a slash at its end, unless it is one that is gone."""
        legacy = "connectors" in path.split("/")
        return "" if legacy and not self.settings.legacy_paths else unslashed(path)

    def clear(self) -> None:
        """Forget every connection and group; one group is left."""
        self.groups = {DEFAULT_GROUP: "simulated_warehouse"}
        self.destinations = {}
        self.connections = {}
        self._requests.clear()
        self._next_sync = 1

    # Arranging

    def add_group(
        self,
        group_id: str,
        *,
        name: str,
        service: str = "snowflake",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a group, which is a destination too, with the name that users know.

        :param service: The kind of its destination.
        :param config: The destination's, such as ``{"database": "RAW"}``.
        """
        with self.lock:
            self.groups[group_id] = name
            self.destinations[group_id] = (service, dict(config or {}))

    def add_connection(
        self,
        connection_id: str | None = None,
        *,
        group_id: str = DEFAULT_GROUP,
        service: str = "google_sheets",
        schema: str | None = None,
        schedule_type: Literal["auto", "manual"] = "manual",
        paused: bool = False,
        setup_state: Literal["connected", "incomplete", "broken"] = "connected",
        succeeded_ago: float | None = None,
        failed_ago: float | None = None,
        tasks: Sequence[Sequence[str]] = (),
        warnings: Sequence[Sequence[str]] = (),
        sync_frequency: int = 360,
        lives: Iterable[Life | str] = (),
        tables: Mapping[str, Sequence[str | Mapping[str, Any]]] | None = None,
        setup_tests: Iterable[str | Sequence[Mapping[str, Any]]] = (),
    ) -> str:
        """Add a connection, or replace it, and return its id.

        :param schema: The connection's name as users know it.
        :param succeeded_ago: Seconds since the last success; None for never.
        :param failed_ago: Seconds since the last failure; None for never.
        :param tasks: Pairs of code and message.
        :param warnings: Pairs of code and message.
        :param lives: The lives of its next syncs, in order; the last one is used again
            and again. Without any, syncs have the life of the settings.
        :param tables: The names of its tables in the destination, by schema; an object
            with ``name`` and ``enabled`` false is a table that is not synced. None for
            a connection without a schema config.
        :param setup_tests: What the next runs of its setup tests result in, in order; the
            last one is used again and again. Each is a status such as ``PASSED`` or
            ``FAILED``, or a list of objects with ``title``, ``status`` and, where wanted,
            ``message`` and ``details``. A run without a failure connects the
            connection, any other breaks it. Without any, the tests of a connected
            connection pass and those of another fail.
        :raises ValueError: A setup test has a status that Fivetran does not know.
        """
        with self.lock:
            if connection_id is None:
                connection_id = f"sim_{len(self.connections) + 1}"
            if group_id not in self.groups:
                self.add_group(group_id, name=group_id)
            now = self.now()
            state = FivetranState(
                "paused" if paused else "scheduled",
                paused,
                schedule_type,
                setup_state,
                None if succeeded_ago is None else now - succeeded_ago,
                None if failed_ago is None else now - failed_ago,
                tasks=_pairs(tasks),
                warnings=_pairs(warnings),
                sync_frequency=sync_frequency,
            )
            self.connections[connection_id] = FivetranConnection(
                connection_id,
                group_id,
                service,
                schema or connection_id,
                now,
                [as_life(life) for life in lives],
                # A list that lags still knows a connection that tests have just added.
                [-math.inf],
                [state],
                due=now + sync_frequency * 60,
                tables=tables,
                test_runs=[_test_run(results) for results in setup_tests],
            )
            return connection_id

    def start_sync(self, connection_id: str, life: Life | str | None = None) -> None:
        """Let a sync run that nobody here has asked for, such as a scheduled one.

        :raises ValueError: There is no such connection.
        """
        with self.lock:
            connection = self._known(connection_id)
            self._begin(connection, self.now(), None if life is None else as_life(life))

    def change(self, connection_id: str, **changes: Any) -> None:
        """Change what a connection's row tells, such as ``setup_state="broken"``.

        :raises ValueError: There is no such connection or field.
        """
        with self.lock:
            connection = self._known(connection_id)
            for name in ("tasks", "warnings"):
                if name in changes:
                    changes[name] = _pairs(changes[name])
            try:
                connection.change(self.now(), **changes)
            except TypeError as error:
                raise ValueError(f"bad change of {connection_id!r}: {error}") from error

    def add(self, kind: str, values: dict[str, Any]) -> None:
        """Arrange a group, a connection, a foreign sync or a change of a row."""
        known: dict[str, Callable[..., object]] = {
            "groups": self.add_group,
            "connections": self.add_connection,
            "syncs": self.start_sync,
            "changes": self.change,
        }
        if kind not in known:
            raise ValueError(
                f"fivetran has no {kind!r} to arrange; it has: settings, quirks, "
                f"faults, {', '.join(known)}"
            )
        call_with(known[kind], kind, values)

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the connections that sync now; the others too where asked for."""
        with self.lock:
            for connection in self.connections.values():
                self._settle(connection)
            return [
                JobView(
                    one.connection_id,
                    one.connection_id,
                    one.state.sync_state,
                    one.times[-1] if len(one.times) > 1 else one.created_at,
                    one.history[-1].start if one.history else one.created_at,
                )
                for one in self.connections.values()
                if finished or one.is_busy
            ]

    def finish(self, job: str, state: str) -> None:
        """Let the sync of a connection come to a state now, such as ``failed``."""
        with self.lock:
            connection = self._known(job)
            connection.plan.clear()
            self._enter(connection, self.now(), state)

    def _known(self, connection_id: str) -> FivetranConnection:
        found = self.connections.get(connection_id)
        if found is None:
            raise ValueError(f"there is no connection {connection_id!r}")
        self._settle(found)
        return found

    # The state machine

    def _settle(self, connection: FivetranConnection) -> None:
        """Let everything happen that is due by now."""
        now = self.now()
        while True:
            if connection.plan:
                at, word = connection.plan[0]
                if at > now:
                    return
                connection.plan.popleft()
                self._enter(connection, at, word)
                continue
            state = connection.state
            runs = self.settings.run_schedules and state.schedule_type == "auto"
            if not runs or state.paused or connection.due > now:
                return
            self._begin(connection, connection.due)

    def _enter(self, connection: FivetranConnection, at: float, word: str) -> None:
        state = connection.state
        idle = "paused" if state.paused else "scheduled"
        if word in _HISTORY:
            self._open(connection, at)
            self._close(connection, at, _HISTORY[word], word)
            connection.plan.clear()
            connection.due = at + state.sync_frequency * 60
            ended: dict[str, Any] = {"sync_state": idle, "rescheduled_for": None}
            if word == "succeeded":
                ended |= {"succeeded_at": at, "is_historical_sync": False}
            elif word == "failed":
                ended |= {"failed_at": at}
            elif word == "broken":
                # https://fivetran.com/docs/using-fivetran/fivetran-dashboard/alerts:
                # a connection that breaks has a task to solve, and no later time.
                ended |= {"setup_state": "broken", "tasks": (*state.tasks, _RECONNECT)}
            connection.change(at, **ended)
        elif word == "rescheduled":
            self._reschedule(connection, at)
        else:
            if word != "scheduled":
                self._open(connection, at)
            connection.change(at, sync_state=word, rescheduled_for=None)

    def _open(self, connection: FivetranConnection, at: float) -> None:
        if connection.running is None:
            connection.history.append(FivetranSync(f"sync-{self._next_sync:06d}", at))
            self._next_sync += 1

    def _close(
        self, connection: FivetranConnection, at: float, status: str, word: str
    ) -> None:
        sync = connection.running
        if sync is None:
            return
        sync.end, sync.status = at, status
        if status != "COMPLETED":
            sync.reason = f"The simulated sync has {word}"

    def _reschedule(self, connection: FivetranConnection, at: float) -> None:
        plan = connection.plan
        again = plan[0][0] if plan else at + self.settings.reschedule_after
        self._close(connection, at, "RESCHEDULED", "been rescheduled")
        connection.change(at, sync_state="rescheduled", rescheduled_for=again)
        connection.due = again
        if connection.state.schedule_type == "manual":
            # https://fivetran.com/docs/rest-api/tutorials/trigger-syncs-manually:
            # nothing but a start through the API runs it again.
            connection.waiting = _rest(plan)
            plan.clear()
        elif not plan:
            self._plan(connection, again, self._next_life(connection))

    def _begin(
        self, connection: FivetranConnection, at: float, life: Life | None = None
    ) -> None:
        if life is None:
            rescheduled = connection.state.sync_state == "rescheduled"
            rest = _rest(connection.plan) if rescheduled else None
            life = connection.waiting or rest or self._next_life(connection)
        connection.waiting = None
        connection.plan.clear()
        connection.due = math.inf
        self._plan(connection, at, life)
        self._settle(connection)

    @staticmethod
    def _plan(connection: FivetranConnection, at: float, life: Life) -> None:
        for word, seconds in life.steps:
            if math.isinf(at):
                break
            connection.plan.append((at, word))
            at += seconds
        else:
            if life.steps[-1][0] not in {*_HISTORY, "rescheduled"}:
                # The last state never ends: something is always still to come.
                connection.plan.append((math.inf, "succeeded"))

    def _next_life(self, connection: FivetranConnection) -> Life:
        if not connection.lives:
            return Life.parse(self.settings.life)
        if len(connection.lives) == 1:
            return connection.lives[0]
        return connection.lives.pop(0)

    def _stop(self, connection: FivetranConnection, status: str) -> None:
        if connection.is_busy:
            self.record.cancels[connection.connection_id] += 1
        connection.plan.clear()
        self._close(connection, self.now(), status, "been stopped")

    # Errors, credentials, limits

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return an error object."""
        code = _CODES.get(status, "InternalServerError")
        return json_reply(status, {"code": code, "message": detail or code})

    def _refuse(self, status: int, detail: str = "") -> RefusalError:
        return RefusalError(self.error(status, detail))

    def _not_found(self, what: str, name: str) -> RefusalError:
        message = f"Cannot find {what.lower()} with id '{name}'"
        return RefusalError(_missing(what, message))

    def unrouted(self, request: SimRequest) -> SimReply:
        """Answer 405 where the path exists for another method, else 404."""
        path = self.below(request.path)
        known = any(route.pattern.fullmatch(path) for route in self._routes)
        return self.error(405 if known else 404)

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse with 429 what goes beyond the hourly limit."""
        # https://fivetran.com/docs/rest-api/getting-started/rate-limiting
        now = self.now()
        while self._requests and self._requests[0] <= now - _HOUR:
            self._requests.popleft()
        if len(self._requests) < self.settings.hourly_limit:
            self._requests.append(now)
            return None
        wait = self.settings.retry_after
        if wait is None:
            free = self._requests[0] + _HOUR - now if self._requests else _HOUR
            wait = math.ceil(free)
        reply = self.error(429, "Rate limit exceeded")
        return replace(reply, headers={**reply.headers, "Retry-After": str(wait)})

    def decorate(self, reply: SimReply) -> SimReply:
        """Add the rate limit's headers."""
        limit = self.settings.hourly_limit
        left = max(0, limit - len(self._requests))
        headers = {"X-Rate-Limit": str(limit), "X-Rate-Limit-Remaining": str(left)}
        return replace(reply, headers={**headers, **reply.headers})

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without the key and secret, or in an unknown format."""
        scheme, _, value = request.header("Authorization").partition(" ")
        try:
            sent = base64.b64decode(value, validate=True)
        except binascii.Error:
            sent = b""
        wanted = f"{self.settings.api_key}:{self.settings.api_secret}".encode()
        if scheme.lower() != "basic" or not hmac.compare_digest(sent, wanted):
            raise self._refuse(401, "Missing or invalid authorization")
        accept = request.header("Accept", "*/*").replace(" ", "")
        if not _acceptable(accept):
            raise self._refuse(406, f"Cannot answer with {accept}")
        content = request.header("Content-Type").partition(";")[0].strip()
        # Most bodies are optional, and what is not sent needs no type.
        has_type = request.method in {"POST", "PATCH"} and (request.body or content)
        if has_type and content != "application/json":
            raise self._refuse(415, "Content-Type must be application/json")

    def _body(self, request: SimRequest) -> dict[str, Any]:
        try:
            return request.json_object()
        except ValueError as error:
            raise self._refuse(400, str(error)) from error

    # Connections

    def _connection(self, connection_id: str) -> FivetranConnection:
        if connection_id not in self.connections:
            if not self.settings.accept_unknown:
                raise self._not_found("Connector", connection_id)
            if not is_text_id(connection_id):
                message = not_an_id(connection_id)
                raise RefusalError(_missing("Connector", message))
            self.add_connection(connection_id)
        found = self.connections[connection_id]
        self._settle(found)
        return found

    def _get_connection(self, request: SimRequest, connection_id: str) -> SimReply:
        connection = self._connection(connection_id)
        return self._data(self._row(connection, connection.state))

    def _list_connections(
        self, request: SimRequest, group_id: str | None = None
    ) -> SimReply:
        if group_id is None:
            group_id = self._filter(request, "group_id")
        elif group_id not in self.groups:
            raise self._not_found("Group", group_id)
        schema = self._filter(request, "schema")
        seen = self.now() - self.quirks.lag
        found = []
        for one in list(self.connections.values()):
            if group_id not in (None, one.group_id) or schema not in (None, one.schema):
                continue
            self._settle(one)
            state = one.at(seen)
            if state is not None:
                found.append((one, state))
        page, cursor = self._page(request, found)
        rows = [self._row(one, state) for one, state in page]
        for one, _ in page[: self.quirks.churn]:
            # It leaves its place and comes back as the last one of the list.
            self.connections[one.connection_id] = self.connections.pop(
                one.connection_id
            )
        return self._items(self.quirks.spoil(rows, self.random), cursor)

    def _filter(self, request: SimRequest, name: str) -> str | None:
        return None if name in self.quirks.ignore_filters else request.value(name)

    def _page(
        self, request: SimRequest, found: list[Any]
    ) -> tuple[list[Any], str | None]:
        try:
            limit = int(request.value("limit") or _DEFAULT_LIMIT)
            offset = _offset(request.value("cursor"))
        except ValueError as error:
            raise self._refuse(400, str(error)) from error
        if not 1 <= limit <= _MAX_LIMIT:
            raise self._refuse(400, "limit must be in the range 1..1000")
        end = offset + limit
        if self.settings.stuck_cursor:
            return found[offset:end], _cursor(offset)
        return found[offset:end], _cursor(end) if end < len(found) else None

    def _items(self, rows: list[dict[str, Any]], cursor: str | None) -> SimReply:
        data: dict[str, Any] = {"items": rows}
        if cursor is not None or self.settings.null_cursor:
            data["next_cursor"] = cursor
        return self._data(data)

    @staticmethod
    def _data(data: object, message: str = "Operation performed.") -> SimReply:
        return json_reply(200, {"code": "Success", "message": message, "data": data})

    def _instant(self, at: float | None) -> str | None:
        return None if at is None else micro_instant(self.shown(at))

    def _row(self, one: FivetranConnection, state: FivetranState) -> dict[str, Any]:
        padding = "x" * self.settings.config_padding
        return {
            "id": one.connection_id,
            "service": one.service,
            "schema": one.schema,
            "paused": state.paused,
            "status": {
                "tasks": _notes(state.tasks),
                "warnings": _notes(state.warnings),
                "setup_state": state.setup_state,
                "schema_status": "ready",
                "sync_state": state.sync_state,
                "update_state": state.update_state,
                "is_historical_sync": state.is_historical_sync,
                "rescheduled_for": self._instant(state.rescheduled_for),
            },
            "config": {"padding": {"text": padding}} if padding else {},
            "group_id": one.group_id,
            "service_version": 1,
            "connected_by": "simulator",
            "created_at": self._instant(one.created_at),
            "succeeded_at": self._instant(state.succeeded_at),
            "failed_at": self._instant(state.failed_at),
            "pause_after_trial": False,
            "sync_frequency": state.sync_frequency,
            "data_delay_threshold": 0,
            "data_delay_sensitivity": "NORMAL",
            "daily_sync_time": None,
            "schedule_type": state.schedule_type,
            "networking_method": "Directly",
        }

    def _patch(self, request: SimRequest, connection_id: str) -> SimReply:
        connection = self._connection(connection_id)
        sent = self._body(request)
        if not set(sent) - _TEST_CONTROLS:
            raise self._refuse(400, "No persistent parameter was given")
        schedule = sent.get("schedule_type", connection.state.schedule_type)
        if schedule not in {"auto", "manual"}:
            raise self._refuse(400, f"schedule_type {schedule!r} is unknown")
        self.record.facts["patches"] += 1
        was_busy = connection.is_busy
        self._apply(connection, sent, schedule)
        tests, blocks = None, 0.0
        if sent.get("run_setup_tests", True):
            tests, blocks = self._run_tests(connection), self.settings.setup_tests_take
        if was_busy and sent.get("paused") is True:
            blocks += self.settings.stop_blocks
            if self.settings.pause_answers_500:
                # https://fivetran.com/docs/rest-api/troubleshooting
                return self.error(500).after(max(60.0, blocks))
        reply = self._tested(connection, tests, "Connection has been updated")
        return reply.after(blocks)

    def _test(self, request: SimRequest, connection_id: str) -> SimReply:
        # https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests:
        # an empty object is a body, and no body at all is refused.
        connection = self._connection(connection_id)
        if not request.body:
            raise self._refuse(400, "The request has no body; send {} at least")
        self._body(request)
        tests = self._run_tests(connection)
        reply = self._tested(connection, tests, "Setup tests have been completed")
        return reply.after(self.settings.setup_tests_take)

    def _run_tests(self, connection: FivetranConnection) -> TestRun:
        """Run the setup tests: they connect the connection, or break it."""
        self.record.facts["setup_tests"] += 1
        runs, state = connection.test_runs, connection.state
        is_connected = state.setup_state == "connected"
        if not runs:
            tests = _test_run("PASSED" if is_connected else "FAILED")
        else:
            tests = runs.pop(0) if len(runs) > 1 else runs[0]
        failed = any(test.status in _TEST_FAILURES for test in tests)
        if failed and is_connected:
            tasks = (*state.tasks, _RECONNECT)
            connection.change(self.now(), setup_state="broken", tasks=tasks)
        elif not failed and not is_connected:
            connection.change(self.now(), setup_state="connected", tasks=())
        return tests

    def _tested(
        self, connection: FivetranConnection, tests: TestRun | None, message: str
    ) -> SimReply:
        row = self._row(connection, connection.state)
        if tests is not None:
            row["setup_tests"] = [test.shown() for test in tests]
        return self._data(row, message)

    def _apply(
        self, connection: FivetranConnection, sent: dict[str, Any], schedule: str
    ) -> None:
        now = self.now()
        changes: dict[str, Any] = {"schedule_type": schedule}
        for name in ("is_historical_sync", "sync_frequency"):
            if name in sent:
                changes[name] = sent[name]
        if sent.get("paused") is True:
            self._stop(connection, self.settings.paused_history)
            connection.waiting = None
            changes |= {"paused": True, "sync_state": "paused", "rescheduled_for": None}
        elif sent.get("paused") is False and connection.state.paused:
            changes |= {"paused": False, "sync_state": "scheduled"}
            connection.due = now + connection.state.sync_frequency * 60
        connection.change(now, **changes)
        if connection.waiting and schedule == "auto":
            due = connection.state.rescheduled_for or now
            self._plan(connection, max(now, due), connection.waiting)
            connection.waiting = None
        if connection.resync_wanted and not connection.state.paused:
            connection.resync_wanted = False
            connection.change(now, is_historical_sync=True)
            self._begin(connection, now)

    # Syncs

    def _sync(self, request: SimRequest, connection_id: str) -> SimReply:
        # https://fivetran.com/docs/rest-api/api-reference/connections/sync-connection
        force = self._body(request).get("force", False) is True
        return self._start(connection_id, force=force)

    def _force(self, request: SimRequest, connection_id: str) -> SimReply:
        return self._start(connection_id, force=True)

    def _start(self, connection_id: str, *, force: bool) -> SimReply:
        connection = self._connection(connection_id)
        state = connection.state
        done = json_reply(
            200,
            {
                "code": "Success",
                "message": "Sync has been successfully triggered for connection "
                f"with id '{connection_id}'",
            },
        )
        refused = ""
        if state.paused or state.setup_state != "connected":
            refused = self.settings.paused_sync
        elif connection.is_busy and not force:
            refused = self.settings.already_syncing
        if refused:
            self.record.refused_starts[connection_id] += 1
            if refused == "conflict":
                return self.error(409, "The connection cannot sync now")
            return done
        blocks = 0.0
        if connection.is_busy:
            self._stop(connection, "CANCELED")
            blocks = self.settings.stop_blocks
        self._note(connection_id, {"force": force})
        self._begin(connection, self.now())
        return done.after(blocks)

    def _note(self, connection_id: str, details: dict[str, Any]) -> None:
        at = self.noted()
        self.record.note_start(at, connection_id, connection_id, details)

    def _resync(self, request: SimRequest, connection_id: str) -> SimReply:
        # https://fivetran.com/docs/rest-api/api-reference/connections/resync-connection
        connection = self._connection(connection_id)
        scope = self._body(request).get("scope")
        if scope is not None and not (
            isinstance(scope, dict)
            and scope
            and all(isinstance(tables, list) and tables for tables in scope.values())
        ):
            raise self._refuse(400, "scope must name tables of at least one schema")
        if connection.is_busy:
            self.record.refused_starts[connection_id] += 1
            raise self._refuse(409, "The running sync cannot be completed")
        self._note(connection_id, {"resync": True, "scope": scope})
        if connection.state.paused:
            connection.resync_wanted = True
        else:
            connection.change(self.now(), is_historical_sync=scope is None)
            self._begin(connection, self.now())
        return json_reply(
            200, {"code": "Success", "message": "Re-sync has been triggered"}
        )

    def _get_history(self, request: SimRequest, connection_id: str) -> SimReply:
        # https://fivetran.com/docs/rest-api/api-reference/connections
        if not self.settings.sync_history:
            raise self._refuse(404)
        connection = self._connection(connection_id)
        begin, end = self._window(request)
        found = [
            sync
            for sync in connection.history
            if sync.start <= end and (sync.end is None or sync.end >= begin)
        ]
        page, cursor = self._page(request, found)
        return self._items([self._shown_sync(sync) for sync in page], cursor)

    def _get_schemas(self, request: SimRequest, connection_id: str) -> SimReply:
        # https://fivetran.com/docs/rest-api/api-reference/connection-schema
        tables = self._connection(connection_id).tables
        if tables is None:
            raise self._not_found("SchemaConfig", connection_id)
        schemas = {
            schema: {
                "name_in_destination": schema,
                "enabled": True,
                "tables": {
                    f"source_{table['name']}": _shown_table(table)
                    for table in (
                        {"name": one} if isinstance(one, str) else one for one in names
                    )
                },
            }
            for schema, names in tables.items()
        }
        return self._data(
            {
                "enable_new_by_default": True,
                "schema_change_handling": "ALLOW_ALL",
                "schemas": schemas,
            }
        )

    def _window(self, request: SimRequest) -> tuple[float, float]:
        now = self.now()
        given: dict[str, float] = {}
        for name in ("start_time", "end_time"):
            text = request.value(name)
            if text is not None:
                try:
                    given[name] = self.meant(parse_instant(text))
                except ValueError as error:
                    raise self._refuse(400, f"{name}: {error}") from error
        if "start_time" in given:
            begin = given["start_time"]
            end = given.get("end_time", begin + _HOUR)
        else:
            end = given.get("end_time", now)
            begin = end - _HOUR
        if begin >= end or end - begin > _WEEK or begin < now - _WEEK:
            raise self._refuse(400, "start_time and end_time must be within 7 days")
        return begin, end

    def _shown_sync(self, sync: FivetranSync) -> dict[str, Any]:
        volume = None if sync.end is None else 1.5
        row: dict[str, Any] = {
            "sync_id": sync.sync_id,
            "start": self._instant(sync.start),
            "end": self._instant(sync.end),
            "status": sync.status or self.settings.running_history,
            "stages": {
                stage: {
                    "start": self._instant(sync.start),
                    "end": self._instant(sync.end),
                    "volume": volume,
                }
                for stage in ("extract", "process", "load")
            },
        }
        if sync.reason is not None:
            row["reason"] = sync.reason
        return row

    # Groups, destinations, account

    def _list_groups(self, request: SimRequest) -> SimReply:
        page, cursor = self._page(request, list(self.groups))
        return self._items([self._shown_group(one) for one in page], cursor)

    def _get_group(self, request: SimRequest, group_id: str) -> SimReply:
        if group_id not in self.groups:
            raise self._not_found("Group", group_id)
        return self._data(self._shown_group(group_id))

    def _shown_group(self, group_id: str) -> dict[str, Any]:
        return {
            "id": group_id,
            "name": self.groups[group_id],
            "created_at": "2026-01-01T00:00:00Z",
        }

    def _get_destination(self, request: SimRequest, group_id: str) -> SimReply:
        if group_id not in self.groups:
            raise self._not_found("Destination", group_id)
        service, config = self.destinations.get(group_id, ("snowflake", {}))
        return self._data(
            {
                "id": group_id,
                "group_id": group_id,
                "service": service,
                "region": "GCP_US_EAST4",
                "time_zone_offset": "0",
                "setup_status": "CONNECTED",
                "config": config,
            }
        )

    def _list_users(self, request: SimRequest) -> SimReply:
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
        page, cursor = self._page(request, [user])
        return self._items(page, cursor)

    def _account(self, request: SimRequest) -> SimReply:
        return self._data(
            {
                "account_id": "simulated_account",
                "account_name": "Simulated account",
                "user_id": "simulator",
            }
        )


def _missing(what: str, message: str) -> SimReply:
    return json_reply(404, {"code": f"NotFound_{what}", "message": message})


def _test_run(results: str | Sequence[Mapping[str, Any]]) -> TestRun:
    if isinstance(results, str):
        message = "The simulated test has failed" if results in _TEST_FAILURES else ""
        return (FivetranTest("Test Connection", results, message),)
    try:
        return tuple(FivetranTest(**one) for one in results)
    except TypeError as error:
        raise ValueError(
            "setup_tests are statuses, or lists of objects with title, status, message "
            f"and details, not {results!r}"
        ) from error


def _shown_table(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name_in_destination": table["name"],
        "enabled": table.get("enabled", True),
        "enabled_patch_settings": {"allowed": True},
        "supports_columns_config": True,
        "supports_history_mode": False,
        "columns": {},
    }


def _pairs(notes: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    try:
        return tuple((code, message) for code, message in notes)
    except ValueError as error:
        raise ValueError(
            f"tasks and warnings are pairs of code and message, not {notes!r}"
        ) from error


def _notes(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [
        {"code": code, "message": message, "details": f"{message}: see the dashboard"}
        for code, message in pairs
    ]


def _rest(plan: deque[tuple[float, str]]) -> Life | None:
    """Return what is left of a plan as a life."""
    steps = [(at, word) for at, word in plan if at < math.inf]
    if not steps:
        return None
    ends = [at for at, _ in steps[1:]] + [math.inf]
    return Life(
        tuple((word, end - at) for (at, word), end in zip(steps, ends, strict=True))
    )


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


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"skip={offset}".encode()).decode()


def _offset(cursor: str | None) -> int:
    if not cursor:
        return 0
    text = base64.urlsafe_b64decode(cursor.encode()).decode("latin-1")
    if not text.startswith("skip="):
        raise ValueError("the cursor is invalid")
    return int(text.removeprefix("skip="))
