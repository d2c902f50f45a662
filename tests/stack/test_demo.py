from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from rich.console import Console

from async_triggers.demo.run import run
from async_triggers.demo.scenarios import EVENT_SCENARIOS, SCENARIOS

HERE = Path(__file__).parents[2]


def _processes_of(home: Path) -> list[int]:
    """Return the processes that have this Airflow home in their environment."""
    mark = f"AIRFLOW_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found


def _wait_until_gone(home: Path) -> None:
    """Wait for the killed to be gone; the kernel takes a moment."""
    patience = threading.Event()
    for _ in range(50):
        if not _processes_of(home):
            return
        patience.wait(0.1)
    assert _processes_of(home) == []


def test_an_interrupted_demo_stops_all_it_started(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with subprocess.Popen(
        [sys.executable, "-m", "async_triggers.cli", "demo", "--home", home],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=HERE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as demo:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if "Airflow answers at http://127.0.0.1:" in line:
                break
        while_it_runs = _processes_of(home)

        demo.send_signal(signal.SIGINT)
        said += demo.stdout.read()

    assert demo.returncode == 130, said
    assert "Interrupted; everything is stopped." in said
    assert len(while_it_runs) >= 4
    _wait_until_gone(home)


def test_the_demo_of_a_job_of_each_vendor_is_as_expected(tmp_path: Path) -> None:
    single = [each for each in reversed(SCENARIOS) if len(each.targets) == 1]
    chosen = list({each.vendor: each for each in single}.values())
    assert len(chosen) == 3
    # An event that a DAG waits for is its success.
    chosen += [each for each in SCENARIOS if each.dag_id == "load_orders"]
    console = Console(file=io.StringIO(), width=100)

    code = run(home=tmp_path / "demo", scenarios=chosen, console=console)

    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert code == 0, said
    assert "all as expected" in said
    for dag_id in [each.dag_id for each in chosen] + [
        each.dag_id for each in EVENT_SCENARIOS
    ]:
        assert dag_id in said
    _wait_until_gone(tmp_path / "demo")
