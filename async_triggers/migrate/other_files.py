"""Finds the modules that files other than Python's name, such as YAML and notebooks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from async_triggers.migrate.modules import PACKAGES
from async_triggers.migrate.tree import Remark

_LARGEST = 1_000_000
"""Bytes. What is larger is data, or written by a program."""

_PATH = re.compile(
    rb"(?<![\w.])(?:%s)(?:\.\w+)*(?!\w)"
    % b"|".join(re.escape(each.encode()) for each in PACKAGES)
)


def read_text(path: Path) -> bytes:
    """Return what a text file holds; nothing of what is no text, or too large."""
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return b""

    source = path.read_bytes()
    return b"" if b"\0" in source else source


def places_in(source: bytes) -> Iterator[Remark]:
    """Yield where another provider's module is named, the first place in full."""
    lines = [
        (number, found)
        for number, line in enumerate(source.split(b"\n"), 1)
        for found in [_PATH.search(line)]
        if found is not None
    ]
    if lines:
        number, found = lines[0]
        more = _count(len(lines) - 1)
        yield Remark(
            number,
            f"{os.fsdecode(found[0])} stays{more}: this command rewrites Python files only",
        )


def _count(more: int) -> str:
    if not more:
        return ""

    return f", here and on {more} more line{'' if more == 1 else 's'}"
