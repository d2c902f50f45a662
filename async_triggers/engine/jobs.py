"""What the job of any vendor looks like to a waiter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None


class JobState(StrEnum):
    """Where a job is in its life; the vendor's own word is kept in :attr:`Job.word`."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True when the job will not change any more."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as one row of the vendor showed it.

    ``id`` is the vendor's id as text; ``label`` names the job for people where that id
    would not. ``word`` is the vendor's own status word, for logs
    and for states that are not known yet. ``message`` is the vendor's explanation of a
    failure, empty where it gives none. ``statistics`` holds plain JSON scalars in the
    vendor's names (rows, bytes, durations). ``started_at`` is ISO 8601 or None.
    ``ended_at`` is the server's time of the end in epoch seconds where the row shows it.
    ``summary`` holds what else is worth keeping at the end, as JSON of a few kilobytes.
    ``amounts`` are what people want to read of it, in the vendor's words: ``12,400 rows``.
    """

    id: str
    state: JobState
    word: str
    label: str = ""
    message: str = ""
    url: str = ""
    started_at: str | None = None
    ended_at: float | None = None
    statistics: Mapping[str, Scalar] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    amounts: tuple[str, ...] = field(default=(), compare=False)

    @property
    def title(self) -> str:
        """What to call the job in a sentence."""
        return self.label or f"Job {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A look: the job, and the server's time of the look in epoch seconds."""

    job: Job
    at: float | None
