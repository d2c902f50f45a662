"""Finds what a file does with the classes that move, and what is different about that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import libcst as cst

from async_triggers.migrate.differences import (
    ANY_OTHER,
    differences,
    differences_of_method,
)
from async_triggers.migrate.modules import COUNTERPARTS, package_of
from async_triggers.migrate.offered import find_class
from async_triggers.migrate.tree import (
    Remark,
    dotted_text,
    last_name,
)
from async_triggers.migrate.values import UNKNOWN, ValueReader

SECTION = "Left out"
"""The section of the documentation on what this package does not offer, and why."""

_Moved = Mapping[tuple[str, str], int]

_MAPPING = {"expand", "expand_kwargs", "partial"}
_NOT_OURS = {
    # What a hook has from Airflow, and an enumeration from Python.
    *("get_connection", "get_connections", "get_hook", "log", "test_connection"),
    *("get_connection_form_widgets", "get_ui_field_behaviour"),
    *("name", "value"),
}


@dataclass(frozen=True, slots=True)
class _Use:
    """A class of another provider, and where it is used."""

    module: str
    name: str
    line: int
    # The attribute that is read of it, or of an object of it.
    member: str = ""
    # The arguments of a call, each with the values that it is given.
    arguments: Mapping[str, Sequence[object]] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return package_of(self.module) or ""


class UseReader(ValueReader):
    """Collects calls, attributes and subclasses, and compares them."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Use] = []
        self._members: list[_Use] = []
        self._subclasses: list[_Use] = []
        # The keys of what is called default_args, with their values and lines.
        self._defaults: list[tuple[str, object, int]] = []
        # Objects of a class that are an attribute, such as self.hook, and what is read of
        # attributes: both with the class statement around them.
        self._attributes: dict[tuple[cst.CSTNode | None, str], tuple[str, str]] = {}
        self._reads: list[tuple[cst.CSTNode | None, str, str, int]] = []

    def visit_Call(self, node: cst.Call) -> None:
        """Collect the arguments of a class, mapped or not."""
        called: cst.CSTNode = node.func
        part = _last_attribute(called)
        if part in _MAPPING and isinstance(called, cst.Attribute):
            # Class.partial(…), and Class.partial(…).expand(…)
            called = called.value
            if isinstance(called, cst.Call) and isinstance(called.func, cst.Attribute):
                called = called.func.value

        found = self.origin_of(called)
        if found is None or "." in found[1]:
            return

        arguments = self._arguments(node, part)
        line = self.line(node)
        self._calls.append(_Use(*found, line, arguments=arguments))
        self._read_of(node, found)

    def _arguments(self, call: cst.Call, part: str) -> dict[str, list[object]]:
        """Return the arguments of a class's call, or of a part of a mapped one."""
        found: dict[str, list[object]] = {}
        for each in call.args:
            if each.keyword is not None:
                is_many = part == "expand"
                found[each.keyword.value] = self._values(each.value, is_many=is_many)
                continue

            # By its place, or one of several in a dict.
            found[ANY_OTHER] = []
            holders = [each.value] if each.star == "**" else []
            if part == "expand_kwargs":
                holders += self.elements_of(each.value) or []

            for holder in holders:
                for key, node in self.items_of(holder) or ():
                    found.setdefault(key, []).append(self.value_of(node))

        if part in _MAPPING:
            found[ANY_OTHER] = []

        return found

    def _values(self, node: cst.BaseExpression, *, is_many: bool) -> list[object]:
        """Return the value of an argument, or those that it has in turn."""
        if not is_many:
            return [self.value_of(node)]

        elements = self.elements_of(node)
        return [UNKNOWN] if elements is None else [*map(self.value_of, elements)]

    def visit_Attribute(self, node: cst.Attribute) -> None:
        """Collect an attribute that is read of a class."""
        found = self.origin_of(node)
        if found is not None:
            name, _, member = found[1].partition(".")
            if member and "." not in member:
                self._members.append(_Use(found[0], name, self.line(node), member))

        if isinstance(node.value, cst.Attribute):
            owner, place = dotted_text(node.value), self._class_around(node)
            self._reads.append((place, owner, node.attr.value, self.line(node)))

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        """Collect a subclass."""
        for base in node.bases:
            found = self.origin_of(base.value)
            if found is not None:
                self._subclasses.append(_Use(*found, self.line(node.name)))

    def visit_Assign(self, node: cst.Assign) -> None:
        """Collect what is done with an object that gets a name."""
        for each in node.targets:
            self._assigned(each.target, node.value)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        """Collect what is done with an object that gets a name."""
        if node.value is not None:
            self._assigned(node.target, node.value)

    def visit_WithItem(self, node: cst.WithItem) -> None:
        """Collect what is done with an object that gets a name."""
        if node.asname is not None:
            self._assigned(node.asname.name, node.item)

    def visit_Param(self, node: cst.Param) -> None:
        """Collect what is done with a parameter whose annotation is a class."""
        annotation = node.annotation
        found = None if annotation is None else self.origin_of(annotation.annotation)
        if found is not None:
            self._named(node.name, found)

    def visit_Arg(self, node: cst.Arg) -> None:
        """Collect default arguments."""
        if node.keyword is not None and node.keyword.value == "default_args":
            self._defaults.extend(self._keys(node.value))

    def _assigned(self, target: cst.BaseExpression, value: cst.BaseExpression) -> None:
        if last_name(target) == "default_args":
            self._defaults.extend(self._keys(value))

        found = self.origin_of(value.func) if isinstance(value, cst.Call) else None
        if found is not None:
            self._named(target, found)

    def _named(self, target: cst.CSTNode, found: tuple[str, str]) -> None:
        """Collect what is read of an object of a class by the name that it gets."""
        if isinstance(target, cst.Attribute):
            place = self._class_around(target), dotted_text(target)
            self._attributes[place] = found
        elif isinstance(target, cst.Name):
            for binding in self.bindings(target.value, target):
                for access in getattr(binding, "references", ()):
                    self._read_of(access.node, found)

    def _class_around(self, node: cst.CSTNode) -> cst.CSTNode | None:
        outer = self.parent(node)
        while outer is not None and not isinstance(outer, cst.ClassDef):
            outer = self.parent(outer)

        return outer

    def _read_of(self, node: cst.CSTNode, found: tuple[str, str]) -> None:
        """Collect the attribute that is read of an object of a class, if any."""
        member = self.member_of(node)
        if member is not None:
            self._members.append(_Use(*found, self.line(node), member))

    def _keys(self, value: cst.BaseExpression) -> Iterator[tuple[str, object, int]]:
        for key, node in self.items_of(value) or ():
            yield key, self.value_of(node), self.line(node)

    # Comparing --------------------------------------------------------------------

    def compare(self, moved: _Moved) -> Iterator[Remark]:
        """Yield what is different about the classes that move."""
        for (module, name), line in moved.items():
            for each in differences(name, package_of(module) or ""):
                yield Remark(line, f"{name}: {each.says}")

        for call in _of(moved, self._calls):
            yield from self._compare_call(call)

        for use in _of(moved, [*self._members, *self._members_of_attributes()]):
            if ".hooks" in use.module:
                yield from _compare_member(use)

        for use in _of(moved, self._subclasses):
            text = "a subclass of it: check what it overrides and what it reaches into"
            yield Remark(use.line, f"{use.name}: {text}")

    def _members_of_attributes(self) -> Iterator[_Use]:
        for place, owner, member, line in self._reads:
            found = self._attributes.get((place, owner))
            if found is not None:
                yield _Use(*found, line, member)

    def _compare_call(self, call: _Use) -> Iterator[Remark]:
        defaults = {key for key, _, _ in self._defaults}
        for each in differences(call.name, call.package, call.arguments, defaults):
            yield Remark(call.line, f"{call.name}{each.place}: {each.says}")

        for key, value, line in self._defaults:
            if key in call.arguments:
                continue

            shared = {key: [value], ANY_OTHER: []}
            for each in differences(call.name, call.package, shared):
                label = f"{call.name}{each.place} by default_args"
                yield Remark(line, f"{label}: {each.says}")

        found = find_class(COUNTERPARTS[call.module], call.name)
        for argument in sorted(set(call.arguments) - {ANY_OTHER}):
            if found is not None and not found.accepts(argument):
                label = f"{call.name}({argument}=)"
                yield Remark(call.line, f"{label}: there is no such argument here")


def _of(moved: _Moved, uses: Iterable[_Use]) -> Iterator[_Use]:
    return (each for each in uses if (each.module, each.name) in moved)


def _compare_member(use: _Use) -> Iterator[Remark]:
    target = COUNTERPARTS[use.module]
    found = find_class(target, use.name)
    if use.member[:1] == "_" or use.member in _NOT_OURS or found is None:
        return

    for each in differences_of_method(use.name, use.member):
        yield Remark(use.line, f"{use.name}{each.place}: {each.says}")

    if not found.offers(use.member):
        text = (
            f"{target}.{use.name} does not offer it; see “{SECTION}” in the guide to"
            " moving over"
        )
        yield Remark(use.line, f"{use.name}.{use.member}: {text}")


def _last_attribute(node: cst.CSTNode) -> str:
    """Return the attribute that an expression reads last, of anything."""
    return node.attr.value if isinstance(node, cst.Attribute) else ""
