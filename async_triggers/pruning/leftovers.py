"""Which Variables no task needs any more: pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DAY = 86_400.0

END_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""The states in which Airflow leaves a task until a user clears it."""
GONE = "gone"
"""Stands for the state of a task instance that Airflow has deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A Variable of a task, and why it is kept; ``kept`` is empty where it may go."""

    name: str
    task: str
    days: float
    kept: str


def judge(
    name: str,
    held: Mapping[str, Any] | None,
    state: str | None,
    *,
    now: float,
    days: float,
) -> Leftover:
    """Decide about one Variable.

    ``held`` is what it holds (:func:`.compat.read_variable`), ``state`` that of its task
    now: None for one that was cleared, ``gone`` for none. ``now`` is in epoch seconds.
    """
    if held is None:
        kept = "it was not written by this release"
        return Leftover(name=name, task="?", days=0.0, kept=kept)

    task = f"{held['dag_id']}.{held['task_id']} in {held['run_id']}"
    if held["map_index"] >= 0:
        task = f"{task} [{held['map_index']}]"

    age = (now - held["written_at"]) / DAY
    kept = ""
    if state not in END_STATES and state != GONE:
        kept = f"its task is {state or 'to be run'}"
    elif age < days:
        kept = f"it is younger than {days:g} days"

    return Leftover(name=name, task=task, days=age, kept=kept)
