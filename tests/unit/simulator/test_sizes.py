"""The simulated vendors stay small enough to be read."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

import async_triggers.simulator

HERE: Final = Path(async_triggers.simulator.__file__).parent
FILES: Final = sorted(HERE.rglob("*.py"))
LONGEST: Final = {
    ast.Module: 700,
    ast.ClassDef: 450,
    ast.FunctionDef: 60,
    ast.AsyncFunctionDef: 60,
}
"""The most lines of a file, a class and a function; constructors may have more."""


def parts(file: Path) -> list[tuple[str, int, int]]:
    """Return the file and all within it, with its lines and the most it may have."""
    text = file.read_text()
    found = [(file.name, len(text.splitlines()), LONGEST[ast.Module])]
    found += [
        (
            f"{file.name}: {node.name}",
            node.end_lineno - node.lineno + 1,
            LONGEST[type(node)],
        )
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.name != "__init__"
    ]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HERE)))
def test_files_classes_and_functions_stay_small(file: Path) -> None:
    assert [each for each in parts(file) if each[1] > each[2]] == []
