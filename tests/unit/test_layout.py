"""Small guards over the whole package."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module, reload
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.sdk import DAG, BaseHook, BaseOperator, Connection

import async_triggers
from async_triggers import example_dags
from async_triggers.dbt_cloud.operators import (
    DbtCloudGetJobRunArtifactOperator,
    DbtCloudListJobRunsOperator,
    DbtCloudListJobsOperator,
)
from async_triggers.deferral import compat
from async_triggers.deferral.trigger import JobTrigger
from async_triggers.deferral.watching import EndWatcher

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


WATCHERS = [
    "async_triggers.airbyte.events.AirbyteSyncFinished",
    "async_triggers.dbt_cloud.events.DbtCloudRunFinished",
    "async_triggers.fivetran.events.FivetranSyncFinished",
]


@pytest.mark.parametrize("classpath", WATCHERS)
def test_a_stored_watcher_can_be_found_again(classpath: str) -> None:
    module, _, name = classpath.rpartition(".")

    assert issubclass(getattr(import_module(module), name), EndWatcher)


LOOK_AT_IMPORTS = """
import sys
import airflow.sdk
from async_triggers.airbyte import operators, remote_job, sensors
from async_triggers.dbt_cloud import operators, remote_job, sensors
from async_triggers.deferral import segment
from async_triggers.fivetran import operators, remote_job, sensors
print(*sorted({"aiohttp", "async_triggers.engine.accounts"} & sys.modules.keys()))
"""


def run_alone(code: str) -> list[str]:
    """Run code in a process that has loaded nothing, and return the words it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_what_speaks_http_is_loaded_by_those_who_ask() -> None:
    """A task that takes an event in is a process of its own, and asks nobody."""
    assert run_alone(LOOK_AT_IMPORTS) == []


MAKE_A_TASK = """
import sys
import airflow.sdk
before = set(sys.modules)
from async_triggers.{vendor}.operators import {operator}
with airflow.sdk.DAG("sync", schedule=None):
    {operator}(task_id="run", {arguments})
print(*sorted(sys.modules.keys() - before))
"""
OPERATORS = {
    "airbyte": (
        "AirbyteTriggerSyncOperator",
        "connection_id='9924bcd0-99be-453d-ba47-c2c9766f7da5', deferrable=True",
    ),
    "dbt_cloud": ("DbtCloudRunJobOperator", "job_id=7, hook_params={}"),
    "fivetran": ("FivetranOperator", "connector_id='bronzed_largely'"),
}
LIGHT = {
    "deferral",
    "deferral.alarm",
    "deferral.arguments",
    "deferral.compat",
    "deferral.compat.names",
    "deferral.end_from_trigger",
    "deferral.errors",
    "deferral.ids",
    "deferral.lineage",
    "deferral.link",
    "deferral.on_demand",
    "deferral.operator",
    "deferral.written_once",
    "engine",
    "engine.errors",
    "engine.paths",
    "engine.wording",
}
"""What of the package a DAG file loads beside the vendor's own modules."""
LIGHT_OF_A_VENDOR = {"links", "naming", "operators"}


def own(modules: Iterable[str]) -> set[str]:
    """Return which modules are of the package, without its name."""
    prefix = "async_triggers."
    return {each.removeprefix(prefix) for each in modules if each.startswith(prefix)}


@pytest.mark.parametrize("vendor", OPERATORS)
def test_a_dag_file_loads_no_more_than_the_face_of_a_task(vendor: str) -> None:
    operator, arguments = OPERATORS[vendor]
    code = MAKE_A_TASK.format(vendor=vendor, operator=operator, arguments=arguments)
    loaded = set(run_alone(code))
    expected = LIGHT | {vendor} | {f"{vendor}.{each}" for each in LIGHT_OF_A_VENDOR}

    # Airflow has read what there is of providers by then, or does so with the DAG.
    assert own(loaded) - {"provider_info"} == expected
    # The rest of what a DAG loads is Airflow's, and the same for every operator.
    heavy = {"aiohttp", "airflow.triggers.base", "difflib", "orjson"}
    assert loaded & heavy == set()


LOAD_A_TRIGGER = """
import sys
import airflow.sdk
import {module}
print(*sys.modules)
"""


@pytest.mark.parametrize(
    "module", sorted({each.rpartition(".")[0] for each in [*TRIGGERS, *WATCHERS]})
)
def test_a_triggerer_loads_all_of_compat_with_a_trigger(module: str) -> None:
    """What is loaded on demand must not be loaded on the loop of all triggers."""
    loaded = own(run_alone(LOAD_A_TRIGGER.format(module=module)))
    parts = {each.name for each in pkgutil.iter_modules(compat.__path__)}

    assert parts == {"features", "kills", "names", "store", "talk"}
    assert {f"deferral.compat.{each}" for each in parts} <= loaded


ON_DEMAND = [
    "async_triggers.airbyte.operators",
    "async_triggers.dbt_cloud.operators",
    "async_triggers.deferral.compat",
    "async_triggers.fivetran.operators",
]


@pytest.mark.parametrize("name", ON_DEMAND)
def test_a_module_lists_what_it_has_not_loaded(name: str) -> None:
    listed = run_alone(f"import {name} as it; print(*set(it.__all__) - set(dir(it)))")

    assert listed == []


@pytest.mark.parametrize("name", ON_DEMAND)
def test_a_module_has_all_that_it_offers_and_no_more(name: str) -> None:
    module = import_module(name)

    assert all(hasattr(module, each) for each in module.__all__)
    with pytest.raises(AttributeError, match=f"{name!r} has no attribute 'absent'"):
        module.absent  # noqa: B018 - looking it up is the point


HOOKS = {
    "airbyte": "AirbyteHook",
    "dbt_cloud": "DbtCloudHook",
    "fivetran": "FivetranHook",
}


@pytest.mark.parametrize("vendor", OPERATORS)
def test_an_operator_takes_the_hook_that_a_test_puts_beside_it(vendor: str) -> None:
    operators = import_module(f"async_triggers.{vendor}.operators")
    name, arguments = OPERATORS[vendor]
    given = eval(f"dict({arguments})")
    task = getattr(operators, name)(task_id="run", **given)

    with patch.object(operators, HOOKS[vendor]) as hook:
        made = hook.for_task if vendor == "dbt_cloud" else hook
        assert task.hook is made.return_value

    assert task.hook.conn_type == vendor


@pytest.mark.parametrize(
    "task",
    [
        DbtCloudGetJobRunArtifactOperator(
            task_id="get", run_id=7, path="manifest.json"
        ),
        DbtCloudListJobRunsOperator(task_id="list_runs"),
        DbtCloudListJobsOperator(task_id="list_jobs"),
    ],
    ids=lambda task: task.task_id,
)
def test_what_reads_dbt_cloud_takes_the_hook_that_a_test_puts_beside_it(
    task: BaseOperator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with patch("async_triggers.dbt_cloud.operators.DbtCloudHook") as hook:
        hook.for_task.return_value.run.return_value = b""
        task.execute({})

    hook.for_task.return_value.run.assert_called_once()


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


FOLDERS = ["engine", "deferral", "airbyte", "fivetran", "dbt_cloud"]
"""The folders whose files, classes and functions are short enough to be read at once."""
MOST_OF_A_FILE = 700
MOST_OF_A_CLASS = 450
MOST_OF_A_FUNCTION = 60
"""Lines, docstring included. Constructors are as long as the names that users know."""


def too_long(source: str) -> Iterator[str]:
    """Name what has more lines than it may have."""
    lines = len(source.splitlines())
    if lines > MOST_OF_A_FILE:
        yield f"the file: {lines}"

    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef():
                most = MOST_OF_A_CLASS
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node.name != "__init__":
                most = MOST_OF_A_FUNCTION
            case _:
                continue

        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > most:
            yield f"{node.name}: {lines}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_classes_and_functions_are_short(folder: str) -> None:
    root = Path(async_triggers.__file__).parent / folder
    files = sorted(root.rglob("*.py"))

    found = [
        f"{file.name}, {each}" for file in files for each in too_long(file.read_text())
    ]

    assert files
    assert found == []


@pytest.mark.parametrize(
    ("head", "most"),
    [
        ("def long():", MOST_OF_A_FUNCTION),
        ("async def long():", MOST_OF_A_FUNCTION),
        ("class long:", MOST_OF_A_CLASS),
        ("# The file has no name.", MOST_OF_A_FILE),
    ],
)
def test_what_is_too_long_is_found(head: str, most: int) -> None:
    indent = "" if head.startswith("#") else "    "
    fits = f"{head}\n" + f"{indent}x = 1\n" * (most - 1)
    name = "long" if indent else "the file"

    assert [*too_long(fits)] == []
    assert [*too_long(f"{fits}{indent}x = 1\n")] == [f"{name}: {most + 1}"]


@pytest.mark.parametrize("vendor", ["airbyte", "fivetran", "dbt_cloud"])
def test_every_vendor_says_the_same_things_in_the_same_places(vendor: str) -> None:
    api = import_module(f"async_triggers.{vendor}.api")
    names = {each.name for each in pkgutil.iter_modules(api.__path__)}

    assert names >= {"models", "replies", "requests", "vendor"}


LAYERS = Path(__file__).parents[2] / "docs" / "explanation" / "layers.md"
VENDORS = ("airbyte", "fivetran", "dbt_cloud")
FLOORS = {"airbyte/": VENDORS, "deferral/": ("deferral",), "engine/": ("engine",)}
"""What the diagram calls each floor, and its folders."""


def drawn(text: str) -> dict[str, list[str]]:
    """Return the files that the diagram of a page names, by floor."""
    (diagram,) = re.findall(r":name: every-file\n(.*?)```", text, re.DOTALL)
    floors = re.split(r"^═.*\n", diagram, flags=re.MULTILINE)
    return {
        each.split()[0]: re.findall(r"\w+\.py\b", each)
        for each in floors
        if each.split()[0] in FLOORS
    }


def there_are(folders: tuple[str, ...]) -> set[str]:
    """Return the names of all files of some folders."""
    root = Path(async_triggers.__file__).parent
    found = {file.name for each in folders for file in (root / each).rglob("*.py")}
    return found - {"__init__.py"}


@pytest.mark.parametrize("floor", FLOORS)
def test_the_diagram_of_the_layers_names_every_file_and_no_other(floor: str) -> None:
    named = drawn(LAYERS.read_text())[floor]

    assert set(named) == there_are(FLOORS[floor])
    assert floor == "airbyte/" or len(named) == len(set(named))


def test_a_file_that_is_not_drawn_is_found() -> None:
    text = LAYERS.read_text().replace("poller.py", "roller.py")

    assert set(drawn(text)["engine/"]) ^ there_are(("engine",)) == {
        "poller.py",
        "roller.py",
    }


LOOKS_AIRFLOW_UP = ("deferral", "airbyte", "fivetran", "dbt_cloud", "generators")


def calls_in_a_thread(source: str) -> list[str]:
    """Return what of a module takes a call to a thread that asgiref does not know."""
    names = {"to_thread", "run_in_executor"}
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in names
    ]


@pytest.mark.parametrize("folder", LOOKS_AIRFLOW_UP)
def test_blocking_calls_go_through_asgiref(folder: str) -> None:
    # A call of Airflow's SDK in any other thread ends the triggerer of Airflow 3.1.
    found = {
        str(path): calls
        for path in (Path(async_triggers.__file__).parent / folder).rglob("*.py")
        if (calls := calls_in_a_thread(path.read_text()))
    }

    assert found == {}


@pytest.mark.parametrize(
    "source",
    ["await asyncio.to_thread(look_up)", "loop.run_in_executor(None, look_up)"],
)
def test_other_threads_are_found(source: str) -> None:
    assert len(calls_in_a_thread(source)) == 1
