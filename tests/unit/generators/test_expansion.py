from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from async_triggers.generators import GeneratorError, expand_generators, load_yaml_dags
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import SimulatorThread
from tests.unit.generators.stage import FakeDbt, generator, make_project

if TYPE_CHECKING:
    from async_triggers.simulator.server import Simulator

Entry = dict[str, Any]

OPERATOR = "async_triggers.fivetran.operators.FivetranOperator"
SENSOR = "async_triggers.fivetran.sensors.FivetranSensor"


@pytest.fixture(autouse=True)
def _in_the_folder(
    cache: object, vendors: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)


def expand(entry: Entry, **others: Entry) -> dict[str, Entry]:
    found = expand_generators({"d": {"tasks": {"load": entry, **others}}})
    tasks: dict[str, Entry] = found["d"]["tasks"]
    return tasks


def test_one_deferring_task_for_each_connection(dbt: FakeDbt) -> None:
    entry = generator(dbt, task_group_name="el", poke_interval=60, retries=2)

    assert expand(entry) == {
        "warehouse-shop-trigger": {
            "operator": OPERATOR,
            "connector_id": "f1",
            "fivetran_conn_id": "fivetran_default",
            "wait_for_completion": True,
            "deferrable": True,
            "poll_frequency": 60,
            "retries": 2,
            "task_group_name": "el",
        }
    }


def test_airbytes_task_has_the_name_it_always_had(dbt: FakeDbt) -> None:
    entry = generator(
        dbt,
        generator="dagfactory.AirbyteDbtGenerator",
        airflow_connection_id="airbyte_default",
    )

    assert expand(entry) == {
        "shop-warehouse": {
            "operator": "async_triggers.airbyte.operators.AirbyteTriggerSyncOperator",
            "connection_id": "a1",
            "airbyte_conn_id": "airbyte_default",
            "asynchronous": False,
            "deferrable": True,
            "wait_seconds": 30.0,
        }
    }


def test_without_waiting_it_fires_and_goes_on(dbt: FakeDbt) -> None:
    made = expand(generator(dbt, wait_for_completion=False))
    assert made["warehouse-shop-trigger"]["wait_for_completion"] is False

    made = expand(
        generator(
            dbt,
            generator="AirbyteDbtGenerator",
            airflow_connection_id="airbyte_default",
            wait_for_completion=False,
        )
    )
    assert made["shop-warehouse"]["asynchronous"] is True


@pytest.mark.parametrize("group", [None, "el"])
def test_a_trigger_and_a_sensor(dbt: FakeDbt, group: str | None) -> None:
    made = expand(generator(dbt, sensor=True, task_group_name=group, if_running="fail"))

    trigger = made["warehouse-shop-trigger"]
    sensor = made["warehouse-shop-sensor"]
    assert trigger["wait_for_completion"] is False
    assert trigger["if_running"] == "fail"
    assert sensor["operator"] == SENSOR
    assert sensor["dependencies"] == ["warehouse-shop-trigger"]
    assert "if_running" not in sensor
    task_id = f"{group}.warehouse-shop-trigger" if group else "warehouse-shop-trigger"
    assert (
        f"xcom_pull('{task_id}', key='return_value')" in sensor["completed_after_time"]
    )


def test_airbytes_sensor_waits_for_the_job_of_its_trigger(dbt: FakeDbt) -> None:
    made = expand(
        generator(
            dbt,
            generator="AirbyteDbtGenerator",
            airflow_connection_id="airbyte_default",
            sensor=True,
        )
    )

    assert made["shop-warehouse"]["asynchronous"] is True
    assert "'shop-warehouse'" in made["shop-warehouse-sensor"]["airbyte_job_id"]


def test_connections_of_one_name_get_tasks_of_their_own(
    dbt: FakeDbt, vendors: Simulator
) -> None:
    vendors.fivetran.add_connection(
        "f0", group_id="wh", schema="shop", tables={"shop": ["orders"]}
    )

    made = expand(generator(dbt))

    assert {name: entry["connector_id"] for name, entry in made.items()} == {
        "warehouse-shop-trigger": "f1",
        "warehouse-shop-f0-trigger": "f0",
    }


def test_a_task_of_the_same_name_keeps_it(dbt: FakeDbt) -> None:
    made = expand(generator(dbt), **{"warehouse-shop-trigger": {"operator": "x.Y"}})

    assert sorted(made) == ["warehouse-shop-f1-trigger", "warehouse-shop-trigger"]


@pytest.mark.parametrize(
    "second",
    [
        {},
        {"sensor": True},
        {"task_id_from": "id"},
        {"task_group_name": "g"},
        {"connections": True},
    ],
)
def test_one_connection_is_not_chosen_by_two_generators(
    dbt: FakeDbt, vendors: Simulator, second: Entry
) -> None:
    vendors.fivetran.add_connection("f2", group_id="wh", schema="ads")
    other = generator(dbt, **second)
    if "connections" in second:
        other = {
            "generator": "FivetranGenerator",
            "fivetran_conn_id": "fivetran_default",
            "connection_ids": ["f2", "f1"],
        }
    tasks = {"first": generator(dbt), "second": other, "third": generator(dbt)}

    with pytest.raises(GeneratorError) as told:
        expand_generators({"d": {"tasks": tasks}})

    said = str(told.value)
    assert "d.tasks.second: the generators 'first', 'second' and 'third' all" in said
    assert "choose 'Warehouse.shop' (f1), so that several tasks would" in said

    del tasks["third"]
    with pytest.raises(GeneratorError, match="'first' and 'second' both choose"):
        expand_generators({"d": {"tasks": tasks}})


def test_generators_of_two_vendors_do_not_overlap(dbt: FakeDbt) -> None:
    airbyte = generator(
        dbt, generator="AirbyteDbtGenerator", airflow_connection_id="airbyte_default"
    )

    assert len(expand(generator(dbt), other=airbyte)) == 2


@pytest.mark.parametrize("by", ["name", "id"])
def test_copies_of_a_server_do_not_overlap(
    vendors: Simulator, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    entry = {
        "generator": "AirbyteGenerator",
        "airflow_connection_id": "airbyte_default",
        "connection_ids": ["a1"],
        "task_id_from": by,
    }
    with SimulatorThread() as other:
        variables = connection_variables(other)
        monkeypatch.setenv(
            "AIRFLOW_CONN_COPY", variables["AIRFLOW_CONN_AIRBYTE_DEFAULT"]
        )
        # It leads to the first of both servers, by another connection.
        fields = json.loads(
            connection_variables(vendors)["AIRFLOW_CONN_AIRBYTE_DEFAULT"]
        )
        fields["host"] += "/"
        monkeypatch.setenv("AIRFLOW_CONN_SAME", json.dumps(fields))
        other.airbyte.add_source("s", name="Shop")
        other.airbyte.add_destination("d", name="Warehouse")
        other.airbyte.add_connection("a1", source_id="s", destination_id="d")

        made = expand(entry, copy={**entry, "airflow_connection_id": "copy"})

        found = [
            (each["airbyte_conn_id"], each["connection_id"]) for each in made.values()
        ]
        assert found == [("airbyte_default", "a1"), ("copy", "a1")]
        with pytest.raises(GeneratorError, match="'load' and 'same' both choose"):
            expand(entry, same={**entry, "airflow_connection_id": "same"})


def airbyte_by_slug(dbt: FakeDbt, vendors: Simulator, *names: str) -> dict[str, str]:
    """Make connections from sources of these names, each younger than the one before."""
    for number, name in enumerate(names):
        vendors.airbyte.add_source(f"s{number}", name=name)
        vendors.airbyte.add_connection(
            f"c{number}",
            source_id=f"s{number}",
            destination_id="d",
            streams=["orders"],
        )
        vendors.airbyte.connections[f"c{number}"].created_at = 1_000.0 + number
    vendors.airbyte.set_connection_status("a1", "inactive")
    made = expand(
        generator(
            dbt,
            generator="AirbyteDbtGenerator",
            airflow_connection_id="airbyte_default",
        )
    )
    return {entry["connection_id"]: name for name, entry in made.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("prod-db", "Prod DB"),
        ("Prod DB", "prod-db"),
        ("prod_db", "PROD.DB", "prod db"),
        ("zeta", "Zeta"),
    ],
)
def test_the_oldest_by_the_slug_keeps_the_task_id(
    dbt: FakeDbt, vendors: Simulator, names: tuple[str, ...]
) -> None:
    slug = "zeta-warehouse" if names[0] == "zeta" else "prod-db-warehouse"

    found = airbyte_by_slug(dbt, vendors, *names)

    assert found == {
        "c0": slug,
        **{f"c{number}": f"{slug}-c{number}" for number in range(1, len(names))},
    }


def test_the_oldest_keeps_the_task_id_whichever_generator_is_first(
    dbt: FakeDbt, vendors: Simulator
) -> None:
    vendors.fivetran.add_connection("f0", group_id="wh", schema="SHOP", tables={})
    vendors.fivetran.connections["f0"].created_at = 1_000.0
    young = {"generator": "FivetranGenerator", "fivetran_conn_id": "fivetran_default"}
    tasks = {
        "young": {**young, "connection_ids": ["f1"]},
        "old": {**young, "connection_ids": ["f0"]},
    }

    made = expand_generators({"d": {"tasks": tasks}})["d"]["tasks"]

    assert {entry["connector_id"]: name for name, entry in made.items()} == {
        "f1": "warehouse-shop-f1-trigger",
        "f0": "warehouse-shop-trigger",
    }


def test_task_ids_may_come_from_the_connections_ids(
    dbt: FakeDbt, vendors: Simulator
) -> None:
    entry = generator(dbt, task_id_from="id")
    made = expand(entry)

    assert list(made) == ["f1-trigger"]
    assert made["f1-trigger"]["task_display_name"] == "Warehouse.shop"

    vendors.fivetran.add_group("wh", name="Renamed", config={"database": "raw"})
    assert list(expand({**entry, "task_display_name": "Mine"})) == ["f1-trigger"]
    assert list(expand({**entry, "sensor": True})) == ["f1-trigger", "f1-sensor"]


def test_a_generator_may_have_the_name_of_what_it_makes(dbt: FakeDbt) -> None:
    tasks = {
        "warehouse-shop-trigger": generator(dbt),
        "after": {"operator": "x.Y", "dependencies": ["warehouse-shop-trigger"]},
    }

    made = expand_generators({"d": {"tasks": tasks}})["d"]["tasks"]

    assert made["after"]["dependencies"] == ["warehouse-shop-trigger"]


def test_generators_that_make_nothing_and_wait_for_each_other(dbt: FakeDbt) -> None:
    dbt.says(out="")

    made = expand(
        generator(dbt, dependencies=["other"]),
        other=generator(dbt, dependencies=["load", "before"]),
        before={"operator": "x.Y"},
        after={"operator": "x.Y", "dependencies": ["load"]},
    )

    assert made["after"]["dependencies"] == ["before"]


# The forms of dag-factory


def test_lists_of_tasks_and_groups_are_expanded(dbt: FakeDbt) -> None:
    found = expand_generators(
        {
            "d": {
                "task_groups": [{"group_name": "el", "dependencies": ["load"]}],
                "tasks": [
                    {"task_id": "load", **generator(dbt)},
                    {"task_id": "x", "operator": "x.Y", "dependencies": ["load"]},
                ],
            }
        }
    )["d"]

    assert sorted(found["tasks"]) == ["warehouse-shop-trigger", "x"]
    assert found["tasks"]["x"] == {
        "operator": "x.Y",
        "dependencies": ["warehouse-shop-trigger"],
    }
    assert found["task_groups"]["el"]["dependencies"] == ["warehouse-shop-trigger"]


def test_lists_without_generators_are_left_as_they_are() -> None:
    config = {"d": {"tasks": [{"task_id": "x"}, {"no": 1}]}, "e": {"tasks": 7}, "f": 1}

    assert expand_generators(config) == config


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            "{operator: x.Y}",
            "dags.yml:5: d.tasks.1: each item of this list needs a task",
        ),
        (
            "{task_id: 7}",
            "dags.yml:5: d.tasks.1: each item of this list needs a task_id",
        ),
        ("{task_id: load}", "dags.yml:5: d.tasks.1: there is a task_id 'load' above"),
    ],
)
def test_lists_that_cannot_be_read_are_refused_with_file_and_line(
    tmp_path: Path, item: str, message: str
) -> None:
    file = tmp_path / "dags.yml"
    file.write_text(
        "d:\n  tasks:\n    - task_id: load\n      generator: X\n    - " + item + "\n"
    )

    with pytest.raises(GeneratorError) as told:
        expand_generators(yaml.safe_load(file.read_text()), file=file)

    assert message in str(told.value)


def test_what_is_wrong_in_a_list_has_its_line(tmp_path: Path, dbt: FakeDbt) -> None:
    file = tmp_path / "dags.yml"
    entry = {"task_id": "load", **generator(dbt), "poke": 1}
    file.write_text("d:\n  tasks:\n    - task_id: load\n      poke: 1\n")

    with pytest.raises(GeneratorError, match=r"dags\.yml:4: d\.tasks\.load\.poke: unk"):
        expand_generators({"d": {"tasks": [entry]}}, file=file)


def test_generators_below_default_are_each_dags_own(dbt: FakeDbt) -> None:
    config = {
        "default": {
            "tags": ["a"],
            "task_groups": {"el": {"tooltip": "t"}},
            "tasks": {
                "load": generator(dbt, task_group_name="el"),
                "check": {"operator": "x.Y", "dependencies": ["load"]},
            },
        },
        "d": {"tasks": {"after": {"operator": "x.Y", "dependencies": ["load"]}}},
        "e": {"tasks": {"load": {"task_id_from": "id"}}, "tags": ["b"]},
        "f": {},
    }
    before = copy.deepcopy(config)

    found = expand_generators(config)

    assert config == before
    assert found["default"] == {"tags": ["a"]}
    made = found["d"]["tasks"]
    assert sorted(made) == ["after", "check", "warehouse-shop-trigger"]
    assert made["after"]["dependencies"] == ["warehouse-shop-trigger"]
    assert made["check"]["dependencies"] == ["warehouse-shop-trigger"]
    assert found["d"]["task_groups"] == {"el": {"tooltip": "t"}}
    assert found["e"]["tasks"]["check"]["dependencies"] == ["f1-trigger"]
    assert sorted(found["f"]["tasks"]) == ["check", "warehouse-shop-trigger"]


def test_what_is_wrong_below_default_has_its_line(tmp_path: Path, dbt: FakeDbt) -> None:
    file = tmp_path / "dags.yml"
    file.write_text("default:\n  tasks:\n    load:\n      poke: 1\nd: {}\n")
    config = {"default": {"tasks": {"load": generator(dbt, poke=1)}}, "d": {}}

    with pytest.raises(GeneratorError, match=r"dags\.yml:4: d\.tasks\.load\.poke: unk"):
        expand_generators(config, file=file)


def test_the_format_of_dbt_coves_is_told_in_one_sentence() -> None:
    config = {
        "description": "Loan Run",
        "schedule": "@daily",
        "nodes": {"load": {"generator": "AirbyteDbtGenerator", "type": "task_group"}},
    }

    with pytest.raises(
        GeneratorError, match="nodes: Nodes are the format of dbt-coves"
    ):
        expand_generators(config)


@pytest.mark.parametrize("key", ["connections_ids", "connection_ids"])
def test_ids_may_be_given_in_both_spellings(key: str, vendors: Simulator) -> None:
    vendors.fivetran.add_connection("f0", group_id="wh", schema="ads")
    entry = {
        "generator": "FivetranGenerator",
        "fivetran_conn_id": "fivetran_default",
        key: ["f1", "f0"],
    }

    assert [each["connector_id"] for each in expand(entry).values()] == ["f0", "f1"]

    with pytest.raises(GeneratorError, match="no connection gone"):
        expand({**entry, key: ["f1", "gone"]})
    assert len(expand({**entry, key: ["f1", "gone"], "on_unmatched": "ignore"})) == 1


def test_names_of_generators_stand_for_what_they_make(dbt: FakeDbt) -> None:
    made = expand(
        generator(dbt, dependencies=["before"]),
        before={"operator": "x.Y"},
        after={"operator": "x.Y", "dependencies": ["load", "before"]},
    )

    assert made["warehouse-shop-trigger"]["dependencies"] == ["before"]
    assert made["after"]["dependencies"] == ["warehouse-shop-trigger", "before"]


def test_a_generator_that_makes_nothing_leaves_the_order(dbt: FakeDbt) -> None:
    dbt.says(out="")

    made = expand(
        generator(dbt, dependencies=["before"]),
        before={"operator": "x.Y"},
        after={"operator": "x.Y", "dependencies": ["load"]},
    )

    assert sorted(made) == ["after", "before"]
    assert made["after"]["dependencies"] == ["before"]


def test_unmatched_sources_are_an_error_with_the_nearest(dbt: FakeDbt) -> None:
    dbt.says("RAW.shop.orders", "RAW.shop.order_lines")

    with pytest.raises(GeneratorError) as told:
        expand(generator(dbt))

    message = str(told.value)
    assert "loads 1 of the source tables; 1 connections with 1 tables" in message
    assert "RAW.shop.order_lines (source.shop.shop.order_lines)" in message
    assert "nearest: raw.shop.orders of 'Warehouse.shop'" in message
    assert "Set on_unmatched to warn or ignore" in message


@pytest.mark.parametrize(("word", "warned"), [("warn", True), ("ignore", False)])
def test_unmatched_sources_may_be_passed_over(
    dbt: FakeDbt, word: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    dbt.says("RAW.shop.orders", "RAW.shop.order_lines")

    assert list(expand(generator(dbt, on_unmatched=word))) == ["warehouse-shop-trigger"]
    assert ("order_lines" in caplog.text) is warned


@pytest.mark.parametrize("on_unmatched", ["error", "warn", "ignore"])
def test_a_selection_that_names_nothing_is_unmatched(
    dbt: FakeDbt, tmp_path: Path, on_unmatched: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "manifest.json").write_text(
        '{"nodes": {}, "sources": {"source.p.shop.orders": {"source_name": "shop",'
        ' "name": "orders", "database": "raw", "schema": "shop", "tags": ["daily"]}}}'
    )
    entry = generator(
        dbt_project_path=None,
        manifest_path="manifest.json",
        dbt_list_args="--select tag:dialy tag:daily",
        on_unmatched=on_unmatched,
    )
    if on_unmatched == "error":
        with pytest.raises(GeneratorError, match=r"load: --select 'tag:dialy' names n"):
            expand(entry)
        return

    assert list(expand(entry)) == ["warehouse-shop-trigger"]
    assert ("tag:dialy" in caplog.text) is (on_unmatched == "warn")


def test_a_long_list_of_misses_is_cut_and_nothing_is_compared_for_nobody(
    dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch
) -> None:
    dbt.says(*(f"RAW.shop.missing_{number}" for number in range(300)))
    compared: list[str] = []

    def compare(wanted: str, *_args: object, **_kwargs: object) -> list[str]:
        compared.append(wanted)
        return []

    monkeypatch.setattr("difflib.get_close_matches", compare)

    assert expand(generator(dbt, on_unmatched="ignore")) == {}
    assert compared == []
    with pytest.raises(GeneratorError, match="and 250 more"):
        expand(generator(dbt))
    assert len(compared) == 3


def test_tables_that_fivetran_writes_about_itself_are_passed_over(dbt: FakeDbt) -> None:
    dbt.says("RAW.shop.orders", "RAW.shop.fivetran_audit")

    assert list(expand(generator(dbt))) == ["warehouse-shop-trigger"]


def test_the_given_configuration_is_left_as_it_is(dbt: FakeDbt) -> None:
    config = {
        "d": {
            "custom": [1],
            "task_groups": {"el": {"dependencies": ["load"]}},
            "tasks": {
                "load": generator(dbt),
                "x": {"operator": "x.Y", "__type__": "t"},
            },
        },
        "default": {"tags": ["a"]},
    }
    before = copy.deepcopy(config)

    found = expand_generators(config)

    assert config == before
    assert found["d"]["custom"] == [1]
    assert found["d"]["task_groups"]["el"] == {
        "dependencies": ["warehouse-shop-trigger"]
    }
    assert found["d"]["tasks"]["x"] == {"operator": "x.Y", "__type__": "t"}
    assert found["default"] == {"tags": ["a"]}


# Keys


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"generator": "SparkGenerator"},
            "load.generator: there is no generator 'Spark",
        ),
        ({"generator": "other.FivetranDbtGenerator"}, "There are: Airbyte"),
        ({"poke_intervall": 1}, r"load\.poke_intervall: unknown key"),
        ({"connection_ids": ["x"]}, r"load\.connection_ids: unknown key"),
        ({"connector_id": "x"}, r"load\.connector_id: is given by the generator"),
        ({"api_key": "x"}, r"load\.api_key: is read from the Airflow connection"),
        ({"airflow_connection_id": None}, "airflow_connection_id is missing"),
        ({"fivetran_conn_id": "x"}, "are the same: keep one"),
        ({"dbt_project_path": None}, "dbt_project_path is missing"),
        ({"dbt_project_path": "."}, "there is no dbt_project.yml in"),
        ({"dbt_project_path": "nowhere"}, "DATACOVES__REPO_PATH is not set"),
        ({"dbt_project_path": 7}, "dbt_project_path: must be a text"),
        ({"virtualenv_path": "transform"}, "virtualenv_path: there is no bin/dbt"),
        ({"dbt_list_args": "--select 'x"}, "dbt_list_args: cannot be split"),
        ({"dbt_list_args": 7}, "dbt_list_args: must be a text"),
        ({"wait_for_completion": "yes"}, "wait_for_completion: must be true or false"),
        ({"poke_interval": 0}, "poke_interval: must be a number of seconds"),
        ({"poke_interval": math.inf}, "poke_interval: must be a number of seconds"),
        ({"on_unmatched": "panic"}, "on_unmatched: must be one of error, warn, ignore"),
        ({"task_id_from": "slug"}, "task_id_from: must be one of name, id, not 'slug'"),
        ({"dependencies": "x"}, "dependencies: must be a list of names"),
        ({"dependencies": ["a", 7]}, "7 is not a name: write it in quotes"),
        ({"run_dbt_deps": 1}, "run_dbt_deps: must be true or false"),
        ({"manifest_path": "transform"}, "cannot be read"),
    ],
)
def test_every_wrong_key_is_named(
    dbt: FakeDbt,
    changes: Entry,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DATACOVES__REPO_PATH", raising=False)

    with pytest.raises(GeneratorError, match=message):
        expand(generator(dbt, **changes))


def test_keys_that_have_no_effect_any_more_are_read(dbt: FakeDbt) -> None:
    assert expand(generator(dbt, deploy_path="/tmp/x", run_dbt_compile=True))


def test_what_any_task_may_have_reaches_those_that_are_made(dbt: FakeDbt) -> None:
    made = expand(generator(dbt, sensor=True, retry_delay_sec=5, pool="slow"))

    assert [each["retry_delay_sec"] for each in made.values()] == [5, 5]
    assert [each["pool"] for each in made.values()] == ["slow", "slow"]


def test_a_list_of_arguments_is_taken_as_it_is(dbt: FakeDbt) -> None:
    expand(generator(dbt, dbt_list_args=["--select", "tag:a b"]))

    assert "tag:a b" in dbt.calls[0]


def test_a_word_may_stand_in_a_list_twice(dbt: FakeDbt) -> None:
    expand(generator(dbt, dbt_list_args=["--select", "a", "--exclude", "a"]))

    assert dbt.calls[0].count("a") == 2


def test_paths_are_found_below_the_repository_too(
    dbt: FakeDbt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path / "repository" / "elsewhere")
    entry = generator(dbt, dbt_project_path="elsewhere")
    monkeypatch.setenv("DATACOVES__REPO_PATH", str(tmp_path / "repository"))

    assert expand(entry)

    monkeypatch.setenv("DATACOVES__REPO_PATH", str(tmp_path / "other"))
    with pytest.raises(GeneratorError) as told:
        expand(entry)
    assert f"{tmp_path}/elsewhere nor at {tmp_path}/other/elsewhere" in str(told.value)


def test_a_manifest_needs_no_dbt(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(
        '{"nodes": {}, "sources": {"source.p.shop.orders": {"source_name": "shop",'
        ' "name": "orders", "database": "raw", "schema": "shop", "tags": ["daily"],'
        ' "identifier": "orders"}}}'
    )
    entry = generator(dbt_project_path=None, manifest_path="manifest.json")

    assert list(expand(entry)) == ["warehouse-shop-trigger"]

    with pytest.raises(
        GeneratorError, match=r"load: dbt_list_args: '--vars' needs dbt"
    ):
        expand({**entry, "dbt_list_args": "--vars {}"})


def test_lines_are_those_of_the_file(dbt: FakeDbt, tmp_path: Path) -> None:
    file = tmp_path / "dags.yml"
    file.write_text("d:\n  tasks:\n    load:\n      generator: X\n      poke: 1\n")
    config = {"d": {"tasks": {"load": generator(dbt, poke=1)}}}

    with pytest.raises(GeneratorError, match=r"dags\.yml:5: d\.tasks\.load\.poke"):
        expand_generators(config, file=file)


SNOWFLAKE = {"host": "acct.snowflakecomputing.com", "database": "raw"}
TABLE = "snowflake://acct/RAW/SHOP/ORDERS"


@pytest.fixture
def warehouse(vendors: Simulator) -> None:
    """Let both vendors show where their warehouse is."""
    vendors.fivetran.add_group("wh", name="Warehouse", config=SNOWFLAKE)
    vendors.airbyte.add_destination(
        "d", name="Warehouse", configuration={**SNOWFLAKE, "schema": "shop"}
    )


AIRBYTE_ENTRY = {
    "generator": "AirbyteDbtGenerator",
    "airflow_connection_id": "airbyte_default",
}


@pytest.mark.usefixtures("warehouse")
@pytest.mark.parametrize("vendor", [{}, AIRBYTE_ENTRY], ids=["fivetran", "airbyte"])
def test_tables_are_the_outlets_of_the_task_that_waits(
    dbt: FakeDbt, vendor: Entry
) -> None:
    (task,) = expand(generator(dbt, emit_assets=True, **vendor)).values()
    assert task["outlets"] == [TABLE]

    (task,) = expand(generator(dbt, **vendor)).values()
    assert "outlets" not in task

    start, sensor = expand(
        generator(dbt, emit_assets=True, sensor=True, **vendor)
    ).values()
    assert "outlets" not in start
    assert sensor["outlets"] == [TABLE]

    (task,) = expand(
        generator(dbt, emit_assets=True, wait_for_completion=False, **vendor)
    ).values()
    assert "outlets" not in task


@pytest.mark.usefixtures("warehouse")
def test_tables_are_outlets_without_dbt_as_well() -> None:
    entry = {
        "generator": "FivetranGenerator",
        "airflow_connection_id": "fivetran_default",
        "connections_ids": ["f1"],
        "emit_assets": True,
        "outlets": ["x-own://thing"],
    }

    (task,) = expand(entry).values()

    assert task["outlets"] == ["x-own://thing", TABLE]


@pytest.mark.usefixtures("warehouse")
def test_outlets_become_assets_of_the_task(dbt: FakeDbt) -> None:
    entry = generator(dbt, emit_assets=True)
    config = {"d": {"start_date": "2026-01-01", "tasks": {"load": entry}}}
    Path("d.yml").write_text(yaml.safe_dump(config))
    found: dict[str, Any] = {}
    load_yaml_dags(found, "d.yml")

    (task,) = found["d"].tasks
    assert [asset.uri for asset in task.outlets] == [TABLE]
