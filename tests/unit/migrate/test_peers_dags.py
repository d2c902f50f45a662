"""What the command changes in the DAGs that the stack tests run."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import pytest

from async_triggers.migrate.rewriting import rewrite

FOLDER = Path(__file__).parents[2] / "stack" / "peers_dags"
FILES = sorted(FOLDER.glob("*.py"))
PEERS = (
    "from airflow.providers.airbyte.",
    "from airflow.providers.dbt.cloud.",
    "from fivetran_provider_async.",
)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_only_import_lines_change(file: Path) -> None:
    source = file.read_text()

    found = rewrite(source.encode())

    assert found.left == ()
    changed = [
        (before, after)
        for before, after in zip_longest(
            source.splitlines(), found.source.decode().splitlines()
        )
        if before != after
    ]
    assert changed
    for before, after in changed:
        assert before.startswith(PEERS)
        assert after.startswith("from async_triggers.")
        assert before.partition(" import ")[2] == after.partition(" import ")[2]
    assert not any(name in found.source.decode() for name in PEERS)
