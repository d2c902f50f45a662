"""What Airbyte's public API says: addresses, requests, replies. Pure, no I/O.

The API is described at https://reference.airbyte.com and, with the server's own wire
format, in the OpenAPI file of https://github.com/airbytehq/airbyte-platform.
"""

from __future__ import annotations

import logging
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from async_triggers.engine.address import read_address
from async_triggers.engine.errors import (
    AccountMisconfigured,
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    JobNotFound,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import (
    HTTP_FORBIDDEN,
    LONGEST_HEAD,
    Account,
    CredentialKind,
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    SourceKind,
    Token,
    format_time,
    parse_time,
    refuse_by_status,
    segment,
    short_text,
    words_of,
)

log = logging.getLogger(__name__)

CLOUD_HOST = "api.airbyte.com"
CLOUD_UI = "https://cloud.airbyte.com"

HTTP_BAD_REQUEST = 400
HTTP_CONFLICT = 409
HTTP_UNPROCESSABLE = 422

# https://reference.airbyte.com/reference/listjobs: "limit" has a maximum of 100.
PAGE = 100
# Seconds by which the window of the change feed begins before the last look: the status
# of a job and its time are written a moment before they can be read.
OVERLAP = 60.0
# https://reference.airbyte.com/reference/createaccesstoken: older servers say nothing of
# the lifetime, and theirs is three minutes.
SHORTEST_TOKEN_LIFE = 180.0
# POST /jobs answers when the job exists, which the server waits up to 60 s for.
START_TIMEOUT = 90.0
# DELETE /jobs/{jobId} answers when the workflow has stopped, however long that takes.
CANCEL_TIMEOUT = 120.0
# A start whose answer was lost shows up within the minute that the server waits for it.
START_GRACE = 75.0
# What is made within it was made by a start, tried again and waiting for its turn; what is
# made later hardly was.
START_WINDOW = 300.0

FEED = Source(name="change feed", kind=SourceKind.FEED, page=PAGE)
# The filter by status takes one value: https://reference.airbyte.com/reference/listjobs.
# So it takes a walk for each way to end, and the many jobs that only began are left out.
ENDED = Source(
    name="ended jobs",
    kind=SourceKind.FEED,
    page=PAGE,
    parts=("succeeded", "failed", "cancelled"),
    ends_only=True,
)
RUNNING = Source(name="running jobs", kind=SourceKind.LIVE, page=PAGE)

JOB_TYPES = ("sync", "reset", "clear")

# The states of a job as the server has them; "incomplete" lies between two attempts and
# is no end: https://docs.airbyte.com/understanding-airbyte/jobs
_STATES = {
    "pending": JobState.PENDING,
    "queued": JobState.PENDING,
    "running": JobState.RUNNING,
    "incomplete": JobState.RUNNING,
    "succeeded": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
}
_NO_REASON = "Airbyte's API gives no reason, the job's log in its UI does"

_PATH = re.compile(r"/?[\w.~-]+(/[\w.~-]+)*/?|/")
_VERSION = re.compile(r"v\d+/")
_OWN_PROBLEM = re.compile(
    r"https://reference\.airbyte\.com/reference/errors(#|$)"
    r"|https://docs\.airbyte\.com/"
    r"|error:[a-z-]+(/[a-z-]+)*$"
)
_OWN_ANSWER = re.compile(
    rb'\s*\{.*"(jobId"\s*:\s*"?\d|data"\s*:\s*\[|'
    rb'(connection|workspace|source|destination)Id"\s*:\s*"[^"])',
    re.DOTALL,
)
_OAUTH_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)

_strange_words: set[str] = set()
HEALTH_TIMEOUT = 10.0
"""Seconds for the answer that tells a path of the API from others."""


# Addresses --------------------------------------------------------------------------


def base_urls(
    host: str,
    *,
    port: int | None,
    scheme: str,
    api_version: str,
    api_path: str = "",
) -> tuple[str, ...]:
    """Return where the public API may be, from the fields of a connection.

    Cloud is ``https://api.airbyte.com/v1``, a server of one's own
    ``<its address>/api/public/v1``; the path may be given, partly given or left out:
    https://docs.airbyte.com/platform/using-airbyte/configuring-api-access

    The likeliest comes first. There is a second one where the host has a path that is
    none of Airbyte's: a gateway may serve the API right there. ``api_path``, the path of
    the API on the server, leaves one alone.
    """
    text = host.strip()
    if not text:
        msg = (
            "host is empty: set it to the server's URL, for example"
            " https://api.airbyte.com/v1 or http://localhost:8000/api/public/v1"
        )
        raise AccountMisconfigured(msg)

    address = read_address(
        text,
        port=port,
        scheme=scheme or "http",
        credentials="put them into login and password",
        form="host is no http or https URL: write it as https://host:port/path",
    )
    origin, path = address.origin, address.path
    if api_path:
        return (origin + _read_path(api_path),)

    if path.endswith(f"/{api_version}"):
        return (origin + path,)

    if address.host == CLOUD_HOST:
        return (f"{origin}{path}/{api_version}",)

    for known in ("/api/public", "/api"):
        if path.endswith(known):
            return (f"{origin}{path.removesuffix(known)}/api/public/{api_version}",)

    likeliest = f"{origin}{path}/api/public/{api_version}"
    return (likeliest, origin + path) if path else (likeliest,)


def base_url(host: str, *, port: int | None, scheme: str, api_version: str) -> str:
    """Return where the public API most likely is, see :func:`base_urls`."""
    return base_urls(host, port=port, scheme=scheme, api_version=api_version)[0]


def _read_path(value: object) -> str:
    """Return a path on the server, without a slash at its end."""
    if not isinstance(value, str) or not _PATH.fullmatch(value.strip()):
        # What it holds is not repeated: it may be a URL with a password.
        msg = (
            "extra.api_path must be the path of the API on its server, such as /airbyte"
        )
        raise AccountMisconfigured(msg)

    path = value.strip().strip("/")
    return f"/{path}" if path else ""


def token_url(value: str, base: str) -> str:
    """Return where tokens are asked for.

    ``value`` is what the connection says: an absolute URL, or a path with or without the
    version (``v1/applications/token``), or nothing. A path that begins with a slash or
    with ``api/`` is one of the server, not of the public API.
    """
    text = value.strip()
    if text.startswith(("http://", "https://")):
        try:
            usable = bool(urlsplit(text).hostname) and "@" not in text
        except ValueError:
            usable = False

        if not usable:
            msg = "schema is no URL of a token endpoint: write v1/applications/token"
            raise AccountMisconfigured(msg)

        return text

    path = text.strip("/") or "applications/token"
    if path.startswith("api/") or (text.startswith("/") and text.strip("/")):
        parts = urlsplit(base)
        return f"{parts.scheme}://{parts.netloc}/{path}"

    return f"{base}/{_VERSION.sub('', path)}"


def ui_url(base: str, given: str) -> str:
    """Return where the web interface is."""
    if given:
        try:
            parts = urlsplit(given)
        except ValueError:
            parts = urlsplit("")

        if parts.scheme not in {"http", "https"} or "@" in given:
            # It becomes part of links, which everybody may see.
            msg = "extra.ui_url must be an http or https URL without credentials"
            raise AccountMisconfigured(msg)

        return given.rstrip("/")

    parts = urlsplit(base)
    return (
        CLOUD_UI if parts.hostname == CLOUD_HOST else f"{parts.scheme}://{parts.netloc}"
    )


def job_url(ui: str, workspace_id: str, connection_id: str, job_id: str) -> str:
    """Return where the web interface shows a job.

    The route is that of the web application's own links:
    https://github.com/airbytehq/airbyte-platform (``routePaths.tsx``).
    """
    if not workspace_id:
        return ""

    return (
        f"{ui}/workspaces/{segment(workspace_id, 'workspaceId')}"
        f"/connections/{segment(connection_id, 'connection_id')}"
        f"/timeline?openLogs=true&jobId={segment(job_id, 'job_id')}"
    )


# Models -------------------------------------------------------------------------------


class JobStatusEnum(StrEnum):
    """The statuses of a job: https://reference.airbyte.com/reference/getjob."""

    PENDING = "pending"
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResponse:
    """A job, in the words of Airbyte's API.

    ``status`` is a :class:`JobStatusEnum`, a plain text where Airbyte has a status that is
    not among these. The times are in ISO 8601; ``last_updated_at`` is None while the job
    runs.
    """

    job_id: int
    status: str
    job_type: str
    start_time: str
    connection_id: str
    bytes_synced: int | None = None
    duration: str | None = None
    last_updated_at: str | None = None
    rows_synced: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A connection of Airbyte: what is replicated from where to where.

    ``status`` is active, inactive, deprecated or locked. ``schedule_type`` is manual,
    scheduled, basic or cron; empty where the server does not say.
    """

    id: str
    name: str
    status: str
    workspace_id: str
    schedule_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of a connection. ``object_name`` is set where it names the table."""

    name: str
    namespace: str = ""
    object_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """A connection with what it replicates; ``streams`` are the selected ones.

    ``namespace_definition`` is source, destination or custom_format, for which
    ``namespace_format`` is the pattern. ``created_at`` is in epoch seconds.
    """

    id: str
    name: str
    status: str
    source_id: str
    destination_id: str
    namespace_definition: str
    namespace_format: str
    prefix: str
    streams: tuple[Stream, ...]
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A source or a destination.

    ``kind`` is its type, such as snowflake. ``settings`` are those parts of its
    configuration that say where data lies, and no others: no credentials.
    """

    id: str
    name: str
    kind: str
    settings: Mapping[str, tuple[str, ...]]


# Requests -----------------------------------------------------------------------------


def start_job(connection_id: str, job_type: str) -> Request:
    """Start a job: https://reference.airbyte.com/reference/createjob."""
    segment(connection_id, "connection_id")
    return Request(
        method="POST",
        path="/jobs",
        about=f"the start of a {job_type} of connection {connection_id}",
        json={"connectionId": connection_id, "jobType": job_type},
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def get_job(job_id: str) -> Request:
    """Request a job: https://reference.airbyte.com/reference/getjob."""
    return Request(
        method="GET", path=f"/jobs/{segment(job_id, 'job_id')}", about=f"job {job_id}"
    )


def cancel_job(job_id: str) -> Request:
    """Cancel a job: https://reference.airbyte.com/reference/canceljob.

    The server cancels whatever the connection is running, not just this job: look first.
    """
    return Request(
        method="DELETE",
        path=f"/jobs/{segment(job_id, 'job_id')}",
        about=f"the cancelling of job {job_id}",
        lane=Lane.CANCEL,
        timeout=CANCEL_TIMEOUT,
    )


def latest_jobs(connection_id: str, limit: int = 5, *, job_type: str = "") -> Request:
    """Request the newest jobs of a connection, of one type or of all.

    https://reference.airbyte.com/reference/listjobs: without ``orderBy`` the oldest come
    first.
    """
    segment(connection_id, "connection_id")
    return Request(
        method="GET",
        path="/jobs",
        about=f"the latest jobs of connection {connection_id}",
        params=(
            ("connectionId", connection_id),
            ("orderBy", "createdAt|DESC"),
            ("limit", str(limit)),
            *((("jobType", job_type),) if job_type else ()),
        ),
        note=_Walk(source="latest", limit=limit),
    )


def get_connection(connection_id: str) -> Request:
    """Request a connection: https://reference.airbyte.com/reference/getconnection."""
    return Request(
        method="GET",
        path=f"/connections/{segment(connection_id, 'connection_id')}",
        about=f"connection {connection_id}",
    )


def get_health() -> Request:
    """Ask whether Airbyte is there, without credentials.

    https://reference.airbyte.com/reference/gethealthcheck
    """
    return Request(
        method="GET",
        path="/health",
        about="Airbyte's health",
        timeout=HEALTH_TIMEOUT,
        authorized=False,
    )


def any_workspace() -> Request:
    """Request a workspace: https://reference.airbyte.com/reference/listworkspaces."""
    return Request(
        method="GET",
        path="/workspaces",
        about="the workspaces",
        params=(("limit", "1"),),
    )


def list_workspaces() -> Request:
    """Request the first page of the workspaces.

    https://reference.airbyte.com/reference/listworkspaces
    """
    return _first_page("/workspaces")


def list_connections(workspace_id: str = "") -> Request:
    """Request the first page of the connections of one workspace, or of all.

    https://reference.airbyte.com/reference/listconnections: without ``workspaceIds``
    those of all workspaces that the caller may see.
    """
    only = (("workspaceIds", workspace_id),) if workspace_id else ()
    return _first_page("/connections", only)


def list_sources() -> Request:
    """Request the first page of the sources.

    https://reference.airbyte.com/reference/listsources
    """
    return _first_page("/sources")


def list_destinations() -> Request:
    """Request the first page of the destinations.

    https://reference.airbyte.com/reference/listdestinations
    """
    return _first_page("/destinations")


def _first_page(path: str, only: tuple[tuple[str, str], ...] = ()) -> Request:
    return _page_of(path, 0, only)


def _page_of(path: str, offset: int, only: tuple[tuple[str, str], ...]) -> Request:
    return Request(
        method="GET",
        path=path,
        about=f"the list at {path}",
        params=(("limit", str(PAGE)), ("offset", str(offset)), *only),
        note=_Place(offset=offset, only=only),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a walk over a list of connections and the like is, and what it asks for."""

    offset: int
    only: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """Where a walk over a list is."""

    source: str
    limit: int
    since: float | None = None
    status: str = ""
    offset: int = 0


# Replies ------------------------------------------------------------------------------


def read_jobs(request: Request, reply: Reply) -> list[Row]:
    """Read the rows of a list of jobs."""
    data = reply.object(request.about).get("data")
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        msg = f"The answer about {request.about} has no list 'data' of objects"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_job(row: Row) -> Job:
    """Read one job; an unknown status counts as running and is warned about once."""
    word = short_text(row.get("status"))
    if word is None:
        msg = f"Job {row_id(row)} has no status"
        raise UnreadableReply(msg)

    state = _STATES.get(word)
    if state is None:
        state = JobState.RUNNING
        if word not in _strange_words and len(_strange_words) < PAGE:
            _strange_words.add(word)
            log.warning("Airbyte has a job status %r, which counts as running", word)

    return Job(
        id=row_id(row),
        state=state,
        word=word,
        message=_NO_REASON if state is JobState.FAILED else "",
        started_at=short_text(row.get("startTime")),
        ended_at=parse_time(row.get("lastUpdatedAt")) if state.is_terminal else None,
        statistics={
            "connection_id": short_text(row.get("connectionId")),
            "job_type": short_text(row.get("jobType")),
            "rows_synced": _count(row.get("rowsSynced")),
            "bytes_synced": _count(row.get("bytesSynced")),
            "duration": short_text(row.get("duration")),
        },
    )


def describe_job(job: Job) -> JobResponse:
    """Return a job in the words of Airbyte's API."""
    known: Mapping[str, Any] = job.statistics
    try:
        status: str = JobStatusEnum(job.word)
    except ValueError:
        status = job.word

    return JobResponse(
        job_id=int(job.id),
        status=status,
        job_type=known["job_type"] or "",
        start_time=job.started_at or "",
        connection_id=known["connection_id"] or "",
        bytes_synced=known["bytes_synced"],
        duration=known["duration"],
        last_updated_at=None if job.ended_at is None else format_time(job.ended_at),
        rows_synced=known["rows_synced"],
    )


def row_id(row: Row) -> str:
    """Read the id of a job, or raise :class:`UnreadableReply`."""
    value = row.get("jobId")
    text = "" if isinstance(value, bool) or not isinstance(value, int | str) else value
    text = str(text)
    if not (text.isascii() and text.isdigit()):
        msg = "A job has no jobId that is a whole number"
        raise UnreadableReply(msg)

    return text


def read_connection(request: Request, reply: Reply) -> Connection:
    """Read a connection."""
    body = reply.object(request.about)
    if not _text(body.get("connectionId")):
        msg = f"The answer about {request.about} is no connection of Airbyte"
        raise UnreadableReply(msg, status=reply.status)

    schedule = body.get("schedule")
    kind = schedule.get("scheduleType") if isinstance(schedule, dict) else ""
    return Connection(
        id=_text(body.get("connectionId")) or "",
        name=_text(body.get("name")) or "",
        status=_text(body.get("status")) or "",
        workspace_id=_text(body.get("workspaceId")) or "",
        schedule_type=_text(kind) or "",
    )


def read_page(request: Request, reply: Reply) -> tuple[list[Row], Request | None]:
    """Read a page of connections, sources or the like, and how to go on.

    A page may be short and yet not the last one: only an empty one ends the list.
    """
    rows, place = read_jobs(request, reply), request.note
    if not rows or not isinstance(place, _Place):
        return rows, None

    return rows, _page_of(request.path, place.offset + PAGE, place.only)


def read_names(rows: Sequence[Row], word: str) -> dict[str, str]:
    """Return the names of a list by their ids; ``word`` says of what the list is."""
    return {
        known: words_of(row.get("name"))
        for row in rows
        if (known := _text(row.get(f"{word}Id")))
    }


def is_in(row: Row, workspace_id: str) -> bool:
    """Return whether a connection of a list is one of a workspace."""
    return _text(row.get("workspaceId")) in {None, workspace_id}


def read_replication(row: Row) -> Replication:
    """Read a connection of a list with what it replicates."""
    configurations = row.get("configurations")
    streams = (
        configurations.get("streams") if isinstance(configurations, dict) else None
    )
    return Replication(
        id=_text(row.get("connectionId")) or "",
        name=_text(row.get("name")) or "",
        status=_text(row.get("status")) or "",
        source_id=_text(row.get("sourceId")) or "",
        destination_id=_text(row.get("destinationId")) or "",
        namespace_definition=_text(row.get("namespaceDefinition")) or "destination",
        namespace_format=_text(row.get("namespaceFormat")) or "",
        prefix=_text(row.get("prefix")) or "",
        streams=tuple(
            Stream(
                name=_text(stream.get("name")) or "",
                namespace=_text(stream.get("namespace")) or "",
                object_name=_text(stream.get("destinationObjectName")) or "",
            )
            for stream in streams or ()
            if isinstance(stream, dict) and stream.get("selected", True)
        ),
        created_at=_count(row.get("createdAt")) or 0,
    )


# https://docs.airbyte.com/integrations/destinations: what the destinations call the
# places that data goes to.
_PLACES = (
    "catalog",
    "database",
    "dataset_id",
    "destination_path",
    "project_id",
    "schema",
    "schemas",
)


def read_endpoint(row: Row, word: str) -> Endpoint:
    """Read a row of a list of sources or destinations; ``word`` says of which."""
    configuration = row.get("configuration")
    settings: dict[str, tuple[str, ...]] = {}
    for place in _PLACES:
        value = configuration.get(place) if isinstance(configuration, dict) else None
        values = value if isinstance(value, list) else [value]
        names = tuple(name for name in values if isinstance(name, str) and name)
        if names:
            settings[place] = names

    return Endpoint(
        id=_text(row.get(f"{word}Id")) or "",
        name=_text(row.get("name")) or "",
        kind=_text(row.get(f"{word}Type")) or "",
        settings=settings,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# The vendor ---------------------------------------------------------------------------


class Airbyte:
    """Airbyte as the engine sees it."""

    name = "Airbyte"
    noun = "job"
    grid_floor = 5.0
    overlap = OVERLAP
    sources: Sequence[Source] = (FEED, ENDED, RUNNING)

    def name_of(self, job_id: str) -> str:
        """Name a job within a sentence."""
        return f"job {job_id}"

    def token_request(self, account: Account) -> Request | None:
        """Request a token: https://reference.airbyte.com/reference/createaccesstoken.

        Both spellings of the grant's key are sent: the schema and the list of required
        keys of the API's own description differ in it.
        """
        credentials = account.credentials
        if credentials.kind is not CredentialKind.CLIENT_CREDENTIALS:
            return None

        return Request(
            method="POST",
            path=credentials.token_url,
            about="an access token",
            json={
                "client_id": credentials.login,
                "client_secret": credentials.secret,
                "grant-type": "client_credentials",
                "grant_type": "client_credentials",
            },
            authorized=False,
            note="token",
        )

    def read_token(self, reply: Reply) -> Token:
        """Read a token and its life."""
        body = reply.object("an access token")
        value = body.get("access_token")
        if not isinstance(value, str) or not value:
            msg = "The answer about an access token holds no access_token"
            raise UnreadableReply(msg, status=reply.status)

        lifetime = body.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float):
            lifetime = SHORTEST_TOKEN_LIFE

        return Token(value, max(1.0, float(lifetime)))

    def authorize(self, account: Account, token: Token | None) -> Mapping[str, str]:
        """Prove who we are: https://reference.airbyte.com/reference/authentication."""
        credentials = account.credentials
        match credentials.kind:
            case CredentialKind.CLIENT_CREDENTIALS:
                return {"Authorization": f"Bearer {token.value}"} if token else {}
            case CredentialKind.BEARER:
                return {"Authorization": f"Bearer {credentials.secret}"}
            case CredentialKind.BASIC:
                return {
                    "Authorization": basic_auth(credentials.login, credentials.secret)
                }
            case CredentialKind.NONE:
                return {}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for a problem object with a type of Airbyte's.

        The types: https://reference.airbyte.com/reference/errors. The token endpoint may
        be that of the identity server, which answers with the errors of OAuth
        (https://www.rfc-editor.org/rfc/rfc6749#section-5.2).
        """
        try:
            body = reply.object("a problem")
        except UnreadableReply:
            return False

        kind = body.get("type")
        if isinstance(kind, str) and _OWN_PROBLEM.match(kind):
            return True

        return (
            request.note == "token"
            and body.get("error") in (*_OAUTH_ERRORS,)
            and isinstance(body.get("error_description"), str)
        )

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with one of the fields that all of Airbyte's have."""
        return _OWN_ANSWER.match(reply.body, 0, LONGEST_HEAD) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error.

        The bodies are problem objects (RFC 9457) whose ``type`` names the case:
        https://reference.airbyte.com/reference/errors
        """
        kind, detail = _problem(reply)
        status = reply.status
        if request.note == "token":
            return _refuse_token(request, reply, detail)

        if status == HTTP_CONFLICT and request.lane is Lane.START:
            if kind == "try-again-later":
                return AlreadyRunning(
                    f"Airbyte did not make {request.about}: {detail}", status=status
                )

            # The same body stands for "took longer than a minute" and for others.
            return VendorBroken(
                f"Airbyte did not confirm {request.about}: {detail}",
                status=status,
                ambiguous=True,
            )

        if (
            status in {HTTP_FORBIDDEN, HTTP_CONFLICT}
            and request.method == "GET"
            and request.path.startswith("/jobs/")
        ):
            # The check of the role comes first, so an unknown job is forbidden for most
            # callers and "not currently running" for administrators.
            return JobNotFound(
                f"Airbyte does not know {request.about}, or does not show it to these"
                f" credentials: {detail}",
                status=status,
            )

        return refuse_by_status(self.name, request, reply, detail)

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        """Airbyte tells nothing of what is left of a limit."""
        return None

    def single(self, account: Account, subject: str) -> Request:
        """Request one job."""
        return get_job(subject)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request what changed since a server time, or for what is running.

        https://reference.airbyte.com/reference/listjobs. Newest first: a row that changes
        while we page can then only repeat, never be shifted past us. ``workspaceIds`` is
        left out, which means all that the caller may see.
        """
        return _page_of_jobs(
            _Walk(source=source.name, limit=source.page, since=since, status=scope)
        )

    def read(self, request: Request, reply: Reply) -> Page:
        """Read a page of jobs, or one job."""
        walk = request.note
        if not isinstance(walk, _Walk):
            row = reply.object(request.about)
            return Page(rows={row_id(row): row}, count=1)

        data = read_jobs(request, reply)
        rows = {row_id(row): row for row in data}
        # The server's own link to the next page forgets the filters.
        full = len(data) >= walk.limit
        following = replace(walk, offset=walk.offset + walk.limit)
        return Page(
            rows=rows,
            count=len(data),
            next=_page_of_jobs(following) if full else None,
            resume=_resume(walk, reply, data),
            sound=_was_filtered(walk, data),
        )

    def judge(
        self,
        account: Account,
        subject: str,
        row: Row,
        mark: str | None,
    ) -> Job:
        """Read the job that a row shows."""
        return read_job(row)

    def digest(self, row: Row) -> int | None:
        """Judge each row: hardly one is shown that has not changed."""
        return None

    def scope_of(self, row: Row) -> str:
        """Lists are not scoped."""
        return ""

    def needs_confirmation(self, job: Job) -> bool:
        """Request singly what lists may leave out: how much was synced."""
        return job.state is JobState.SUCCEEDED and job.statistics["rows_synced"] is None

    def confirmation(self, job: Job, *, now: float | None) -> Request | None:
        """Ask singly: that tells all there is."""
        return None

    def confirmed(self, request: Request, reply: Reply, job: Job) -> Job | None:
        """Nothing but a single answer confirms."""
        raise NotImplementedError


AIRBYTE = Airbyte()


def basic_auth(login: str, password: str) -> str:
    """Return the value of an ``Authorization`` header (RFC 7617)."""
    return "Basic " + b64encode(f"{login}:{password}".encode()).decode()


_FEEDS = frozenset({FEED.name, ENDED.name})


def _page_of_jobs(walk: _Walk) -> Request:
    params: list[tuple[str, str]] = []
    if walk.source in _FEEDS:
        assert walk.since is not None  # noqa: S101 - a feed has a window
        params += [
            ("updatedAtStart", format_time(walk.since)),
            ("orderBy", "updatedAt|DESC"),
        ]
        if walk.status:
            params.append(("status", walk.status))
    else:
        params += [("status", "running"), ("orderBy", "createdAt|DESC")]

    params += [("limit", str(walk.limit)), ("offset", str(walk.offset))]
    return Request(
        method="GET",
        path="/jobs",
        about=f"the {walk.source}",
        params=tuple(params),
        note=walk,
    )


def _resume(walk: _Walk, reply: Reply, data: Sequence[Row]) -> float | None:
    """Return where the next window begins: by the server's clock, never by ours."""
    if walk.source not in _FEEDS or walk.offset:
        return None

    now = reply.date
    if now is None:
        times = [parse_time(row.get("lastUpdatedAt")) for row in data]
        now = max((each for each in times if each is not None), default=None)

    return None if now is None else float(int(now - OVERLAP))


def _was_filtered(walk: _Walk, data: Sequence[Row]) -> bool:
    """Return whether the server filtered; only rows that ended show their time."""
    if walk.since is None:
        return True

    if walk.status and any(row.get("status") != walk.status for row in data):
        return False

    ends = [parse_time(row.get("lastUpdatedAt")) for row in data]
    return all(end is None or end >= walk.since - 1.0 for end in ends)


def _problem(reply: Reply) -> tuple[str, str]:
    """Return the case and the explanation of a problem object, empty where it is none."""
    try:
        body: Any = reply.json("a problem")
    except UnreadableReply:
        return "", ""

    if not isinstance(body, dict):
        return "", ""

    kind = (_text(body.get("type")) or "").rpartition("#")[2]
    data = body.get("data")
    inner = data.get("message") if isinstance(data, dict) else None
    told = (inner, *(body.get(name) for name in ("detail", "message", "title")))
    return kind, next((words for each in told if (words := words_of(each))), "")


def _refuse_token(request: Request, reply: Reply, detail: str) -> EngineError:
    error = refuse_by_status(Airbyte.name, request, reply, detail)
    if isinstance(error, JobNotFound):
        return AccountMisconfigured(
            "Airbyte has no token endpoint where it was requested: set Token URL (schema)"
            " to v1/applications/token or to the endpoint's URL, and check Server URL"
            " (host)",
            status=reply.status,
        )

    if reply.status in {HTTP_BAD_REQUEST, HTTP_FORBIDDEN, HTTP_UNPROCESSABLE}:
        return CredentialsRejected(
            "Airbyte gives no access token for this Client ID (login) and Client Secret"
            f" (password): {detail}",
            status=reply.status,
        )

    return error
