"""dbt's node selection, answered from a manifest.

https://docs.getdbt.com/reference/node-selection/syntax describes it; what it leaves open
was measured on dbt 1.11 and 1.12, to which a test compares this module. What a manifest
cannot answer is refused, as is what dbt itself refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from async_triggers.generators.arguments import option_values
from async_triggers.generators.errors import Unanswered, refuse
from async_triggers.generators.methods import RESOURCE_TYPES, Graph, Search
from async_triggers.generators.model import SourceTable

# "@" or "2+", a method with arguments, a value, "+3". The value takes what nothing else
# takes, as little as possible, so that any line has exactly one reading.
_WORD = re.compile(
    r"(?P<family>@)?(?P<up>\d*\+)?(?:(?P<method>[\w.]+):)?(?P<value>.*?)(?P<down>\+\d*)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What is selected and what is left out; ``select`` is None for everything."""

    select: tuple[str, ...] | None
    exclude: tuple[str, ...]


def read_arguments(arguments: Sequence[str]) -> Criteria:
    """Read ``dbt_list_args`` for a manifest.

    Raise :class:`Unanswered` for an option that only dbt itself could follow.
    """
    chosen: dict[str, list[str]] = {}
    for option, values in option_values(arguments):
        chosen.setdefault(option, []).extend(values)

    if {"select", "models"} <= set(chosen):
        refuse("dbt takes either --select or --models: keep one")

    for value in chosen.get("resource-type", ()):
        if value not in RESOURCE_TYPES | {"all", "default"}:
            refuse(f"dbt knows no --resource-type {value!r}")

    select = chosen.get("select", chosen.get("models"))
    return Criteria(
        select=None if select is None else tuple(select),
        exclude=tuple(chosen.get("exclude", ())),
    )


def read_manifest(path: Path) -> Mapping[str, Any]:
    """Read a manifest, or raise :class:`Unanswered`."""
    try:
        manifest = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise Unanswered(msg) from None

    if not isinstance(manifest, dict) or not isinstance(manifest.get("sources"), dict):
        msg = (
            f"{path} is not a dbt manifest: it has no sources. Make one with dbt parse"
        )
        raise Unanswered(msg)

    return manifest


def project_around(path: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Return the folder of the project that a manifest is of, where it lies in that."""
    name = (manifest.get("metadata") or {}).get("project_name")
    for folder in path.resolve().parents:
        try:
            text = (folder / "dbt_project.yml").read_text()
        except (OSError, UnicodeDecodeError):
            continue

        named = re.search(
            r"^name:[ \t]*(['\"]?)(\w+)\1[ \t]*(?:#.*)?$", text, re.MULTILINE
        )
        return folder if named is not None and named[2] == name else None

    return None


def select_sources(
    manifest: Mapping[str, Any],
    criteria: Criteria,
    *,
    unmatched: Callable[[str], object] = refuse,
    project: Path | None = None,
) -> tuple[SourceTable, ...]:
    """Return the source tables of a selection, in the order of their ids.

    ``unmatched`` is called with a sentence for each word that names nothing, which dbt
    would warn of. ``project`` is the folder of the dbt project, where it is at hand: it
    settles which paths exist. Raise :class:`Unanswered` for a word that dbt refuses, or
    that a manifest cannot answer.
    """
    graph = Graph(manifest, project)
    if criteria.select is None:
        if not criteria.exclude:
            _check_default_selector(manifest)

        found = set(graph.nodes)
    else:
        found = _union(criteria.select, graph, "--select", unmatched)

    found -= _union(criteria.exclude, graph, "--exclude", unmatched)
    return tuple(
        SourceTable.read({**graph.nodes[key], "unique_id": key})
        for key in sorted(found & set(graph.sources))
    )


def _check_default_selector(manifest: Mapping[str, Any]) -> None:
    for name, selector in (manifest.get("selectors") or {}).items():
        if isinstance(selector, Mapping) and selector.get("default"):
            refuse(
                f"the project's default selector {name!r} needs dbt itself; with"
                " manifest_path write the selection with --select"
            )


def _union(
    values: Iterable[str],
    graph: Graph,
    option: str,
    unmatched: Callable[[str], object],
) -> set[str]:
    found: set[str] = set()
    words = [word for value in values for word in value.split(" ")]
    for word in words:
        parts = {part: _single(part, graph) for part in word.split(",")}
        fitting = set.intersection(*parts.values())
        found |= fitting
        # Two blanks in a row are no word that a person has written.
        if not fitting and word:
            unmatched(f"{option} {word!r} {_why_nothing(parts)}")

    if words and not any(words):
        unmatched(f"{option} is empty, and so names nothing in the manifest")

    return found


def _why_nothing(parts: Mapping[str, set[str]]) -> str:
    """Say why a word names nothing: a part of it does, or no node is in all parts."""
    empty = [repr(part) for part, found in parts.items() if not found]
    if not empty:
        return (
            "names nothing in the manifest: each of its parts names something, and nothing"
            " is in all of them"
        )

    if len(parts) == 1:
        return "names nothing in the manifest"

    verb = "names" if len(empty) == 1 else "name"
    return f"names nothing in the manifest: {' and '.join(empty)} {verb} nothing"


def _single(word: str, graph: Graph) -> set[str]:
    parsed = _WORD.fullmatch(word)
    if parsed is None:
        refuse(f"{word!r} cannot be read")

    if parsed["family"] and parsed["down"]:
        refuse(f"dbt refuses {word!r}: '@' before and '+' behind exclude each other")

    found = set(Search(graph, word).matches(parsed["method"], parsed["value"]))
    related: set[str] = set()
    if parsed["family"]:
        family = found | graph.walk(found, graph.children)
        related |= family | graph.walk(family, graph.parents)

    if parsed["up"]:
        related |= graph.walk(found, graph.parents, _depth(parsed["up"].rstrip("+")))

    if parsed["down"]:
        related |= graph.walk(found, graph.children, _depth(parsed["down"].lstrip("+")))

    return found | related


def _depth(text: str) -> int | None:
    return int(text) if text else None
