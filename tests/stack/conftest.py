"""One Airflow on SQLite and one on PostgreSQL, each started when first asked for.

All stack tests share them. A test must bring its own DAG runs and connections, and
must leave every component running.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from async_triggers.demo.deployment import Deployment
from tests.stack.airflows import SHARING
from tests.stack.postgres import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
DAG_FOLDER = _HERE / "dags"
_OUTSIDE = _ROOT / "tests" / "outside_vendor"
_KNOWN_PATHS = [
    each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each
]
_DAG_FOLDERS = (DAG_FOLDER, _ROOT / "async_triggers" / "example_dags")
_POSTGRES_FIXTURES = frozenset({"postgres_server", "postgres_deployment"})
_SHARED_FIXTURES = frozenset({"postgres_deployment", "sqlite_deployment"})

# These files take minutes each and have Airflows of their own, so they begin first. The
# files that share an Airflow come last, or it would idle beside them all the time.
_LONG = (
    "test_secrets.py",
    "test_chaos.py",
    "test_high_availability.py",
    "test_benchmarks.py",
    "test_real_dbt.py",
    "test_examples.py",
)

# From an idle machine to a healthy Airflow takes a quarter of a minute, a killed
# worker is noticed after half a minute, a killed triggerer after another.
_TIMEOUT = 300


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Mark the tests of whole Airflows before they are chosen by mark, then order them."""
    for item in items:
        if _HERE not in item.path.parents:
            continue
        if item.get_closest_marker("celery") is None:
            item.add_marker(pytest.mark.stack)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT))
        if _POSTGRES_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.postgres)
        _check_sharing(item)

    yield

    # What is shuffled otherwise remains so.
    items.sort(key=_turn)


def _check_sharing(item: pytest.Item) -> None:
    fixtures = _SHARED_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    if fixtures and item.path.name not in SHARING:
        msg = f"{item.path.name} uses {', '.join(fixtures)}: name it in airflows.py"
        raise pytest.UsageError(msg)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    """Return when a test is to begin."""
    name = item.path.name
    place = _LONG.index(name) if name in _LONG else len(_LONG)
    return name in SHARING, place


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that failed what its Airflow's logs say."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            deployment = getattr(value, "deployment", value)
            if isinstance(deployment, Deployment):
                report.sections += [
                    (f"end of {part.log}", part.tail(40))
                    for part in deployment.components
                ]
                report.sections += [
                    (f"errors in {path}", "\n".join(lines[-10:]))
                    for path, lines in _errors_in(deployment.home)
                ]
    return report


def _errors_in(home: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each log file that has errors, with their lines."""
    for path in sorted(home.rglob("*.log")):
        lines = path.read_text(errors="replace").splitlines()
        found = [line for line in lines if "error" in line[:200].lower()]
        if found:
            yield path, found


def _deployment(home: Path, database: str | None) -> Deployment:
    return Deployment(
        home,
        dags=[folder for folder in _DAG_FOLDERS if folder.exists()],
        database=database,
        # As if it were installed.
        env={"PYTHONPATH": os.pathsep.join([str(_OUTSIDE), *_KNOWN_PATHS])},
        template=_ROOT / ".airflow",
        # Two more than there are by default: tasks that tests keep on their workers or
        # kill there hold theirs for half a minute.
        parallelism=6,
    )


@pytest.fixture(scope="session")
def sqlite_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A running Airflow on SQLite."""
    with _deployment(tmp_path_factory.mktemp("sqlite"), None) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL server without any database of Airflow's."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_deployment(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Deployment]:
    """A running Airflow on PostgreSQL."""
    home = tmp_path_factory.mktemp("postgres")
    with _deployment(home, postgres_server.create_database("airflow")) as deployment:
        yield deployment


@pytest.fixture(params=["sqlite", "postgres"])
def any_deployment(request: pytest.FixtureRequest) -> Deployment:
    """The test runs twice: on SQLite and on PostgreSQL."""
    found = request.getfixturevalue(f"{request.param}_deployment")
    assert isinstance(found, Deployment)
    return found
