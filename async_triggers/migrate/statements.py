"""Rewrites import statements, with the comments that stand among their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import libcst as cst

Alias = cst.ImportAlias
Space = cst.BaseParenthesizableWhitespace


def dotted(path: str) -> cst.Name | cst.Attribute:
    """Return the expression of a dotted path."""
    first, *rest = path.split(".")
    found: cst.Name | cst.Attribute = cst.Name(first)
    for name in rest:
        found = cst.Attribute(found, cst.Name(name))

    return found


def import_of(path: str) -> cst.Import:
    """Return ``import path``."""
    return cst.Import([Alias(dotted(path))])


def part(
    statement: cst.ImportFrom, target: str, moved: Sequence[Alias | None]
) -> list[cst.ImportFrom] | None:
    """Return the statements that take the place of one ``from … import …``.

    ``moved`` has, for each of its names, what to import from ``target`` in its place, or
    None for a name that stays. Names keep their order: where an import fails, as in a
    ``try``, what comes before it is bound. Each name keeps the comments behind it and
    above it. Return None where comments stand elsewhere among the names.
    """
    names = statement.names
    if isinstance(names, cst.ImportStar):
        return None

    new_module = dotted(target)
    whole = [each for each in moved if each is not None]
    if len(whole) == len(names):
        return [statement.with_changes(module=new_module, names=whole)]

    if any(
        isinstance(each.comma, cst.Comma)
        and not isinstance(each.comma.whitespace_before, cst.SimpleWhitespace)
        for each in names
    ):
        return None

    layout = _Layout.of(statement, names)
    changed = [each or old for each, old in zip(moved, names, strict=True)]
    apart = statement.with_changes(module=new_module)
    runs = groupby(range(len(names)), key=lambda i: moved[i] is not None)
    return [
        layout.build(apart if goes else statement, changed, list(run))
        for goes, run in runs
    ]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The white space around the names of a statement; gap ``i`` is before name ``i``."""

    gaps: Sequence[Space]
    ends_with_comma: bool

    @classmethod
    def of(cls, statement: cst.ImportFrom, names: Sequence[Alias]) -> _Layout:
        gaps: list[Space] = [cst.SimpleWhitespace("")]
        if statement.lpar is not None:
            gaps = [statement.lpar.whitespace_after]

        for each in names:
            comma = each.comma
            gaps.append(
                comma.whitespace_after
                if isinstance(comma, cst.Comma)
                else cst.SimpleWhitespace("")
            )

        closing = statement.rpar.whitespace_before if statement.rpar else None
        if isinstance(closing, cst.ParenthesizedWhitespace):
            gaps[-1] = closing

        return cls(gaps, isinstance(names[-1].comma, cst.Comma))

    def build(
        self, statement: cst.ImportFrom, names: Sequence[Alias], chosen: Sequence[int]
    ) -> cst.ImportFrom:
        """Return a statement with some of the names."""
        last = len(names)
        new: list[Alias] = []
        for i, following in zip(chosen, [*chosen[1:], last], strict=True):
            if following < last:
                comma: cst.Comma | cst.MaybeSentinel = cst.Comma(
                    whitespace_after=self._between(i, following)
                )
            elif self.ends_with_comma:
                comma = cst.Comma(whitespace_after=self._between(i, last))
            else:
                comma = cst.MaybeSentinel.DEFAULT

            new.append(names[i].with_changes(comma=comma))

        changed = statement.with_changes(names=new)
        if statement.lpar is None or statement.rpar is None:
            return changed

        closing: Space = cst.SimpleWhitespace("")
        if not self.ends_with_comma:
            closing = self._between(chosen[-1], last)

        return changed.with_changes(
            lpar=statement.lpar.with_changes(
                whitespace_after=self._between(-1, chosen[0])
            ),
            rpar=statement.rpar.with_changes(whitespace_before=closing),
        )

    def _between(self, before: int, after: int) -> Space:
        """Return the space from one name (-1: the parenthesis) to another or the end.

        It has the comment behind the one and the comments above the other.
        """
        end = len(self.gaps) - 1
        behind, above = self.gaps[before + 1], self.gaps[after]
        edge = self.gaps[0] if before == -1 else self.gaps[-1]
        is_edge = before == -1 or after == end

        first_line = cst.TrailingWhitespace()
        # What stands behind the opening parenthesis goes with the first name.
        if isinstance(behind, cst.ParenthesizedWhitespace) and (
            before >= 0 or after == 0
        ):
            first_line = behind.first_line

        lines: Sequence[cst.EmptyLine] = ()
        # What stands above the closing parenthesis goes with the last name.
        if isinstance(above, cst.ParenthesizedWhitespace) and (
            after < end or before == end - 1
        ):
            lines = above.empty_lines

        shapes = [above, edge] if is_edge else [above]
        if first_line.comment is not None:
            shapes.append(behind)

        for shape in shapes:
            if isinstance(shape, cst.ParenthesizedWhitespace):
                return shape.with_changes(first_line=first_line, empty_lines=lines)

        return edge if is_edge else cst.SimpleWhitespace(" ")
