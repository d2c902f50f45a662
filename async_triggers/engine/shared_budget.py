"""One budget of an account for several processes, kept in a store that they share.

It comes on top of each process's :class:`~.limiter.Limiter`, which still says whose turn it
is: before a request is sent, one is taken from the store, where all take from the same
budget. The budget is spread over short windows, so that what one crowd spends is back soon,
and polls leave a part of each window to looks, starts and cancels, and these one to polls.

The store decides nothing but this. Where it does not answer in time, the process goes on
with its own share, and tries the store again after a while.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from async_triggers.engine.errors import RateLimited
from async_triggers.engine.wire import Lane

if TYPE_CHECKING:
    from async_triggers.engine.wire import Account

log = logging.getLogger(__name__)

WINDOWS = 10
"""How many windows the vendor's own is cut into; as much may be spent at once."""
RESERVE = 10
"""One of so many requests of a window is kept for polls, and one for all else."""
TIMEOUT = 0.5
"""Seconds within which the store must answer."""
REST = 30.0
"""Seconds for which a store that did not answer is not tried again."""
PATIENCE = 20.0
"""Seconds for which all but polls wait for the budget; their tasks try again later."""
LONGEST = 15.0
"""Seconds after which a spent budget is looked up again: keys of a store can be lost."""
NOTICE_AFTER = 60.0
"""Seconds for which polls must have waited for the budget before the log says so."""

_POLLS = frozenset({Lane.SHARED, Lane.POLL})


class Store(Protocol):
    """Where several processes count together."""

    async def take(self, key: str, most: int, seconds: int) -> float:
        """Take one of the ``most`` requests of any ``seconds``.

        Return 0, or after how many seconds to try again where none is left.
        """
        ...

    async def close(self) -> None:
        """Close the connections. The store opens new ones if it is used again."""
        ...


class SharedBudget:
    """The budget of an account that all processes take their requests from."""

    def __init__(self, account: Account, store: Store) -> None:
        self._name = str(account)
        self._budget = account.budget
        self._store = store
        self._key = key_of(account)
        self._turns = {True: asyncio.Lock(), False: asyncio.Lock()}
        self._is_away = False
        self._away_until = -math.inf
        self._spent_until = -math.inf
        self._polls_wait_since: float | None = None
        self._polls_wait_until = -math.inf
        self._is_wait_noted = False
        self._most, self._seconds = 1, 1
        self.resize(1.0)

    def resize(self, part: float) -> None:
        """Take note that the vendor allows this part of the limit we know of."""
        budget = self._budget
        allowed = budget.requests * budget.share * part
        windows = max(1, min(WINDOWS, int(allowed / RESERVE), int(budget.per)))
        self._seconds = math.ceil(budget.per / windows)
        self._most = max(1, int(allowed / windows))

    @property
    def is_spent(self) -> bool:
        """True for the length of a window after a request had to wait."""
        return asyncio.get_running_loop().time() < self._spent_until

    async def take(self, lane: Lane, *, urgent: bool) -> None:
        """Wait until all processes together may send one more request.

        An urgent one is counted and waits for nothing. Polls wait for as long as it takes;
        all others raise :class:`~async_triggers.engine.errors.RateLimited` after
        :data:`PATIENCE`, so that no worker waits for long.
        """
        if urgent:
            await self._try([(self._key, self._most)])
            return

        loop = asyncio.get_running_loop()
        ends = loop.time() + PATIENCE
        is_poll = lane in _POLLS
        # One at a time, which keeps their order.
        async with self._turns[is_poll]:
            while (wait := await self._try(self._pots(is_poll=is_poll))) > 0.0:
                self._spent_until = loop.time() + self._seconds
                if is_poll:
                    self._note_wait(loop.time())

                # Others wait for the same request.
                wait += random.uniform(0.0, self._seconds / self._most)
                if not is_poll and loop.time() + wait > ends:
                    raise self._spent(wait)

                await asyncio.sleep(min(wait, LONGEST))

            if is_poll:
                self._note_poll(loop.time())

    async def close(self) -> None:
        """Close the store."""
        with suppress(Exception):
            async with asyncio.timeout(TIMEOUT):
                await self._store.close()

    def _pots(self, *, is_poll: bool) -> list[tuple[str, int]]:
        """Return what a request may be taken from: the common pot, and that of polls."""
        kept = self._most // RESERVE
        if not is_poll:
            return [(self._key, self._most - kept)]

        common = (self._key, self._most - 2 * kept)
        return [common, (f"{self._key}:polls", kept)] if kept else [common]

    async def _try(self, pots: list[tuple[str, int]]) -> float:
        """Take a request from the first pot that has one; return 0, or how long to wait.

        Also 0 where the store cannot be used.
        """
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            return 0.0

        if self._is_away:
            # The others need not find out as well.
            self._away_until = loop.time() + REST

        waits = []
        try:
            async with asyncio.timeout(TIMEOUT):
                for key, most in pots:
                    waits.append(await self._store.take(key, most, self._seconds))
                    if waits[-1] <= 0.0:
                        break
        except Exception as error:  # noqa: BLE001 - no store may fail a request
            self._note_away(error)
            return 0.0

        self._note_back()
        return min(waits)

    def _note_away(self, error: Exception) -> None:
        self._away_until = asyncio.get_running_loop().time() + REST
        if not self._is_away:
            self._is_away = True
            # Its words may hold the store's address.
            log.warning(
                "%s: the store of the shared budget cannot be used (%s). This process goes"
                " on with its own share and tries the store every %.0f s",
                self._name,
                type(error).__name__,
                REST,
            )

    def _note_back(self) -> None:
        self._away_until = -math.inf
        if self._is_away:
            self._is_away = False
            log.info("%s: the store of the shared budget can be used again", self._name)

    def _note_wait(self, now: float) -> None:
        """Take note that a poll waits. Its round is late, and nothing fails by it."""
        if self._polls_wait_since is None or now >= self._polls_wait_until:
            self._polls_wait_since = now

        # Between two that wait some pass, which have the rest of what came back.
        self._polls_wait_until = now + max(self._seconds, NOTICE_AFTER)
        if not self._is_wait_noted and now >= self._polls_wait_since + NOTICE_AFTER:
            self._is_wait_noted = True
            log.warning(
                "%s: polls wait for the budget that all processes share (%d requests in %d"
                " s), so that ends are noticed later than the interval says",
                self._name,
                self._most,
                self._seconds,
            )

    def _note_poll(self, now: float) -> None:
        """Take note that a poll was let through."""
        if self._polls_wait_since is None or now < self._polls_wait_until:
            return

        self._polls_wait_since = None
        if self._is_wait_noted:
            self._is_wait_noted = False
            log.info(
                "%s: polls wait no longer for the budget that all processes share",
                self._name,
            )

    def _spent(self, wait: float) -> RateLimited:
        # Who comes back is spread over a window.
        later = wait + random.uniform(0.0, self._seconds)
        error = RateLimited(
            f"{self._name}: the budget that all processes share is spent, no request was"
            " sent",
            retry_after=later,
        )
        error.is_guess = True
        return error


def key_of(account: Account) -> str:
    """Return what all processes call the budget of an account: a hash and no secret.

    The way to the vendor plays no part, and where the account has an id, neither do the
    credentials: the limit is the account's.
    """
    who = account.account_id or account.credentials.fingerprint
    text = f"{account.vendor}\0{account.base_url}\0{who}"
    return f"async_triggers:budget:{hashlib.sha256(text.encode()).hexdigest()[:32]}"
