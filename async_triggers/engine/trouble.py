"""Trouble with polling: when it began, what it is, how often in a row. Pure bookkeeping.

No transient error ends a wait: the next round is the retry. One log line reports when
trouble begins and one when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from async_triggers.engine.amounts import counted
from async_triggers.engine.errors import (
    Doubted,
    InBetween,
    PermanentError,
    RequestRejected,
    UnreadableReply,
)
from async_triggers.engine.listener import Notice
from async_triggers.engine.wording import begun

if TYPE_CHECKING:
    from async_triggers.engine.errors import TransientError
    from async_triggers.engine.waiters import Waiters
    from async_triggers.engine.watchers import Watchers
    from async_triggers.engine.wire import Account

log = logging.getLogger(__name__)

SAY_AGAIN = 3600.0
"""Seconds between two lines about one trouble that comes back in each round."""
COMES_BACK = 600.0
"""Seconds after its end within which trouble has come back."""
NOTICE_AFTER = 60.0
"""Seconds of an outage after which those who wait hear of it; of a doubt at once."""


class Trouble:
    """What goes wrong with polling one account."""

    def __init__(
        self,
        account: Account,
        waiters: Waiters,
        watchers: Watchers,
        *,
        on_begin: Callable[[], None],
    ) -> None:
        self._account = account
        self._waiters = waiters
        self._watchers = watchers
        self._on_begin = on_begin
        self.error: TransientError | None = None
        self._since = 0.0
        # What was last logged, when that was, and when trouble was last over.
        self._said = ""
        self._said_at = self._over_at = -math.inf
        self._broken_at: set[str] = set()
        self.is_in_round = False
        """Something went wrong since the last round began."""
        self.failures = 0
        """Rounds that failed in a row."""
        self.failed_rounds = 0
        self.broken_rounds = 0

    @property
    def message(self) -> str:
        """Why polling fails now, empty where it works."""
        return "" if self.error is None else self.error.message

    def note(self, error: TransientError, *, cause: Exception | None = None) -> None:
        """Take note of a transient error, and log it when it is the first.

        ``cause`` is an unforeseen error: it is logged with its traceback.
        """
        self.is_in_round = True
        if self.error is not None:
            if isinstance(error, Doubted | InBetween):
                # Of all trouble, the one that may end a wait is reported.
                self.error = error

            return

        self.error = error
        self._since = asyncio.get_running_loop().time()
        self._on_begin()
        log.log(
            self._level(error, logging.WARNING),
            "%s: polling failed (%s, retrying): %s",
            self._account,
            self._crowd,
            error.message,
            exc_info=cause,
        )

    def _level(self, error: TransientError, level: int) -> int:
        """Return at what level the beginning of trouble is logged.

        What is answered badly by itself, among what is answered well, begins and ends in
        each round where it has no waiters.
        """
        now = asyncio.get_running_loop().time()
        is_back = error.message == self._said and now < self._over_at + COMES_BACK
        if is_back and not self._waiters and now < self._said_at + SAY_AGAIN:
            return logging.DEBUG

        self._said, self._said_at = error.message, now
        return level

    @property
    def _crowd(self) -> str:
        """Say whom an outage keeps waiting."""
        watching = counted(len(self._watchers), "watcher") if self._watchers else ""
        if watching and not self._waiters:
            return f"{watching} still watching"

        waiting = f"{counted(self._waiters.count, 'task')} still waiting"
        return f"{waiting}, {watching}" if watching else waiting

    def note_given_up(self) -> None:
        """Take note of a round whose rest was left to the next one."""
        self.failed_rounds += 1
        self.failures += 1

    def note_break(self, error: Exception) -> None:
        """Take note of a round that an unforeseen error has ended.

        Those who wait must not lose their jobs over it. Where it ends a second round at
        the same place, all of them hear of it.
        """
        place = place_of(error)
        self.failed_rounds += 1
        self.broken_rounds += 1
        self.failures += 1
        broken = UnreadableReply(f"A round broke off: {place}")
        if place in self._broken_at:
            broken = UnreadableReply(
                f"Polling breaks off again and again: {place}. This is an error of the"
                " package: report it with the triggerer's log"
            )
            if self.error is not None:
                self.error = broken

        self._broken_at.add(place)
        self.note(broken, cause=error)

    def note_recovery(self) -> None:
        """Take note that polling works."""
        if self.error is None:
            return

        now = asyncio.get_running_loop().time()
        self.error, self._over_at = None, now
        level = logging.INFO if self._said_at >= self._since else logging.DEBUG
        seconds = now - self._since
        log.log(level, "%s: polling works again after %.0f s", self._account, seconds)

    def notice(self, now: float) -> Notice | None:
        """Return what all who wait should know, None where they need not yet."""
        if self.error is None:
            return None

        is_serious = (
            isinstance(self.error, Doubted | InBetween) or self.broken_rounds > 1
        )
        if not is_serious and now < self._since + NOTICE_AFTER:
            return None

        return Notice(f"Polling failed (still waiting, retrying): {self.error.message}")


def place_of(error: BaseException) -> str:
    """Name an unforeseen error by its type and where it came from, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    where = (
        f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    )
    return f"{type(error).__name__}{where}"


def unusable(name: str, error: Exception) -> PermanentError:
    """Return what ends the wait for a job that causes an unforeseen error.

    ``name`` is what to call it within a sentence.
    """
    if isinstance(error, PermanentError):
        return error.again()  # type: ignore[return-value]

    return RequestRejected(
        f"{begun(name)} cannot be polled: {place_of(error)}. Check its id; if it is"
        " right, report this with the triggerer's log"
    )
