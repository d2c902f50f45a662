"""dbt Cloud's envelope, what it refuses, and a page of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    json_reply,
)
from async_triggers.simulator.vendor import as_integer_id

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.settings import DbtCloudSettings

_MAX_LIMIT: Final = 100

_MESSAGES: Final = {
    400: "Bad request",
    401: "Authentication credentials were not provided.",
    403: "You do not have permission to perform this action.",
    404: "The requested resource was not found",
    429: "Too many requests",
}
_GOOD: Final = {
    "code": 200,
    "is_success": True,
    "user_message": "Success!",
    "developer_message": "",
}


def error(status: int, detail: str = "") -> SimReply:
    """Return an error in dbt Cloud's envelope."""
    return json_reply(
        status,
        {
            "status": {
                "code": status,
                "is_success": False,
                "user_message": detail or _MESSAGES.get(status, "Server error"),
                "developer_message": "",
            },
            "data": None,
        },
    )


def refuse(status: int, detail: str = "") -> RefusalError:
    """Return what a handler raises to answer with an error."""
    return RefusalError(error(status, detail))


def one(data: object) -> SimReply:
    """Answer with one thing."""
    return json_reply(200, {"data": data, "status": _GOOD})


def many(
    settings: DbtCloudSettings,
    rows: list[dict[str, Any]],
    *,
    total: int,
    filters: Mapping[str, Any],
    order_by: str | None,
) -> SimReply:
    """Answer with a page of a list."""
    extra = {
        "filters": dict(filters) if settings.echo_filters else {},
        "order_by": order_by,
        "pagination": {"count": len(rows), "total_count": total},
    }
    return json_reply(200, {"data": rows, "extra": extra, "status": _GOOD})


def named(
    settings: DbtCloudSettings,
    request: SimRequest,
    rows: list[dict[str, Any]],
    **filters: Any,
) -> SimReply:
    """Answer with a page of rows filtered by their names."""
    wanted = request.value("name__icontains")
    if wanted:
        filters["name__icontains"] = wanted
        rows = [row for row in rows if wanted.lower() in row["name"].lower()]
    limit, offset = page_of(settings, request)
    page = rows[offset : offset + limit]
    filters |= {"limit": limit, "offset": offset}
    return many(settings, page, total=len(rows), filters=filters, order_by="id")


def page_of(settings: DbtCloudSettings, request: SimRequest) -> tuple[int, int]:
    """Return how many rows a list request wants, and after how many.

    :raises RefusalError: dbt Cloud does not take it.
    """
    limit = integer(request, "limit", _MAX_LIMIT)
    offset = integer(request, "offset", 0)
    if limit > _MAX_LIMIT and settings.over_limit == "refuse":
        raise refuse(400, f"limit must be at most {_MAX_LIMIT}")
    if limit < 1 or offset < 0:
        raise refuse(400, "limit must be at least 1, offset at least 0")
    return min(limit, _MAX_LIMIT), offset


def integer(request: SimRequest, name: str, default: int) -> int:
    """Return a query parameter as a number.

    :raises RefusalError: It is none.
    """
    text = request.value(name)
    try:
        return default if text is None else int(text)
    except ValueError as error:
        raise refuse(400, f"{name} must be an integer") from error


def path_id(text: str) -> int:
    """Return an id of a path as a number.

    :raises RefusalError: It is no id.
    """
    number = as_integer_id(text)
    if number is None:
        raise refuse(404)
    return number


def related_to(request: SimRequest) -> frozenset[str]:
    """Return what ``include_related`` names, in any form that clients send.

    One value with commas, as the documentation shows it; repeated keys, as the
    official provider for Airflow sends them; a JSON list, as other clients do.
    """
    return frozenset(
        word.strip(" []\"'")
        for value in request.values("include_related")
        for word in value.split(",")
    )
