from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner

from async_triggers import example_dags
from async_triggers.cli import main
from async_triggers.demo.scenarios import SCENARIOS
from async_triggers.generators import load_yaml_dags, moved
from async_triggers.generators.loading import BrokenFile, merge
from tests.airflow_versions import DagBag, DagSerialization
from tests.unit.generators.stage import FakeDbt, generator

if TYPE_CHECKING:
    from async_triggers.simulator.server import Simulator

Config = dict[str, Any]

EMPTY = "airflow.providers.standard.operators.empty.EmptyOperator"
BASH = "airflow.providers.standard.operators.bash.BashOperator"
SYNC = "async_triggers.airbyte.operators.AirbyteTriggerSyncOperator"

PUBLISHED = """
example_dag:
  schedule: "@daily"
  default_args: {{start_date: 2026-01-01}}
  task_groups:
    extract_and_load:
      tooltip: "Extract and Load tasks"
  tasks:
    load:
      generator: dagfactory.FivetranDbtGenerator
      airflow_connection_id: fivetran_default
      dbt_project_path: transform
      task_group_name: extract_and_load
      virtualenv_path: {virtualenv}
      dbt_list_args: "--select tag:loan_daily"
      wait_for_completion: true
      poke_interval: 60
    transform:
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "dbt build -s 'tag:loan_daily+'"
      dependencies: [extract_and_load]
"""


def load(folder: Path, config: Config | str) -> dict[str, Any]:
    text = (
        config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
    )
    (folder / "dags.yml").write_text(text)
    found: dict[str, Any] = {"__file__": str(folder / "loader.py")}
    load_yaml_dags(found, "dags.yml")
    return {key: val for key, val in found.items() if isinstance(val, DAG)}


def one(folder: Path, **config: Any) -> DAG:
    config = {"tasks": {"x": {"operator": EMPTY}}, "schedule": None, **config}
    found = load(folder, {"d": config})
    broken = [dag for dag in found.values() if isinstance(dag, BrokenFile)]
    assert not broken, broken[0]._messages
    dag: DAG = found["d"]
    return dag


def trouble(folder: Path, **config: Any) -> str:
    config = {"tasks": {"x": {"operator": EMPTY}}, "schedule": None, **config}
    (broken,) = load(folder, {"d": config}).values()
    assert isinstance(broken, BrokenFile)
    (message,) = broken._messages
    return message


def test_the_published_example_loads_as_it_is(
    tmp_path: Path, cache: object, vendors: Simulator, dbt: FakeDbt
) -> None:
    text = PUBLISHED.format(virtualenv=dbt.virtualenv)

    (dag,) = load(tmp_path, text).values()

    assert dag.dag_id == "example_dag"
    assert dag.schedule == "@daily"
    assert (
        dag.task_group.children["extract_and_load"].tooltip == "Extract and Load tasks"
    )
    task = dag.task_dict["extract_and_load.warehouse-shop-trigger"]
    assert (task.connector_id, task.poll_frequency) == ("f1", 60)
    assert dag.task_dict["transform"].upstream_task_ids == {task.task_id}
    assert task.start_date == datetime(2026, 1, 1, tzinfo=UTC)
    assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == "example_dag"


def test_a_group_may_be_empty(
    tmp_path: Path, cache: object, vendors: Simulator, dbt: FakeDbt
) -> None:
    dbt.says(out="")

    (dag,) = load(tmp_path, PUBLISHED.format(virtualenv=dbt.virtualenv)).values()

    assert list(dag.task_dict) == ["transform"]
    assert DagSerialization.to_dict(dag)


def test_the_example_dag_can_be_built(
    cache: object, vendors: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = os.environ["AIRFLOW_CONN_FIVETRAN_DEFAULT"]
    monkeypatch.setenv("AIRFLOW_CONN_FIVETRAN_CONN_EXAMPLE", known)
    (scenario,) = (each for each in SCENARIOS if each.dag_id == "loans_from_yaml")
    for target, details in scenario.details.items():
        vendors.fivetran.arrange(connections=[{"connection_id": target, **details}])
    folder = Path(example_dags.__path__[0]) / "from_yaml"
    found: dict[str, Any] = {"__file__": str(folder / "load.py")}

    load_yaml_dags(found, "loans.yml")

    dag = found["loans_from_yaml"]
    assert set(dag.task_dict) == set(scenario.tasks)
    assert {
        task.connector_id for task in dag.tasks if hasattr(task, "connector_id")
    } == set(scenario.targets)


# The dialect


def test_what_lies_under_every_dag(tmp_path: Path) -> None:
    config = {
        "default": {"default_args": {"owner": "me", "retries": 1}, "schedule": None},
        "d": {"default_args": {"retries": 2}, "tasks": {"x": {"operator": EMPTY}}},
    }

    task = load(tmp_path, config)["d"].task_dict["x"]

    assert (task.owner, task.retries) == ("me", 2)
    assert merge({"a": {"b": [1]}}, {"a": {"b": [2]}}) == {"a": {"b": [2]}}


@pytest.mark.parametrize(
    ("config", "schedule"),
    [
        ({}, timedelta(days=1)),
        ({"schedule": None}, None),
        ({"schedule_interval": "None"}, None),
        ({"schedule_interval": "0 3 * * *"}, "0 3 * * *"),
    ],
)
def test_schedules(tmp_path: Path, config: Config, schedule: object) -> None:
    start = {"default_args": {"start_date": "2026-01-01"}}
    tasks = {"tasks": {"x": {"operator": EMPTY}}}

    dag = load(tmp_path, {"d": {**config, **start, **tasks}})["d"]

    assert dag.schedule == schedule


def test_old_spellings_of_a_dags_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dag = one(
        tmp_path,
        concurrency=3,
        max_active_runs=1,
        catchup=False,
        dagrun_timeout_sec=600,
        default_view="graph",
        tags="one",
        description="What it does",
        default_args={"retry_delay_sec": 30, "execution_timeout_secs": 60},
    )

    assert dag.max_active_tasks == 3
    assert dag.dagrun_timeout == timedelta(minutes=10)
    assert dag.tags == {"one"}
    assert dag.task_dict["x"].retry_delay == timedelta(seconds=30)
    assert dag.task_dict["x"].execution_timeout == timedelta(minutes=1)
    assert "d.default_view: Airflow has no such setting any more" in caplog.text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2021-01", datetime(2021, 1, 1, tzinfo=UTC)),
        ("2026-01-01T03:00", datetime(2026, 1, 1, 3, tzinfo=UTC)),
        (datetime(2026, 1, 1, 3), datetime(2026, 1, 1, 3, tzinfo=UTC)),  # noqa: DTZ001
    ],
)
def test_start_dates(tmp_path: Path, given: object, expected: datetime) -> None:
    dag = one(tmp_path, default_args={"start_date": given})

    assert dag.task_dict["x"].start_date == expected


def test_a_start_may_be_so_long_ago(tmp_path: Path) -> None:
    dag = one(tmp_path, default_args={"start_date": "2 days", "timezone": "Asia/Tokyo"})

    start = dag.task_dict["x"].start_date
    assert start is not None
    now = datetime.now(ZoneInfo("Asia/Tokyo"))
    assert timedelta(days=2) <= now - start < timedelta(days=3, minutes=1)
    assert start.astimezone(ZoneInfo("Asia/Tokyo")).hour == 0


def test_dependencies_of_tasks_and_groups(tmp_path: Path) -> None:
    dag = one(
        tmp_path,
        task_groups={
            "outer": {"dependencies": ["first"]},
            "inner": {"parent_group_name": "outer", "tooltip": "t"},
            "last": None,
        },
        tasks={
            "first": {"operator": EMPTY},
            "a": {"operator": EMPTY, "task_group_name": "inner"},
            "b": {
                "operator": EMPTY,
                "task_group_name": "last",
                "dependencies": ["outer"],
            },
        },
    )

    assert dag.task_dict["outer.inner.a"].upstream_task_ids == {"first"}
    assert dag.task_dict["last.b"].upstream_task_ids == {"outer.inner.a"}


def test_callbacks_and_documents(tmp_path: Path) -> None:
    (tmp_path / "hooks.py").write_text(
        "calls = []\n"
        "def told(context): calls.append(context)\n"
        "def doc(name): return f'About {name}'\n"
    )
    (tmp_path / "about.md").write_text("# Read me")
    callback = {"module": f"{__name__}", "callable": "record", "args": [1, {"b": 2}]}

    dag = one(
        tmp_path,
        on_failure_callback_name="told",
        on_failure_callback_file=str(tmp_path / "hooks.py"),
        custom_callbacks={"on_success_callback": callback},
        doc_md_file_path="about.md",
        tasks={
            "x": {
                "operator": EMPTY,
                "custom_callbacks": {"on_retry_callback": callback},
            }
        },
    )

    assert dag.doc_md == "# Read me"
    on_success: Any = dag.on_success_callback
    on_success("context")
    retries: Any = dag.task_dict["x"].on_retry_callback
    (on_retry,) = retries
    on_retry("other")
    assert RECORDED == [("context", 1, 2), ("other", 1, 2)]
    RECORDED.clear()
    on_failure: Any = dag.on_failure_callback
    assert on_failure.__name__ == "told"

    dag = one(
        tmp_path,
        doc_md_python_callable_name="doc",
        doc_md_python_callable_file="hooks.py",
        doc_md_python_arguments={"name": "me"},
    )
    assert dag.doc_md == "About me"


RECORDED: list[tuple[object, ...]] = []


def record(context: object, a: int, b: int = 0) -> None:
    RECORDED.append((context, a, b))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shedule": "@daily"}, "dags.yml:6: d.shedule: unknown key"),
        ({"nodes": {}}, "Nodes are the format of dbt-coves"),
        (
            {"tasks": {"x": {}}},
            "d.tasks.x: 'x' has neither an operator nor a generator",
        ),
        ({"tasks": {"x": {"operator": "no.Such"}}}, "d.tasks.x.operator: 'no.Such'"),
        (
            {
                "tasks": {
                    "x": {"operator": "airflow.operators.bash_operator.BashOperator"}
                }
            },
            f"No module named 'airflow.operators.bash_operator'. Today it is {BASH}",
        ),
        (
            {"tasks": {"x": {"operator": EMPTY, "colour": 1}}},
            "dags.yml:5: d.tasks.x.colour: ",
        ),
        ({"tasks": {"x": {"operator": BASH}}}, "bash_command"),
        (
            {"tasks": {"x": {"operator": EMPTY, "task_group_name": "g"}}},
            "d.tasks.x.task_group_name: there is no task group 'g'",
        ),
        (
            {"tasks": {"x": {"operator": EMPTY, "dependencies": ["y"]}}},
            "there is neither a task nor a task group 'y'",
        ),
        (
            {"tasks": {"x": {"operator": EMPTY, "dependencies": ["x"]}}},
            "d: AirflowDagCycleException",
        ),
        (
            {"task_groups": {"g": {"color": "red"}}},
            "d.task_groups.g.color: unknown key",
        ),
        (
            {"task_groups": {"g": {"parent_group_name": "g"}}},
            "the group is inside itself",
        ),
        ({"task_groups": ["g"]}, "d.task_groups: must be an object"),
        (
            {"default_args": {"start_date": "soon"}},
            "d.default_args.start_date: must be",
        ),
        (
            {"default_args": {"start_date": "99999999999 days"}},
            "d.default_args.start_date: '99999999999 days' is before the first year",
        ),
        ({"default_args": {"start_date": "² days"}}, "start_date: must be a date"),
        (
            {"tasks": {"x": {"operator": EMPTY, "retry_delay_sec": float("inf")}}},
            "d.tasks.x.retry_delay_sec: inf is not a number of seconds",
        ),
        (
            {"tasks": {"x": {"operator": "collections.OrderedDict"}}},
            "d.tasks.x.operator: 'collections.OrderedDict' made no task. Name the class",
        ),
        (
            {"tasks": {"x": {"operator": "json.dumps"}}},
            "d.tasks.x.operator: 'json.dumps' made no task: TypeError: dumps",
        ),
        (
            {"tasks": {"x": {"operator": EMPTY[:-2]}}},
            "Did you mean 'EmptyOperator'?",
        ),
        ({"default_args": {"timezone": "Mars"}}, "there is no time zone 'Mars'"),
        ({"dagrun_timeout_sec": "long"}, "must be a number of seconds"),
        (
            {"custom_callbacks": {"on_luck": {}}},
            "custom_callbacks.on_luck: unknown event",
        ),
        ({"on_success_callback_name": "f"}, "belong together: set both"),
        ({"doc_md_file_path": "none.md"}, "there is no document at"),
        ({"max_active_runs": "many", "params": 3}, "d: "),
    ],
)
def test_what_cannot_be_built_is_told_with_its_place(
    tmp_path: Path, config: Config, message: str
) -> None:
    assert message in trouble(tmp_path, **config)


def task(**entry: object) -> Config:
    return {"tasks": {"x": {"operator": EMPTY, **entry}}}


def made_by(name: str, **entry: object) -> Config:
    return {"tasks": {"x": {"generator": name, "airflow_connection_id": "c", **entry}}}


@pytest.mark.parametrize(
    ("config", "place", "meant"),
    [
        ({"shedule": "@daily"}, "shedule", "schedule"),
        ({"Schedule": "@daily"}, "Schedule", "schedule"),
        ({"max_active_run": 1}, "max_active_run", "max_active_runs"),
        ({"default_arg": {}}, "default_arg", "default_args"),
        ({"taks": {}}, "taks", "tasks"),
        ({"task_group": {}}, "task_group", "task_groups"),
        ({"task_groups": {"g": {"tooltp": ""}}}, "task_groups.g.tooltp", "tooltip"),
        (task(retrys=1), "tasks.x.retrys", "retries"),
        (task(**{"retry-delay": 1}), "tasks.x.retry-delay", "retry_delay"),
        (task(dependancies=[]), "tasks.x.dependancies", "dependencies"),
        (task(task_group="g"), "tasks.x.task_group", "task_group_name"),
        (task(operator=BASH, bash_comand="x"), "tasks.x.bash_comand", "bash_command"),
        (
            task(operator=SYNC, conection_id="c"),
            "tasks.x.conection_id",
            "connection_id",
        ),
        ({"tasks": {"x": {"operater": EMPTY}}}, "tasks.x.operater", "operator"),
        ({"tasks": {"x": {"genrator": "A"}}}, "tasks.x.genrator", "generator"),
        (
            made_by("AirbyteDbtGenerator", dbt_project_pth="."),
            "tasks.x.dbt_project_pth",
            "dbt_project_path",
        ),
        (
            made_by("AirbyteGenerator", conection_ids=["c"]),
            "tasks.x.conection_ids",
            "connection_ids",
        ),
        (
            made_by("AirbyteGenerator", connection_id="c"),
            "tasks.x.connection_id",
            "connection_ids",
        ),
        (
            made_by("FivetranGenerator", connection_ids=["c"], on_unmached="warn"),
            "tasks.x.on_unmached",
            "on_unmatched",
        ),
        (
            made_by("FivetranGenerator", connection_ids=["c"], retry=2),
            "tasks.x.retry",
            "retries",
        ),
        (
            {"custom_callbacks": {"on_failure_calback": {}}},
            "custom_callbacks.on_failure_calback",
            "on_failure_callback",
        ),
        (
            {"custom_callbacks": {"on_failure_callback": {"modul": "m"}}},
            "custom_callbacks.on_failure_callback.modul",
            "module",
        ),
    ],
)
def test_the_key_that_may_be_meant_is_named(
    tmp_path: Path, config: Config, place: str, meant: str
) -> None:
    said = trouble(tmp_path, **config)

    assert f": d.{place}: " in said
    assert f"Did you mean {meant!r}?" in said


@pytest.mark.parametrize(
    "config",
    [
        {"zzz": 1},
        {7: 1},
        task(qqq=1),
        {"tasks": {"x": {"zzz": 1}}},
        {"tasks": {"x": {7: 1}}},
        {"task_groups": {"g": {7: 1}}},
        {"custom_callbacks": {"on_failure_callback": {7: 1}}},
        {"tasks": {"x": {"operator": "builtins.zip", "zzz": 1}}},
    ],
)
def test_a_key_that_is_near_to_none_is_not_explained(
    tmp_path: Path, config: Config
) -> None:
    whole = {"tasks": {"x": {"operator": EMPTY}}, "schedule": None, **config}

    (broken,) = load(tmp_path, {"d": whole}).values()

    assert isinstance(broken, BrokenFile)
    assert "Did you mean" not in broken._messages[0]


@pytest.mark.parametrize("name", ["defaults", "Default", "defualt", "defult"])
@pytest.mark.parametrize("entry", [{"default_args": {"retries": 1}}, {"retries": 1}])
def test_defaults_that_look_like_a_dag_are_recognized(
    tmp_path: Path, name: str, entry: Config
) -> None:
    (broken,) = load(tmp_path, {name: entry}).values()

    assert isinstance(broken, BrokenFile)
    assert (
        "If it is not a DAG and lies under all of them, call it 'default'"
        in (broken._messages[0])
    )


@pytest.mark.parametrize(
    ("key", "meant"),
    [("retrys", "retries"), ("ownr", "owner"), ("email_on_failur", "email_on_failure")],
)
def test_a_default_that_no_task_takes_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, meant: str
) -> None:
    dag = one(tmp_path, default_args={key: 1, "retries": 2, "timezone": "UTC"})

    warned = [each.getMessage() for each in caplog.records if key in each.getMessage()]
    assert len(warned) == 1
    assert f": d.default_args.{key}: no task takes it" in warned[0]
    assert f"Did you mean {meant!r}?" in warned[0]
    assert "timezone" not in caplog.text
    assert dag.task_dict["x"].retries == 2


@pytest.mark.parametrize(
    ("path", "present"),
    [
        ("operators.python_operator.PythonOperator", "standard.operators.python"),
        ("operators.python_operator.BranchPythonOperator", "standard.operators.python"),
        ("operators.dagrun_operator.TriggerDagRunOperator", "standard.operators.trig"),
        (
            "operators.latest_only_operator.LatestOnlyOperator",
            "standard.operators.late",
        ),
        (
            "sensors.external_task_sensor.ExternalTaskSensor",
            "standard.sensors.external",
        ),
        ("contrib.sensors.file_sensor.FileSensor", "standard.sensors.filesystem"),
        ("operators.email_operator.EmailOperator", "smtp.operators.smtp"),
        ("operators.sql.SQLCheckOperator", "common.sql.operators.sql.SQLCheckOperator"),
        ("operators.postgres_operator.PostgresOperator", "sql.SQLExecuteQueryOperator"),
        ("operators.dummy.DummyOperator", "standard.operators.empty.EmptyOperator"),
        ("operators.dummy_operator.DummyOperator", "standard.operators.empty.EmptyOp"),
        (
            "operators.http_operator.SimpleHttpOperator",
            "http.operators.http.HttpOperator; install apache-airflow-providers-http",
        ),
        (
            "contrib.operators.kubernetes_pod_operator.KubernetesPodOperator",
            "install apache-airflow-providers-cncf-kubernetes",
        ),
        (
            "sensors.s3_key_sensor.S3KeySensor",
            "install apache-airflow-providers-amazon",
        ),
        ("operators.subdag_operator.SubDagOperator", "no sub-DAGs any more"),
    ],
)
def test_the_present_path_of_a_class_is_told(
    tmp_path: Path, path: str, present: str
) -> None:
    text = trouble(tmp_path, tasks={"x": {"operator": f"airflow.{path}"}})

    assert "cannot be imported: ModuleNotFoundError" in text
    assert present in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bash", "such as airflow.providers.standard.operators.bash.BashOperator"),
        (
            "Python",
            "such as airflow.providers.standard.operators.python.PythonOperator",
        ),
        ("BashOperator", "standard.operators.bash.BashOperator"),
        ("file_sensor", "standard.sensors.filesystem.FileSensor"),
        ("dummy", "standard.operators.empty.EmptyOperator"),
        ("something", "write it with its module"),
        ("", "'' is not the path of a class"),
    ],
)
def test_a_class_without_its_module_is_named_with_it(
    tmp_path: Path, name: str, said: str
) -> None:
    text = trouble(tmp_path, tasks={"x": {"operator": name}})

    assert "tasks.x.operator" in text
    assert said in text
    assert "ValueError" not in text


def test_the_present_paths_are_right_where_their_providers_are_installed() -> None:
    tried = 0
    for name in moved._PRESENT:
        said = moved.advice(f"airflow.nowhere.{name}")
        assert said.startswith("Today it is airflow.providers.")
        if "; install " in said:
            continue
        module, _, attribute = said.removeprefix("Today it is ").rpartition(".")
        with warnings.catch_warnings():
            # Some modules of the providers warn of what they import themselves.
            warnings.simplefilter("ignore")
            assert hasattr(importlib.import_module(module), attribute), said
        tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("x.y.BashOperator", ""),
        ("airflow.providers.x.Strange", ""),
        ("mine.operators.FivetranOperator", ""),
        (BASH, ""),
        (
            "airflow.providers.ssh.operators.ssh.SSHOperator",
            "Install apache-airflow-providers-ssh",
        ),
    ],
)
def test_no_path_is_told_where_there_is_none(path: str, said: str) -> None:
    assert moved.advice(path) == said


@pytest.mark.parametrize(
    ("path", "module"),
    [
        (
            "airflow.providers.airbyte.operators.airbyte.AirbyteTriggerSyncOperator",
            "airbyte.operators",
        ),
        ("fivetran_provider.operators.fivetran.FivetranOperator", "fivetran.operators"),
        ("fivetran_provider_async.sensors.FivetranSensor", "fivetran.sensors"),
        (
            "airflow.providers.dbt.cloud.operators.dbt.DbtCloudListJobRunsOperator",
            "dbt_cloud.operators",
        ),
    ],
)
def test_a_class_of_another_provider_is_named_by_its_path_here(
    tmp_path: Path, path: str, module: str
) -> None:
    text = trouble(tmp_path, tasks={"x": {"operator": path}})

    assert "tasks.x.operator" in text
    name = path.rpartition(".")[2]
    assert text.rstrip().endswith(f"Here it is async_triggers.{module}.{name}")


def test_the_paths_here_are_right() -> None:
    for name, module in moved._OURS.items():
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    "path",
    [
        "airflow.contrib.operators.vertica_operator.VerticaOperator",
        "airflow.sensors.x.Y",
    ],
)
def test_an_earlier_path_that_is_not_known_leads_to_the_list(path: str) -> None:
    assert moved.advice(path).endswith("/operators-and-hooks-ref/")


@pytest.mark.parametrize(
    ("schedule", "place"),
    [("'@daily'", "dags.yml:3: nodes: "), ("!py timedelta(days=1)", "dags.yml:3: ")],
)
def test_a_file_of_dbt_coves_is_one_error(
    tmp_path: Path, schedule: str, place: str
) -> None:
    text = (
        f"description: x\nschedule: {schedule}\nnodes:\n  load: {{type: task_group}}\n"
    )

    (broken,) = load(tmp_path, text).values()

    (message,) = broken._messages
    assert f"{place}Nodes are the format of dbt-coves" in message


def test_tasks_and_groups_may_be_lists(tmp_path: Path) -> None:
    dag = one(
        tmp_path,
        task_groups=[{"group_name": "g", "dependencies": ["first"]}],
        tasks=[
            {"task_id": "first", "operator": EMPTY},
            {"task_id": "x", "operator": EMPTY, "task_group_name": "g"},
        ],
    )

    assert dag.task_dict["g.x"].upstream_task_ids == {"first"}


def test_a_dag_without_tasks_is_told(tmp_path: Path) -> None:
    (broken,) = load(tmp_path, {"d": {"schedule": None}}).values()

    assert "a DAG needs tasks" in broken._messages[0]


# A broken DAG beside good ones


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    (tmp_path / "loader.py").write_text(
        "from async_triggers.generators import load_yaml_dags  # airflow\n"
        "load_yaml_dags(globals(), 'dags.yml')\n"
    )
    good = {"schedule": None, "tasks": {"x": {"operator": EMPTY}}}
    config = {"good": good, "bad": {**good, "no": 1}, "worse": 7, "fine": good}
    (tmp_path / "dags.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    return tmp_path


def test_a_broken_dag_takes_no_other_with_it(mixed: Path) -> None:
    bag = DagBag(dag_folder=str(mixed / "loader.py"), bundle_path=mixed)

    assert sorted(bag.dag_ids) == ["fine", "good"]
    (message,) = bag.import_errors.values()
    assert "dags.yml:9: bad.no: unknown key" in message
    assert "worse: must be an object" in message


def test_defaults_that_are_no_object_are_named(tmp_path: Path) -> None:
    (broken,) = load(tmp_path, "default: x\nd: {tasks: {}}\n").values()

    assert isinstance(broken, BrokenFile)
    assert "dags.yml:1: default: must be an object" in broken._messages[0]


def test_in_airflow_the_error_is_filed_under_the_yaml(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", object(), raising=False)

    bag = DagBag(dag_folder=str(mixed / "loader.py"), bundle_path=mixed)

    assert bag.import_errors == {}
    broken = bag.dags["cannot_be_built__dags"]
    assert broken.relative_fileloc == "dags.yml"
    assert bag.dags["good"].relative_fileloc == "loader.py"
    with pytest.raises(Exception, match=r"bad\.no: unknown key"):
        DagSerialization.to_dict(broken)


def test_what_nobody_has_thought_of_takes_no_other_with_it_either(
    tmp_path: Path,
) -> None:
    (tmp_path / "doc.py").write_text("def doc(): raise KeyError('surprise')")
    good = {"schedule": None, "tasks": {"x": {"operator": EMPTY}}}
    named = {
        "doc_md_python_callable_name": "doc",
        "doc_md_python_callable_file": "doc.py",
    }

    found = load(tmp_path, {"bad": {**good, **named}, "good": good})

    assert "good" in found
    (message,) = found["cannot_be_built__dags"]._messages
    assert message.endswith("dags.yml:1: bad: KeyError: 'surprise'")


def test_a_file_that_is_no_yaml_is_an_import_error_too(tmp_path: Path) -> None:
    (broken,) = load(tmp_path, "a: [").values()

    assert isinstance(broken, BrokenFile)
    with pytest.raises(ValueError, match="this is not YAML"):
        broken.validate()


def test_the_background_is_asked_even_where_a_dag_breaks(
    tmp_path: Path, cache: object, dbt: FakeDbt, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[str] = []
    monkeypatch.setattr(
        "async_triggers.generators.lookup.Lookup.finish",
        lambda self: spawned.extend(each.kind for each in self.stale),
    )
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "0.5")
    dbt.says(seconds=3600)

    (broken,) = load(tmp_path, {"d": {"tasks": {"load": generator(dbt)}}}).values()

    assert "raise [core] dagbag_import_timeout" in broken._messages[0]
    assert spawned == ["dbt"]


# The command


def test_the_tree_tells_the_tasks_and_the_reasons(
    tmp_path: Path, cache: object, vendors: Simulator, dbt: FakeDbt
) -> None:
    text = PUBLISHED.format(virtualenv=dbt.virtualenv) + "broken: {tasks: {x: 1}}\n"
    (tmp_path / "dags.yml").write_text(text)

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "async_triggers.cli",
            "generate",
            "--dry-run",
            "dags.yml",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "warehouse-shop-trigger <- Warehouse.shop (f1)" in done.stdout
    assert "source.shop.shop.orders is RAW.shop.orders" in done.stdout
    assert "transform: BashOperator, after extract_and_load" in done.stdout
    assert "Error: " in done.stderr
    assert "broken.tasks.x: 'x' has neither" in done.stderr


def test_a_file_that_cannot_be_read_prints_its_error_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["generate", str(tmp_path / "absent.yml")])

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert "absent.yml: the file cannot be read" in said.err
