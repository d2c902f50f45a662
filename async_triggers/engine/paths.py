"""Ids as parts of the path of a request."""

from __future__ import annotations

from urllib.parse import quote

from async_triggers.engine.errors import RequestRejected


def segment(value: object, field_name: str) -> str:
    """Quote an id as one segment of a path.

    Raise :class:`RequestRejected` for an id that is empty or would leave its segment.
    """
    text = str(value).strip()
    if not text or text in {".", ".."} or not text.isprintable():
        msg = f"{field_name} {value!r} cannot be used as an id: give the vendor's id"
        raise RequestRejected(msg)

    if "/" in text or "\\" in text:
        msg = f"{field_name} {value!r} holds a slash: give the id alone, not a path"
        raise RequestRejected(msg)

    return quote(text, safe="")
