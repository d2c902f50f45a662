from __future__ import annotations

import pkgutil
import tomllib
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from async_triggers import airbyte, dbt_cloud, deferral, fivetran

# A module that is loaded on demand, in the midst of a test, would keep for all later ones
# what that test has put in the place of a name.
for _package in (deferral, airbyte, dbt_cloud, fivetran):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        import_module(_module.name)

_HERE = Path(__file__).parent
_PROJECT = _HERE.parents[1] / "pyproject.toml"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests before they are chosen by mark.

    Those of what may not import Airflow, by their folders, and a tenth of all.
    """
    folders = {_HERE / name for name in _without_airflow()}
    for item in items:
        if not folders.isdisjoint(item.path.parents):
            item.add_marker(pytest.mark.knows_no_airflow)
        # By its name, so that it is the same tenth everywhere.
        if zlib.crc32(item.nodeid.encode()) % 10 == 0:
            item.add_marker(pytest.mark.tenth)


def _without_airflow() -> set[str]:
    """Return the parts of the package that the contracts of imports keep Airflow out of."""
    tools = tomllib.loads(_PROJECT.read_text())["tool"]
    return {
        module.removeprefix("async_triggers.")
        for contract in tools["importlinter"]["contracts"]
        if "airflow" in contract.get("forbidden_modules", ())
        for module in contract["source_modules"]
    }


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """Fail a test in which a call blocks the event loop, and so every other waiter."""
    with blockbuster_ctx():
        yield
