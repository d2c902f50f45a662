from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[3] / "benchmarks" / "hooks"


def python(code: str, *arguments: str, **variables: str) -> str:
    """Run Python as the benchmarks' launcher does, and return what it prints."""
    path = os.pathsep.join([str(HOOKS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("off", [3600.0, -86400.0])
def test_the_wall_clock_of_a_process_is_stepped_and_no_other_clock(
    tmp_path: Path, off: float
) -> None:
    pytest.importorskip("time_machine")
    file = tmp_path / "clock"
    file.write_text(str(off))
    code = (
        "import time, datetime as d; print(time.time(), time.time_ns() / 1e9,"
        " d.datetime.now().timestamp(), time.monotonic())"
    )

    clocks = python(code, ASYNC_TRIGGERS_BENCHMARK_CLOCK=str(file)).split()

    wall, nanoseconds, from_datetime, steady = map(float, clocks)
    assert abs(wall - time.time() - off) < 15
    assert abs(nanoseconds - wall) < 1
    assert abs(from_datetime - wall) < 1
    assert abs(steady - time.monotonic()) < 15


def test_a_step_reaches_a_process_that_runs_and_its_forks(tmp_path: Path) -> None:
    pytest.importorskip("time_machine")
    file = tmp_path / "clock"
    # The file is written after the fork, in whose child no thread goes on by itself.
    code = (
        "import os, sys, threading, time\n"
        "right = time.time()\n"
        "child = os.fork()\n"
        "if child: open(sys.argv[1], 'w').write('86400')\n"
        "pause = threading.Event()\n"
        "while time.time() < right + 80000: pause.wait(0.05)\n"
        "if child: os.waitpid(child, 0)\n"
        "print('stepped', flush=True)"
    )

    shown = python(code, str(file), ASYNC_TRIGGERS_BENCHMARK_CLOCK=str(file))

    assert shown.split() == ["stepped", "stepped"]


def test_a_clock_without_its_file_goes_right(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")

    shown = python(
        "import time; print(time.time())", ASYNC_TRIGGERS_BENCHMARK_CLOCK=missing
    )

    assert abs(float(shown) - time.time()) < 15


def test_names_of_a_domain_do_not_exist() -> None:
    code = (
        "import socket\n"
        "try:\n    socket.getaddrinfo('api.example.test', 443)\n"
        "except socket.gaierror as error:\n"
        "    print(error.errno == socket.EAI_NONAME)\n"
        "print(bool(socket.getaddrinfo('127.0.0.1', 1)))"
    )

    shown = python(code, ASYNC_TRIGGERS_BENCHMARK_UNRESOLVED=".example.test")

    assert shown.split() == ["True", "True"]
