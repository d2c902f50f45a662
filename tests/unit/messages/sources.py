"""Reads the package's own source for texts in which something touches a URL."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import async_triggers
from tests.unit.messages.links import harmed_in

PACKAGE = Path(async_triggers.__file__).parent
LOG = {"debug", "info", "warning", "error", "exception", "critical"}
# What may be a URL, or a text that ends with one: of ours, or of a vendor's words.
URL = re.compile(
    r"(^|[._( ])(\w*url|link|told|words|message|error|failure|reason|refusal)$"
)


def problems() -> list[str]:
    """Return where in the package a text would harm a URL."""
    return [
        f"{path.relative_to(PACKAGE)}:{line}: {problem}"
        for path in sorted(PACKAGE.rglob("*.py"))
        # What the simulator says are the vendors' words.
        if "simulator" not in path.parts
        for line, problem in problems_in(path.read_text())
    ]


def problems_in(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each problem in a module."""
    tree = ast.parse(source)
    skipped = _docstrings(tree) | _unread(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in skipped:
            for problem in _of_parts(_parts(node)):
                yield node.lineno, problem
        elif isinstance(node, ast.Constant) and id(node) not in skipped:
            if isinstance(node.value, str) and " " in node.value:
                for problem in harmed_in(node.value):
                    yield node.lineno, problem
        elif isinstance(node, ast.Call) and _is_log(node):
            for problem in _of_parts(_formatted(node)):
                yield node.lineno, problem


def _docstrings(tree: ast.Module) -> set[int]:
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def _unread(tree: ast.Module) -> set[int]:
    """Find regular expressions and what ``repr`` shows, which no person reads."""
    return {
        id(part)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile")
        or (isinstance(node, ast.FunctionDef) and node.name == "__repr__")
        for part in ast.walk(node)
    }


def _is_log(node: ast.Call) -> bool:
    called = ast.unparse(node.func)
    owner, _, method = called.rpartition(".")
    return method in LOG and owner.rpartition(".")[2] in {"log", "_log"}


def _parts(node: ast.JoinedStr) -> list[str | ast.expr]:
    return [
        str(part.value)
        if isinstance(part, ast.Constant)
        else part.value
        if isinstance(part, ast.FormattedValue)
        else part
        for part in node.values
    ]


def _formatted(node: ast.Call) -> list[str | ast.expr]:
    """Return the parts of a line of a log: its words, and what is put between them."""
    first, *rest = node.args
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return []

    words = re.split(r"%(?:[.\d]*[sdrgf])", first.value)
    found: list[str | ast.expr] = []
    for at, word in enumerate(words):
        found.append(word)
        if at < len(rest):
            found.append(rest[at])

    return found


def _of_parts(parts: list[str | ast.expr]) -> Iterator[str]:
    # Without a space it is a URL that is put together.
    if not any(isinstance(each, str) and " " in each for each in parts):
        return

    for at, part in enumerate(parts):
        if isinstance(part, str) or not URL.search(ast.unparse(part)):
            continue

        rest = parts[at + 1 :]
        behind = next((each for each in rest if each != ""), " ")
        if not isinstance(behind, str) or not behind[0].isspace():
            shown = behind if isinstance(behind, str) else ast.unparse(behind)
            yield f"{ast.unparse(part)} is followed by {shown!r}"
