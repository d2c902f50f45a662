"""How much is held: every container that the package keeps, found by walking over it."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

PACKAGE = "async_triggers."
SAMPLED = 8
"""Entries of a container that are looked into: they are of one kind."""
ITS_OWN = frozenset({"listener"})
"""What is the trigger's and goes with it."""


def sizes_of(thing: object, name: str) -> Counter[str]:
    """Return the number of entries in each container of an object, by its path.

    Objects of the package are walked into, also those in containers; others are not.
    """
    found: Counter[str] = Counter()
    seen: set[int] = set()
    left: deque[tuple[str, Any]] = deque([(name, thing)])
    while left:
        # The nearest first: what is held twice goes by its shorter path.
        path, value = left.popleft()
        if id(value) in seen:
            continue

        seen.add(id(value))
        if _is_container(value):
            found[path] += len(value)
            left += [(f"{path}[]", each) for each in _entries(value)]
        elif type(value).__module__.startswith(PACKAGE):
            left += [(f"{path}.{key}", each) for key, each in _attributes(value)]

    return found


def sizes_of_modules() -> Counter[str]:
    """Return the same for all that the package's loaded modules hold and cache."""
    found: Counter[str] = Counter()
    for name, module in [*sys.modules.items()]:
        if not name.startswith(PACKAGE) or name.startswith(f"{PACKAGE}simulator"):
            continue

        for key, value in [*vars(module).items()]:
            path = f"{name.removeprefix(PACKAGE)}.{key}"
            if _is_container(value) and not key.startswith("__"):
                found[path] = len(value)
            elif hasattr(value, "cache_info") and value.__module__ == name:
                found[path] = value.cache_info().currsize

    return found


def _is_container(value: Any) -> bool:
    # By its methods: a deque, a set and a dictionary with weak keys are all containers.
    # Not by an abstract class, which remembers each class that it was asked about.
    kind = type(value)
    return (
        hasattr(kind, "__len__")
        and hasattr(kind, "__iter__")
        and not isinstance(value, str | bytes | tuple | frozenset | type)
        and not kind.__module__.startswith(PACKAGE)
    )


def _entries(container: Any) -> Iterator[object]:
    values = container.values() if hasattr(container, "values") else container
    yield from islice(values, SAMPLED)


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    names = [*getattr(thing, "__dict__", ())]
    for base in type(thing).__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots

    for name in names:
        if name not in ITS_OWN and hasattr(thing, name):
            yield name, getattr(thing, name)
