"""What the parts of a poller share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_triggers.engine.job_doubts import JobDoubts
from async_triggers.engine.knowledge import Coverage, Sources, Sweep
from async_triggers.engine.news import News, Notices, Reminders
from async_triggers.engine.planner import Planner
from async_triggers.engine.trouble import Trouble
from async_triggers.engine.waiters import Waiters
from async_triggers.engine.watchers import Watchers

if TYPE_CHECKING:
    from async_triggers.engine.transport import Transport
    from async_triggers.engine.wire import Account, Vendor


@dataclass(slots=True)
class PollingState:
    """What is known, waited for, watched and planned in one account."""

    transport: Transport
    vendor: Vendor
    account: Account
    waiters: Waiters
    watchers: Watchers
    coverage: Coverage
    sources: Sources
    sweep: Sweep
    planner: Planner
    doubts: JobDoubts
    trouble: Trouble
    news: News
    notices: Notices
    reminders: Reminders
    owed: set[str] = field(default_factory=set)
    """Jobs whose turn it was in a round that did not get to them."""
    odd: set[str] = field(default_factory=set)
    """Jobs whose row in a list could not be taken in."""
    grid: float = float("inf")
    """Seconds between two rounds: the shortest interval that anyone requested."""
    stretch: float = 0.0
    """Seconds between two rounds that the plan needs, where that is longer."""
    requests: int = 1
    """What the last round took, but for confirmations and the sweep."""
    quick: float = float("inf")
    """Seconds between two rounds that the spare budget allows, where it does."""

    @property
    def pace(self) -> float:
        """Seconds between two rounds while all is well."""
        return min(max(self.grid, self.stretch), self.quick)

    @property
    def is_quick(self) -> bool:
        """True while rounds come more often than anyone has requested."""
        return self.quick < self.grid

    @property
    def is_idle(self) -> bool:
        """True when there is no one who waits or watches."""
        return not self.waiters and not self.watchers

    def forget(self, subject: str) -> None:
        """Forget a job without waiters."""
        self.doubts.forget(subject)
        self.coverage.forget(subject)
        self.sources.scopes.pop(subject, None)
        self.sweep.forget(subject)
        self.owed.discard(subject)


def new_state(transport: Transport, *, on_trouble: Callable[[], None]) -> PollingState:
    """Return the state of a poller that has done nothing yet."""
    vendor, account = transport.vendor, transport.account
    waiters = Waiters()
    watchers = Watchers(vendor, account)
    news = News()
    return PollingState(
        transport=transport,
        vendor=vendor,
        account=account,
        waiters=waiters,
        watchers=watchers,
        coverage=Coverage(vendor.overlap),
        sources=Sources(account, vendor.sources),
        sweep=Sweep(),
        planner=Planner(),
        doubts=JobDoubts(account.belief.doubt),
        trouble=Trouble(account, waiters, watchers, on_begin=on_trouble),
        news=news,
        notices=Notices(news, waiters),
        reminders=Reminders(news, waiters),
    )
