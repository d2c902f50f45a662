"""What Airbyte answers wherever it refuses, and a page of a list."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    json_reply,
    text_reply,
)

# https://reference.airbyte.com/reference/listjobs
# https://reference.airbyte.com/reference/listjobs
_DEFAULT_LIMIT: Final = 20
_MAX_LIMIT: Final = 100

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


def error(status: int, detail: str = "") -> SimReply:
    """Return a problem object."""
    if status == 429:
        # https://github.com/airbytehq/airbyte-platform (PublicApiLoadShedFilter):
        # no Retry-After, on purpose.
        return json_reply(429, {"message": "You are being rate limited."})
    if status in {502, 504}:
        return text_reply(status, f"<html>{status}</html>", content_type="text/html")
    type_, title, text = _PROBLEMS.get(status, _PROBLEMS[500])
    return problem(status, type_, title, text, detail)


def problem(status: int, type_: str, title: str, text: str, message: str) -> SimReply:
    """Return a problem object of any type."""
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


def refuse(status: int, detail: str = "") -> RefusalError:
    """Return what a handler raises to answer with an error."""
    return RefusalError(error(status, detail))


def try_again_later(connection_id: str) -> SimReply:
    """Return the refusal of a start while a job of the connection runs."""
    return problem(
        409,
        f"{_ERRORS}#try-again-later",
        "try-again-later",
        "Please try again later.",
        f"A sync is already running for: {connection_id}",
    )


def locked() -> SimReply:
    """Return the refusal of a connection that is locked."""
    return problem(
        409,
        "error:connection/locked",
        "Connection is locked",
        "The connection is locked and cannot be modified.",
        "",
    )


def page_of(request: SimRequest) -> tuple[int, int]:
    """Return how many rows a list request wants, and after how many.

    :raises RefusalError: Airbyte does not take it.
    """
    try:
        limit = int(request.value("limit") or _DEFAULT_LIMIT)
        offset = int(request.value("offset") or 0)
    except ValueError as error:
        raise refuse(400, str(error)) from error
    if not 1 <= limit <= _MAX_LIMIT or offset < 0:
        raise refuse(400, "limit must be 1 to 100 and offset at least 0")
    return limit, offset


def paged(
    request: SimRequest,
    path: str,
    rows: list[dict[str, Any]],
    limit: int,
    offset: int,
) -> SimReply:
    """Answer with a page and the links to the pages around it."""
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
