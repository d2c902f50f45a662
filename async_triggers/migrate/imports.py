"""Decides what becomes of each import, and of the dotted uses of imported modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import libcst as cst
from libcst.metadata import ImportAssignment, Scope

from async_triggers.migrate.modules import COUNTERPARTS, leads_to_package, package_of
from async_triggers.migrate.offered import offers
from async_triggers.migrate.statements import dotted, import_of, part
from async_triggers.migrate.tree import Reader, Remark, dotted_text

_OWN = "async_triggers"
_CLIENT = "airbyte_api"


@dataclass(slots=True)
class _Uses:
    """What a file does with a module that it has bound to a name."""

    moved: list[cst.CSTNode] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    # Why the import cannot go.
    stays: list[Remark] = field(default_factory=list)


class ImportReader(Reader):
    """Finds the imports that move, wherever in a file they stand."""

    def __init__(self) -> None:
        super().__init__()
        # What the writer puts in the place of statements and of dotted expressions.
        self.statements: dict[cst.CSTNode, Sequence[cst.BaseSmallStatement]] = {}
        self.chains: dict[cst.CSTNode, str] = {}

    def _note_client(self, node: cst.CSTNode, path: str) -> None:
        """Report an import of Airbyte's client, which comes with the other provider."""
        if path.partition(".")[0] == _CLIENT:
            text = (
                f"{path} stays: {_OWN} does not install it; the results of AirbyteHook"
                " have the same fields, and async_triggers.airbyte.hooks has JobStatusEnum"
            )
            self.leave(node, text)

    # from … import … --------------------------------------------------------------

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        """Decide about the names, or the modules, that a statement imports."""
        if node.relative or node.module is None:
            return

        origin = dotted_text(node.module)
        self._note_client(node, origin)
        if isinstance(node.names, cst.ImportStar):
            if package_of(origin):
                text = f"from {origin} import * stays: name what you import, then retry"
                self.leave(node, text)

            return

        paths = [f"{origin}.{dotted_text(each.name)}" for each in node.names]
        for alias, path in zip(node.names, paths, strict=True):
            self._note_reached(node, _bound(alias), path)

        if not any(map(package_of, paths)):
            return

        if self._is_fallback(node):
            self.leave(node, _fallback(origin))
        elif origin in COUNTERPARTS:
            target = COUNTERPARTS[origin]
            self._part(node, target, self._names(node, origin, target))
        else:
            self._part(node, *self._modules(node, paths))

    def _names(
        self, node: cst.ImportFrom, origin: str, target: str
    ) -> Iterator[cst.ImportAlias | None]:
        """Yield for each name what to import in its place, None where it stays."""
        for alias in _aliases(node):
            name = dotted_text(alias.name)
            if offers(target, name):
                self.note_move(origin, name, alias)
                yield alias
            else:
                self.leave(alias, _not_offered(name, origin, target))
                yield None

    def _modules(
        self, node: cst.ImportFrom, paths: Sequence[str]
    ) -> tuple[str, list[cst.ImportAlias | None]]:
        """Return the package to import modules from, and which in the place of which."""
        package = ""
        moved: list[cst.ImportAlias | None] = []
        for alias, path in zip(_aliases(node), paths, strict=True):
            bound = _bound(alias)
            target = self._target_of_module(node, alias, bound, path)
            if target is None:
                moved.append(None)
                continue

            package, _, last = target.rpartition(".")
            changed = alias.with_changes(name=cst.Name(last))
            if alias.asname is None and bound != last:
                changed = changed.with_changes(asname=cst.AsName(cst.Name(bound)))

            moved.append(changed)

        return package, moved

    def _part(
        self,
        node: cst.ImportFrom,
        target: str,
        moved: Iterable[cst.ImportAlias | None],
    ) -> None:
        chosen = list(moved)
        if not any(chosen):
            return

        parted = part(node, target, chosen)
        if parted is None:
            text = "this import stays: put its comments behind the commas, then retry"
            self.leave(node, text)
        else:
            self.statements[node] = parted

    # import … ---------------------------------------------------------------------

    def visit_Import(self, node: cst.Import) -> None:
        """Decide about the modules that a statement imports."""
        names: list[cst.ImportAlias] = []
        # Statements that are complete; further names make the last one.
        parts: list[cst.Import] = []
        for alias in node.names:
            beside: list[str] = []
            path = dotted_text(alias.name)
            self._note_client(alias, path)
            self._note_reached(node, _bound(alias), path)
            target: str | None = None
            if package_of(path) and self._is_fallback(node):
                self.leave(alias, _fallback(path))
            elif alias.asname is not None:
                target = self._target_of_module(node, alias, _bound(alias), path)
            elif package_of(path):
                target = self._target_of_dotted(node, alias, path, beside)

            if beside:
                parts += [*_imports_of(names), *map(import_of, beside)]
                names = []

            changed = alias.with_changes(name=dotted(target)) if target else alias
            names.append(changed)

        parts += [node.with_changes(names=each.names) for each in _imports_of(names)]
        changes = [name for each in parts for name in each.names]
        if len(changes) > len(node.names) or any(
            new.name is not old.name
            for new, old in zip(changes, node.names, strict=True)
        ):
            self.statements[node] = parts

    def _target_of_module(
        self,
        node: cst.Import | cst.ImportFrom,
        alias: cst.ImportAlias,
        bound: str,
        path: str,
    ) -> str | None:
        """Return what to import for a module that is bound to a plain name, if it moves."""
        target = COUNTERPARTS.get(path)
        if target is None:
            if package_of(path):
                self.leave(alias, f"{path} stays: there is no such module here")

            return None

        uses = self._uses_of(node, bound, path, target)
        if uses.stays:
            self.left.extend(uses.stays)
            return None

        for name in uses.names:
            self.note_move(path, name, alias)

        return target

    def _target_of_dotted(
        self, node: cst.Import, alias: cst.ImportAlias, path: str, beside: list[str]
    ) -> str | None:
        """Return what to import for ``import a.b.c``, if it moves, its uses with it.

        Add to ``beside`` what has to be imported as well, for the uses that stay.
        """
        target = COUNTERPARTS.get(path)
        if target is None:
            self.leave(alias, f"{path} stays: there is no such module here")
            return None

        uses = self._uses_of(node, path, path, target, is_dotted=True)
        self.left.extend(uses.stays)
        if uses.stays:
            if not uses.moved:
                return None

            beside.append(path)
        else:
            root = path.partition(".")[0]
            others = list(self._uses_of_root(node, path))
            for each in others:
                if not self._is_attribute_of(each, root):
                    text = (
                        f"this rests on import {path}, which stays: import what it needs"
                        " by itself, then retry"
                    )
                    self.leave(each, text)
                    return None

            if others:
                beside.append(root)

        self.chains.update(dict.fromkeys(uses.moved, target))
        for name in uses.names:
            self.note_move(path, name, alias)

        return target

    # Uses of modules --------------------------------------------------------------

    def _note_reached(
        self, node: cst.Import | cst.ImportFrom, bound: str, path: str
    ) -> None:
        """Report what is reached from a package around another provider's, as ``airflow``.

        The module that is used so was imported elsewhere, if at all.
        """
        if not leads_to_package(path):
            return

        for assignment in self.bindings(bound, node):
            if getattr(assignment, "node", None) is not node:
                continue

            for access in assignment.references:
                whole = self._whole(access.node)
                used = path + dotted_text(whole).removeprefix(bound)
                if package_of(used):
                    text = (
                        f"{used} stays: import its module or name by itself, then retry"
                    )
                    self.leave(whole, text)

    def _whole(self, node: cst.CSTNode) -> cst.CSTNode:
        """Return the dotted expression that a node begins."""
        parent = self.parent(node)
        while isinstance(parent, cst.Attribute) and parent.value is node:
            node, parent = parent, self.parent(parent)

        return node

    def _uses_of(
        self,
        node: cst.Import | cst.ImportFrom,
        bound: str,
        path: str,
        target: str,
        *,
        is_dotted: bool = False,
    ) -> _Uses:
        """Return what a scope and those within it do with a module bound to a name."""
        uses = _Uses()
        for assignment in self.bindings(bound, node):
            if getattr(assignment, "node", None) is not node:
                continue

            for access in assignment.references:
                used: cst.CSTNode = access.node
                if is_dotted and not _is_imported(access.scope, bound):
                    continue

                name = self.member_of(used)
                if name is None or (is_dotted and not _is_plain(used, path)):
                    text = f"{path} stays: this is another use than {bound}.name"
                elif not offers(target, name):
                    text = _not_offered(name, path, target)
                elif is_dotted and not _is_free(access.scope):
                    text = f"{path} stays: {_OWN} is another name here"
                else:
                    uses.moved.append(used)
                    uses.names.add(name)
                    continue

                uses.stays.append(Remark(self.line(used), text))

        if not uses.moved and not uses.stays:
            text = f"{path} stays: what others read of it is not known"
            uses.stays.append(Remark(self.line(node), text))

        return uses

    def _uses_of_root(self, node: cst.Import, path: str) -> Iterator[cst.CSTNode]:
        """Yield what else of the root package is used through this import alone."""
        root, *rest = path.split(".")
        for other in self.bindings(root, node):
            statement = getattr(other, "node", None)
            if isinstance(statement, cst.Import) and any(
                alias.asname is None
                and dotted_text(alias.name).partition(".")[0] == root
                and dotted_text(alias.name) not in COUNTERPARTS
                for alias in statement.names
            ):
                return

        for i in range(len(rest)):
            prefix = ".".join([root, *rest[:i]])
            for assignment in self.bindings(prefix, node):
                if getattr(assignment, "node", None) is node:
                    yield from (each.node for each in assignment.references)

    def _is_attribute_of(self, node: cst.CSTNode, root: str) -> bool:
        """Return whether a use is ``root.name`` and no more."""
        if not isinstance(node, cst.Name) or node.value != root:
            return False

        parent = self.parent(node)
        return isinstance(parent, cst.Attribute) and not isinstance(
            self.parent(parent), cst.Attribute
        )

    def _is_fallback(self, node: cst.CSTNode) -> bool:
        """Return whether an import stands in for one from this package that failed.

        One that moves here counts too: both would import the same afterwards.
        """
        inner, outer = node, self.parent(node)
        while outer is not None:
            if isinstance(inner, cst.ExceptHandler) and isinstance(outer, cst.Try):
                tried = _Origins()
                outer.body.visit(tried)
                return any(map(_moves_here, tried.paths))

            inner, outer = outer, self.parent(outer)

        return False


class _Origins(cst.CSTVisitor):
    """Collects the modules that a block imports from."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: set[str] = set()

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:
        if node.module is not None and not node.relative:
            origin = dotted_text(node.module)
            self.paths.add(origin)
            self.paths.update(
                f"{origin}.{dotted_text(alias.name)}" for alias in _aliases(node)
            )

    def visit_Import(self, node: cst.Import) -> None:
        self.paths.update(dotted_text(alias.name) for alias in node.names)


def _imports_of(names: Sequence[cst.ImportAlias]) -> Iterator[cst.Import]:
    """Yield the statement that imports some of the names of another, if any."""
    if names:
        *firsts, last = names
        bare = last.with_changes(comma=cst.MaybeSentinel.DEFAULT)
        yield cst.Import([*firsts, bare])


def _is_imported(scope: Scope, path: str) -> bool:
    """Return whether a dotted path begins with an import, as a scope sees it."""
    found = scope[path.partition(".")[0]]
    return any(isinstance(each, ImportAssignment) for each in found)


def _is_free(scope: Scope) -> bool:
    """Return whether the name of this package stands for nothing else in a scope."""
    return all(
        isinstance(each, ImportAssignment) and isinstance(each.node, cst.Import)
        for each in scope[_OWN]
    )


def _moves_here(path: str) -> bool:
    return path.partition(".")[0] == _OWN or path in COUNTERPARTS


def _fallback(path: str) -> str:
    return f"{path} stays as the fallback of {_OWN}: remove it if nothing else needs it"


def _aliases(node: cst.ImportFrom) -> Sequence[cst.ImportAlias]:
    return () if isinstance(node.names, cst.ImportStar) else node.names


def _bound(alias: cst.ImportAlias) -> str:
    """Return the name that an import binds."""
    return dotted_text(alias.name if alias.asname is None else alias.asname.name)


def _is_plain(node: cst.CSTNode, path: str) -> bool:
    """Return whether an expression is written as a path, without any white space."""
    if not isinstance(node, cst.Attribute):
        return False

    bare = node.with_changes(lpar=(), rpar=())
    return cst.Module([]).code_for_node(bare) == path


def _not_offered(name: str, origin: str, target: str) -> str:
    return f"{name} stays with {origin}: {target} does not offer it"
