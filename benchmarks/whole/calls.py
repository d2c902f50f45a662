"""Which calls a task makes to Airflow's API server, as the server's own log shows them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

START, RESUME = "start", "resume"
_LINE = re.compile(
    r"request finished .*method=(?P<method>[A-Z]+) path=(?P<path>\S+)"
    r" .*status_code=(?P<status>\d+)"
)
_INSTANCES = "/execution/task-instances/"
_XCOMS = "/execution/xcoms/"
_NAMES: Mapping[tuple[str, str], str] = {
    ("PATCH", "run"): "run",
    ("PATCH", "state"): "state",
    ("PUT", "rtif"): "rendered fields",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what it is about, and the id of its task instance or of its task."""

    what: str
    task: str


def calls_in(log: str) -> Iterator[Call]:
    """Read the calls of tasks from the log of the API server; heartbeats are left out.

    So is what is refused: a worker's first call, in a version of the API that is not the
    server's. But a store that holds nothing answers with 404.
    """
    for line in log.splitlines():
        found = _LINE.search(line)
        if found is None or found["status"] == "400":
            continue

        call = _call(found["method"], found["path"])
        if call is not None:
            yield call


def _call(method: str, path: str) -> Call | None:
    if path.startswith(_INSTANCES):
        task, _, about = path.removeprefix(_INSTANCES).partition("/")
        if about == "heartbeat":
            return None

        return Call(_NAMES.get((method, about), f"{method} {about}"), task)

    if path.startswith(_XCOMS):
        _, _, task, key = map(unquote, path.removeprefix(_XCOMS).split("/", 3))
        return Call(f"{_verb(method)} XCom `{key}`", task)

    if path.startswith("/execution/") and "/ti/" in path:
        about, _, place = path.removeprefix("/execution/").partition("/ti/")
        return Call(f"{_verb(method)} {about.replace('-', ' ')}", place.split("/")[0])

    return None


def _verb(method: str) -> str:
    return {"GET": "read", "POST": "write", "PUT": "write"}.get(method, method.lower())


def count_calls(
    calls: Iterable[Call], tasks: Sequence[tuple[str, str]]
) -> dict[str, dict[str, int]]:
    """Count the calls of some tasks by segment; a task is (instance id, task id).

    A segment begins with the call ``run``, the second one after the first has ended with
    ``state``. A worker whose ``run`` is answered late sends it again: that counts once.
    """
    names = {name: each for each in tasks for name in each}
    last: dict[tuple[str, str], str] = {}
    ended: set[tuple[str, str]] = set()
    resumed: set[tuple[str, str]] = set()
    found: dict[str, Counter[str]] = {START: Counter(), RESUME: Counter()}
    for call in calls:
        task = names.get(call.task)
        if task is None:
            continue

        if call.what == "run":
            if last.get(task) == "run":
                continue

            if task in ended:
                resumed.add(task)
        elif call.what == "state":
            ended.add(task)

        last[task] = call.what
        found[RESUME if task in resumed else START][call.what] += 1

    # Plain ones: ``asdict`` makes another counter of a counter, which counts its items.
    return {segment: dict(counts) for segment, counts in found.items()}
