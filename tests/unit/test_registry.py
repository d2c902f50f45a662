"""One more vendor is one more entry of the registry, and nothing else."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.vendors import VENDORS

TESTS: Final = Path(__file__).parents[1]
PLACES: Final = (
    "runner",
    "unit/deferral",
    "unit/kill",
    "unit/messages",
    "unit/secrets",
)
FILES: Final = [
    *sorted(file for place in PLACES for file in (TESTS / place).rglob("*.py")),
    TESTS / "unit/test_vendor_contract.py",
]
"""The suites that hold for every vendor."""
NAMES: Final = {entry.name for entry in VENDORS}
CONSTANTS: Final = {name.upper() for name in NAMES}


def tables(text: str) -> list[int]:
    """Return the lines of collections that hold the names of all vendors."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Dict(keys=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                words = {each.value for each in parts if isinstance(each, ast.Constant)}
                if words >= NAMES:
                    found.append(node.lineno)
    return found


def choices(text: str) -> list[int]:
    """Return the lines that choose by which vendor a parameter is."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare)
        and isinstance(node.left, (ast.Name, ast.Attribute))
        and ast.unparse(node.left).endswith(("case", "case.name"))
        and any(
            ast.unparse(each) in CONSTANTS
            or (isinstance(each, ast.Constant) and each.value in NAMES)
            for each in node.comparators
        )
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_no_suite_has_a_table_or_a_choice_of_its_own(file: Path) -> None:
    text = file.read_text()

    assert (tables(text), choices(text)) == ([], [])


def test_tables_and_choices_are_found() -> None:
    table = repr(dict.fromkeys(NAMES, 1))

    assert tables(table) == [1]
    assert choices("case is AIRBYTE\nworld.case.name == 'fivetran'") == [1, 2]
