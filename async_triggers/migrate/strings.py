"""Finds the strings and comments that name classes of another provider.

The path of a trigger is a reference and moves. Any other string may be one, or may be
text: it is reported.
"""

from __future__ import annotations

import re

import libcst as cst

from async_triggers.migrate.modules import COUNTERPARTS, PACKAGES, split_path
from async_triggers.migrate.offered import offers
from async_triggers.migrate.tree import Reader, last_name, literal

_ANY = "|".join(map(re.escape, PACKAGES))
_PATH = re.compile(rf"({_ANY})(\.[^\W\d]\w*)*\.?")
_TYPE_COMMENT = re.compile(rf"#\s*type:.*\b(({_ANY})\.[\w.]+)")


class StringReader(Reader):
    """Finds ``trigger_cls``, and other strings that are dotted paths."""

    def __init__(self) -> None:
        super().__init__()
        # What the writer puts in the place of strings, with their quotes.
        self.strings: dict[cst.CSTNode, str] = {}

    def visit_Call(self, node: cst.Call) -> None:
        """Read the first argument of ``StartTriggerArgs``."""
        if last_name(node.func) == "StartTriggerArgs" and node.args:
            first = node.args[0]
            if first.keyword is None and not first.star:
                self._move(first.value)

    def visit_Arg(self, node: cst.Arg) -> None:
        """Read an argument called ``trigger_cls``."""
        if node.keyword is not None and node.keyword.value == "trigger_cls":
            self._move(node.value)

    def visit_Assign(self, node: cst.Assign) -> None:
        """Read an assignment to ``trigger_cls``."""
        if any(last_name(each.target) == "trigger_cls" for each in node.targets):
            self._move(node.value)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        """Read an annotated assignment to ``trigger_cls``."""
        if node.value is not None and last_name(node.target) == "trigger_cls":
            self._move(node.value)

    def _move(self, value: cst.BaseExpression) -> None:
        path = literal(value)
        found = split_path(path) if path is not None else None
        if path is None or found is None or not isinstance(value, cst.SimpleString):
            return

        module, name = found
        target = COUNTERPARTS[module]
        if path in value.value and offers(target, name):
            self.strings[value] = value.value.replace(path, f"{target}.{name}")
            self.note_move(module, name, value)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        """Report a string that stays."""
        if node not in self.strings:
            self._report(node, literal(node))

    def visit_ConcatenatedString(self, node: cst.ConcatenatedString) -> bool:
        """Report a string of several parts, which stays."""
        whole = literal(node)
        self._report(node, whole)
        return whole is None

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        """Report a path that is put together."""
        self._report(node, node.value)

    def _report(self, node: cst.CSTNode, value: str | None) -> None:
        if value is not None and _PATH.fullmatch(value):
            text = f'"{value}" stays: change it by hand if it is imported or patched'
            self.leave(node, text)

    def visit_Comment(self, node: cst.Comment) -> None:
        """Report a type in a comment, which stays."""
        found = _TYPE_COMMENT.match(node.value)
        if found is not None:
            self.leave(node, f"{found[1]} stays in a type comment: change it by hand")
