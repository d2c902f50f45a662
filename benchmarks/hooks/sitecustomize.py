"""What the benchmarks change in the Python of the Airflow that they start.

A folder on ``PYTHONPATH`` that the benchmarks' own launcher puts there, for the processes
that it starts and for no others. Nothing happens without its variables.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

UNRESOLVED = "ASYNC_TRIGGERS_BENCHMARK_UNRESOLVED"
"""The variable that holds a domain no name of which resolves, whatever DNS there is."""
CLOCK = "ASYNC_TRIGGERS_BENCHMARK_CLOCK"
"""The variable that names a file with the seconds by which the clock of forks is off."""
SEGMENTS = "ASYNC_TRIGGERS_BENCHMARK_SEGMENTS"
"""The variable that names a folder where the processes of tasks write what they used."""
FIVETRAN = "ASYNC_TRIGGERS_BENCHMARK_FIVETRAN"
"""The variable that holds the host of Fivetran for the official package."""


def leave_unresolved(domain: str) -> None:
    """Have the names of a domain not resolve, as a name server says it that knows."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name.endswith(domain):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        return resolve(host, *arguments, **options)

    socket.getaddrinfo = getaddrinfo


def step_clock(file: Path) -> None:
    """Have the wall clock be off by what the file says, as it changes.

    Not the clock of this process, but those of the processes that it forks: Airflow's
    triggerer runs its triggers in one. If its own clock were wrong, Airflow would take it
    for dead, by its heartbeats, and this is not what is tried.

    All wall clocks of Python are off, those of ``datetime`` as well; the monotonic clock
    goes on as it is, as it does when the clock of a machine is set.
    """
    # Not wanted by who steps no clock.
    import time_machine  # noqa: PLC0415

    def follow() -> None:
        pause, travels, off = threading.Event(), list[time_machine.travel](), 0.0
        while not pause.wait(0.5):
            before = off
            # Where it is being written, or not there yet, the clock stays as it is.
            with suppress(OSError, ValueError):
                off = float(file.read_text())

            if off == before:
                continue

            while travels:
                travels.pop().stop()

            if off:
                travels.append(time_machine.travel(time.time() + off, tick=True))
                travels[0].start()

    def begin() -> None:
        threading.Thread(target=follow, name="clock", daemon=True).start()

    os.register_at_fork(after_in_child=begin)


class _Redirected(MetaPathFinder):
    """Sets the host of the official Fivetran hook, which is an attribute of its class."""

    def __init__(self, host: str) -> None:
        self._host = host

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module of the hook, and have it set as soon as it is loaded."""
        if fullname != "fivetran_provider_async.hooks":
            return None

        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec

        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            module.FivetranHook.api_host = self._host

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get(UNRESOLVED):
    leave_unresolved(os.environ[UNRESOLVED])

if os.environ.get(CLOCK):
    step_clock(Path(os.environ[CLOCK]))

if os.environ.get(SEGMENTS):
    # Beside this file, on the path of the processes that it is for.
    import_module("worker_segments").watch(Path(os.environ[SEGMENTS]))

if os.environ.get(FIVETRAN):
    sys.meta_path.insert(0, _Redirected(os.environ[FIVETRAN]))
