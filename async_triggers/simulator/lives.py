"""Job lives as functions of time: nothing runs in the background."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Life:
    """What a job will go through: states with the seconds spent in each.

    The last state has no duration; the job stays in it.
    """

    steps: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        """Check the script.

        :raises ValueError: There is no state, or a duration is not a number of seconds.
        """
        if not self.steps:
            message = "a life needs at least one state, for example 'running:5 failed'"
            raise ValueError(message)
        for word, seconds in self.steps:
            if not word or math.isnan(seconds) or seconds < 0:
                message = f"bad step {word}:{seconds} in a life: seconds must be >= 0"
                raise ValueError(message)

    @classmethod
    def parse(cls, text: str) -> Life:
        """Read a script such as ``pending:1 running:5 incomplete:2 succeeded``.

        :raises ValueError: The script is empty, or a step but the last has no seconds.
        """
        words = text.split()
        steps: list[tuple[str, float]] = []
        for position, step in enumerate(words, start=1):
            word, colon, seconds = step.partition(":")
            if not colon and position < len(words):
                message = (
                    f"step {step!r} of the life {text!r} needs seconds, "
                    f"for example '{word}:5'; only the last state has none"
                )
                raise ValueError(message)
            try:
                steps.append((word, float(seconds) if colon else math.inf))
            except ValueError:
                message = f"{seconds!r} in the life {text!r} is not a number of seconds"
                raise ValueError(message) from None
        return cls(tuple(steps))

    def __str__(self) -> str:
        """Return the script that :meth:`parse` reads."""
        return " ".join(
            word if math.isinf(seconds) else f"{word}:{seconds:g}"
            for word, seconds in self.steps
        )


def as_life(value: object) -> Life:
    """Return a life, parsing it where it is a script.

    :raises ValueError: It is no life.
    """
    if isinstance(value, Life):
        return value
    if not isinstance(value, str):
        message = f"a life is a text such as 'running:5 failed', not {value!r}"
        raise ValueError(message)  # noqa: TRY004 - the control API answers it as 400
    return Life.parse(value)


def as_lives(values: Iterable[Life | str]) -> list[Life]:
    """Return lives, parsing those that are scripts; one script is one life.

    :raises ValueError: One of them is no life.
    """
    return [as_life(one) for one in ([values] if isinstance(values, str) else values)]


def next_life(lives: list[Life], otherwise: str) -> Life:
    """Take the next of the lives that were arranged; the last one stays.

    :param otherwise: The script to use where none was arranged.
    """
    if not lives:
        return Life.parse(otherwise)
    if len(lives) == 1:
        return lives[0]
    return lives.pop(0)


class Moment(NamedTuple):
    """The state of a job at one time, and since when it has been in it."""

    word: str
    since: float


class Timeline:
    """The states of one job by time; what lies in the future can still be changed."""

    __slots__ = ("_times", "_words")

    def __init__(self, start: float, life: Life) -> None:
        self._times: list[float] = []
        self._words: list[str] = []
        self.follow(start, life.steps)

    @property
    def start(self) -> float:
        """The time of the first state."""
        return self._times[0]

    @property
    def last(self) -> Moment:
        """The state in which the job will stay."""
        return Moment(self._words[-1], self._times[-1])

    def at(self, time: float) -> Moment | None:
        """Return the state at ``time``, or None before the first one."""
        index = bisect_right(self._times, time) - 1
        return Moment(self._words[index], self._times[index]) if index >= 0 else None

    def first(self, word: str, *, until: float = math.inf) -> float | None:
        """Return when the job first is in a state, if that is not after ``until``."""
        for at, found in zip(self._times, self._words, strict=True):
            if found == word and at <= until:
                return at
        return None

    def end(self, time: float, word: str) -> None:
        """Let the job be in ``word`` from ``time`` on, for good."""
        keep = bisect_right(self._times, time)
        del self._times[keep:], self._words[keep:]
        self._times.append(time)
        self._words.append(word)

    def follow(self, time: float, steps: tuple[tuple[str, float], ...]) -> None:
        """Let more states follow from ``time`` on, with the seconds spent in each."""
        for word, seconds in steps:
            if math.isinf(time):
                return
            self._times.append(time)
            self._words.append(word)
            time += seconds

    def insert(self, time: float, word: str) -> None:
        """Put one more change of state at ``time``; what follows stays as planned."""
        index = bisect_right(self._times, time)
        self._times.insert(index, time)
        self._words.insert(index, word)
