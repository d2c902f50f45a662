"""Airbyte's public API on paper: requests in, answers out.

Written from the vendor's documentation and server source, not from any client.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heapify, heapreplace
from typing import Any, ClassVar, Final, Literal, NamedTuple
from urllib.parse import parse_qs, urlencode

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    http_date,
    json_reply,
    parse_instant,
    text_reply,
)
from async_triggers.simulator.lives import Life, Moment, Timeline, as_life
from async_triggers.simulator.vendor import (
    JobView,
    Route,
    VendorSettings,
    VendorSimulator,
    as_integer_id,
    call_with,
    is_text_id,
    not_an_id,
    unslashed,
)

# https://github.com/airbytehq/airbyte-platform
TERMINAL: Final = frozenset({"failed", "succeeded", "cancelled"})
STATUSES: Final = frozenset(
    {"pending", "queued", "running", "incomplete", "failed", "succeeded", "cancelled"}
)
JOB_TYPES: Final = frozenset({"sync", "reset", "clear", "refresh"})
_NOT_BEGUN: Final = frozenset({"pending", "queued"})

# https://reference.airbyte.com/reference/listjobs
_DEFAULT_LIMIT: Final = 20
_MAX_LIMIT: Final = 100
_ORDER_FIELDS: Final = frozenset({"createdAt", "updatedAt"})

# https://docs.airbyte.com/platform/operator-guides/manage-data-workers
_LONGEST_QUEUE: Final = 8 * 3600.0

_ERRORS: Final = "https://reference.airbyte.com/reference/errors"
_PROBLEMS: Final = {
    # https://reference.airbyte.com/reference/errors
    400: (
        f"{_ERRORS}#bad-request",
        "bad-request",
        "The request could not be understood by the server due to malformed syntax.",
    ),
    401: (
        f"{_ERRORS}#invalid-api-key",
        "invalid-api-key",
        "The API key in the Authorization header is invalid.",
    ),
    403: (f"{_ERRORS}#forbidden", "forbidden", "The request is forbidden."),
    404: (
        f"{_ERRORS}#resource-not-found",
        "resource-not-found",
        "The requested resource could not be found.",
    ),
    409: (f"{_ERRORS}#409-state-conflict", "state-conflict", "State conflict"),
    422: (
        f"{_ERRORS}#unprocessable-entity",
        "unprocessable-entity",
        "The body of the request was not understood",
    ),
    500: (
        f"{_ERRORS}#unexpected-problem",
        "unexpected-problem",
        "An unexpected problem has occurred.",
    ),
    503: (
        f"{_ERRORS}#service-unavailable",
        "service-unavailable",
        "The service is unavailable.",
    ),
}

# https://reference.airbyte.com/reference/getdestination: airbyte-api reads an answer only
# if its configuration is complete and says of what type it is.
_SNOWFLAKE: Final = {
    "destinationType": "snowflake",
    "host": "simulated.snowflakecomputing.com",
    "role": "AIRBYTE",
    "warehouse": "AIRBYTE",
    "database": "SIMULATED",
    "schema": "PUBLIC",
    "username": "AIRBYTE",
}

DEFAULT_WORKSPACE: Final = "11111111-1111-4111-8111-111111111111"


@dataclass(slots=True, kw_only=True)
class AirbyteSettings(VendorSettings):
    """How this Airbyte behaves.

    :ivar auth: Which credentials it takes: ``token`` (client credentials at the token
        endpoint), ``bearer`` (static tokens), ``basic``; ``none`` asks for nothing.
    :ivar token_lifetime: Seconds for which an access token is good.
    :ivar reported_lifetime: ``expires_in`` of the token endpoint, where it differs.
    :ivar wrong_credentials_status: Answer to wrong client credentials.
    :ivar unknown_job_status: Answer for a job id that does not exist: 403 for ordinary
        callers, 409 for instance admins.
    :ivar life: The life of a job for which nothing else was arranged.
    :ivar bytes_synced: Bytes of a whole sync.
    :ivar rows_synced: Rows of a whole sync.
    :ivar start_blocks: Seconds for which a start keeps the caller waiting. From 60 on
        the answer is a state conflict, although the job runs.
    :ivar job_appears_after: Seconds after the start request at which the job exists.
    :ivar cancel_blocks: Seconds until a cancel is done and answered.
    :ivar cancel_idle: What cancelling does where nothing runs: ``unchanged`` answers
        200, ``conflict`` (older servers) 409.
    :ivar queued_cancel_after: Seconds until a cancelled queued job is cancelled; the
        answer comes at once and still says ``queued``.
    :ivar threads: Server threads that answer requests; 0 for no bound.
    :ivar service_time: Seconds for which an ordinary request holds a thread.
    :ivar hydrate_lists: Whether list rows carry bytes and rows.
    :ivar show_nulls: Whether fields without a value are sent as null or left out.
    """

    auth: tuple[str, ...] = ("token", "bearer", "basic")
    client_id: str = "simulator-client"
    client_secret: str = "simulator-secret"  # noqa: S105 - made up
    bearer_tokens: tuple[str, ...] = ("simulator-token",)
    username: str = "airbyte"
    password: str = "password"  # noqa: S105 - made up
    # https://docs.airbyte.com/platform/using-airbyte/configuring-api-access
    token_lifetime: float = 900.0
    reported_lifetime: float | None = None
    wrong_credentials_status: int = 401
    unknown_job_status: int = 403
    life: str = "pending:1 running:5 succeeded"
    bytes_synced: int = 1_048_576
    rows_synced: int = 1_000
    start_blocks: float = 0.0
    job_appears_after: float = 0.0
    cancel_blocks: float = 0.0
    cancel_idle: str = "unchanged"
    queued_cancel_after: float = 2.0
    threads: int = 5
    service_time: float = 0.0
    hydrate_lists: bool = True
    show_nulls: bool = True


@dataclass(slots=True)
class AirbyteConnection:
    """One connection; ``lives`` are used up by its next jobs, the last one stays."""

    connection_id: str
    workspace_id: str
    name: str
    status: str = "active"
    schedule_type: str = "manual"
    lives: list[Life] = field(default_factory=list)
    created_at: float = 0.0
    jobs: list[AirbyteJob] = field(default_factory=list)
    source_id: str = ""
    destination_id: str = ""
    namespace_definition: str = "destination"
    namespace_format: str | None = None
    prefix: str = ""
    streams: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class AirbyteEndpoint:
    """A source or a destination of a workspace, with what it is configured to."""

    endpoint_id: str
    workspace_id: str
    name: str
    kind: str
    configuration: Mapping[str, Any]
    created_at: float


@dataclass(slots=True)
class AirbyteJob:
    """One job and its whole life, the part that is still to come included."""

    job_id: int
    connection: AirbyteConnection
    job_type: str
    timeline: Timeline
    bytes_synced: int
    rows_synced: int

    def is_over(self, at: float) -> bool:
        """Return whether the job has ended; one that does not exist yet has not."""
        moment = self.timeline.at(at)
        return moment is not None and moment.word in TERMINAL


class _Filters(NamedTuple):
    status: str | None
    job_type: str | None
    created_from: float
    created_to: float
    updated_from: float
    updated_to: float

    def pass_(self, job: AirbyteJob, moment: Moment) -> bool:
        return (
            self.updated_from <= moment.since <= self.updated_to
            and self.created_from <= job.timeline.start <= self.created_to
            and self.status in (None, moment.word)
            and self.job_type in (None, job.job_type)
        )


class AirbyteSimulator(VendorSimulator[AirbyteSettings]):
    """Airbyte's public API: tokens, jobs, connections and what they join, health.

    Served below ``/api/public/v1`` (self-managed) and ``/v1`` (Cloud).
    """

    name: ClassVar[str] = "airbyte"

    def __init__(
        self,
        settings: AirbyteSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.workspaces: dict[str, str] = {}
        self.connections: dict[str, AirbyteConnection] = {}
        self.sources: dict[str, AirbyteEndpoint] = {}
        self.destinations: dict[str, AirbyteEndpoint] = {}
        self.all_jobs: dict[int, AirbyteJob] = {}
        self._tokens: dict[str, float] = {}
        self._threads: list[float] = []
        self._shed_until = 0.0
        self._next_job = 1
        super().__init__(settings or AirbyteSettings(), clock=clock, seed=seed)

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        token = "/applications/token"  # noqa: S105 - a path
        yield Route.to("POST", token, self._issue_token, public=True, operation="token")
        yield Route.to("GET", "/health", self._health, public=True)
        yield Route.to("POST", "/jobs", self._start, operation="start")
        yield Route.to("GET", "/jobs", self._list_jobs, operation="list")
        yield Route.to("GET", "/jobs/{job_id}", self._get_job, operation="poll")
        yield Route.to("DELETE", "/jobs/{job_id}", self._cancel, operation="cancel")
        yield Route.to("GET", "/connections", self._list_connections)
        yield Route.to("GET", "/connections/{connection_id}", self._get_connection)
        yield Route.to("GET", "/sources", self._list_sources)
        yield Route.to("GET", "/sources/{source_id}", self._get_source)
        yield Route.to("GET", "/destinations", self._list_destinations)
        yield Route.to("GET", "/destinations/{destination_id}", self._get_destination)
        yield Route.to("GET", "/workspaces", self._list_workspaces)
        yield Route.to("GET", "/workspaces/{workspace_id}", self._get_workspace)

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
        self.workspaces = {DEFAULT_WORKSPACE: "Simulated workspace"}
        self.connections = {}
        self.sources = {}
        self.destinations = {}
        self.all_jobs = {}
        self._tokens = {}
        self._threads = []
        self._shed_until = 0.0
        self._next_job = 1

    # Arranging

    def add_workspace(self, workspace_id: str, *, name: str = "Workspace") -> None:
        """Add a workspace."""
        with self.lock:
            self.workspaces[workspace_id] = name

    def add_source(
        self,
        source_id: str,
        *,
        name: str,
        source_type: str = "postgres",
        workspace_id: str = DEFAULT_WORKSPACE,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a source, or replace it."""
        with self.lock:
            self.sources[source_id] = self._endpoint(
                source_id, workspace_id, name, source_type, configuration
            )

    def add_destination(
        self,
        destination_id: str,
        *,
        name: str,
        destination_type: str = "snowflake",
        workspace_id: str = DEFAULT_WORKSPACE,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a destination, or replace it."""
        with self.lock:
            self.destinations[destination_id] = self._endpoint(
                destination_id, workspace_id, name, destination_type, configuration
            )

    def _endpoint(
        self,
        endpoint_id: str,
        workspace_id: str,
        name: str,
        kind: str,
        configuration: Mapping[str, Any] | None,
    ) -> AirbyteEndpoint:
        if workspace_id not in self.workspaces:
            self.add_workspace(workspace_id)
        return AirbyteEndpoint(
            endpoint_id, workspace_id, name, kind, configuration or {}, self.now()
        )

    def add_connection(
        self,
        connection_id: str | None = None,
        *,
        workspace_id: str = DEFAULT_WORKSPACE,
        name: str | None = None,
        status: Literal["active", "inactive", "deprecated", "locked"] = "active",
        schedule_type: Literal["manual", "cron", "basic"] = "manual",
        lives: Iterable[Life | str] = (),
        source_id: str | None = None,
        destination_id: str | None = None,
        namespace_definition: str = "destination",
        namespace_format: str | None = None,
        prefix: str = "",
        streams: Iterable[str | Mapping[str, Any]] = (),
    ) -> str:
        """Add a connection, or replace it, and return its id.

        :param lives: The lives of its next jobs, in order; the last one is used again
            and again. Without any, jobs have the life of the settings.
        :param source_id: A source that was added; without it, the connection names one
            that springs into being when it is requested. Likewise ``destination_id``.
        :param streams: What it replicates: names, or objects with ``name``,
            ``namespace``, ``destinationObjectName`` and so on; those with ``selected``
            false are not shown.
        """
        with self.lock:
            if connection_id is None:
                connection_id = str(uuid.UUID(int=self.random.getrandbits(128)))
            if workspace_id not in self.workspaces:
                self.add_workspace(workspace_id)
            self.connections[connection_id] = AirbyteConnection(
                connection_id,
                workspace_id,
                name or f"Connection {len(self.connections) + 1}",
                status,
                schedule_type,
                [as_life(life) for life in lives],
                self.now(),
                source_id=source_id or _derived("source", connection_id),
                destination_id=destination_id or _derived("target", connection_id),
                namespace_definition=namespace_definition,
                namespace_format=namespace_format,
                prefix=prefix,
                streams=tuple(
                    {"name": stream} if isinstance(stream, str) else dict(stream)
                    for stream in streams
                ),
            )
            return connection_id

    def add_job(
        self,
        connection_id: str,
        life: Life | str | None = None,
        *,
        job_type: str = "sync",
        age: float = 0.0,
        job_id: int | None = None,
    ) -> int:
        """Let a job run that nobody here has asked for, and return its id.

        :param age: How many seconds ago it was created.
        :raises ValueError: There is no such connection.
        """
        with self.lock:
            connection = self.connections.get(connection_id)
            if connection is None:
                raise ValueError(f"there is no connection {connection_id!r}")
            chosen = self._next_life(connection) if life is None else as_life(life)
            return self._create(connection, job_type, chosen, -age, job_id).job_id

    def set_connection_status(self, connection_id: str, status: str) -> None:
        """Change a connection's status: active, inactive, deprecated or locked."""
        with self.lock:
            self.connections[connection_id].status = status

    def expire_tokens(self) -> None:
        """Let every access token issued so far be expired."""
        with self.lock:
            self._tokens.clear()

    def shed(self, seconds: float) -> None:
        """Refuse everything with 429, as the operator's kill switch does."""
        with self.lock:
            self._shed_until = self.now() + seconds

    def add(self, kind: str, values: dict[str, Any]) -> None:
        """Arrange a workspace, connection, job, token expiry or load shedding."""
        known: dict[str, Callable[..., object]] = {
            "workspaces": self.add_workspace,
            "sources": self.add_source,
            "destinations": self.add_destination,
            "connections": self.add_connection,
            "jobs": self.add_job,
            "expire_tokens": self.expire_tokens,
            "shed": self.shed,
        }
        if kind not in known:
            raise ValueError(
                f"airbyte has no {kind!r} to arrange; it has: settings, quirks, "
                f"faults, {', '.join(known)}"
            )
        call_with(known[kind], kind, values)

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the jobs that run now; the finished ones too where asked for."""
        with self.lock:
            now = self.now()
            return [
                JobView(
                    str(job.job_id),
                    job.connection.connection_id,
                    moment.word,
                    moment.since,
                    job.timeline.start,
                )
                for job in self.all_jobs.values()
                if (moment := job.timeline.at(now)) is not None
                and (finished or moment.word not in TERMINAL)
            ]

    def finish(self, job: str, state: str) -> None:
        """Let a job be in a state from now on."""
        with self.lock:
            number = as_integer_id(job)
            found = None if number is None else self.all_jobs.get(number)
            if found is None:
                raise ValueError(f"there is no job {job!r}")
            found.timeline.end(self.now(), state)

    def _next_life(self, connection: AirbyteConnection) -> Life:
        if not connection.lives:
            return Life.parse(self.settings.life)
        if len(connection.lives) == 1:
            return connection.lives[0]
        return connection.lives.pop(0)

    def _create(
        self,
        connection: AirbyteConnection,
        job_type: str,
        life: Life,
        offset: float,
        job_id: int | None = None,
    ) -> AirbyteJob:
        if job_id is None:
            job_id = self._next_job
        self._next_job = max(self._next_job, job_id + 1)
        first, seconds = life.steps[0]
        if first == "queued" and seconds > _LONGEST_QUEUE:
            life = Life((("queued", _LONGEST_QUEUE), ("cancelled", float("inf"))))
        job = AirbyteJob(
            job_id,
            connection,
            job_type,
            Timeline(self.now() + offset, life),
            self.settings.bytes_synced,
            self.settings.rows_synced,
        )
        self.all_jobs[job_id] = job
        connection.jobs.append(job)
        return job

    def _running(self, connection: AirbyteConnection) -> AirbyteJob | None:
        now = self.now()
        return next(
            (job for job in reversed(connection.jobs) if not job.is_over(now)), None
        )

    # Errors, credentials, threads

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return a problem object."""
        if status == 429:
            # https://github.com/airbytehq/airbyte-platform (PublicApiLoadShedFilter):
            # no Retry-After, on purpose.
            return json_reply(429, {"message": "You are being rate limited."})
        if status in {502, 504}:
            return text_reply(
                status, f"<html>{status}</html>", content_type="text/html"
            )
        type_, title, text = _PROBLEMS.get(status, _PROBLEMS[500])
        return self._problem(status, type_, title, text, detail)

    @staticmethod
    def _problem(
        status: int, type_: str, title: str, text: str, message: str
    ) -> SimReply:
        return json_reply(
            status,
            {
                "status": status,
                "type": type_,
                "title": title,
                "detail": text,
                "documentationUrl": None,
                "data": {"message": message} if message else None,
            },
        )

    def _refuse(self, status: int, detail: str = "") -> RefusalError:
        return RefusalError(self.error(status, detail))

    def _try_again_later(self, connection_id: str) -> SimReply:
        return self._problem(
            409,
            f"{_ERRORS}#try-again-later",
            "try-again-later",
            "Please try again later.",
            f"A sync is already running for: {connection_id}",
        )

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse while this user is being shed."""
        return self.error(429) if self.now() < self._shed_until else None

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without a live token, static token or basic credentials."""
        settings = self.settings
        if "none" in settings.auth:
            return
        scheme, _, value = request.header("Authorization").partition(" ")
        if scheme.lower() == "bearer":
            if "token" in settings.auth and self._tokens.get(value, 0.0) > self.now():
                return
            if "bearer" in settings.auth and value in settings.bearer_tokens:
                return
        if scheme.lower() == "basic" and "basic" in settings.auth:
            try:
                sent = base64.b64decode(value, validate=True)
            except binascii.Error:
                sent = b""
            wanted = f"{settings.username}:{settings.password}".encode()
            if hmac.compare_digest(sent, wanted):
                return
        raise self._refuse(401)

    def occupy(self, seconds: float) -> float:
        """Return how long a request waits until one of the threads is free.

        https://github.com/airbytehq/airbyte-platform (PUBLIC_API_EXECUTOR_THREADS):
        five threads a pod, and a start or cancel holds one while it blocks.
        """
        count = self.settings.threads
        if count <= 0:
            return 0.0
        now = self.now()
        if len(self._threads) != count:
            self._threads = sorted(self._threads)[-count:]
            self._threads += [now] * (count - len(self._threads))
            heapify(self._threads)
        begin = max(now, self._threads[0])
        heapreplace(self._threads, begin + seconds + self.settings.service_time)
        return begin - now + self.settings.service_time

    def _issue_token(self, request: SimRequest) -> SimReply:
        # The form of the body is documented as JSON; a known client sends a form.
        # https://docs.airbyte.com/platform/using-airbyte/configuring-api-access
        if "form-urlencoded" in request.header("Content-Type"):
            parsed = parse_qs(request.body.decode("latin-1"))
            sent = {key: values[-1] for key, values in parsed.items()}
        else:
            sent = self._body(request)
        if not sent.get("client_id") or not sent.get("client_secret"):
            raise self._refuse(400, "client_id and client_secret are required")
        settings = self.settings
        good = (
            "token" in settings.auth
            and sent["client_id"] == settings.client_id
            and sent["client_secret"] == settings.client_secret
        )
        if not good:
            raise self._refuse(settings.wrong_credentials_status)
        expiry = self.now() + settings.token_lifetime
        token = self._make_token(expiry)
        self._tokens[token] = expiry
        self.record.tokens_issued += 1
        shown = settings.reported_lifetime
        return json_reply(
            200,
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": int(settings.token_lifetime if shown is None else shown),
            },
        )

    def _make_token(self, expiry: float) -> str:
        parts = (
            json.dumps({"alg": "none", "typ": "JWT"}),
            json.dumps({"sub": "simulator", "exp": int(self.shown(expiry))}),
            f"{self.random.getrandbits(128):032x}",
        )
        return ".".join(
            base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode()
            for part in parts
        )

    def _body(self, request: SimRequest) -> dict[str, Any]:
        try:
            return request.json_object()
        except ValueError as error:
            raise self._refuse(400, str(error)) from error

    def _health(self, request: SimRequest) -> SimReply:
        return text_reply(200, "Successful operation")

    # Jobs

    def _start(self, request: SimRequest) -> SimReply:
        # https://reference.airbyte.com/reference/createjob
        sent = self._body(request)
        connection_id, job_type = sent.get("connectionId"), sent.get("jobType")
        if not isinstance(connection_id, str) or not connection_id:
            raise self._refuse(400, "connectionId is required")
        if job_type == "refresh":
            raise self._refuse(422, "Refreshes are not supported in the public API")
        if job_type not in {"sync", "reset", "clear"}:
            raise self._refuse(400, f"jobType {job_type!r} is unknown")
        connection = self._connection(connection_id)
        refusal, running = self._start_refusal(connection), self._running(connection)
        if refusal is not None:
            self.record.refused_starts[connection_id] += 1
            return refusal
        # https://github.com/airbytehq/airbyte-platform (SchedulerHandler): the call
        # blocks until the job has an id, a minute at most.
        blocks = min(self.settings.start_blocks, 60.0)
        end = self.now() + blocks
        if running is not None:
            self.record.refused_starts[connection_id] += 1
            return self._shown_job(running, self.now())
        life = self._next_life(connection)
        job = self._create(connection, job_type, life, self.settings.job_appears_after)
        self.record.note_start(
            self.noted(), connection_id, job.job_id, {"jobType": job_type}
        )
        if self.settings.start_blocks >= 60:
            return self.error(409, "Could not fulfill request").after(blocks)
        return self._shown_job(job, max(end, job.timeline.start)).after(blocks)

    def _start_refusal(self, connection: AirbyteConnection) -> SimReply | None:
        if connection.status == "deprecated":
            return self._try_again_later(connection.connection_id)
        if connection.status == "locked":
            return self._problem(
                409,
                "error:connection/locked",
                "Connection is locked",
                "The connection is locked and cannot be modified.",
                "",
            )
        if connection.status != "active":
            return self.error(409, "Could not fulfill request")
        running = self._running(connection)
        if running is None:
            return None
        moment = running.timeline.at(self.now())
        if moment is not None and moment.word == "queued":
            return None
        return self._try_again_later(connection.connection_id)

    def _get_job(self, request: SimRequest, job_id: str) -> SimReply:
        return self._shown_job(self._job(job_id), self.now())

    def _cancel(self, request: SimRequest, job_id: str) -> SimReply:
        # https://github.com/airbytehq/airbyte-platform (TemporalClient): what ends is
        # whatever the connection runs now, not the job that was named.
        named = self._job(job_id)
        running = self._running(named.connection)
        if running is None:
            if self.settings.cancel_idle == "conflict":
                return self.error(409, "Job is not currently running")
            return self._shown_job(named, self.now())
        now = self.now()
        moment = running.timeline.at(now)
        if moment is not None and moment.word == "queued":
            self.record.cancels[str(running.job_id)] += 1
            shown = self._shown_job(named, now)
            running.timeline.end(now + self.settings.queued_cancel_after, "cancelled")
            return shown
        end = now + self.settings.cancel_blocks
        if not running.is_over(end):
            self.record.cancels[str(running.job_id)] += 1
            running.timeline.end(end, "cancelled")
        return self._shown_job(named, end).after(self.settings.cancel_blocks)

    def _job(self, job_id: str) -> AirbyteJob:
        number = as_integer_id(job_id)
        if number is None:
            raise self._refuse(400, f"jobId {job_id!r} is no integer above zero")
        job = self.all_jobs.get(number)
        if job is None or job.timeline.at(self.now()) is None:
            # https://github.com/airbytehq/airbyte-platform (RoleResolver): the check of
            # the caller's role fails before anybody looks for the job.
            status = self.settings.unknown_job_status
            message = "Job is not currently running" if status == 409 else ""
            raise self._refuse(status, message)
        return job

    def _shown_job(self, job: AirbyteJob, at: float) -> SimReply:
        moment = job.timeline.at(at) or Moment("pending", at)
        # The answer tells the state at ``at``, and so does its date.
        date = {"Date": http_date(self.shown(at))}
        return json_reply(200, self._row(job, moment, at, full=True), headers=date)

    def _row(
        self, job: AirbyteJob, moment: Moment, at: float, *, full: bool
    ) -> dict[str, Any]:
        over = moment.word in TERMINAL
        begun = moment.word not in _NOT_BEGUN
        share = self._progress(job, at) if begun and full else None
        start = job.timeline.start
        row = {
            "jobId": job.job_id,
            "status": moment.word,
            "jobType": job.job_type,
            "startTime": java_instant(self.shown(start)),
            "connectionId": job.connection.connection_id,
            "lastUpdatedAt": java_instant(self.shown(moment.since)) if over else None,
            "duration": (
                java_duration(moment.since - start)
                if moment.word != "pending"
                else None
            ),
            "bytesSynced": None if share is None else int(job.bytes_synced * share),
            "rowsSynced": None if share is None else int(job.rows_synced * share),
        }
        if self.settings.show_nulls:
            return row
        return {key: value for key, value in row.items() if value is not None}

    @staticmethod
    def _progress(job: AirbyteJob, at: float) -> float:
        end = job.timeline.last.since
        whole = end - job.timeline.start
        return min(1.0, (at - job.timeline.start) / whole) if whole > 0 else 1.0

    def _list_jobs(self, request: SimRequest) -> SimReply:
        # https://reference.airbyte.com/reference/listjobs
        limit, offset = self._page(request)
        order_by, descending = self._order(request)
        seen = self.now() - self.quirks.lag
        filters = self._filters(request)
        by_update = order_by == "updatedAt"
        found = [
            (moment.since if by_update else job.timeline.start, job, moment)
            for job in self._listed(request)
            if (moment := job.timeline.at(seen)) is not None
            and filters.pass_(job, moment)
        ]
        found.sort(key=lambda one: (one[0], one[1].job_id), reverse=descending)
        page = found[offset : offset + limit]
        rows = [
            self._row(job, moment, seen, full=self.settings.hydrate_lists)
            for _, job, moment in page
        ]
        self._churn([job for _, job, _ in page])
        return self._paged(
            request, "/jobs", self.quirks.spoil(rows, self.random), limit, offset
        )

    def _listed(self, request: SimRequest) -> Iterable[AirbyteJob]:
        connection_id = self._filter(request, "connectionId")
        if connection_id is not None:
            return self._connection(connection_id).jobs
        if "workspaceIds" in self.quirks.ignore_filters:
            return self.all_jobs.values()
        workspaces = self._workspaces(request)
        if workspaces is None:
            return self.all_jobs.values()
        return [
            job
            for job in self.all_jobs.values()
            if job.connection.workspace_id in workspaces
        ]

    def _workspaces(self, request: SimRequest) -> set[str] | None:
        asked = {
            one
            for value in request.values("workspaceIds")
            for one in value.split(",")
            if one
        }
        if asked - set(self.workspaces):
            raise self._refuse(403)
        return asked or None

    def _filter(self, request: SimRequest, name: str) -> str | None:
        return None if name in self.quirks.ignore_filters else request.value(name)

    def _filters(self, request: SimRequest) -> _Filters:
        status = self._filter(request, "status")
        if status is not None and status not in STATUSES:
            raise self._refuse(400, f"status {status!r} is unknown")
        job_type = self._filter(request, "jobType")
        if job_type is not None and job_type not in JOB_TYPES:
            raise self._refuse(400, f"jobType {job_type!r} is unknown")
        return _Filters(
            status,
            job_type,
            self._instant(request, "createdAtStart", -math.inf),
            self._instant(request, "createdAtEnd", math.inf),
            self._instant(request, "updatedAtStart", -math.inf),
            self._instant(request, "updatedAtEnd", math.inf),
        )

    def _instant(self, request: SimRequest, name: str, default: float) -> float:
        text = self._filter(request, name)
        if text is None:
            return default
        try:
            return self.meant(parse_instant(text))
        except ValueError as error:
            raise self._refuse(400, f"{name}: {error}") from error

    def _order(self, request: SimRequest) -> tuple[str, bool]:
        text = request.value("orderBy")
        if text is None:
            return "createdAt", False
        name, bar, direction = text.partition("|")
        if not bar or name not in _ORDER_FIELDS or direction not in {"ASC", "DESC"}:
            raise self._refuse(400, f"Invalid order by clause provided: {text}")
        return name, direction == "DESC"

    def _page(self, request: SimRequest) -> tuple[int, int]:
        try:
            limit = int(request.value("limit") or _DEFAULT_LIMIT)
            offset = int(request.value("offset") or 0)
        except ValueError as error:
            raise self._refuse(400, str(error)) from error
        if not 1 <= limit <= _MAX_LIMIT or offset < 0:
            raise self._refuse(400, "limit must be 1 to 100 and offset at least 0")
        return limit, offset

    def _paged(
        self,
        request: SimRequest,
        path: str,
        rows: list[dict[str, Any]],
        limit: int,
        offset: int,
    ) -> SimReply:
        # https://github.com/airbytehq/airbyte-platform (PaginationMapper): there is a
        # next page wherever this one is not empty, and the links drop most filters.
        prefix = request.path[: request.path.rindex(path)]
        base = f"http://{request.header('Host', 'localhost')}{prefix}{path}"
        kept = {"limit": limit}
        workspaces = ",".join(request.values("workspaceIds"))
        more = f"&workspaceIds={workspaces}" if workspaces else ""

        def link(start: int) -> str:
            return f"{base}?{urlencode({**kept, 'offset': start})}{more}"

        return json_reply(
            200,
            {
                "previous": link(max(0, offset - limit)) if offset else "",
                "next": link(offset + limit) if rows else "",
                "data": rows,
            },
        )

    def _churn(self, page: list[AirbyteJob]) -> None:
        if not self.quirks.churn:
            return
        now = self.now()
        running = [job for job in page if not job.is_over(now)]
        for job in running[: self.quirks.churn]:
            moment = job.timeline.at(now)
            word = "incomplete" if moment and moment.word == "running" else "running"
            job.timeline.insert(now, word)

    # Connections and workspaces

    def _connection(self, connection_id: str) -> AirbyteConnection:
        found = self.connections.get(connection_id)
        if found is None:
            if not self.settings.accept_unknown:
                raise self._refuse(404, f"connection {connection_id}")
            if not is_text_id(connection_id):
                raise self._refuse(404, f"connection: {not_an_id(connection_id)}")
            self.add_connection(connection_id)
            found = self.connections[connection_id]
            self._add_endpoints(found)
        return found

    def _add_endpoints(self, connection: AirbyteConnection) -> None:
        """Add the source and the destination of a connection that has its own ones."""
        connection_id, name = connection.connection_id, connection.name
        workspace_id = connection.workspace_id
        source_id = _derived("source", connection_id)
        if connection.source_id == source_id and source_id not in self.sources:
            self.add_source(
                source_id, name=f"{name} (source)", workspace_id=workspace_id
            )
        target_id = _derived("target", connection_id)
        if (
            connection.destination_id == target_id
            and target_id not in self.destinations
        ):
            self.add_destination(
                target_id,
                name=f"{name} (destination)",
                workspace_id=workspace_id,
                configuration=_SNOWFLAKE,
            )

    def _get_connection(self, request: SimRequest, connection_id: str) -> SimReply:
        return json_reply(200, self._shown_connection(self._connection(connection_id)))

    def _list_connections(self, request: SimRequest) -> SimReply:
        limit, offset = self._page(request)
        workspaces = self._workspaces(request)
        deleted = request.value("includeDeleted") == "true"
        found = [
            self._shown_connection(one)
            for one in self.connections.values()
            if (workspaces is None or one.workspace_id in workspaces)
            and (deleted or one.status != "deprecated")
        ]
        return self._paged(
            request, "/connections", found[offset : offset + limit], limit, offset
        )

    @staticmethod
    def _shown_connection(connection: AirbyteConnection) -> dict[str, Any]:
        schedule = {"scheduleType": connection.schedule_type}
        if connection.schedule_type == "cron":
            schedule["cronExpression"] = "0 0 * * * ? UTC"
        elif connection.schedule_type == "basic":
            schedule["basicTiming"] = "Every 24 HOURS"
        shown = {
            "connectionId": connection.connection_id,
            "name": connection.name,
            "sourceId": connection.source_id,
            "destinationId": connection.destination_id,
            "workspaceId": connection.workspace_id,
            "status": connection.status,
            "schedule": schedule,
            "dataResidency": "auto",
            "configurations": {
                # https://reference.airbyte.com/reference/listconnections: a stream has
                # no mark of its being selected; what is not is left out.
                "streams": [
                    {"syncMode": "full_refresh_overwrite", **stream}
                    for stream in connection.streams
                    if stream.get("selected", True)
                ]
            },
            "createdAt": int(connection.created_at),
            "tags": [],
            "namespaceDefinition": connection.namespace_definition,
            "prefix": connection.prefix,
        }
        if connection.namespace_format is not None:
            shown["namespaceFormat"] = connection.namespace_format
        return shown

    # Sources and destinations

    def _list_sources(self, request: SimRequest) -> SimReply:
        return self._list_endpoints(request, "source", self.sources)

    def _list_destinations(self, request: SimRequest) -> SimReply:
        return self._list_endpoints(request, "destination", self.destinations)

    def _list_endpoints(
        self, request: SimRequest, word: str, known: Mapping[str, AirbyteEndpoint]
    ) -> SimReply:
        # https://reference.airbyte.com/reference/listsources
        limit, offset = self._page(request)
        workspaces = self._workspaces(request)
        found = [
            self._shown_endpoint(word, one)
            for one in known.values()
            if workspaces is None or one.workspace_id in workspaces
        ]
        page = found[offset : offset + limit]
        return self._paged(request, f"/{word}s", page, limit, offset)

    def _get_source(self, request: SimRequest, source_id: str) -> SimReply:
        if source_id not in self.sources:
            self._add_named(source_id)
        return self._get_endpoint("source", self.sources.get(source_id))

    def _get_destination(self, request: SimRequest, destination_id: str) -> SimReply:
        if destination_id not in self.destinations:
            self._add_named(destination_id)
        return self._get_endpoint("destination", self.destinations.get(destination_id))

    def _add_named(self, endpoint_id: str) -> None:
        """Add the source and the destination of the connection that names one of them."""
        for one in self.connections.values():
            if endpoint_id in (one.source_id, one.destination_id):
                self._add_endpoints(one)
                return

    def _get_endpoint(self, word: str, found: AirbyteEndpoint | None) -> SimReply:
        if found is None:
            raise self._refuse(404, word)
        return json_reply(200, self._shown_endpoint(word, found))

    @staticmethod
    def _shown_endpoint(word: str, one: AirbyteEndpoint) -> dict[str, Any]:
        return {
            f"{word}Id": one.endpoint_id,
            "name": one.name,
            f"{word}Type": one.kind,
            "definitionId": _derived(f"{word} definition", one.kind),
            "workspaceId": one.workspace_id,
            "configuration": dict(one.configuration),
            "createdAt": int(one.created_at),
        }

    def _list_workspaces(self, request: SimRequest) -> SimReply:
        limit, offset = self._page(request)
        asked = self._workspaces(request)
        found = [
            self._shown_workspace(one)
            for one in self.workspaces
            if asked is None or one in asked
        ]
        return self._paged(
            request, "/workspaces", found[offset : offset + limit], limit, offset
        )

    def _get_workspace(self, request: SimRequest, workspace_id: str) -> SimReply:
        if workspace_id not in self.workspaces:
            raise self._refuse(403)
        return json_reply(200, self._shown_workspace(workspace_id))

    def _shown_workspace(self, workspace_id: str) -> dict[str, Any]:
        return {
            "workspaceId": workspace_id,
            "name": self.workspaces[workspace_id],
            "dataResidency": "auto",
            "notifications": {},
        }


def _derived(kind: str, name: str) -> str:
    """Return the id of what goes with a name, the same every time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}"))


def java_instant(epoch: float) -> str:
    """Format a time as Java's ``OffsetDateTime.toString`` does.

    Whole seconds, and none at all where they are 0: ``2026-03-25T01:30Z``.
    """
    moment = datetime.fromtimestamp(int(epoch), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if moment.second else "%Y-%m-%dT%H:%MZ")


def java_duration(seconds: float) -> str:
    """Format seconds as Java's ``Duration.toString`` does: ``PT8H6M12S``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = "".join(
        f"{number}{letter}"
        for number, letter in ((hours, "H"), (minutes, "M"), (left, "S"))
        if number
    )
    return f"PT{text or '0S'}"
