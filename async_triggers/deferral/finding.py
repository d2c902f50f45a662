"""What a check of a connection finds, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from async_triggers.engine.errors import EngineError, JobNotFound
from async_triggers.engine.wire import HTTP_FORBIDDEN, HTTP_UNAUTHORIZED

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Reply, Request


class Level(IntEnum):
    """How bad a finding is; the worst one decides the exit code of the check."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a check: what was checked, what was found, and what to change.

    No part of it holds a secret.
    """

    topic: str
    level: Level
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the vendor takes a connection for.

    ``text`` says so in a sentence, ``reply`` is the answer that showed it.
    """

    text: str
    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Startable:
    """What a task can start at a vendor: its id, its name, and where it belongs."""

    id: str
    name: str
    place: str = ""


async def probe_right(
    leased: LeasedAccount, request: Request, *, topic: str, fix: str
) -> Finding:
    """Find out whether the account may do something, with a job that does not exist.

    ``request`` names that job, so it changes nothing: a vendor that refuses it as
    forbidden refuses it for every job, one that does not know the job has no objection to
    the rest.
    """
    try:
        await leased.call(request, attempts=1)
    except JobNotFound:
        text = "not refused (probed with an id that does not exist)"
        return Finding(topic=topic, level=Level.OK, text=text)
    except EngineError as error:
        if error.status in {HTTP_UNAUTHORIZED, HTTP_FORBIDDEN}:
            return Finding(
                topic=topic,
                level=Level.ERROR,
                text=f"refused: {error.message}",
                fix=fix,
            )

        text = f"unknown: {error.message}"
        return Finding(topic=topic, level=Level.NOTE, text=text)

    text = "unknown: an id that does not exist was accepted"
    return Finding(topic=topic, level=Level.NOTE, text=text)


async def probe_read(
    leased: LeasedAccount, request: Request, *, topic: str, fix: str
) -> tuple[Finding, Reply | None]:
    """Find out whether the account may read what ``request`` reads.

    Return the answer as well, None where there was none.
    """
    try:
        reply = await leased.call(request, attempts=1)
    except EngineError as error:
        is_refused = error.status in {HTTP_UNAUTHORIZED, HTTP_FORBIDDEN}
        text, change = error.message, fix if is_refused else ""
        return Finding(topic=topic, level=Level.ERROR, text=text, fix=change), None

    found = Finding(topic=topic, level=Level.OK, text=f"{request.about}: readable")
    return found, reply
