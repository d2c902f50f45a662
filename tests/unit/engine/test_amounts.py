from __future__ import annotations

import pytest

from async_triggers.engine.amounts import counted, lasted, sized


@pytest.mark.parametrize(
    ("number", "words"),
    [(None, ""), (0, "0 rows"), (1, "1 row"), (12_400, "12,400 rows")],
)
def test_counts(number: int | None, words: str) -> None:
    assert counted(number, "row") == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, ""),
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_048_576, "1.0 MB"),
        (38_000_000, "38 MB"),
        (999_999_999, "1.0 GB"),
        (7_500_000_000_000, "7.5 TB"),
        (5e21, "5,000,000 PB"),
    ],
)
def test_sizes(size: float | None, words: str) -> None:
    assert sized(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (-3, ""),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (14 * 60 + 3, "14 min"),
        (3600, "1 h"),
        (2 * 3600 + 5 * 60, "2 h 5 min"),
        (3 * 86_400 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert lasted(seconds) == words
