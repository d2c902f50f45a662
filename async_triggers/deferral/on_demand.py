"""Names that a module offers, and loads only when they are used.

A DAG file is parsed every half a minute, and each task parses it once more when it begins.
So a module that DAG files import offers what they hardly ever name (the hook, the trigger)
through ``__getattr__`` (PEP 562), and its functions import what only a running task needs
where they need it. Type checkers see plain imports under ``TYPE_CHECKING``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_demand(
    module: str, offers: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a module.

    ``offers`` are names by the module that defines them.
    """
    origins = {name: origin for origin, names in offers.items() for name in names}

    def load(name: str) -> Any:
        """Load a name when it is first used."""
        if name not in origins:
            msg = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(msg)

        value = getattr(import_module(origins[name]), name)
        # The next one finds it without this function.
        setattr(sys.modules[module], name, value)
        return value

    def names() -> list[str]:
        """List them too, for completion and for what copies a module in a test."""
        return sorted({*vars(sys.modules[module]), *origins})

    return load, names
