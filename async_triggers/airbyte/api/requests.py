"""What is sent to Airbyte: paths, parameters, bodies."""

from __future__ import annotations

from dataclasses import dataclass

from async_triggers.engine.paths import segment
from async_triggers.engine.times import format_time
from async_triggers.engine.wire import Lane, Request, Source, SourceKind

# https://reference.airbyte.com/reference/listjobs: "limit" has a maximum of 100.
PAGE = 100
# Seconds by which the window of the change feed begins before the last look: the status
# of a job and its time are written a moment before they can be read.
OVERLAP = 60.0
# POST /jobs answers when the job exists, which the server waits up to 60 s for.
START_TIMEOUT = 90.0
# DELETE /jobs/{jobId} answers when the workflow has stopped, which has no bound.
CANCEL_TIMEOUT = 120.0
HEALTH_TIMEOUT = 10.0
"""Seconds for the answer that shows which path of the API is right."""
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
FEEDS = frozenset({FEED.name, ENDED.name})


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

    The server cancels any job that the connection is running, not just this one: check
    first.
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
        note=Walk(source="latest", limit=limit),
    )


def get_connection(connection_id: str) -> Request:
    """Request a connection: https://reference.airbyte.com/reference/getconnection."""
    return Request(
        method="GET",
        path=f"/connections/{segment(connection_id, 'connection_id')}",
        about=f"connection {connection_id}",
    )


def get_health() -> Request:
    """Request the API's health, without credentials.

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


def get_endpoint(word: str, endpoint_id: str) -> Request:
    """Request a source or a destination; ``word`` says which of them.

    https://reference.airbyte.com/reference/getsource
    """
    return Request(
        method="GET",
        path=f"/{word}s/{segment(endpoint_id, f'{word} id')}",
        about=f"{word} {endpoint_id}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a walk over a list of connections and the like is, and what it requests."""

    offset: int
    only: tuple[tuple[str, str], ...]


def _first_page(path: str, only: tuple[tuple[str, str], ...] = ()) -> Request:
    return page_of(path, 0, only)


def page_of(path: str, offset: int, only: tuple[tuple[str, str], ...]) -> Request:
    """Request the page of a list of connections and the like that begins at an offset."""
    return Request(
        method="GET",
        path=path,
        about=f"the list at {path}",
        params=(("limit", str(PAGE)), ("offset", str(offset)), *only),
        note=Place(offset=offset, only=only),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where a walk over a list is."""

    source: str
    limit: int
    since: float | None = None
    status: str = ""
    offset: int = 0


def page_of_jobs(walk: Walk) -> Request:
    """Request the page of a list of jobs at which a walk is."""
    params: list[tuple[str, str]] = []
    if walk.source in FEEDS:
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
