"""Describes the public names of modules, by the standard library alone.

As a script, in the environment of the other providers that the benchmarks make, it prints
what theirs offer::

    .venv-peers/bin/python tests/unit/peers/describe.py > tests/unit/peers/recorded.json
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

KINDS = ("hooks", "operators", "sensors", "triggers")
MODULES: Mapping[str, str] = {
    **{
        f"airflow.providers.airbyte.{each}.airbyte": f"airbyte.{each}" for each in KINDS
    },
    **{
        f"airflow.providers.dbt.cloud.{each}.dbt": f"dbt_cloud.{each}" for each in KINDS
    },
    **{f"fivetran_provider_async.{each}": f"fivetran.{each}" for each in KINDS},
}
"""The other providers' modules, and ours that stand for them."""

PEERS = (
    "airflow.providers.airbyte.",
    "airflow.providers.dbt.cloud.",
    "fivetran_provider_async.",
)
OURS = ("async_triggers.",)

Described = dict[str, Any]


def describe_module(
    name: str, packages: tuple[str, ...], *, whole: bool = True
) -> Described:
    """Describe what can be imported from a module and belongs to one of some packages.

    Unless ``whole``, what it has from another module of theirs is only named.
    """
    module = importlib.import_module(name)
    found: Described = {}
    # A module may load what it offers when it is first used.
    for each in sorted({*vars(module), *getattr(module, "__all__", ())}):
        if each.startswith("_") or each == "TYPE_CHECKING":
            continue

        value = getattr(module, each)
        home = getattr(value, "__module__", "") or ""
        is_plain = isinstance(
            value, str | int | float | tuple | list | dict | frozenset
        )
        is_variable = type(value).__name__ == "TypeVar"
        if is_plain or (is_variable and home == name):
            found[each] = {"kind": "constant", **_value(value)}
        elif not home.startswith(packages):
            continue
        elif home != name and not whole:
            found[each] = {"kind": "imported"}
        elif inspect.isclass(value):
            found[each] = describe_class(value, packages, whole=whole)
        elif inspect.isfunction(value):
            found[each] = {"kind": "function", "signature": describe_call(value)}

    return found


def describe_class(cls: type, packages: tuple[str, ...], *, whole: bool) -> Described:
    """Describe a class: how it is called, its members, and what its objects hold.

    If ``whole``, also the names of what it has from elsewhere.
    """
    described: Described = {
        "kind": "class",
        "raised": issubclass(cls, Exception),
        # Python's own differs between its versions: every enumeration takes a value.
        "signature": None if issubclass(cls, Enum) else describe_call(cls),
        "members": {},
        "attributes": sorted(_assigned(cls, packages)),
    }
    if whole:
        described["inherited"] = [name for name in dir(cls) if not name.startswith("_")]

    if issubclass(cls, Enum):
        described["values"] = {
            name: _value(each.value) for name, each in cls.__members__.items()
        }

    for owner in reversed(_own_bases(cls, packages)):
        for name, value in vars(owner).items():
            is_member = issubclass(cls, Enum) and name in cls.__members__
            if not name.startswith("_") and not is_member:
                described["members"][name] = _describe_member(owner, name, value)

    described["members"] = dict(sorted(described["members"].items()))
    return described


def _own_bases(cls: type, packages: tuple[str, ...]) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith(packages)]


def _describe_member(owner: type, name: str, value: object) -> Described:
    if isinstance(value, staticmethod | classmethod):
        kind = type(value).__name__
        return {"kind": kind, "signature": describe_call(getattr(owner, name))}

    if inspect.isfunction(value):
        is_coroutine = inspect.iscoroutinefunction(inspect.unwrap(value))
        kind = "coroutine" if is_coroutine else "method"
        return {"kind": kind, "signature": describe_call(value)}

    if isinstance(value, property) or type(value).__name__ == "cached_property":
        return {"kind": "property"}

    return {"kind": "value", **_value(value)}


def describe_call(value: Any) -> list[Described] | None:
    """Describe the arguments of a call: names, order, kinds and defaults."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None

    return [
        {
            "name": each.name,
            "kind": each.kind.name,
            **({} if each.default is each.empty else {"default": _value(each.default)}),
        }
        for each in parameters
        if each.name != "self"
    ]


def _value(value: object) -> Described:
    """Return a value in JSON together with its type, or the type alone."""
    kind = type(value).__name__
    if isinstance(value, frozenset):
        return {"type": kind, "value": sorted(map(str, value))}

    try:
        return {"type": kind, "value": json.loads(json.dumps(value))}
    except (TypeError, ValueError):
        return {"type": kind}


def _assigned(cls: type, packages: tuple[str, ...]) -> Iterator[str]:
    """Yield the public attributes that the constructors of a class assign."""
    found: set[str] = set()
    for owner in _own_bases(cls, packages):
        constructor = vars(owner).get("__init__")
        if not inspect.isfunction(constructor):
            continue

        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
        except OSError:
            continue

        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
                and not node.attr.startswith("_")
            ):
                found.add(node.attr)

    yield from found


if __name__ == "__main__":
    theirs = {name: describe_module(name, PEERS, whole=False) for name in MODULES}
    json.dump(theirs, sys.stdout, indent=1)
    sys.stdout.write("\n")
