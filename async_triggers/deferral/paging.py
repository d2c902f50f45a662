"""Lists for people, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

from async_triggers.engine.errors import UnreadableReply

if TYPE_CHECKING:
    from async_triggers.engine.wire import Reply, Request, Row

MOST_PAGES = 1000
"""Pages of one list that are read at most: a hundred thousand rows or a million."""


async def list_pages(
    first: Request,
    send: Callable[[Request], Awaitable[Reply]],
    read: Callable[[Request, Reply], tuple[list[Row], Request | None]],
) -> AsyncGenerator[list[Row], None]:
    """Yield the pages of a list that a person wants, one after the other.

    Raise :class:`~async_triggers.engine.errors.UnreadableReply` for a list that does not
    end: a page that repeats the one before it, or more than :data:`MOST_PAGES`.
    """
    request: Request | None = first
    before: list[Row] = []
    for _ in range(MOST_PAGES):
        if request is None:
            return

        rows, following = read(request, await send(request))
        if rows and rows == before:
            msg = (
                f"The list about {first.about} does not end: a page is the same as the one"
                " before it. Does a proxy drop the query behind the '?'?"
            )
            raise UnreadableReply(msg)

        yield rows
        request, before = following, rows

    if request is not None:
        msg = (
            f"The list about {first.about} does not end after {MOST_PAGES} pages: narrow"
            " it with a filter"
        )
        raise UnreadableReply(msg)


async def list_rows(
    first: Request,
    send: Callable[[Request], Awaitable[Reply]],
    read: Callable[[Request, Reply], tuple[list[Row], Request | None]],
) -> list[Row]:
    """Return the rows of all pages of a list, see :func:`list_pages`."""
    return [row async for rows in list_pages(first, send, read) for row in rows]
