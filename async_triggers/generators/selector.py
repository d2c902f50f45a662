"""A small part of dbt's node selection, for manifests. Pure.

``tag:``, ``source:``, ``package:``, ``resource_type:`` and names of models, with ``*`` as
in the shell; blanks for unions, commas for intersections; ``+`` before for what a model is
made from. https://docs.getdbt.com/reference/node-selection/syntax tells the whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson

from async_triggers.generators.errors import Unanswered
from async_triggers.generators.model import SourceTable

_WORD = re.compile(
    r"(?P<up>\d*\+)?(?:(?P<method>\w+):)?(?P<value>[^+@]+)(?P<down>\+\d*)?"
)
_METHODS = "tag:, source:, package:, resource_type: and names of models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What is selected and what is left out; without a selection it is everything."""

    select: tuple[str, ...]
    exclude: tuple[str, ...]


def read_arguments(arguments: Sequence[str]) -> Criteria:
    """Read ``dbt_list_args`` for a manifest.

    Raise :class:`Unanswered` for an option that only dbt itself could follow.
    """
    chosen: dict[str, list[str]] = {"select": [], "exclude": [], "resource-type": []}
    into: list[str] | None = None
    names = {
        "-s": "select",
        "-m": "select",
        "--models": "select",
        "--select": "select",
        "--exclude": "exclude",
        "--resource-type": "resource-type",
    }
    for word in arguments:
        option, equals, value = word.partition("=")
        if option in names:
            into = chosen[names[option]]
            if equals:
                into.append(value)
        elif word.startswith("-") or into is None:
            msg = (
                f"dbt_list_args: {word!r} needs dbt itself; with manifest_path there are"
                " --select and --exclude"
            )
            raise Unanswered(msg)
        else:
            into += word.split()

    return Criteria(select=tuple(chosen["select"]), exclude=tuple(chosen["exclude"]))


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Read a manifest, or raise :class:`Unanswered`."""
    try:
        manifest = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise Unanswered(msg) from None

    if not isinstance(manifest, dict) or not isinstance(manifest.get("sources"), dict):
        msg = (
            f"{path} is no manifest of dbt: it has no sources. Make one with dbt parse"
        )
        raise Unanswered(msg)

    return manifest


def select_sources(
    manifest: Mapping[str, Any], criteria: Criteria
) -> tuple[SourceTable, ...]:
    """Return the source tables of a selection, in the order of their ids."""
    nodes = {**manifest.get("nodes", {}), **manifest["sources"]}
    parents = manifest.get("parent_map", {})
    found = set(nodes)
    if criteria.select:
        found = _union(criteria.select, nodes, parents)

    found -= _union(criteria.exclude, nodes, parents)
    return tuple(
        SourceTable.read({**manifest["sources"][key], "unique_id": key})
        for key in sorted(found)
        if key in manifest["sources"]
    )


def _union(
    words: Iterable[str],
    nodes: Mapping[str, Any],
    parents: Mapping[str, Sequence[str]],
) -> set[str]:
    found = set()
    for word in words:
        parts = [_single(part, nodes, parents) for part in word.split(",")]
        found |= set.intersection(*parts)

    return found


def _single(
    word: str, nodes: Mapping[str, Any], parents: Mapping[str, Sequence[str]]
) -> set[str]:
    parsed = _WORD.fullmatch(word)
    if parsed is None:
        msg = f"dbt_list_args: {word!r} cannot be read; there are {_METHODS}"
        raise Unanswered(msg)

    fits = _method(parsed["method"], parsed["value"], word)
    found = {key for key, node in nodes.items() if fits(node)}
    # What comes after a node is never a source: a plus behind adds nothing.
    if parsed["up"]:
        depth = parsed["up"].rstrip("+")
        found |= _above(found, parents, int(depth) if depth else len(nodes))

    return found


def _above(
    found: set[str], parents: Mapping[str, Sequence[str]], depth: int
) -> set[str]:
    reached: set[str] = set()
    edge = set(found)
    while edge and depth > 0:
        edge = {each for key in edge for each in parents.get(key, ())} - reached
        reached |= edge
        depth -= 1

    return reached


def _method(
    method: str | None, value: str, word: str
) -> Callable[[Mapping[str, Any]], bool]:
    match method:
        case "tag":
            return lambda node: any(fnmatchcase(tag, value) for tag in _tags(node))
        case "package":
            return lambda node: fnmatchcase(str(node.get("package_name")), value)
        case "resource_type":
            return lambda node: node.get("resource_type", "source") == value
        case "source":
            pattern = value.split(".")
            return lambda node: _is_source(node, pattern)
        case None:
            return lambda node: (
                "source_name" not in node and fnmatchcase(str(node.get("name")), value)
            )

    msg = (
        f"dbt_list_args: {word!r} needs dbt itself; with manifest_path there are"
        f" {_METHODS}"
    )
    raise Unanswered(msg)


def _tags(node: Mapping[str, Any]) -> list[str]:
    tags = node.get("tags") or []
    return [tags] if isinstance(tags, str) else tags


def _is_source(node: Mapping[str, Any], pattern: Sequence[str]) -> bool:
    """Tell whether a source fits ``name``, ``name.table`` or ``package.name.table``."""
    if "source_name" not in node:
        return False

    names = [str(node.get(key)) for key in ("package_name", "source_name", "name")]
    compared = {1: names[1:2], 2: names[1:], 3: names}.get(len(pattern), [])
    return len(compared) == len(pattern) and all(
        fnmatchcase(name, part) for name, part in zip(compared, pattern, strict=True)
    )
