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
from async_triggers.generators.dbt import fingerprint
from async_triggers.generators.errors import Unanswered
from async_triggers.generators.selector import read_arguments, select_sources
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import Simulator, SimulatorThread
from tests.unit.generators import recorded
from tests.unit.generators.selections import REFUSED, SELECTIONS
from tests.unit.generators.shop import write_shop

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "async_triggers" / "example_dags" / "from_yaml" / "transform"
VIRTUALENVS = ROOT / ".dbt-venv"
VERSIONS = ("1.11", "1.12")
# dbt 1.12 has a second parser, which it does not use unless told to. Its installation
# fetches a binary from elsewhere, so it is left out.
LEFT_OUT = "dbt-core-experimental-parser"

# The first test of each version installs dbt.
pytestmark = pytest.mark.timeout(900)

LOADER = """
# For Airflow, which reads files that have this word in them.
from async_triggers.generators import load_yaml_dags

load_yaml_dags(globals(), "example.yml")
"""

# As it is published, with the paths of this test, and without the schedule: the scheduler
# would add a run of its own, whose tasks start syncs too.
YAML = """
example_dag:
  schedule: null
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


@pytest.fixture(scope="session", params=VERSIONS)
def virtualenv(request: pytest.FixtureRequest) -> Path:
    """A virtualenv with a real dbt, kept from one run of the tests to the next."""
    version: str = request.param
    folder = VIRTUALENVS / version
    done = folder / "installed"
    VIRTUALENVS.mkdir(exist_ok=True)
    with (VIRTUALENVS / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                install_dbt(version, folder)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"dbt cannot be installed here: {error.stderr[-500:]}")
            done.touch()
    return folder


def install_dbt(version: str, folder: Path) -> None:
    """Install a version of dbt, and all that it requires but what is left out."""
    python = str(folder / "bin" / "python")

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout

    run(sys.executable, "-m", "venv", str(folder))
    install = (python, "-m", "pip", "install", "--quiet")
    run(*install, "--no-deps", f"dbt-core=={version}.*", "dbt-duckdb")
    names = (
        "from importlib.metadata import requires;"
        "print(*requires('dbt-core'), *requires('dbt-duckdb'), sep='\\n')"
    )
    required = [
        each
        for each in run(python, "-c", names).splitlines()
        if "extra ==" not in each and not each.startswith((LEFT_OUT, "dbt-core"))
    ]
    run(*install, *required)


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


def test_selections_are_answered_by_dbt_as_they_are_recorded(
    virtualenv: Path, tmp_path: Path
) -> None:
    """The unit tests compare the record with our own answers."""
    project = write_shop(tmp_path / "shop")
    asked, manifest, said = (tmp_path / name for name in ("asked", "manifest", "said"))
    asked.write_text(json.dumps(SELECTIONS))

    done = subprocess.run(
        [
            str(virtualenv / "bin" / "python"),
            str(Path(recorded.__file__).with_name("ask_dbt.py")),
            *map(str, (project, asked, manifest, said)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    parsed, answers = json.loads(manifest.read_text()), json.loads(said.read_text())
    if os.environ.get("RECORD_DBT"):
        recorded.record(parsed, SELECTIONS, answers)
    assert len(answers) == len(SELECTIONS) > 150
    for arguments, answer in zip(SELECTIONS, answers, strict=True):
        try:
            criteria = read_arguments(arguments)
            found = select_sources(parsed, criteria, unmatched=lambda _text: None)
        except Unanswered:
            assert isinstance(answer, str) or arguments in REFUSED, arguments
        else:
            assert [each.unique_id for each in found] == answer, arguments
    kept = json.loads(recorded.FILE.read_text())["answers"]
    assert kept == [
        [arguments, None if isinstance(answer, str) else answer]
        for arguments, answer in zip(SELECTIONS, answers, strict=True)
    ]


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
        (["--models", "+loan_balances"], ["raw.crm.customers", "raw.loans.payments"]),
        (["-m", "tag:loan_daily", "--exclude", "source:loans"], ["raw.crm.customers"]),
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


def test_nothing_is_written_into_the_project(virtualenv: Path, tmp_path: Path) -> None:
    project = shutil.copytree(EXAMPLE, tmp_path / "dags" / "transform")
    before = sorted(project.rglob("*"))
    state = fingerprint(project)

    arguments = ["-s", "tag:loan_daily", "--target-path", "target", "--log-path=logs"]
    assert len(listed(virtualenv, project, *arguments)) == 3

    assert sorted(project.rglob("*")) == before
    assert fingerprint(project) == state


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


@pytest.mark.parametrize("virtualenv", VERSIONS[-1:], indirect=True)
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
