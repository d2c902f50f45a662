"""The quickstart, word by word, in a new Airflow and in an older one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.timeout(900),
    # It installs an Airflow, and makes it run as fast as its reader's machine can.
    pytest.mark.skipif(
        os.environ.get("QUICKSTART") != "yes",
        reason="runs with ./scripts/test --full, or where QUICKSTART is yes",
    ),
]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
DISTRIBUTION = "airflow-provider-async-triggers"
PORTS = {
    "8000": "--airbyte-port",
    "8001": "--fivetran-port",
    "8002": "--dbt-port",
    "8080": "",
}
"""The ports that the page names, and the simulator's options that change them."""
DAGS = ("first_airbyte", "first_fivetran", "first_dbt_cloud")
PATIENCE = 300.0


class Terminal:
    """Where a reader types what the page says, and what differs in a test."""

    def __init__(self, folder: Path, ports: dict[str, str], airflow: str) -> None:
        self._folder = folder
        self._ports = ports
        self._airflow = airflow
        self._before: list[str] = []

    def command(self, line: str) -> str:
        """Return a line of the page with this tree's package, and with free ports."""
        for port, free in self._ports.items():
            line = re.sub(rf":{port}\b", f":{free}", line)

        line = line.replace(DISTRIBUTION, shlex.quote(str(ROOT)))
        line = line.replace("apache-airflow==3.3.2", f"apache-airflow=={self._airflow}")
        line = line.replace("python3 -m venv", f"{shlex.quote(sys.executable)} -m venv")
        if line == "async-triggers simulate":
            options = (f"{o} {self._ports[p]}" for p, o in PORTS.items() if o)
            line = f"{line} {' '.join(options)}"

        return line

    def script(self, lines: list[str]) -> list[str]:
        """Return the shell's arguments for a block, after what was typed before it."""
        text = "\n".join(["set -e", *self._before, *map(self.command, lines)])
        return ["bash", "-c", text]

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables of a shell in which no Airflow is set up."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
        kept.pop("PYTHONPATH", None)
        port = self._ports["8080"]
        kept["AIRFLOW__API__PORT"] = port
        kept["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = (
            f"http://localhost:{port}/execution/"
        )
        return kept

    def run(self, lines: list[str]) -> str:
        """Type a block, and return what is printed."""
        done = subprocess.run(
            self.script(lines),
            cwd=self._folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{lines}: {done.stdout}{done.stderr}"
        self._before += [line for line in lines if line.startswith((". ", "export "))]
        return done.stdout

    def wait_for(self, words: str) -> None:
        """Wait until Airflow prints some words."""
        log = self._folder / "airflow.log"
        ends = time.monotonic() + PATIENCE
        while words not in log.read_text():
            assert time.monotonic() < ends, log.read_text()[-2000:]
            threading.Event().wait(1.0)

    def wait_for_login(self) -> None:
        """Wait until Airflow's API server answers."""
        address = ("127.0.0.1", int(self._ports["8080"]))
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(address, timeout=5).close()
            except OSError:
                assert time.monotonic() < ends, "no answer at Airflow's port"
                threading.Event().wait(1.0)
            else:
                return

    @contextmanager
    def keep_running(self, lines: list[str]) -> Iterator[None]:
        """Type a block whose last command runs until Ctrl-C, in a terminal of its own."""
        *first, last = map(self.command, lines)
        log = self._folder / f"{lines[-1].split()[0]}.log"
        with (
            log.open("w") as output,
            subprocess.Popen(
                ["bash", "-c", "\n".join(["set -e", *first, f"exec {last}"])],
                cwd=self._folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield
                assert process.poll() is None, log.read_text()
            finally:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def free_port() -> str:
    """Return a port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def blocks(language: str) -> list[str]:
    """Return the page's blocks of a language after its first try begins."""
    rest = PAGE[PAGE.index("For a first try") :]
    return re.findall(rf"^```{language}\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL)


def typed(block: str) -> list[str]:
    """Return the commands of a block."""
    lines = block.replace("\\\n", "").splitlines()
    assert all(line.startswith("$ ") for line in lines), block
    return [line.removeprefix("$ ") for line in lines]


def state_of(terminal: Terminal, dag_id: str) -> str:
    """Return the state of the one run of a DAG, as the command line shows it."""
    shown = terminal.run([f"airflow dags list-runs {dag_id} --output plain"])
    [run] = [line for line in shown.splitlines() if line.startswith(dag_id)]
    return run.split()[2]


def test_a_new_airflow_runs_three_dags(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, {port: free_port() for port in PORTS}, "3.3.2")

    run_three_dags(terminal, tmp_path)


def test_an_older_airflow_that_is_there_stays_and_runs_three_dags(
    tmp_path: Path,
) -> None:
    terminal = Terminal(tmp_path, {port: free_port() for port in PORTS}, "3.1.8")
    constraints = ROOT / "constraints" / "3.1.8.txt"
    terminal.run(["python3 -m venv first-try", ". first-try/bin/activate"])
    terminal.run(
        [f"pip install --constraint {shlex.quote(str(constraints))} apache-airflow"]
    )
    freeze = ["pip list --format freeze"]
    before = set(terminal.run(freeze).splitlines())

    run_three_dags(terminal, tmp_path)

    assert "apache-airflow==3.1.8" in before
    assert before <= set(terminal.run(freeze).splitlines())


def run_three_dags(terminal: Terminal, tmp_path: Path) -> None:
    """Do what the page says from its first try on, until each DAG has succeeded."""
    install, simulate, connect, make_folder, start, run = map(typed, blocks("console"))
    [dags] = blocks("python")

    terminal.run(install)
    with terminal.keep_running(simulate):
        terminal.run(connect)
        terminal.run(make_folder)
        folder = tmp_path / "first-try" / "airflow" / "dags"
        (folder / "first_syncs.py").write_text(dags)
        with terminal.keep_running(start):
            terminal.wait_for("Airflow is ready")
            terminal.wait_for_login()
            terminal.run(run)
            ends = time.monotonic() + PATIENCE
            pending = set(DAGS)
            while pending and time.monotonic() < ends:
                states = {dag_id: state_of(terminal, dag_id) for dag_id in pending}
                assert "failed" not in states.values(), states
                pending -= {
                    each for each, state in states.items() if state == "success"
                }

    assert not pending
