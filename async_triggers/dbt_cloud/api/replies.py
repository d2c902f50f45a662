"""What comes back from dbt Cloud, read into rows and values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from async_triggers.dbt_cloud.api.models import (
    UNFINISHED,
    DbtCloudJobRunStatus,
    EndedStep,
    Step,
)
from async_triggers.dbt_cloud.api.requests import (
    FEED,
    FILTER_NAMES,
    LIVE,
    OVERLAP,
    Listing,
    Walk,
)
from async_triggers.dbt_cloud.api.run_results import FAILED_NODES, results_of
from async_triggers.engine.errors import UnreadableReply, UnreadableRow
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    Reply,
    Request,
    Row,
    number_of,
    rows_of,
    short_text,
    text_of,
    words_of,
)

_STEP_ENDS: dict[int | None, str] = {
    DbtCloudJobRunStatus.SUCCESS.value: "succeeded",
    DbtCloudJobRunStatus.ERROR.value: "failed",
    DbtCloudJobRunStatus.CANCELLED.value: "was cancelled",
}
# https://docs.getdbt.com/reference/dbt-commands
_INVOCATION = re.compile(r"Invoke dbt with `([^`]*)`")
_BUILDING = frozenset({"build", "run", "seed", "snapshot", "test"})
LOG_LINES = 20
LOG_CHARACTERS = 20_000


def read_data(request: Request, reply: Reply) -> Any:
    """Read what the envelope holds."""
    body = reply.object(request.about)
    if "data" not in body:
        msg = f"The response for {request.about} has no 'data'"
        raise UnreadableReply(msg, status=reply.status)

    return body["data"]


def read_paths(request: Request, reply: Reply) -> list[str]:
    """Read a list of paths."""
    data = read_data(request, reply) or []
    if not isinstance(data, list) or not all(isinstance(path, str) for path in data):
        msg = f"The response for {request.about} holds no list of paths"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_row(request: Request, reply: Reply) -> Row:
    """Read an envelope with one object, each of which has an id."""
    data = read_data(request, reply)
    if not isinstance(data, dict) or data.get("id") is None:
        msg = f"The response for {request.about} holds no object with an id"
        is_row = isinstance(data, dict) and "id" in data
        kind = UnreadableRow if is_row else UnreadableReply
        raise kind(msg, status=reply.status)

    return data


def read_rows(request: Request, reply: Reply) -> tuple[list[Row], Request | None]:
    """Read a page of a list, and return the request for the next one, if there is one."""
    rows = read_objects(request, reply)
    listing = request.note
    offset = listing.offset + len(rows)
    if not is_more(reply, request, rows, seen=offset, limit=listing.limit):
        return rows, None

    params = [pair for pair in request.params if pair[0] != "offset"]
    return rows, replace(
        request,
        params=(*params, ("offset", str(offset))),
        note=Listing(offset, listing.limit),
    )


def read_objects(request: Request, reply: Reply) -> list[Row]:
    """Read the rows of a list, of one page alone."""
    data = rows_of(read_data(request, reply))
    if data is None:
        msg = f"The response for {request.about} holds no list of objects"
        raise UnreadableReply(msg, status=reply.status)

    return data


def _extra(request: Request, reply: Reply) -> Mapping[str, Any]:
    extra = reply.object(request.about).get("extra")
    return extra if isinstance(extra, dict) else {}


def is_more(
    reply: Reply, request: Request, rows: Sequence[Row], *, seen: int, limit: int
) -> bool:
    """Return whether a list goes on: by its total, else by how full the page is."""
    if not rows:
        return False

    pagination = _extra(request, reply).get("pagination")
    total = pagination.get("total_count") if isinstance(pagination, dict) else None
    if isinstance(total, int):
        return seen < total

    return len(rows) >= limit


def read_cause(row: Row) -> str:
    """Read why a run was started, where the row was requested with its ``trigger``."""
    trigger = row.get("trigger")
    cause = trigger.get("cause") if isinstance(trigger, dict) else None
    return text_of(cause) or ""


def read_failed_step(row: Row) -> Step | None:
    """Return the step that failed, where the row was requested with its ``run_steps``."""
    steps = row.get("run_steps")
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict):
            continue

        index = step.get("index")
        if step.get("status") == DbtCloudJobRunStatus.ERROR and isinstance(index, int):
            logs = text_of(step.get("logs"))
            logs = logs or text_of(step.get("truncated_debug_logs")) or ""
            end = logs[-LOG_CHARACTERS:]
            lines = [line.rstrip() for line in end.splitlines()]
            return Step(
                index=index,
                name=short_text(step.get("name")) or f"step {index}",
                lines=tuple(line for line in lines if line)[-LOG_LINES:],
            )

    return None


def read_building_steps(row: Row) -> list[int]:
    """Return the indexes of the steps that run nodes, of a row that has its steps.

    What else dbt does, such as ``deps`` or ``docs generate``, leaves no results of nodes.
    """
    steps = row.get("run_steps")
    return [
        index
        for step in (steps if isinstance(steps, list) else [])
        if isinstance(step, dict)
        and isinstance(index := step.get("index"), int)
        and (command := _INVOCATION.match(text_of(step.get("name")) or ""))
        and _BUILDING & {*command[1].split()}
    ]


def read_ended_steps(row: Row) -> list[EndedStep]:
    """Return the steps that have ended, of a row that has its steps."""
    steps = row.get("run_steps")
    found = []
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict):
            continue

        index, word = step.get("index"), _STEP_ENDS.get(number_of(step.get("status")))
        if isinstance(index, int) and word is not None:
            name = short_text(step.get("name")) or f"step {index}"
            begun = parse_time(step.get("started_at"))
            ended = parse_time(step.get("finished_at"))
            took = None if begun is None or ended is None else ended - begun
            found.append(EndedStep(index=index, name=name, word=word, took=took))

    return sorted(found, key=lambda step: step.index)


def read_failed_nodes(request: Request, reply: Reply) -> list[str]:
    """Return the nodes that failed, each with the first line of its message.

    https://docs.getdbt.com/reference/artifacts/run-results-json
    """
    found: list[str] = []
    for result in results_of(reply.object(request.about)):
        if text_of(result.get("status")) not in FAILED_NODES:
            continue

        node = short_text(result.get("unique_id")) or "a node without a name"
        message = words_of(result.get("message")).strip().split("\n")[0]
        found.append(f"{node} ({message[:200]})" if message else node)

    return found


def next_walk(walk: Walk, data: Sequence[Row], rows: Mapping[str, Row]) -> Walk | None:
    """Return where the next page begins: after the last row, not after a number of rows.

    ``rows`` are those of the page by their ids. What ends while we page moves the rows of
    a page, never those behind a key.
    """
    if walk.source == LIVE.name:
        return replace(walk, after=max(map(int, rows)))

    if walk.source != FEED.name:
        return None

    last = max(_ends(data))
    if last > walk.since:
        return replace(walk, since=last, offset=0)

    return replace(walk, offset=walk.offset + len(data))


def _ends(data: Sequence[Row]) -> list[float]:
    ends = [parse_time(row.get("finished_at")) for row in data]
    return [end for end in ends if end is not None]


def read_resume(walk: Walk, reply: Reply, data: Sequence[Row]) -> float | None:
    """Return where the next window begins: by the server's clock, never by ours."""
    if walk.source != FEED.name:
        return None

    now = reply.date
    if now is None:
        now = max(_ends(data), default=None)

    return None if now is None else now - OVERLAP


def was_filtered(
    walk: Walk, request: Request, reply: Reply, rows: Mapping[str, Row]
) -> bool:
    """Return whether the server applied the filters.

    The rows prove it. Where there are none, the filters prove it that the server says it
    applied, if it says any.
    """
    if not rows:
        applied = _extra(request, reply).get("filters")
        if not isinstance(applied, dict) or not applied:
            return True

        return FILTER_NAMES[walk.source] in applied

    if walk.source == LIVE.name:
        return all(
            row.get("status") in UNFINISHED and int(run_id) > walk.after
            for run_id, row in rows.items()
        )

    if walk.source == FEED.name:
        ends = _ends(list(rows.values()))
        return len(ends) == len(rows) and min(ends) >= walk.since - 1.0

    return set(walk.ids).issuperset(rows)


def read_detail(reply: Reply) -> str:
    """Return the explanation of an envelope, empty where there is none."""
    try:
        body = reply.json("a refusal")
    except UnreadableReply:
        return ""

    status = body.get("status") if isinstance(body, dict) else None
    if not isinstance(status, dict):
        return ""

    messages = [
        words_of(status.get(key)) for key in ("user_message", "developer_message")
    ]
    return "; ".join(dict.fromkeys(each for each in messages if each))
