"""Those who wait, as the poller keeps them. There may be tens of thousands."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from async_triggers.engine.jobs import Job


class Listener(Protocol):
    """One who is to hear of a job before its end."""

    def hear(self, job: Job) -> None:
        """Take note that the job has changed. Called by the task that waits."""

    def needs_attention(self, job: Job) -> bool:
        """Tell whether the wait is to end although the job goes on."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One who waits for the end of a job."""

    future: asyncio.Future[Job]
    """Takes the end of the wait, or news; then another one takes the end."""
    interval: float
    mark: str | None
    listener: Listener | None
    ends: float
    """The loop's time at which the patience of the waiter is over."""
    told: tuple[str, object] | None = None
    told_at: float = -math.inf


@dataclass(slots=True, eq=False)
class Watched:
    """One subject and those who wait for it."""

    waiters: dict[Waiter, None] = field(default_factory=dict)
    interval: float = math.inf
    """The shortest interval that a waiter asked for."""
    thinned: bool = False
    """A waiter has left, and perhaps the one with the shortest interval."""
    known: bool = False
    """The vendor has shown the job before, so that "gone" needs a second opinion."""
    doubted: int | None = None
    """The round in which the vendor first said that the job is gone."""
    digest: int | None = None
    """What the last row was judged by, if its job goes on."""
    untold: bool = False
    """There was news in that row that had to wait."""
    failures: int = 0
    """How often in a row no answer came when the job was asked for singly."""


Claims: TypeAlias = list[tuple[Waiter, Job]]
"""Who would be told what, if it were confirmed."""
