from __future__ import annotations

import json
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


# The file is written after the fork, in whose child no thread goes on by itself.
FORK = """
import datetime, os, sys, threading, time
begun, steady = time.time(), time.monotonic()
child = os.fork()
if child:
    open(sys.argv[1], "w").write(sys.argv[2])
    os.waitpid(child, 0)
    print(time.time(), flush=True)
else:
    pause = threading.Event()
    while abs(time.time() - begun) < 600 and time.monotonic() < steady + 10:
        pause.wait(0.05)
    print(time.time(), time.time_ns() / 1e9, datetime.datetime.now().timestamp())
    print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize("off", [3600.0, -86400.0])
def test_the_wall_clock_of_a_fork_is_stepped_and_no_other_clock(
    tmp_path: Path, off: float
) -> None:
    pytest.importorskip("time_machine")
    file = str(tmp_path / "clock")

    shown = python(FORK, file, str(off), ASYNC_TRIGGERS_BENCHMARK_CLOCK=file)

    *stepped, steady, parents = map(float, shown.split())
    assert all(abs(clock - time.time() - off) < 15 for clock in stepped)
    assert abs(steady - time.monotonic()) < 15
    assert abs(parents - time.time()) < 15


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


# A process of a task, which is known by its title, and one that is none.
TASK = """
import os, sys, threading
for title in ("airflow worker -- 01a2", "airflow worker -- LocalExecutor: idle"):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    else:
        from setproctitle import setproctitle
        setproctitle(title)
        import asyncio, this
        asyncio.new_event_loop().close()
        thread = threading.Thread(target=bool, name="beside")
        thread.start()
        thread.join()
        os._exit(0)
"""


def test_the_process_of_a_task_writes_down_what_it_has_used(tmp_path: Path) -> None:
    python(TASK, ASYNC_TRIGGERS_BENCHMARK_SEGMENTS=str(tmp_path))

    (file,) = tmp_path.iterdir()
    used = json.loads(file.read_text())
    assert used["task"] == "01a2"
    assert "this" in used["modules"]
    assert "os" not in used["modules"]
    assert (used["threads"], used["loops"]) == (["beside"], 1)
    assert used["cpu"] > 0
    assert used["peak_mb"] > 1
    assert abs(used["at"] - time.time()) < 15


def test_the_host_of_the_official_fivetran_hook_is_set_where_it_is_imported(
    tmp_path: Path,
) -> None:
    package = tmp_path / "fivetran_provider_async"
    package.mkdir()
    (package / "__init__.py").touch()
    hook = 'class FivetranHook:\n    api_host = "api.fivetran.com"\n'
    (package / "hooks.py").write_text(hook)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from fivetran_provider_async.hooks import FivetranHook\n"
        "print(FivetranHook.api_host)"
    )

    shown = python(code, str(tmp_path), ASYNC_TRIGGERS_BENCHMARK_FIVETRAN="here:1")

    assert shown.split() == ["here:1"]
    assert python(code, str(tmp_path)).split() == ["api.fivetran.com"]
