"""What a waiter hears before its job has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job


class Unchanged:
    """Nothing was heard of a job for a while: it goes on as it was."""


UNCHANGED = Unchanged()


@dataclass(frozen=True, slots=True)
class Notice:
    """What a waiter should know of the polling itself.

    ``is_over`` says that polling works again.
    """

    text: str
    is_over: bool = False


class Listener(Protocol):
    """What hears of a job before its end."""

    def hear(self, job: Job) -> None:
        """Take note that the job has changed. Called by the task that waits."""

    def hear_again(self) -> None:
        """Take note that the job goes on as it was. Called as :meth:`hear`."""

    def hear_notice(self, notice: Notice) -> None:
        """Take note of trouble with polling, or of its end. Called as :meth:`hear`."""

    def needs_attention(self, job: Job) -> bool:
        """Return True if the wait is to end although the job goes on."""
