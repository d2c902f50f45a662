"""Keys that are not known: what was meant by one, and that it has no effect."""

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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest key; empty where none is near."""
    # Older forms of Airflow put the type of the connection before the key.
    bare = name.strip().lower().replace("-", "_").rpartition("__")[2]
    nearest = difflib.get_close_matches(bare, sorted(known), 1, _NEAR)
    return f"Did you mean {nearest[0]!r}?" if nearest else ""


def _describe(name: str, known: Collection[str]) -> str:
    problem = f"the key {name[:_LONGEST]!r} is unknown and has no effect"
    meant = did_you_mean(name, known) or f"Known are: {', '.join(sorted(known))}"
    return f"{problem}. {meant}"
