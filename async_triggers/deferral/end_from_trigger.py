"""The argument by which a task's trigger ends it, see :mod:`.ending`."""

from __future__ import annotations

from typing import Any

from async_triggers.deferral import compat
from async_triggers.deferral.arguments import switch

_WISH = "_ends_from_trigger"
"""Name of the attribute for what a user wants."""


class EndFromTrigger:
    """Whether a task's trigger ends it, as the DAG processor reads it from the task.

    Airflow 3.3 refuses a whole DAG for one such task where any plugin listens, as those of
    OpenLineage, cosmos and dag-factory do. There the task ends on a worker.
    """

    def __get__(self, task: Any, owner: type | None = None) -> bool:
        """Return False for a class, which has no wish."""
        return task is not None and wants_end(task) and not compat.has_listeners()

    def __set__(self, task: Any, wanted: bool) -> None:
        """Keep what the user wants."""
        task.__dict__[_WISH] = switch("end_from_trigger", wanted)


def wants_end(task: Any) -> bool:
    """Return whether a task's trigger is to end it, if that can be."""
    wish: bool = task.__dict__.get(_WISH, False)
    return wish
