"""The steps of a run, with their logs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.model import (
    HUMANIZED,
    PREAMBLE,
    STATUSES,
    TERMINAL,
    DbtCloudRun,
    number,
)
from async_triggers.simulator.dbt_cloud.spans import clock, words

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene


def run_steps(
    scene: DbtCloudScene, run: DbtCloudRun, at: float
) -> list[dict[str, Any]]:
    """Return the steps that have begun by a time."""
    started = run.timeline.first("running", until=at)
    if started is None:
        return []
    names = [*PREAMBLE, *(f"Invoke dbt with `{step}`" for step in run.steps)]
    stop = run.timeline.last.since
    moment = run.timeline.at(at)
    word = moment.word if moment else "queued"
    over = word in TERMINAL
    length = (stop - started) / len(run.steps) if stop > started else math.inf
    rows = []
    for index, name in enumerate(names, start=1):
        place = index - len(PREAMBLE)
        begin = started if place <= 1 else started + (place - 1) * length
        end = started if place <= 0 else started + place * length
        if begin > at:
            break
        last = index == len(names)
        if over and last:
            status, end = number(word), stop
        elif end <= at:
            status = STATUSES["success"]
        else:
            status = STATUSES["running"]
        done = status != STATUSES["running"]
        rows.append(
            _step(scene, run, index, name, status, begin, end if done else None)
        )
        if status == STATUSES["cancelled"]:
            break
    return rows


def _step(
    scene: DbtCloudScene,
    run: DbtCloudRun,
    index: int,
    name: str,
    status: int,
    begin: float,
    end: float | None,
) -> dict[str, Any]:
    logs = ""
    if end is not None and scene.now() >= end + scene.settings.logs_after:
        logs = _logs(run, name, status)
    until = scene.now() if end is None else end
    return {
        "id": run.run_id * 10 + index,
        "run_id": run.run_id,
        "account_id": run.job.account_id,
        "index": index,
        "name": name,
        "status": status,
        "status_humanized": HUMANIZED.get(status, str(status)),
        "status_color": "",
        "started_at": scene.instant(begin),
        "finished_at": scene.instant(end),
        "duration": clock(until - begin),
        "duration_humanized": words(until - begin),
        "logs": logs,
        "debug_logs": "",
        "truncated_debug_logs": logs,
    }


def _logs(run: DbtCloudRun, name: str, status: int) -> str:
    lines = [f"Running {name}"]
    if not name.startswith("Invoke"):
        return "\n".join([*lines, "Done."])
    for place, model in enumerate(run.job.models, start=1):
        bad = status == STATUSES["error"] and model in run.job.failing
        word = "ERROR creating" if bad else "OK created"
        lines.append(f"{place} of {len(run.job.models)} {word} {model}")
    if status == STATUSES["error"]:
        for model in run.job.failing:
            lines.append(f"Database Error in {model}")
            lines.append('  column "amount" does not exist')
    lines.append("Done.")
    return "\n".join(lines)
