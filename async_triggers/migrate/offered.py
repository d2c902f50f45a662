"""What this package's modules offer, read from their source.

An import would give the same answer, and would start Airflow for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

_OWN = "async_triggers."
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """The names at the top level of a module."""

    names: frozenset[str]
    classes: dict[str, ast.ClassDef]
    # Names that come from elsewhere in this package, with their module and name there.
    imports: dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Class:
    """A class together with those bases of it that this package defines."""

    members: Mapping[str, ast.AST]

    def offers(self, member: str) -> bool:
        """Return whether callers can use a member as they could elsewhere.

        A coroutine over a leased account is a call of this package alone.
        """
        found = self.members.get(member)
        if isinstance(found, _Function):
            return "leased" not in {each.arg for each in found.args.args}

        return found is not None

    def accepts(self, argument: str) -> bool:
        """Return whether the constructor takes an argument, as far as the source says."""
        found = self.members.get("__init__")
        if not isinstance(found, _Function):
            return True

        arguments = found.args
        return arguments.kwarg is not None or argument in {
            each.arg
            for each in (
                *arguments.posonlyargs,
                *arguments.args,
                *arguments.kwonlyargs,
            )
        }


def offers(module: str, name: str) -> bool:
    """Return whether a module of this package offers a name."""
    found = read_module(module)
    return found is not None and name in found.names


@cache
def find_class(module: str, name: str) -> Class | None:
    """Return a class that a module of this package defines or re-exports."""
    members: dict[str, ast.AST] = {}
    for each in reversed(list(_definitions(module, name))):
        members.update(_members(each))

    return Class(members) if members else None


@cache
def read_module(name: str) -> Module | None:
    """Read a module of this package; None where there is no such module."""
    spec = find_spec(name)
    source = getattr(spec.loader, "get_source", None) if spec is not None else None
    text = source(name) if source is not None else None
    if text is None:
        return None

    names: set[str] = set()
    classes: dict[str, ast.ClassDef] = {}
    imports: dict[str, tuple[str, str]] = {}
    body = ast.parse(text).body
    for statement in _top_level(body):
        imports.update(_imports(statement))
        match statement:
            case ast.ClassDef(name=bound):
                classes[bound] = statement
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                names |= set(ast.literal_eval(value))

        names |= set(_bound(statement))

    # What it loads on demand stands there for type checkers.
    for statement in _for_types(body):
        offered = {
            bound: origin for bound, origin in _imports(statement) if bound in names
        }
        imports.update(offered)

    public = frozenset(each for each in names | set(imports) if each[:1] != "_")
    return Module(public, classes, imports)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported."""
    for statement in body:
        match statement:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=rest):
                yield from _top_level(rest)
            case ast.If(body=first, orelse=rest):
                yield from _top_level([*first, *rest])
            case ast.Try(body=first, handlers=handlers, orelse=rest):
                others = [each for handler in handlers for each in handler.body]
                yield from _top_level([*first, *others, *rest])
            case _:
                yield statement


def _for_types(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that only type checkers see."""
    for statement in body:
        match statement:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=first):
                yield from first


def _imports(statement: ast.stmt) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the names that a statement imports from this package, and their origin."""
    match statement:
        case ast.ImportFrom(module=str(origin), names=aliases):
            if origin.startswith(_OWN):
                for alias in aliases:
                    yield alias.asname or alias.name, (origin, alias.name)


def _bound(statement: ast.AST) -> Iterator[str]:
    """Yield the names that a statement defines, imports aside."""
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            yield name
        case ast.AsyncFunctionDef(name=name):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case ast.Assign(targets=targets):
            for target in targets:
                for each in ast.walk(target):
                    if isinstance(each, ast.Name):
                        yield each.id


def _members(definition: ast.ClassDef) -> Iterator[tuple[str, ast.AST]]:
    """Yield the methods and attributes of a class, those that methods set included."""
    for node in ast.walk(definition):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name, node

    for statement in definition.body:
        for name in _bound(statement):
            yield name, statement


def _definitions(module: str, name: str) -> Iterator[ast.ClassDef]:
    """Yield the definition of a class and those of its bases, nearest first."""
    found = read_module(module)
    if found is None:
        return

    if name in found.classes:
        definition = found.classes[name]
        yield definition
        for base in definition.bases:
            # A generic base is subscripted.
            plain = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(plain, ast.Name):
                yield from _definitions(module, plain.id)
    elif name in found.imports:
        yield from _definitions(*found.imports[name])
