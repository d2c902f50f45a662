"""What the readers of a file share: the scopes, lines and parents of its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import libcst as cst
from libcst.metadata import (
    ParentNodeProvider,
    PositionProvider,
    QualifiedNameProvider,
    QualifiedNameSource,
    ScopeProvider,
)

from async_triggers.migrate.modules import split_path


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """What a person should know about a line."""

    line: int
    text: str


class Reader(cst.CSTVisitor):
    """A visitor that knows where the names of a file come from."""

    METADATA_DEPENDENCIES = (
        ParentNodeProvider,
        PositionProvider,
        QualifiedNameProvider,
        ScopeProvider,
    )

    def __init__(self) -> None:
        super().__init__()
        # What stays as it is, though it belongs to another provider.
        self.left: list[Remark] = []
        # What moves: module elsewhere and name, with the line where that shows.
        self.moved: dict[tuple[str, str], int] = {}

    def origin_of(self, node: cst.CSTNode) -> tuple[str, str] | None:
        """Return the module elsewhere and the name in it that an expression reads."""
        names: Any = self.get_metadata(QualifiedNameProvider, node, ())
        for each in names:
            if each.source is QualifiedNameSource.IMPORT:
                found = split_path(each.name)
                if found is not None:
                    return found

        return None

    def bindings(self, name: str, at: cst.CSTNode) -> Iterator[Any]:
        """Yield what binds a name in the scope of a node."""
        scope = self.get_metadata(ScopeProvider, at, None)
        if scope is not None:
            yield from scope.assignments[name]

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node around a node; None for the tree's root."""
        found: cst.CSTNode | None = self.get_metadata(ParentNodeProvider, node, None)
        return found

    def member_of(self, node: cst.CSTNode) -> str | None:
        """Return the attribute that is read of an expression, None for other uses."""
        parent = self.parent(node)
        if isinstance(parent, cst.Attribute) and parent.value is node:
            return parent.attr.value

        return None

    def line(self, node: cst.CSTNode) -> int:
        """Return the line on which a node starts."""
        where: Any = self.get_metadata(PositionProvider, node)
        return int(where.start.line)

    def leave(self, node: cst.CSTNode, text: str) -> None:
        """Note what stays as it is, and why."""
        self.left.append(Remark(self.line(node), text))

    def note_move(self, module: str, name: str, node: cst.CSTNode) -> None:
        """Note that a name moves."""
        self.moved.setdefault((module, name), self.line(node))


def dotted_text(node: cst.CSTNode) -> str:
    """Return a dotted expression without its white space; empty for any other."""
    if isinstance(node, cst.Name):
        return node.value

    if isinstance(node, cst.Attribute):
        return f"{dotted_text(node.value)}.{node.attr.value}"

    return ""


def last_name(node: cst.CSTNode) -> str:
    """Return the last name of a dotted expression."""
    return dotted_text(node).rpartition(".")[2]


def literal(node: cst.CSTNode) -> str | None:
    """Return the value of a literal text; None for any other expression."""
    if isinstance(node, cst.SimpleString | cst.ConcatenatedString):
        value = node.evaluated_value
        return value if isinstance(value, str) else None

    return None
