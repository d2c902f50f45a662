"""Reads YAML and remembers the line of every key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from async_triggers.generators.errors import GeneratorError, Place

_MERGE = "tag:yaml.org,2002:merge"


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

    lines: dict[tuple[str, ...], int] = {}
    place = Place(str(path), lines=lines)
    content: Any = {}
    try:
        # A safe loader, used by hand for its nodes, which know their lines.
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, place, lines, ())
            content = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = nowhere if mark is None else Place(f"{path}:{mark.line + 1}")
        msg = f"this is not YAML: {error.problem}"
        raise GeneratorError(at, msg) from None
    except yaml.YAMLError as error:
        msg = f"this is not YAML: {error}"
        raise GeneratorError(nowhere, msg) from None

    if not isinstance(content, dict) or not all(
        isinstance(key, str) for key in content
    ):
        msg = "the top level must map DAG ids to their configuration"
        raise GeneratorError(nowhere, msg)

    return content, place


def _walk(
    node: yaml.Node,
    place: Place,
    lines: dict[tuple[str, ...], int],
    above: tuple[int, ...],
) -> None:
    if id(node) in above:
        msg = "an anchor holds itself"
        raise GeneratorError(place, msg)

    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            here = place.at(number)
            lines.setdefault(here.keys, item.start_mark.line + 1)
            _walk(item, here, lines, above)

    if not isinstance(node, yaml.MappingNode):
        return

    seen = set()
    for key, value in node.value:
        if key.tag == _MERGE:
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for each in merged:
                _walk(each, place, lines, above)

            continue

        here = place.at(key.value)
        if key.value in seen:
            msg = f"the key stands here twice; again in line {key.start_mark.line + 1}"
            raise GeneratorError(here, msg)

        seen.add(key.value)
        lines.setdefault(here.keys, key.start_mark.line + 1)
        _walk(value, here, lines, above)
