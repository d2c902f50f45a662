"""A table in Markdown whose columns are what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def side_by_side(
    compared: Sequence[T],
    *,
    heads: Sequence[str],
    rows: Sequence[tuple[str, Callable[[T], str]]],
) -> str:
    """Return a table with a column for each, and what each row shows of it."""
    lines = [
        "| | " + " | ".join(heads) + " |",
        "| --- " + "| ---: " * len(compared) + "|",
        *(
            f"| {title} | " + " | ".join(show(each) for each in compared) + " |"
            for title, show in rows
        ),
    ]
    return "\n".join(lines) + "\n"
