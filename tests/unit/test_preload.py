from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from airflow import configuration

from async_triggers import preload

_SHOW = """
import os
import sys
import airflow
if "async_triggers.engine.transport" in sys.modules:
    sys.exit("before the first fork")
if not os.fork():
    os._exit(0)
os.wait()
names = ["aiohttp", "async_triggers.airbyte.operators", "async_triggers.engine.transport"]
print([name in sys.modules for name in names])
"""


@pytest.mark.parametrize(
    ("variables", "command", "expected"),
    [
        ({}, ["scheduler"], [True] * 3),
        ({}, ["dag-processor"], [False] * 3),
        ({"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}, ["scheduler"], [False] * 3),
        ({"AIRFLOW__ASYNC_TRIGGERS__PRELOAD": "True"}, [], [True] * 3),
        ({"AIRFLOW__ASYNC_TRIGGERS__PRELOAD": "False"}, ["scheduler"], [False] * 3),
        ({"AIRFLOW__ASYNC_TRIGGERS__PRELOAD": "fast"}, ["scheduler"], [False] * 3),
    ],
)
def test_a_process_of_airflow_loads_it_before_it_forks(
    tmp_path: Path,
    variables: Mapping[str, str],
    command: list[str],
    expected: list[bool],
) -> None:
    program = tmp_path / "airflow"
    program.write_text(_SHOW)

    done = subprocess.run(
        [sys.executable, str(program), *command],
        env={**os.environ, "AIRFLOW__CORE__EXECUTOR": "LocalExecutor", **variables},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == str(expected)
    warned = "[async_triggers] preload must be auto, True or False, not 'fast'"
    # Airflow's logging is set up by then: it says where warnings go.
    assert (warned in done.stdout + done.stderr) is ("fast" in variables.values())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("True", True),
        ("on", True),
        ("1", True),
        ("False", False),
        ("auto", True),
        (" AUTO ", True),
        ("", True),
        ("fast", False),
    ],
)
def test_preload_is_switched_as_airflows_own_options_are(
    monkeypatch: pytest.MonkeyPatch, value: str, *, wanted: bool
) -> None:
    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__PRELOAD", value)

    assert preload.is_wanted(["airflow", "celery", "worker"]) is wanted


@pytest.mark.parametrize(
    ("command", "executor", "forks"),
    [
        ("/venv/bin/python /home/airflow/bin/airflow scheduler", "LocalExecutor", True),
        ("python -m airflow scheduler --num-runs 5", "LocalExecutor", True),
        ("airflow scheduler", "CeleryExecutor,LocalExecutor", True),
        ("airflow scheduler", "airflow.executors.local_executor.LocalExecutor", True),
        ("airflow scheduler", "KubernetesExecutor", False),
        ("airflow celery worker --queues a", "CeleryExecutor", True),
        ("airflow edge worker", "CeleryExecutor", True),
        ("airflow celery flower", "CeleryExecutor", False),
        ("airflow triggerer", "LocalExecutor", False),
        ("airflow", "LocalExecutor", False),
        ("airflow dags test scheduler", "LocalExecutor", False),
        (
            "python -m airflow.sdk.execution_time.execute_workload",
            "LocalExecutor",
            False,
        ),
        ("pytest scheduler", "LocalExecutor", False),
        ("", "LocalExecutor", False),
    ],
)
def test_only_some_commands_fork_tasks(
    command: str, executor: str, *, forks: bool
) -> None:
    assert preload.forks_tasks(command.split(), executor) is forks


def test_what_cannot_be_loaded_stops_no_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__PRELOAD", "True")
    monkeypatch.setattr(preload, "import_module", load)

    preload.preload.__wrapped__()

    assert [record.message for record in caplog.records] == [
        "async_triggers could not be loaded before the tasks that use it"
    ]


def test_a_setting_that_cannot_be_read_stops_no_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = ConfigParser()
    read.read_string("[async_triggers]\npreload = 50%\n")
    monkeypatch.setattr(configuration, "conf", read)

    preload.preload.__wrapped__()

    assert len(caplog.records) == 1


def test_all_that_is_loaded_exists() -> None:
    assert all(import_module(name).__name__ == name for name in preload.MODULES)
