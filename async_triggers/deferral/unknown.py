"""Keys that are never read: a misspelt one is ignored, and should not be in silence."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

_LONGEST = 60
_NEAR = 0.6
"""How alike the nearest key must be; below that it only leads astray."""


def unknown_keys(keys: Iterable[object], known: Collection[str]) -> dict[str, str]:
    """Return what to say of each key that is not known: the nearest that is.

    What the keys hold is not repeated.
    """
    names = [str(key) for key in keys]
    return {name: _describe(name, known) for name in names if name not in known}


def _describe(name: str, known: Collection[str]) -> str:
    problem = f"the key {name[:_LONGEST]!r} is unknown and has no effect"
    # Older forms of Airflow put the type of the connection before the key.
    bare = name.strip().lower().replace("-", "_").rpartition("__")[2]
    nearest = difflib.get_close_matches(bare, sorted(known), 1, _NEAR)
    if nearest:
        return f"{problem}. Did you mean {nearest[0]!r}?"

    return f"{problem}. Known are: {', '.join(sorted(known))}"
