"""What Ferry's API takes and says: values in, values out, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING

from async_triggers.engine.errors import (
    AlreadyRunning,
    EngineError,
    UnreadableReply,
    UnreadableRow,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.paths import segment
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    Account,
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    SourceKind,
    Vendor,
    refuse_by_status,
    rows_by_id,
    rows_of,
    short_text,
    words_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES: Mapping[str, JobState] = {
    "boarding": JobState.PENDING,
    "sailing": JobState.RUNNING,
    "arrived": JobState.SUCCEEDED,
    "stranded": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
}
OWN_ANSWER = re.compile(rb'\s*\{\s*"(id|crossings|harbour)"')
HARBOUR = Request(method="GET", path="/v1/harbour", about="the harbour")
BY_ID = Source(name="crossings by id", kind=SourceKind.IDS, page=50)
ENDED = Source(name="the ended", kind=SourceKind.FEED, page=50, ends_only=True)


def start(route: str, note: str) -> Request:
    """Start a crossing; the note is shown with it ever after."""
    return Request(
        method="POST",
        path="/v1/crossings",
        about=f"the start of a crossing of {route}",
        json={"route": route, "note": note},
        lane=Lane.START,
    )


def get(crossing_id: str) -> Request:
    """Request a crossing."""
    path = f"/v1/crossings/{segment(crossing_id, 'job_id')}"
    return Request(method="GET", path=path, about=f"crossing {crossing_id}")


def cancel(crossing_id: str) -> Request:
    """Cancel a crossing."""
    return Request(
        method="POST",
        path=f"/v1/crossings/{segment(crossing_id, 'job_id')}/cancel",
        about=f"the cancelling of crossing {crossing_id}",
        lane=Lane.CANCEL,
    )


def newest(route: str) -> Request:
    """Request the newest crossings of a route, the newest first."""
    about = f"the newest crossings of {route}"
    params = (("route", route),)
    return Request(method="GET", path="/v1/crossings", about=about, params=params)


def ended(since: float, after: int = 0) -> Request:
    """Request what has ended since a server time, by the ids after one."""
    params = (("ended_since", str(since)), ("after", str(after)))
    path, about = "/v1/crossings", ENDED.name
    return Request(method="GET", path=path, about=about, params=params, note=since)


class Ferry(Vendor):
    """Ferry as the engine sees it."""

    name = "Ferry"
    noun = "crossing"
    overlap = 60.0
    sources: Sequence[Source] = (BY_ID, ENDED)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request crossings by their ids, or what has ended."""
        if source is ENDED:
            return ended(since or 0.0)

        params = tuple(("id", each) for each in subjects)
        return Request(
            method="GET", path="/v1/crossings", about=source.name, params=params
        )

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with Ferry's error in it."""
        return bool(read_error(reply)[0])

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for what begins as all of Ferry's objects do."""
        return OWN_ANSWER.match(reply.body) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error."""
        code, words = read_error(reply)
        if reply.status == HTTPStatus.CONFLICT and code == "route_busy":
            return AlreadyRunning(
                f"Ferry refused {request.about}: {words}", status=reply.status
            )

        return refuse_by_status(self.name, request, reply, words)

    def single(self, account: Account, subject: str) -> Request:
        """Request one crossing."""
        return get(subject)

    def read(self, request: Request, reply: Reply) -> Page:
        """Read one crossing, or a list of some."""
        body = reply.object(request.about)
        found = rows_of(body.get("crossings", [body]))
        if found is None or not {"crossings", "id"} & body.keys():
            msg = f"The response for {request.about} shows no crossing"
            raise reply.unreadable(msg)

        rows = rows_by_id(found, row_id)
        if request.note is None:
            return Page(rows=rows, count=len(found))

        more = ended(request.note, max(map(int, rows), default=0))
        return Page(
            rows=rows,
            count=len(found),
            next=more if len(found) == ENDED.page else None,
            resume=None if reply.date is None else reply.date - self.overlap,
        )

    def places(self, row: Row) -> Sequence[tuple[str, str]]:
        """Return the route of a crossing."""
        return (("route", short_text(row.get("route")) or ""),)

    def judge(self, account: Account, subject: str, row: Row, mark: str | None) -> Job:
        """Read the crossing that a row shows; a state nobody knows is no end."""
        word = short_text(row.get("state"))
        if word is None:
            msg = f"Crossing {subject} has no state"
            raise UnreadableRow(msg)

        state = STATES.get(word, JobState.RUNNING)
        return Job(
            id=row_id(row),
            label=f"Crossing {row_id(row)}",
            state=state,
            word=word,
            message=words_of(row.get("reason")),
            url=words_of(row.get("url")),
            started_at=short_text(row.get("departed_at")),
            ended_at=parse_time(row.get("ended_at")),
            statistics={"route": short_text(row.get("route"))},
        )


def row_id(row: Row) -> str:
    """Read the id of a crossing."""
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, int):
        msg = "A crossing has no id that is a whole number"
        raise UnreadableRow(msg)

    return str(value)


def read_error(reply: Reply) -> tuple[str, str]:
    """Read the code and the words of a refusal; both are empty for one of others."""
    try:
        error = reply.object("a refusal").get("error")
    except UnreadableReply:
        return "", ""

    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return "", ""

    return error["code"], words_of(error.get("message"))


FERRY = Ferry()
