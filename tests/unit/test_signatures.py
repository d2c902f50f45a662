"""The signatures of public classes: what users' DAGs are written against.

They are pinned in ``pinned/signatures.txt``. A new keyword argument with a default is a
new line there; anything else breaks somebody's DAG.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

PINNED = Path(__file__).parent / "pinned" / "signatures.txt"
MODULES = [
    f"async_triggers.{vendor}.{module}"
    for vendor in ("airbyte", "fivetran", "dbt_cloud")
    for module in ("operators", "sensors", "triggers", "events", "hooks")
]


def signatures() -> dict[str, str]:
    """Return the constructor's signature of each public class, by its classpath."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for each, value in sorted(vars(module).items()):
            is_own = inspect.isclass(value) and value.__module__ == name
            if is_own and not each.startswith("_"):
                found[f"{name}.{each}"] = str(inspect.signature(value.__init__))

    return found


def pinned() -> dict[str, str]:
    """Return what is pinned."""
    lines = PINNED.read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if line)


@pytest.mark.parametrize("name", sorted(pinned()))
def test_a_signature_is_as_it_was(name: str) -> None:
    assert signatures().get(name) == pinned()[name]


def test_every_public_class_is_pinned() -> None:
    assert set(signatures()) == set(pinned())
