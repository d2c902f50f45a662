"""Rows of text, printed as columns or as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def as_columns(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows with equal keys as aligned columns under the keys."""
    if not rows:
        return ""

    names = [*rows[0]]
    lines = [[name.upper().replace("_", " ") for name in names]]
    lines += [
        ["" if row[name] is None else str(row[name]) for name in names] for row in rows
    ]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def as_json(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a JSON array."""
    return json.dumps([*rows], indent=2, default=str)
