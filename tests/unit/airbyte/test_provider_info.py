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
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.fivetran.hooks import FivetranHook, PeersFivetranHook
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


@pytest.mark.parametrize(
    "hook", [AirbyteHook, FivetranHook, PeersFivetranHook, DbtCloudHook]
)
def test_the_form_is_that_of_the_hook(hook: Any) -> None:
    form = forms()[hook.conn_type]

    assert form["hook-name"] == hook.hook_name
    module, _, name = form["hook-class-name"].rpartition(".")
    assert getattr(import_module(module), name) is hook


@pytest.mark.parametrize("has_peers", [False, True])
def test_the_list_of_connection_types_shows_no_name_twice(
    installed: set[str], has_peers: bool
) -> None:
    theirs = {
        "apache-airflow-providers-airbyte": "Airbyte",
        "airflow-provider-fivetran-async": "Fivetran",
        "apache-airflow-providers-dbt-cloud": "dbt Cloud",
    }
    if has_peers:
        installed.update(theirs)

    shown = [form["hook-name"] for form in forms().values()]
    shown += theirs.values() if has_peers else ()

    assert len(set(shown)) == len(shown)
    assert {"Airbyte", "Fivetran", "dbt Cloud"} < set(shown)


def test_all_that_it_names_can_be_imported() -> None:
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for group in info[kind]:
            for module in group["python-modules"]:
                import_module(module)

    for link in info["extra-links"]:
        module, _, name = link.rpartition(".")
        assert hasattr(import_module(module), name)
