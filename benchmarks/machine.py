"""The machine that something was measured on, and what its processes have cost."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
        "async_triggers": version("airflow-provider-async-triggers"),
    }


def cpu_seconds(parts: Iterable[Component]) -> float:
    """Return the processor time of some of Airflow's components.

    With all processes that they have started, those living and those that have ended.
    """
    sessions = {part.pid for part in parts}
    # Session; then the time of the process and of those it has waited for.
    ticks = sum(
        sum(map(int, shown[11:15]))
        for _, shown in _processes()
        if int(shown[3]) in sessions
    )
    return ticks / _TICKS


def runner_cpu_seconds(triggerer: Component) -> float:
    """Return the processor time of the process in which the triggers run.

    It is forked from the triggerer's supervisor and called like it.
    """
    name = _command_line(_PROCESSES / str(triggerer.pid))
    ticks = sum(
        sum(map(int, shown[11:13]))
        for process, shown in _processes()
        if int(shown[1]) == triggerer.pid and _command_line(process) == name
    )
    return ticks / _TICKS


def _processes() -> Iterator[tuple[Path, list[str]]]:
    """Yield each process with what its ``stat`` shows after the name, the state first."""
    for process in _PROCESSES.glob("[0-9]*"):
        with suppress(OSError):
            yield process, (process / "stat").read_text().rpartition(")")[2].split()


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
