"""What rows do not say of the ends that they show, before those who watch hear of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from async_triggers.engine.errors import PermanentError, Scope, TransientError
from async_triggers.engine.requests import GIVE_UP_AFTER, reason_for

if TYPE_CHECKING:
    from async_triggers.engine.requests import Sender
    from async_triggers.engine.state import PollingState
    from async_triggers.engine.watchers import Found

log = logging.getLogger(__name__)


class Ends:
    """Reports ends to those who watch, one request at most for each row that shows any."""

    def __init__(self, state: PollingState, sender: Sender) -> None:
        self._state = state
        self._sender = sender

    async def report(self, at: float | None) -> None:
        """Request the rest of all that was found, and report it."""
        watchers = self._state.watchers
        await self._sender.spread([*watchers.found.values()], self._complete)
        watchers.settle(at)

    async def _complete(self, found: Found) -> None:
        """Request the rest of what a row shows; report it as it is where that fails."""
        state = self._state
        request = state.vendor.rest_of(
            state.account,
            found.ends,
            since=found.since,
            now=state.coverage.server_now,
        )
        found.is_held = False
        if request is None:
            return

        try:
            reply = await self._sender.look(request)
            found.ends = state.vendor.read_rest(
                state.account, reply, request, found.ends
            )
        except Exception as error:
            if isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
                raise

            found.tries += 1
            # The row will show it in the next round as well.
            found.is_held = (
                isinstance(error, TransientError) and found.tries < GIVE_UP_AFTER
            )
            log.debug(
                "%s: the rest of %s is not known: %s",
                state.account,
                found.ends[-1].job.title,
                reason_for(error),
            )
