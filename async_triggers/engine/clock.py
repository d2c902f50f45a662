"""The server's clock, as its answers show it: pure arithmetic.

Windows of a feed are measured in the server's time, which comes with each answer. One
wrong ``Date`` (a node whose clock is off, a cache that replays an old header) must not
move them: a time that leaves the known course is used only when the next answer agrees.
"""

from __future__ import annotations

TOLERANCE = 60.0
"""Seconds by which two answers may disagree: less than the overlap of two windows."""


class ServerClock:
    """Follows the server's time by the event loop's clock."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._agreeing = 0
        self._candidate: float | None = None

    def __repr__(self) -> str:
        """State the state."""
        return f"<ServerClock [{self._offset} s, {self._agreeing} answers]>"

    def now(self, loop_now: float) -> float | None:
        """Return the server's time in epoch seconds, None before the first answer."""
        return None if self._offset is None else loop_now + self._offset

    def read(self, date: float, loop_now: float) -> tuple[float, float]:
        """Take the ``Date`` of an answer in; return the time of the answer and a step.

        The time is that of the known course where ``date`` leaves it. The step in seconds
        is not zero when the course itself turns out to be another one: all times that were
        derived from the old one are to be moved by it where it is negative.
        """
        offset = date - loop_now
        if self._offset is None:
            self._offset = offset
            self._agreeing = 1
            return date, 0.0

        if abs(offset - self._offset) <= TOLERANCE:
            self._agreeing += 1
            self._candidate = None
            # It drifts by its resolution of a second, and by the time on the way.
            self._offset = max(self._offset, offset)
            return date, 0.0

        agrees = (
            self._candidate is not None and abs(offset - self._candidate) <= TOLERANCE
        )
        # A course of a single answer gives way to any that is not ahead of it.
        is_weak = self._agreeing == 1 and offset < self._offset
        if agrees or is_weak:
            step = offset - self._offset
            self._offset = offset
            self._agreeing = 2 if agrees else 1
            self._candidate = None
            return date, step

        self._candidate = offset
        return loop_now + self._offset, 0.0
