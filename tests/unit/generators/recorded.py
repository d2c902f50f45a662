"""What a real dbt has said of :mod:`shop`, so that no dbt is needed to compare with it.

``tests/stack/test_real_dbt.py`` compares the record with dbt itself; with
``RECORD_DBT=1`` it writes the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("shop.json")

_OF_A_NODE = (
    "package_name",
    "name",
    "source_name",
    "database",
    "schema",
    "identifier",
    "resource_type",
    "fqn",
    "tags",
    "config",
    "original_file_path",
    "patch_path",
    "version",
    "latest_version",
    "access",
    "test_metadata",
)
_COLLECTIONS = (
    "nodes",
    "sources",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
    "functions",
)


def trimmed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a manifest that a selection looks at."""
    return {
        "metadata": {"project_name": manifest["metadata"]["project_name"]},
        "selectors": manifest["selectors"],
        "parent_map": manifest["parent_map"],
        **{
            name: {
                key: {part: node[part] for part in _OF_A_NODE if part in node}
                for key, node in sorted(manifest[name].items())
            }
            for name in _COLLECTIONS
        },
    }


def record(
    manifest: Mapping[str, Any],
    selections: Sequence[Sequence[str]],
    answers: Sequence[list[str] | str],
) -> None:
    """Write down what dbt said; an error is written as null."""
    said = [
        [list(arguments), None if isinstance(answer, str) else answer]
        for arguments, answer in zip(selections, answers, strict=True)
    ]
    lines = ",\n".join(json.dumps(each) for each in said)
    text = json.dumps(trimmed(manifest), sort_keys=True)
    FILE.write_text(f'{{"manifest": {text},\n"answers": [\n{lines}\n]}}\n')
