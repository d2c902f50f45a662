"""Rewrites the source of one file, and notes what the rewrite does not show.

Readers decide what becomes of every import, use and string, with the scopes of names at
hand; a writer puts the decisions into the tree, which keeps everything else as it is, to
the byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst
from libcst.metadata import MetadataWrapper

from async_triggers.migrate.imports import ImportReader
from async_triggers.migrate.statements import dotted
from async_triggers.migrate.strings import StringReader
from async_triggers.migrate.uses import UseReader

if TYPE_CHECKING:
    from async_triggers.migrate.tree import Remark


class CannotRewriteError(Exception):
    """A file cannot be read, or not written back as it is."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The source after the rewrite, and what to know about it."""

    source: bytes
    differs: tuple[Remark, ...] = ()
    left: tuple[Remark, ...] = ()


def rewrite(source: bytes) -> Rewritten:
    """Rewrite the imports of a file, or raise :class:`CannotRewriteError`."""
    try:
        return _rewrite(_parse(source))
    except RecursionError as error:
        # A chain of hundreds of operators parses, and is too deep to be walked through.
        msg = "it is nested too deeply"
        raise CannotRewriteError(msg) from error


def _rewrite(module: cst.Module) -> Rewritten:
    wrapper = MetadataWrapper(module)
    imports, strings, uses = ImportReader(), StringReader(), UseReader()
    for reader in (imports, strings, uses):
        wrapper.visit(reader)

    moved = {**strings.moved, **imports.moved}
    left = {*imports.left, *strings.left}
    written = wrapper.module.visit(_Writer(imports, strings))
    return Rewritten(
        written.bytes,
        differs=tuple(sorted(set(uses.compare(moved)))),
        left=tuple(sorted(left)),
    )


def _parse(source: bytes) -> cst.Module:
    try:
        module = cst.parse_module(source)
    except cst.ParserSyntaxError as error:
        msg = f"line {error.raw_line} does not parse"
        raise CannotRewriteError(msg) from error
    except (LookupError, SyntaxError, UnicodeError) as error:
        msg = f"its encoding is wrong: {error}"
        raise CannotRewriteError(msg) from error

    if module.bytes != source:
        msg = "it could not be written back byte by byte"
        raise CannotRewriteError(msg)

    return module


class _Writer(cst.CSTTransformer):
    def __init__(self, imports: ImportReader, strings: StringReader) -> None:
        super().__init__()
        self._statements = imports.statements
        self._chains = imports.chains
        self._strings = strings.strings

    def leave_Import(
        self, original_node: cst.Import, updated_node: cst.Import
    ) -> cst.BaseSmallStatement | cst.FlattenSentinel[cst.BaseSmallStatement]:
        return self._replaced(original_node, updated_node)

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.BaseSmallStatement | cst.FlattenSentinel[cst.BaseSmallStatement]:
        return self._replaced(original_node, updated_node)

    def _replaced(
        self,
        original: cst.Import | cst.ImportFrom,
        updated: cst.Import | cst.ImportFrom,
    ) -> cst.BaseSmallStatement | cst.FlattenSentinel[cst.BaseSmallStatement]:
        new = self._statements.get(original)
        if new is None:
            return updated

        *firsts, last = [
            each.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for each in new
        ]
        return cst.FlattenSentinel(
            [*firsts, last.with_changes(semicolon=original.semicolon)]
        )

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
        if len(original_node.body) > 1 or len(updated_node.body) == 1:
            return updated_node

        first, *rest = updated_node.body
        newline = updated_node.trailing_whitespace.newline
        return cst.FlattenSentinel(
            [
                updated_node.with_changes(body=[first]),
                *(
                    cst.SimpleStatementLine(
                        body=[each],
                        trailing_whitespace=cst.TrailingWhitespace(newline=newline),
                    )
                    for each in rest
                ),
            ]
        )

    def leave_Attribute(
        self, original_node: cst.Attribute, updated_node: cst.Attribute
    ) -> cst.BaseExpression:
        target = self._chains.get(original_node)
        if target is None:
            return updated_node

        return dotted(target).with_changes(
            lpar=updated_node.lpar, rpar=updated_node.rpar
        )

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.BaseExpression:
        new = self._strings.get(original_node)
        return updated_node if new is None else updated_node.with_changes(value=new)
