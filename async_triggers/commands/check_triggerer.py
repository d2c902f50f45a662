"""Checks whether this machine's Airflow lets a triggerer hold many waiting tasks."""

from __future__ import annotations

import math
import resource
from dataclasses import dataclass
from typing import Final

from async_triggers.commands.versions import installed_versions
from async_triggers.deferral.finding import Finding, Level

SPARE_FILES: Final = 1_000
"""Open files that a triggerer needs beside one for each trigger."""
MOST_ROUNDS: Final = 60
"""Rounds, of about a second, that the adoption of all triggers may take."""
HEARTBEATS: Final = 3
"""Heartbeats that may be late before another triggerer takes over."""
ADOPTED: Final = "max_trigger_to_select_per_loop"
LEAST_AIRFLOW: Final = (3, 1, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggererSettings:
    """What decides how many tasks can wait. Times are in seconds."""

    capacity: int
    adopted_in_a_round: int | None
    """None where Airflow has no such limit and a triggerer takes all at once."""
    open_files: float
    health_threshold: float
    heartbeat: float
    versions: dict[str, str]


def read_settings() -> TriggererSettings:
    """Read the settings of the Airflow and of the user that run this command."""
    from async_triggers.deferral.compat import conf, has_setting

    def number(name: str, default: float) -> float:
        return float(conf.getfloat("triggerer", name, fallback=default))

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return TriggererSettings(
        capacity=int(number("capacity", 1000)),
        adopted_in_a_round=(
            int(number(ADOPTED, 50)) if has_setting("triggerer", ADOPTED) else None
        ),
        open_files=math.inf if soft == resource.RLIM_INFINITY else soft,
        health_threshold=number("triggerer_health_check_threshold", 30),
        heartbeat=number("job_heartbeat_sec", 5),
        versions=installed_versions(),
    )


def check_triggerer(settings: TriggererSettings) -> list[Finding]:
    """Return what the settings mean for a triggerer that runs with them."""
    adopted = settings.adopted_in_a_round
    return [
        _versions(settings.versions),
        _capacity(settings),
        *([] if adopted is None else [_adoption(settings.capacity, adopted)]),
        _open_files(settings),
        _health(settings),
    ]


def _versions(versions: dict[str, str]) -> Finding:
    text = ", ".join(f"{name} {number}" for name, number in versions.items())
    parts = versions["apache-airflow"].split(".")[:3]
    numbers = tuple(int(each) for each in parts if each.isdecimal())
    is_old = numbers < LEAST_AIRFLOW and len(numbers) == len(LEAST_AIRFLOW)
    least = ".".join(map(str, LEAST_AIRFLOW))
    return Finding(
        topic="versions",
        level=Level.ERROR if is_old else Level.OK,
        text=text,
        fix=f"Upgrade Airflow to {least} or later" if is_old else "",
    )


def _capacity(settings: TriggererSettings) -> Finding:
    text = f"{settings.capacity:,} tasks can wait in one triggerer"
    return Finding(topic="[triggerer] capacity", level=Level.OK, text=text)


def _adoption(capacity: int, adopted: int) -> Finding:
    rounds = math.ceil(capacity / max(1, adopted))
    is_slow = rounds > MOST_ROUNDS
    wanted = math.ceil(capacity / MOST_ROUNDS)
    return Finding(
        topic=f"[triggerer] {ADOPTED}",
        level=Level.WARNING if is_slow else Level.OK,
        text=(
            f"{adopted:,}: after a restart a full triggerer is back after about"
            f" {rounds:,} s"
        ),
        fix=f"Set it to {wanted:,} or more" if is_slow else "",
    )


def _open_files(settings: TriggererSettings) -> Finding:
    needed = settings.capacity + SPARE_FILES
    is_few = settings.open_files < needed
    files = (
        "any number" if math.isinf(settings.open_files) else f"{settings.open_files:,}"
    )
    return Finding(
        topic="open files",
        level=Level.WARNING if is_few else Level.OK,
        text=f"{files} for this user; a full triggerer needs {needed:,}",
        fix=f"Start the triggerer with ulimit -n {needed}" if is_few else "",
    )


def _health(settings: TriggererSettings) -> Finding:
    least = HEARTBEATS * settings.heartbeat
    is_hasty = settings.health_threshold < least
    return Finding(
        topic="[triggerer] triggerer_health_check_threshold",
        level=Level.WARNING if is_hasty else Level.OK,
        text=(
            f"{settings.health_threshold:g} s without a heartbeat, sent every"
            f" {settings.heartbeat:g} s, until another triggerer takes over"
        ),
        fix=f"Set it to {least:g} or more" if is_hasty else "",
    )
