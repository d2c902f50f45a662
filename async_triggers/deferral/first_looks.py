"""Looks that a trigger makes by itself before the poller can wait for it.

They keep to the poller's rules: trouble is only a late answer, and the vendor's refusal of
what it has shown before is in doubt until it has lasted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from async_triggers.deferral.errors import explain, with_request
from async_triggers.engine.doubt import Doubt
from async_triggers.engine.errors import (
    ConnectionChanged,
    PermanentError,
    Scope,
    TransientError,
)
from async_triggers.engine.wording import sentence

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.deferral.hook import VendorHook
    from async_triggers.engine.accounts import LeasedAccount

T = TypeVar("T")

LOOK_AGAIN = 15.0
"""Seconds until the next try of a look that the vendor did not answer."""
SAY_AGAIN = 600.0
"""Seconds between two lines about one trouble in a task's log."""


class FirstLooks:
    """The looks of one trigger; ``is_known`` says that one of its task was answered."""

    def __init__(self, hook: VendorHook, log: Logger, *, is_known: bool) -> None:
        self._hook = hook
        self._log = log
        self._is_known = is_known
        self._doubt: Doubt | None = None
        self._said_at = -math.inf

    async def look(
        self, leased: LeasedAccount, question: Callable[[], Awaitable[T]]
    ) -> T:
        """Look until the vendor answers.

        Raise :class:`~async_triggers.engine.errors.PermanentError` for a refusal that is
        to be believed, or for an address that has looked wrong for too long.
        """
        trust = leased.transport.trust
        if self._is_known:
            trust.vouch()

        while True:
            try:
                answer = await question()
            except ConnectionChanged:
                raise
            except TransientError as error:
                now = asyncio.get_running_loop().time()
                if self._doubt is not None:
                    self._doubt.missed(now)

                wrong = trust.wrong_field(now)
                if wrong is not None:
                    raise wrong from None

                self._report(error, "Trying again")
                await leased.sleep(LOOK_AGAIN)
            except PermanentError as error:
                await self.doubt(error, leased)
            else:
                self._settle()
                return answer

    async def doubt(self, refusal: PermanentError, leased: LeasedAccount) -> None:
        """Wait until a refusal is to be checked again; raise it once it is believed.

        That of an account is doubted by the account itself, before it comes to this.
        """
        is_of_account = refusal.scope is Scope.ACCOUNT
        if is_of_account or refusal.status is None or not self._is_known:
            raise refusal

        now = asyncio.get_running_loop().time()
        if self._doubt is None:
            self._doubt = Doubt(refusal, now, lasts=leased.account.belief.doubt)
        elif self._doubt.refused(refusal, now):
            raise refusal

        self._report(refusal, "Checking again before this is believed")
        await asyncio.sleep(max(1.0, self._doubt.next_check - now))

    def _report(self, error: TransientError | PermanentError, follows: str) -> None:
        """Say what was met: at first, and now and then."""
        now = asyncio.get_running_loop().time()
        if now < self._said_at + SAY_AGAIN:
            return

        self._said_at = now
        words = explain(error, self._hook.conn_id, self._hook.conn_type)
        self._log.warning("%s", with_request(f"{sentence(words)} {follows}", error))

    def _settle(self) -> None:
        """Take note of an answer."""
        self._is_known = True
        self._doubt = None
        if self._said_at > -math.inf:
            self._said_at = -math.inf
            self._log.info("%s answers again", self._hook.vendor.name)
