"""The machine that something was measured on, and what its processes have cost."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from async_triggers.demo.deployment import Component

_PROCESSES: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, Any]:
    """Return what the reader of a measurement wants to know of its machine."""
    return {
        "at": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "airflow": version("apache-airflow"),
        "async_triggers": version("async-triggers"),
    }


def cpu_seconds(parts: Iterable[Component]) -> float:
    """Return the processor time of some of Airflow's components.

    With all processes that they have started, those living and those that have ended.
    """
    sessions = {part.pid for part in parts}
    ticks = 0
    for process in _PROCESSES.glob("[0-9]*"):
        try:
            shown = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue

        # Session; then the time of the process and of those it has waited for.
        if int(shown[3]) in sessions:
            ticks += sum(map(int, shown[11:15]))

    return ticks / _TICKS
