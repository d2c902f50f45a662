from __future__ import annotations

from dataclasses import dataclass

import pytest

# 2026-03-25T01:30:00Z: a whole minute, so that seconds are left out where they are 0.
START = 1_774_402_200.0


@dataclass
class Clock:
    """A clock that moves when it is told to."""

    time: float = START

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()
