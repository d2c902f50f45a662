"""What Fivetran answers wherever it refuses, its envelope, and a page of a list."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    json_reply,
)

if TYPE_CHECKING:
    from async_triggers.simulator.fivetran.settings import FivetranSettings

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

Row = TypeVar("Row")


def error(status: int, detail: str = "") -> SimReply:
    """Return an error object."""
    code = _CODES.get(status, "InternalServerError")
    return json_reply(status, {"code": code, "message": detail or code})


def refuse(status: int, detail: str = "") -> RefusalError:
    """Return what a handler raises to answer with an error."""
    return RefusalError(error(status, detail))


def missing(what: str, message: str) -> RefusalError:
    """Return the refusal of something that is not there, such as a ``Connector``."""
    reply = json_reply(404, {"code": f"NotFound_{what}", "message": message})
    return RefusalError(reply)


def not_found(what: str, name: str) -> RefusalError:
    """Return the refusal of an id that is unknown."""
    message = f"Cannot find {what.lower()} with id '{name}'"
    return missing(what, message)


def data(shown: object, message: str = "Operation performed.") -> SimReply:
    """Answer with data in Fivetran's envelope."""
    return json_reply(200, {"code": "Success", "message": message, "data": shown})


def flag(sent: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """Return a field of a body that is true or false; null counts as not sent.

    :raises RefusalError: It is anything else.
    """
    value = sent.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise refuse(400, f"{name} must be true or false")
    return value


def page_of(
    settings: FivetranSettings, request: SimRequest, found: Sequence[Row]
) -> tuple[Sequence[Row], str | None]:
    """Return the page of a list that a request wants, and the next page's cursor.

    :raises RefusalError: Fivetran does not take the limit or the cursor.
    """
    try:
        limit = int(request.value("limit") or _DEFAULT_LIMIT)
        offset = _offset(request.value("cursor"))
    except ValueError as error:
        raise refuse(400, str(error)) from error
    if not 1 <= limit <= _MAX_LIMIT:
        raise refuse(400, "limit must be in the range 1..1000")
    end = offset + limit
    if settings.stuck_cursor:
        return found[offset:end], _cursor(offset)
    return found[offset:end], _cursor(end) if end < len(found) else None


def items(
    settings: FivetranSettings, rows: Sequence[Mapping[str, Any]], cursor: str | None
) -> SimReply:
    """Answer with a page and the next page's cursor."""
    shown: dict[str, Any] = {"items": rows}
    if cursor is not None or settings.null_cursor:
        shown["next_cursor"] = cursor
    return data(shown)


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"skip={offset}".encode()).decode()


def _offset(cursor: str | None) -> int:
    if not cursor:
        return 0
    text = base64.urlsafe_b64decode(cursor.encode()).decode("latin-1")
    if not text.startswith("skip="):
        raise ValueError("the cursor is invalid")
    return int(text.removeprefix("skip="))
