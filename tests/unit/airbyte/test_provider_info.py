from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import airflow
import pytest

from async_triggers import provider_info
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.provider_info import get_provider_info


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Say which other providers are installed."""
    names: set[str] = set()

    def distribution(name: str) -> object:
        if name not in names:
            raise PackageNotFoundError(name)

        return object()

    monkeypatch.setattr(provider_info, "distribution", distribution)
    return names


def forms() -> dict[str, Any]:
    return {
        each["connection-type"]: each
        for each in get_provider_info()["connection-types"]
    }


def test_airflow_can_read_it() -> None:
    path = Path(airflow.__file__).with_name("provider_info.schema.json")
    schema = json.loads(path.read_text())

    # Airflow's own dependency, which carries no types.
    jsonschema: Any = import_module("jsonschema")
    jsonschema.validate(get_provider_info(), schema)


def test_airbytes_form_gives_way_to_the_official_providers(installed: set[str]) -> None:
    assert "airbyte" in forms()

    installed.add("apache-airflow-providers-airbyte")

    assert "airbyte" not in forms()


def test_the_form_is_that_of_the_hook() -> None:
    form = forms()["airbyte"]

    assert form["connection-type"] == AirbyteHook.conn_type
    assert form["hook-name"] == AirbyteHook.hook_name
    module, _, name = form["hook-class-name"].rpartition(".")
    assert getattr(import_module(module), name) is AirbyteHook


def test_all_that_it_names_can_be_imported() -> None:
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for group in info[kind]:
            for module in group["python-modules"]:
                import_module(module)

    for link in info["extra-links"]:
        module, _, name = link.rpartition(".")
        assert hasattr(import_module(module), name)
