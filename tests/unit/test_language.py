"""A ratchet for the language of code, docs and messages.

Words that a native engineer would not write here are counted. A count may fall, and is
then to be lowered in ``pinned/language.json``; it may never rise.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = Path(__file__).parent / "pinned" / "language.json"
IDIOMS = {
    "tell": r"\b(tells?|told|telling)\b",
    "look at": r"\blook(s|ed|ing)? at\b",
    "ask": r"\b(asks?|asked|asking)\b",
    "anew": r"\banew\b",
    "whoever": r"\b(whoever|whatever|however (many|long|short|often))\b",
    "somebody": r"\b(somebody|nobody)\b",
    "of one's own": r"\bof (one's|your|our|its|their|a user's) own\b",
    "leave alone": r"\b(left|leaves?|leaving) alone\b",
    "set aside": r"\bset aside\b",
}
"""What to avoid, with a pattern."""


def texts() -> list[str]:
    """Return all that is written for people: the package, and its documentation."""
    files = [
        *ROOT.glob("*.md"),
        *(ROOT / "async_triggers").rglob("*.py"),
        *(
            file
            for file in (ROOT / "docs").rglob("*.md")
            if "measured" not in file.parts and "_build" not in file.parts
        ),
    ]
    return [file.read_text() for file in files]


@pytest.mark.parametrize("idiom", IDIOMS)
def test_an_idiom_is_used_no_more_often_than_before(idiom: str) -> None:
    pattern = re.compile(IDIOMS[idiom], re.IGNORECASE)
    count = sum(len(pattern.findall(text)) for text in texts())
    most = json.loads(PINNED.read_text())[idiom]

    assert count <= most, f"{idiom!r} was used {most} times: find other words"
    assert count == most, (
        f"{idiom!r} is used {count} times now: lower it in {PINNED.name}"
    )
