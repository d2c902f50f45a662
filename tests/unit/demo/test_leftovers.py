"""Nothing of a demo goes on, however often it is told to end and however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_triggers.demo.deployment import stop_leftovers

pytestmark = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="processes are found in /proc"
)

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    time.sleep(60)
print("ready", flush=True)
time.sleep(60)
"""
"""A component with a worker, both of which ignore SIGTERM."""

DEMO = f"""
import signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
from async_triggers.demo import deployment, run

home = Path(sys.argv[1])

class Part:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", {STUBBORN!r}],
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        self.process.stdout.readline()
        deployment._note_session(home, self.process.pid)
        self.stopped_by_us = False

    @property
    def alive(self):
        return self.process.poll() is None

    signal = deployment.Component.signal
    pid = property(lambda self: self.process.pid)

demo = SimpleNamespace(_replaced=[], components=[Part()], _logs=[])
with run._terminated_as_interrupted():
    try:
        print(demo.components[0].process.pid, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("stopping", flush=True)
        deployment.Deployment.stop(demo, grace=1.0)
        print("stopped", flush=True)
"""


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a demo of one component."""
    (tmp_path / "processes").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", DEMO, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as demo:
        yield demo
        demo.kill()
        stop_leftovers(tmp_path)


def said(demo: subprocess.Popen[str]) -> str:
    """Return the next line of a demo."""
    assert demo.stdout is not None
    return demo.stdout.readline().strip()


def members(session: int) -> int:
    """Return how many processes of a session go on."""
    shown = subprocess.run(
        ["ps", "-o", "stat=", "-s", str(session)],
        capture_output=True,
        text=True,
        check=False,
    )
    return sum(not line.startswith("Z") for line in shown.stdout.split())


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_leaves_nothing_behind(
    demo: subprocess.Popen[str], first: str, second: str
) -> None:
    session = int(said(demo))
    assert members(session) == 2

    demo.send_signal(signal.Signals[first])
    assert said(demo) == "stopping"
    demo.send_signal(signal.Signals[second])

    assert said(demo) == "stopped"
    assert demo.wait(30) == 0
    assert members(session) == 0


def test_the_next_demo_stops_what_one_that_was_killed_has_left(
    demo: subprocess.Popen[str], tmp_path: Path
) -> None:
    session = int(said(demo))
    demo.kill()
    demo.wait(30)
    assert members(session) == 2

    assert stop_leftovers(tmp_path) == 2

    assert members(session) == 0
    assert stop_leftovers(tmp_path) == 0


def test_what_has_another_s_number_by_now_is_not_killed(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    try:
        (tmp_path / "processes").mkdir()
        (tmp_path / "processes" / "sessions").write_text(f"{other.pid} 12345\n")

        assert stop_leftovers(tmp_path) == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_home_without_a_demo_has_no_leftovers(tmp_path: Path) -> None:
    assert stop_leftovers(tmp_path) == 0
