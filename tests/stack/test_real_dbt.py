from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_triggers.demo.deployment import Deployment
from async_triggers.generators import dbt
from async_triggers.generators.errors import Unanswered
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import Simulator, SimulatorThread

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "async_triggers" / "example_dags" / "from_yaml" / "transform"
VIRTUALENV = ROOT / ".dbt-venv"
# From 1.12 on, the installation fetches a binary from elsewhere.
REQUIREMENTS = ("dbt-core>=1.8,<1.12", "dbt-duckdb")

# The first test installs dbt.
pytestmark = pytest.mark.timeout(900)

LOADER = """
# For Airflow, which reads files that have this word in them.
from async_triggers.generators import load_yaml_dags

load_yaml_dags(globals(), "example.yml")
"""

# As it is published, with the paths of this test.
YAML = """
example_dag:
  schedule: "@daily"
  default_args: {{start_date: 2026-01-01}}
  task_groups:
    extract_and_load:
      tooltip: "Extract and Load tasks"
  tasks:
    load:
      generator: dagfactory.FivetranDbtGenerator
      airflow_connection_id: fivetran_connection
      dbt_project_path: transform
      task_group_name: extract_and_load
      virtualenv_path: {virtualenv}
      dbt_list_args: "--select tag:loan_daily"
      wait_for_completion: true
      poke_interval: 60
    transform:
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "echo dbt build -s 'tag:loan_daily+'"
      dependencies: [extract_and_load]
"""


@pytest.fixture(scope="session")
def virtualenv() -> Path:
    """A virtualenv with the real dbt, kept from one run of the tests to the next."""
    done = VIRTUALENV / "installed.json"
    with (ROOT / ".dbt-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and json.loads(done.read_text()) == list(REQUIREMENTS):
            return VIRTUALENV
        shutil.rmtree(VIRTUALENV, ignore_errors=True)
        python = VIRTUALENV / "bin" / "python"
        for command in (
            [sys.executable, "-m", "venv", str(VIRTUALENV)],
            [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS],
        ):
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                pytest.skip(f"dbt cannot be installed here: {ran.stderr[-500:]}")
        done.write_text(json.dumps(REQUIREMENTS))
    return VIRTUALENV


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The example's project where nothing can be written."""
    copy = shutil.copytree(EXAMPLE, tmp_path / "dags" / "transform")
    folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield copy
    for each in folders:
        each.chmod(stat.S_IRWXU)


def listed(virtualenv: Path, project: Path, *arguments: str) -> list[str]:
    found = dbt.list_sources(
        str(virtualenv / "bin" / "dbt"),
        project,
        arguments,
        scratch=project.parent.parent / "scratch",
        run_deps=False,
        seconds=120,
    )
    return [str(each) for each in found]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--select", "tag:loan_daily"],
            ["raw.crm.customers", "raw.loans.accounts", "raw.loans.payments"],
        ),
        (
            ["--select", "+loan_balances", "--vars", '{"a": "it\'s; $HOME"}'],
            ["raw.crm.customers", "raw.loans.payments"],
        ),
        (["--select", "tag:nothing"], []),
        (["--output", "name", "--resource-type", "model", "-s", "source:loans"], None),
    ],
)
def test_dbt_lists_the_sources_of_a_selection(
    virtualenv: Path, project: Path, arguments: list[str], expected: list[str] | None
) -> None:
    wanted = (
        expected
        if expected is not None
        else [
            "raw.loans.accounts",
            "raw.loans.payments",
        ]
    )

    assert listed(virtualenv, project, *arguments) == wanted
    assert not (project / "target").exists()
    assert not (project / "logs").exists()


@pytest.mark.parametrize(
    ("file", "text", "arguments", "message"),
    [
        (
            "packages.yml",
            "packages: [{local: ../x}]",
            [],
            'run "dbt deps" in the project',
        ),
        ("models/sources.yml", "sources: [{name: 7", [], "sources.yml"),
        ("models/new.sql", "{{ env_var('NO_SUCH') }}", [], "set the variable"),
        ("profiles.yml", "other: {}", [], "DBT_PROFILES_DIR"),
        ("models/new.sql", "select 1", ["--nonsense"], "correct dbt_list_args"),
    ],
)
def test_every_failure_is_told_in_dbts_words(
    virtualenv: Path,
    tmp_path: Path,
    file: str,
    text: str,
    arguments: list[str],
    message: str,
) -> None:
    project = shutil.copytree(EXAMPLE, tmp_path / "dags" / "transform")
    (project / file).write_text(text)

    with pytest.raises(Unanswered, match=r"dbt ended with 2.*dbt says:\n\S") as told:
        listed(virtualenv, project, *arguments)

    assert message in str(told.value)


@pytest.fixture
def vendors() -> Iterator[Simulator]:
    with SimulatorThread() as simulator:
        fivetran = simulator.fivetran
        fivetran.add_group("wh", name="Warehouse", config={"database": "RAW"})
        tables = {"loans": ["accounts", "payments"], "crm": ["customers"], "x": ["y"]}
        for name, names in tables.items():
            fivetran.add_connection(
                name,
                group_id="wh",
                schema=name,
                tables={name: names},
                lives=["scheduled:1 syncing:20 succeeded"],
            )
        yield simulator


def test_the_published_yaml_runs_to_the_end_with_a_real_dbt(
    virtualenv: Path, project: Path, vendors: Simulator, tmp_path: Path
) -> None:
    dags = project.parent
    (dags / "load.py").write_text(LOADER)
    (dags / "example.yml").write_text(YAML.format(virtualenv=virtualenv))
    fivetran = connection_variables(vendors)["AIRFLOW_CONN_FIVETRAN_DEFAULT"]

    with Deployment(
        tmp_path / "home",
        dags=[dags],
        connections={"fivetran_connection": json.loads(fivetran)},
        template=ROOT / ".airflow",
        # dbt must be found by virtualenv_path alone.
        env={"PATH": os.defpath},
    ) as deployment:
        run = deployment.api.trigger_run("example_dag")
        state = deployment.api.wait_for_run(run, timeout=200)
        tasks = {ti.task_id for ti in deployment.api.task_instances(run)}
        errors = deployment.api.import_errors()

    assert state == "success"
    assert errors == {}
    assert tasks == {
        "extract_and_load.warehouse-crm-trigger",
        "extract_and_load.warehouse-loans-trigger",
        "transform",
    }
    assert vendors.fivetran.record.starts == {"crm": 1, "loans": 1}
    assert vendors.fivetran.record.requests["GET /v1/groups"] == 1
