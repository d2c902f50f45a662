"""What the log of a scheduler says about attempts that have left their worker."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


class Noticed:
    """What the scheduler has taken note of: the attempts that have left their worker.

    Airflow fails a task that is to be resumed before that, which takes a busy scheduler
    seconds: https://github.com/apache/airflow/issues/71580. On PostgreSQL the scheduler
    skips an attempt whose row is locked, as it is while a triggerer takes up the trigger,
    and never comes back to it: it has received the end and then gone on.
    """

    _FINISHED = re.compile(
        r"TaskInstance Finished: .*? task_id=(\S+), run_id=(\S+), .* try_number=(\d+)"
    )
    _RECEIVED = re.compile(
        r"Received executor event with state (?:success|failed) for .* "
        r"task_id='([^']+)', run_id='([^']+)', try_number=(\d+)"
    )
    _GOES_ON = "SchedulerJobRunner]"

    def __init__(self, log: TextIO) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._rest = ""
        self._received: set[tuple[str, str, int]] = set()
        self._attempts: set[tuple[str, str, int]] = set()

    def close(self) -> None:
        """Read no more."""
        self._log.close()

    def has(self, run_id: str, task_id: str, try_number: int) -> bool:
        """Tell whether the scheduler knows that this attempt has left its worker."""
        with self._lock:
            *lines, self._rest = (self._rest + self._log.read()).split("\n")
            for line in lines:
                self._read(line)
            return (run_id, task_id, try_number) in self._attempts

    def _read(self, line: str) -> None:
        if found := self._RECEIVED.search(line):
            self._received.add((found[2], found[1], int(found[3])))
        elif found := self._FINISHED.search(line):
            self._attempts.add((found[2], found[1], int(found[3])))
        elif self._GOES_ON in line:
            self._attempts |= self._received
            self._received.clear()
