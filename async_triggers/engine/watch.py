"""Whose ends to hear of, and up to which of them one has heard: pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job

Place: TypeAlias = tuple[str, str]
"""Where a job belongs, such as ``("project_id", "7")``: what a watch may name."""

LOOKBACK = 600.0
"""Seconds for which an end may be shown late and is reported all the same."""
MOST_REPORTED = 500
"""Ends at most that a stored mark names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Whose ends to hear of.

    ``place`` is matched with the places of each row. ``subject`` is the id under which
    the vendor shows all of them in a single answer, and ``scope`` the part of a scoped list
    in which they are; both are empty where there is none.
    """

    place: Place
    subject: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of a job that a row shows.

    ``key`` names the row: two ends of one key have different times, and the later one is
    the news. ``at`` is the server's time of the end in epoch seconds.
    """

    key: str
    at: float
    job: Job


def shown_since(at: float, reported: Mapping[str, float]) -> float:
    """Return the time after which ends that were reported may be shown again.

    ``at`` may be ahead, by an answer with a wrong time, and go back: so no later than
    :data:`LOOKBACK` before the last end that was reported.
    """
    return min(at, max(reported.values(), default=at)) - LOOKBACK


def news_after(
    key: str, *, at: float, floor: float, reported: Mapping[str, float]
) -> float:
    """Return the time after which an end of a key is news, by the values of a mark."""
    return max(floor, reported.get(key, at - LOOKBACK))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Up to which end a watcher has heard. Times are the server's, in epoch seconds.

    Everything that had ended by ``at`` was checked. What ended by ``floor`` is no news,
    ever. ``reported`` maps keys to the times of ends that were reported, and may be
    shown again.
    """

    at: float
    floor: float
    reported: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Write it as plain JSON, without what :attr:`at` says by itself."""
        begin = shown_since(self.at, self.reported)
        recent = [each for each in self.reported.items() if each[1] > begin]
        recent.sort(key=lambda each: each[1])
        floor = self.floor
        if len(recent) > MOST_REPORTED:
            # What is not named any more must not come again.
            floor = max(floor, recent[-MOST_REPORTED - 1][1])

        return {
            "at": self.at,
            "floor": floor,
            "reported": dict(recent[-MOST_REPORTED:]),
        }

    @classmethod
    def from_json(cls, value: object) -> Mark | None:
        """Read what :meth:`to_json` wrote; None for anything else."""
        if not isinstance(value, Mapping):
            return None

        at, floor, reported = (value.get(name) for name in ("at", "floor", "reported"))
        if not (_is_time(at) and _is_time(floor) and isinstance(reported, Mapping)):
            return None

        if not all(
            isinstance(key, str) and _is_time(reported[key]) for key in reported
        ):
            return None

        return cls(at=at, floor=floor, reported={**reported})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a round must show to those who watch.

    ``since`` is the server's time from which a feed must be read, None where nothing is
    known yet. ``subjects`` can be requested by themselves, ``scopes`` are parts of a
    scoped list. ``whole`` is True where only a feed, or the list of all, shows the rest.
    """

    since: float | None
    subjects: frozenset[str]
    scopes: frozenset[str]
    whole: bool


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
