"""What is recorded of the other providers is what they offer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.peers import ROOT, python_of_peers

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

FOLDER = ROOT / "tests" / "unit" / "peers"


def test_their_public_names_are_those_that_were_recorded(tmp_path: Path) -> None:
    done = subprocess.run(
        [python_of_peers(), FOLDER / "describe.py"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path)},
    )

    recorded = json.loads((FOLDER / "recorded.json").read_text())
    assert json.loads(done.stdout) == recorded
