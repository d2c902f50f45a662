"""Simulators of vendors from other packages, by the entry points of what is installed."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_triggers.simulator.vendor import VendorSimulator

GROUP = "async_triggers.simulators"
"""The group of entry points in which a package names its simulator."""


def installed() -> list[Callable[..., VendorSimulator[Any]]]:
    """Return the makers of all simulators that installed packages bring."""
    return [each.load() for each in sorted(entry_points(group=GROUP))]
