"""What the package carries from one segment of a task to the next.

Airflow passes what was deferred with to the method that resumes the task. Users override
these methods with the signature that Airflow documents, ``(self, context, event)``. So
what belongs to the package travels under a name of its own, and never reaches them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PREFIX = "_async_triggers_"
_WAITING = f"{_PREFIX}waiting"


def carry(waiting: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``kwargs`` of a deferral; ``waiting`` is plain JSON."""
    return {_WAITING: waiting}


def take_out(
    next_kwargs: Mapping[str, Any] | None,
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return what :func:`carry` was given, and what the resumed method is called with."""
    given = next_kwargs or {}
    others = {
        name: value for name, value in given.items() if not name.startswith(_PREFIX)
    }
    return given.get(_WAITING) or {}, others
