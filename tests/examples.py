"""How many examples a property test tries.

``pytest --hypothesis-profile=long`` tries a hundred times as many, other ones each time.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings

STABLE = "stable"
USUAL = 100
LONG = 10_000

settings.register_profile(
    # The same examples in every run: what fails here fails everywhere.
    STABLE,
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=USUAL,
)
settings.register_profile("long", deadline=None, database=None, max_examples=LONG)


def examples(count: int, **others: Any) -> settings:
    """Try ``count`` examples, or as many times more as the profile does."""
    times = max(1, settings.default.max_examples // USUAL) if settings.default else 1
    return settings(max_examples=count * times, **others)
