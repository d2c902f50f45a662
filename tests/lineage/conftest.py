"""A real Airflow with OpenLineage's listener, whose events are lines of a file."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.connections import connection_variables

ROOT = Path(__file__).resolve().parents[2]
DAGS = Path(__file__).parent / "dags"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave the suite out unless it is chosen: it needs a separate environment."""
    if "lineage" in config.getoption("markexpr"):
        return

    left_out = pytest.mark.skip(reason="opt in with -m lineage")
    for item in items:
        if item.get_closest_marker("lineage"):
            item.add_marker(left_out)


@dataclass
class Emitted:
    """What a script printed, and the events that the listener has sent."""

    output: str
    printed: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def of_task(self, job: str, kind: str) -> dict[str, Any]:
        """Return the one event of a kind of a task."""
        (event,) = [
            each
            for each in self.events
            if each["job"]["name"] == job and each["eventType"] == kind
        ]
        return event

    def below(self, job: str) -> list[dict[str, Any]]:
        """Return the events whose parent is the run of a task."""
        return [
            each
            for each in self.events
            if each["run"]["facets"].get("parent", {}).get("job", {}).get("name") == job
        ]


@dataclass(frozen=True)
class Stage:
    """A simulator that speaks https, and a database for Airflow."""

    simulator: Simulator
    environment: dict[str, str]
    folder: Path

    def _environment(self, file: Path, given: Mapping[str, Any]) -> dict[str, str]:
        transport = {"type": "file", "log_file_path": str(file), "append": True}
        return {
            **self.environment,
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "LINEAGE_GIVEN": json.dumps(given),
        }

    def read(self, script: str, task: str, **settings: str) -> bool:
        """Return whether a trigger may end a task, as a process sees it that parses."""
        given = dict.fromkeys(("job", "slow", "failing"), 1)
        environment = self._environment(self.folder / "none", given)
        code = (
            "import runpy\n"
            f"read = runpy.run_path({str(DAGS / script)!r})\n"
            f"print(read[{task!r}].end_from_trigger)"
        )
        output = call({**environment, **settings}, "-c", code)
        return output.split()[-1] == "True"

    def run(self, script: str, **given: Any) -> Emitted:
        """Run a script of DAGs in a separate process."""
        file = self.folder / f"{script}.events"
        output = call(self._environment(file, given), str(DAGS / script))
        emitted = Emitted(output=output)
        for line in output.splitlines():
            if line.startswith('{"'):
                emitted.printed.update(json.loads(line))

        emitted.events = [json.loads(line) for line in file.read_text().splitlines()]
        return emitted


def call(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("lineage")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW") and not name.lower().endswith("_proxy")
    }
    with SimulatorThread(ssl_context=context) as simulator:
        environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "REQUESTS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
            **connection_variables(simulator),
        }
        # The official provider adds the scheme by itself.
        official = json.loads(environment["AIRFLOW_CONN_DBT_CLOUD_DEFAULT"])
        official["host"] = official["host"].removeprefix("https://")
        environment["AIRFLOW_CONN_OFFICIAL"] = json.dumps(official)
        call(environment, "-m", "airflow", "db", "migrate")
        yield Stage(simulator, environment, folder)
