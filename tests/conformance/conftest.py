from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.verdicts import Verdicts


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave the suite out unless it is chosen: it installs what it tries."""
    if "conformance" in config.getoption("markexpr"):
        return
    left_out = pytest.mark.skip(reason="opt in with -m conformance")
    for item in items:
        if item.get_closest_marker("conformance"):
            item.add_marker(left_out)


@pytest.fixture(scope="session")
def verdicts() -> Iterator[Verdicts]:
    """All verdicts of the run; written as a table where CONFORMANCE_TABLE says."""
    found = Verdicts()
    yield found
    if path := os.environ.get("CONFORMANCE_TABLE"):
        Path(path).write_text(found.as_table(), encoding="utf-8")
