"""What the process of a task on its worker has used, written down when it ends.

A task that defers has two such processes, one at its start and one when it resumes. Each
is forked by the executor's worker, which had loaded most of Airflow by then.
"""

from __future__ import annotations

import asyncio.base_events
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

_TITLE = "airflow worker -- "
"""How Airflow calls the process of a task; what follows is the id of the task instance."""
_exit = os._exit
_start = threading.Thread.start
_open_loop = asyncio.base_events.BaseEventLoop.__init__


class _Used:
    """What one process has used since it was forked."""

    def __init__(self) -> None:
        self.modules = frozenset(sys.modules)
        self.threads: list[str] = []
        self.loops = 0

    def write(self, folder: Path) -> None:
        title = Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode()
        task = title.removeprefix(_TITLE)
        if not title.startswith(_TITLE) or " " in task:
            return

        status = Path("/proc/self/status").read_text()
        peak = next(
            line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")
        )
        used = {
            "task": task,
            "at": time.time(),
            "cpu": time.process_time(),
            "peak_mb": int(peak) / 1000,
            "modules": sorted(sys.modules.keys() - self.modules),
            "threads": self.threads,
            "loops": self.loops,
        }
        (folder / f"{task}-{os.getpid()}.json").write_text(json.dumps(used))


def watch(folder: Path) -> None:
    """Have each process that is forked from this one write down what it has used."""
    used = _Used()

    def begin() -> None:
        nonlocal used
        used = _Used()

    def start(self: threading.Thread) -> None:
        used.threads.append(self.name)
        _start(self)

    def open_loop(self: Any) -> None:
        used.loops += 1
        _open_loop(self)

    def leave(status: int) -> NoReturn:
        try:
            used.write(folder)
        finally:
            _exit(status)

    os.register_at_fork(after_in_child=begin)
    os._exit = leave
    threading.Thread.start = start  # type: ignore[method-assign]
    asyncio.base_events.BaseEventLoop.__init__ = open_loop  # type: ignore[method-assign]
