"""What is read of this package's source is what an import would find."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from inspect import isclass, signature
from pathlib import Path
from typing import Any, is_typeddict

import pytest

from async_triggers.migrate.differences import _ALL, Difference
from async_triggers.migrate.modules import COUNTERPARTS, PACKAGES
from async_triggers.migrate.offered import find_class, offers, read_module
from async_triggers.migrate.uses import SECTION

HERE = sorted(set(COUNTERPARTS.values()))
MOVING_OVER = Path(__file__).parents[3] / "docs" / "how-to" / "moving-over.md"


@pytest.mark.parametrize("name", HERE)
def test_each_name_that_is_offered_can_be_imported(name: str) -> None:
    found = read_module(name)
    module = importlib.import_module(name)

    assert found is not None
    assert found.names
    assert [each for each in sorted(found.names) if not hasattr(module, each)] == []


@pytest.mark.parametrize("name", HERE)
def test_each_public_name_of_this_package_is_offered(name: str) -> None:
    module = importlib.import_module(name)
    own = [
        key
        for key, value in vars(module).items()
        if key[0] != "_"
        and str(getattr(value, "__module__", "")).startswith("async_triggers.")
        and (isclass(value) or value.__module__ == name)
    ]

    assert own
    assert [key for key in own if not offers(name, key)] == []


@pytest.mark.parametrize("name", ["TYPE_CHECKING", "Any", "BaseHook", "_private", "x"])
def test_what_a_module_only_uses_is_not_offered(name: str) -> None:
    assert not any(offers(module, name) for module in HERE)


def test_a_module_that_does_not_exist_offers_nothing() -> None:
    assert not offers("async_triggers.airbyte.absent", "AirbyteHook")
    assert find_class("async_triggers.airbyte.hooks", "absent") is None


def public_classes() -> list[tuple[str, str]]:
    return [
        (name, key)
        for name in HERE
        for key, value in vars(importlib.import_module(name)).items()
        if isclass(value)
        and value.__module__ == name
        and key[0] != "_"
        and not issubclass(value, BaseException)
        # A class of dictionaries has the constructor of `dict`, which shows no arguments.
        and not is_typeddict(value)
    ]


@pytest.mark.parametrize(("module", "name"), public_classes())
def test_the_members_and_arguments_of_a_class_are_those_of_the_class(
    module: str, name: str
) -> None:
    found = find_class(module, name)
    real: Any = getattr(importlib.import_module(module), name)
    inherited = {
        member
        for base in real.__mro__
        if base.__module__.startswith("async_triggers.")
        for member in vars(base)
        if callable(getattr(real, member)) and member[0] != "_"
    }
    if found is None:
        pytest.skip("a class without members of its own")

    assert inherited - set(found.members) == set()
    taken = [
        key
        for key, each in signature(real).parameters.items()
        if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}
    ]
    assert [key for key in taken if not found.accepts(key)] == []


@pytest.mark.parametrize("module", [each for each in HERE if "operators" in each])
def test_what_a_module_loads_on_demand_is_offered(module: str) -> None:
    loaded = importlib.import_module(module)
    (hook,) = (each for each in loaded.__all__ if each.endswith("Hook"))
    found = find_class(module, hook)

    assert offers(module, hook)
    assert found is not None
    assert found == find_class(getattr(loaded, hook).__module__, hook)


def test_a_coroutine_over_a_leased_account_is_no_call_that_others_have() -> None:
    found = find_class("async_triggers.airbyte.hooks", "AirbyteHook")

    assert found is not None
    assert found.offers("run")
    assert not found.offers("get_job")
    assert not found.offers("absent")
    assert not found.accepts("absent")


def test_the_documentation_lists_the_modules_that_move() -> None:
    row = re.compile(r"^\| `([\w.]+)` \| `(async_triggers[\w.]+)` \|$", re.MULTILINE)

    assert dict(row.findall(MOVING_OVER.read_text())) == COUNTERPARTS


def test_the_section_that_reports_refer_to_exists() -> None:
    assert f"\n### {SECTION}\n" in MOVING_OVER.read_text()


def test_each_module_that_moves_belongs_to_a_package_of_another_provider() -> None:
    strange = [
        each
        for each in COUNTERPARTS
        if not any(each.startswith(f"{package}.") for package in PACKAGES)
    ]

    assert strange == []
    assert all(read_module(each) for each in HERE)


DEPRECATED = {"timeout_seconds", "xcom"}


def taken_by(name: str) -> set[str]:
    """Return the arguments of a class, which several modules may offer."""
    (real,) = {
        getattr(importlib.import_module(each), name)
        for each in HERE
        if offers(each, name)
    }
    return {key for base in real.__mro__ for key in signature(base).parameters}


@pytest.mark.parametrize("difference", _ALL, ids=lambda each: each.says[:40])
def test_a_difference_is_about_a_class_and_an_argument_that_exist(
    difference: Difference,
) -> None:
    for name in difference.classes:
        known = taken_by(name) | DEPRECATED | {""}

        assert {difference.argument, difference.without} <= known
        if difference.method:
            (real,) = (
                getattr(importlib.import_module(each), name)
                for each in HERE
                if offers(each, name) and "hooks" in each
            )
            assert callable(getattr(real, difference.method))


def test_a_difference_that_names_a_way_back_names_an_argument() -> None:
    ways = re.compile(r"(\w+)=")
    for each in _ALL:
        for name in each.classes:
            assert set(ways.findall(each.says)) <= taken_by(name), each.says


LOADED = """
import sys
from async_triggers.migrate import command
from async_triggers.migrate.offered import offers
assert offers("async_triggers.airbyte.operators", "AirbyteTriggerSyncOperator")
print(*(each for each in sys.modules if each.split(".")[0] == "airflow"))
"""


def test_a_migration_starts_no_airflow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []
