"""Small guards over the whole package."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module, reload
from typing import Any

import pytest
from airflow.sdk import DAG, BaseHook, Connection

from async_triggers import example_dags
from async_triggers.deferral.trigger import JobTrigger

TRIGGERS = [
    "async_triggers.airbyte.triggers.AirbyteSyncTrigger",
    "async_triggers.dbt_cloud.triggers.DbtCloudRunJobTrigger",
    "async_triggers.fivetran.triggers.FivetranTrigger",
]


@pytest.mark.parametrize("classpath", TRIGGERS)
def test_a_stored_trigger_can_be_found_again(classpath: str) -> None:
    # Airflow's database holds these words.
    module, _, name = classpath.rpartition(".")
    trigger = getattr(import_module(module), name)

    assert issubclass(trigger, JobTrigger)


LOOK_AT_IMPORTS = """
import sys
import airflow.sdk
from async_triggers.airbyte import operators, sensors
from async_triggers.dbt_cloud import operators, sensors
from async_triggers.fivetran import operators, sensors
print(*sorted({"aiohttp", "async_triggers.engine.accounts"} & sys.modules.keys()))
"""


def test_what_speaks_http_is_loaded_by_those_who_ask() -> None:
    """A task that takes an event in is a process of its own, and asks nobody."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK_AT_IMPORTS],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == []


def test_the_example_dags_can_be_read_without_any_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_up(conn_id: str) -> Connection:
        raise AssertionError(f"{conn_id} is looked up while a DAG is read")

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(look_up))
    read: list[DAG] = []
    leave: Any = DAG.__exit__

    def noted(dag: DAG, *error: Any) -> None:
        read.append(dag)
        leave(dag, *error)

    monkeypatch.setattr(DAG, "__exit__", noted)
    names = [each.name for each in pkgutil.iter_modules(example_dags.__path__)]
    for name in names:
        reload(import_module(f"async_triggers.example_dags.{name}"))

    assert len(read) >= len(names) >= 2
    assert all(dag.task_dict for dag in read)
