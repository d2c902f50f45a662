"""The simulator in an environment that has no Airflow, installed as the docs say."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from async_triggers.simulator import SimulatorControl

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "simulator.md"


def installations() -> list[list[str]]:
    """Return the commands of the page's one line, with this very tree as the package."""
    [line] = re.findall(
        r"^\$ (pip install .* --no-deps .*)$", PAGE.read_text(), re.MULTILINE
    )
    return [
        [
            str(ROOT) if word == "airflow-provider-async-triggers" else word
            for word in shlex.split(part)
        ]
        for part in line.split(" && ")
    ]


def test_the_documented_line_installs_a_simulator_that_runs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path)], check=True)
    python = str(tmp_path / "bin" / "python")
    for _, *arguments in installations():
        done = subprocess.run(
            [python, "-m", "pip", "-q", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr
    assert not list(tmp_path.glob("lib/*/site-packages/airflow"))
    assert not list(tmp_path.glob("lib/*/site-packages/orjson"))

    shown = subprocess.run(
        [python, "-I", "-m", "async_triggers", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "simulate" in shown.stdout

    ports = ["--airbyte-port=0", "--fivetran-port=0", "--dbt-port=0"]
    with subprocess.Popen(
        [python, "-I", "-m", "async_triggers", "simulate", *ports],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            urls = []
            for line in process.stdout:
                if len(words := line.split()) == 2 and words[1].startswith("http:"):
                    urls.append(words[1])
                if line.startswith("Control API"):
                    break
            assert len(urls) == 3
            for url in urls:
                assert SimulatorControl(url).record()["total"] == 0
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
