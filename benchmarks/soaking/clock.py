"""One virtual clock for two processes: the runner's loop sets it, the vendors read it."""

from __future__ import annotations

import mmap
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.clock import ThreadlessClockLoop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EPOCH = 1_795_000_000.0
"""The time of the day, in epoch seconds, at which the virtual clock begins."""
PATIENCE = 60.0
"""Seconds of real time after which an answer is missed for good."""
_TIME = struct.Struct("d")


class Dial:
    """The clock's face: a file of eight bytes that both processes have mapped.

    One process sets it; the other reads it at any moment.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_TIME.pack(0.0))

        with path.open("r+b") as file:
            # ``pack_into`` would show a zero before each new time.
            self._seconds = memoryview(mmap.mmap(file.fileno(), _TIME.size)).cast("d")

    def set(self, seconds: float) -> None:
        """Show a time of the loop."""
        self._seconds[0] = seconds

    def now(self) -> float:
        """Return the time of the day in epoch seconds."""
        return EPOCH + self._seconds[0]


class DayLoop(ThreadlessClockLoop):
    """A virtual clock that stands still while an answer is on its way.

    The vendors are another process, so their answers take real time. Within
    :meth:`exchange` the loop waits for the network; else time jumps to the next timer.
    """

    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self._under_way = 0
        jump = self._virtual.select
        wait = super(type(self._virtual), self._virtual).select

        def select(timeout: float | None = None) -> Any:
            if self._under_way and (timeout is None or timeout > 0):
                ready = wait(PATIENCE)
                if not ready:
                    raise RuntimeError("the simulated vendors do not answer any more")

                return ready

            ready = jump(timeout)
            dial.set(self._virtual.now)
            return ready

        self._virtual.select = select  # type: ignore[method-assign]

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Let no time pass while the network is used within the block."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
