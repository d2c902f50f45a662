"""Small guards over the whole package."""

from __future__ import annotations

import pkgutil
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
