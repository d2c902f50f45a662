"""Reads YAML and remembers where every key stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from async_triggers.generators.dialect import NODES
from async_triggers.generators.errors import DEFAULT, GeneratorError, Place, brief

_MERGE = "tag:yaml.org,2002:merge"
NAME_KEYS = ("task_id", "group_name")
"""What names the items of dag-factory's lists of tasks and of task groups."""


def read_yaml(path: Path) -> tuple[dict[str, Any], Place]:
    """Read a file of DAGs; return its content and the place that stands for it.

    Raise :class:`GeneratorError` when it cannot be read or is no mapping of names.
    """
    nowhere = Place(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the file cannot be read: {error}"
        raise GeneratorError(nowhere, msg) from None

    place = nowhere
    content: Any = {}
    node: yaml.Node | None = None
    try:
        # A safe loader, used by hand for its nodes, which know their lines.
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _check(node, nowhere)
            content = loader.construct_document(node)
            place = Place(str(path), lines=_Lines(node))
    except yaml.MarkedYAMLError as error:
        # dbt-coves has a tag for Python, which is found before the file can be judged.
        if "!py" in str(error.problem) and (found := _line_of("nodes", node)):
            raise GeneratorError(Place(f"{path}:{found}"), NODES) from None

        mark = error.problem_mark
        at = nowhere if mark is None else Place(f"{path}:{mark.line + 1}")
        msg = f"this is not YAML: {error.problem}"
        if "for the tag" in str(error.problem):
            msg = (
                f"{error.problem}. Only plain YAML is read here: write the value itself"
            )

        raise GeneratorError(at, msg) from None
    except (yaml.YAMLError, RecursionError) as error:
        msg = f"this is not YAML: {error}"
        raise GeneratorError(nowhere, msg) from None

    if not isinstance(content, dict) or not all(
        isinstance(key, str) for key in content
    ):
        msg = "the top level must map DAG ids to their configuration"
        raise GeneratorError(nowhere, msg)

    return content, place


def _line_of(key: str, node: yaml.Node | None) -> int | None:
    """Return the line of a key at the top level."""
    below = () if node is None else _below(node)
    return next((line for name, line, _ in below if name == key), None)


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the line of a value which its type does not have.

    It merges a mapping's keys once, even where the mapping is merged often.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError) as error:
            # 2026-02-30, which is written like a date, or !!int many.
            what = f"{brief(node.value)} has no value: {error}"
            raise yaml.constructor.ConstructorError(
                None, None, what, node.start_mark
            ) from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        node.value = list(
            {
                (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (
                    key,
                    value,
                )
                for key, value in node.value
            }.values()
        )


class _Lines:
    """Finds lines when they are wanted: aliases may make one node many places."""

    def __init__(self, root: yaml.Node) -> None:
        self._root = root

    def get(self, keys: tuple[str, ...]) -> int | None:
        """Return the line of a place, or of what it has from the defaults."""
        found = self._line(keys)
        if found is None and len(keys) > 1:
            found = self._line((DEFAULT, *keys[1:]))

        return found

    def _line(self, keys: tuple[str, ...]) -> int | None:
        node, line = self._root, None
        for key in keys:
            below = next((each for each in _below(node) if each[0] == key), None)
            if below is None:
                return None

            _, line, node = below

        return line


def _below(node: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
    """Yield what is below a node of a constructed document, with names and lines."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield str(number), item.start_mark.line + 1, item
            if isinstance(item, yaml.MappingNode):
                for key, value in item.value:
                    if key.value in NAME_KEYS:
                        yield str(value.value), item.start_mark.line + 1, item


def _check(root: yaml.Node, nowhere: Place) -> None:
    """Refuse keys that stand twice and anchors that hold themselves.

    Each node is visited once, no matter how many aliases lead to it.
    """
    done: set[int] = set()
    above: set[int] = set()

    def visit(node: yaml.Node, keys: tuple[str, ...]) -> None:
        if id(node) in above:
            msg = "an anchor holds itself"
            raise GeneratorError(_at(keys, node.start_mark.line + 1), msg)

        if id(node) in done or isinstance(node, yaml.ScalarNode):
            return

        above.add(id(node))
        seen: dict[str, int] = {}
        for key, line, value in _below_raw(node):
            here = keys if key is None else (*keys, key)
            if key is not None and isinstance(node, yaml.MappingNode):
                if key in seen:
                    msg = f"the key is given twice; again in line {line}"
                    raise GeneratorError(_at(here, seen[key]), msg)

                seen[key] = line

            visit(value, here)

        above.remove(id(node))
        done.add(id(node))

    def _at(keys: tuple[str, ...], line: int) -> Place:
        return Place(nowhere.file, keys, {keys[:1]: line} | {keys: line})

    visit(root, ())


def _below_raw(node: yaml.Node) -> Iterator[tuple[str | None, int, yaml.Node]]:
    """Yield what is below a node as it is written; what is merged has no key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = None if key.tag == _MERGE else str(key.value)
            yield name, key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield str(number), item.start_mark.line + 1, item
