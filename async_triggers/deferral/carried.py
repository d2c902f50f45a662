"""What the package carries from one segment of a task to the next.

Airflow passes what was deferred with to the method that resumes the task. Users override
these methods with the signature that Airflow documents, ``(self, context, event)``. So
what belongs to the package travels under another name, and never reaches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.deadlines import backstop
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.moment import MomentTrigger

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

_PREFIX = "_async_triggers_"
_WAITING = f"{_PREFIX}waiting"
_last: dict[float, Mapping[str, Any]] = {}
"""What was carried until the last moment that this process has deferred to.

``dag.test()`` resumes a task in the process that has deferred it, with the event alone: a
task that counts the minutes of a failure would begin again with each try, for ever. The
event names the moment.
"""


def carry(waiting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``kwargs`` of a deferral; ``waiting`` is plain JSON."""
    return {_WAITING: waiting}


def leaving(
    trigger: BaseTrigger,
    method: str,
    waiting: Mapping[str, Any],
    ends: float | None,
) -> dict[str, Any]:
    """Return the arguments of a deferral until a trigger fires.

    Airflow's own timeout comes some time after the deadline ``ends``, which the trigger
    keeps by itself.
    """
    if isinstance(trigger, MomentTrigger):
        _last.clear()
        _last[trigger.moment] = waiting

    return {
        "trigger": trigger,
        "method_name": method,
        "kwargs": carry(waiting),
        "timeout": backstop(ends, wall_clock()),
    }


def take_out(
    next_kwargs: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return what :func:`carry` was given, and what the resumed method is called with."""
    given = next_kwargs or {}
    others = {
        name: value for name, value in given.items() if not name.startswith(_PREFIX)
    }
    waiting = given.get(_WAITING)
    if waiting is None and isinstance(event := given.get("event"), float):
        waiting = _last.get(event)

    return waiting or {}, others
