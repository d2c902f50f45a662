"""Starts that earlier attempts had left to their triggers, and of which nothing is noted.

A trigger cannot write to Airflow's task state store, and what it keeps in XComs is lost
with its attempt. The worker notes only that a trigger was to start a job
(:class:`.record.Unsettled`). So the next attempt looks for the job at the vendor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_triggers.deferral.record import Unsettled
    from async_triggers.deferral.remote_job import JobRequest
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.engine.wire import Vendor

Find = Callable[["JobRequest", "LeasedAccount"], Awaitable["Seen | None"]]
"""Looks for a job."""
Search = Callable[[Find], Awaitable["Seen | None"]]
"""Does so at the vendor, until there is an answer."""


@dataclass(slots=True, kw_only=True)
class LeftStarts:
    """The starts of earlier attempts, by what the attempt after them does about them.

    ``cleared`` are those of cleared attempts, whose job ends before another starts;
    ``retried`` those whose job is taken over, since the attempt is a retry of the same
    request.
    """

    cleared: Unsettled | None = None
    retried: Unsettled | None = None

    @classmethod
    def of(
        cls, unsettled: Unsettled | None, *, max_tries: int, fingerprint: str
    ) -> LeftStarts:
        """Sort what was noted, for an attempt and its request."""
        if unsettled is None:
            return cls()

        retried, cleared = unsettled.split(max_tries)
        is_same = unsettled.fingerprint == fingerprint
        return cls(cleared=cleared, retried=retried if is_same else None)

    async def find_cleared(self, search: Search) -> Seen | None:
        """Look for the job of a cleared attempt, unless it has ended."""
        cleared = self.cleared
        if cleared is None:
            return None

        async def find(request: JobRequest, leased: LeasedAccount) -> Seen | None:
            if await request.is_settled(leased, cleared):
                self.cleared = None
                return None

            return await request.find_unsettled(leased, cleared)

        return await search(find)

    async def find_retried(self, search: Search) -> Seen | None:
        """Look for the job of a retried attempt, also where it has ended."""
        retried = self.retried
        if retried is None:
            return None

        return await search(
            lambda request, leased: request.find_retried(leased, retried)
        )

    def may_include(self, job: Job) -> bool:
        """Return whether a running job may be that of a cleared attempt."""
        return self.cleared is not None and self.cleared.may_have_started(job)


def fate_of_left(vendor: Vendor) -> str:
    """Say what a task leaves behind that gives up before it has found such a job."""
    return f"A {vendor.noun} that an earlier attempt has started may still be running"
