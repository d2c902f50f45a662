"""Variables for one component of Airflow alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.demo.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path


def test_a_component_has_variables_that_no_other_has(tmp_path: Path) -> None:
    # Stands for an interpreter, and prints what reaches it.
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nenv\n")
    python.chmod(0o700)
    deployment = Deployment(
        tmp_path,
        env={"FOR_ALL": "yes"},
        part_env={"triggerer-1": {"FOR_ONE": "yes"}},
        python=python,
    )
    (tmp_path / "processes").mkdir()
    try:
        parts = [deployment.start_triggerer() for _ in range(2)]
        for part in parts:
            part.process.wait(10)
        printed = [part.text().splitlines() for part in parts]
    finally:
        deployment.stop()

    assert all("FOR_ALL=yes" in lines for lines in printed)
    assert ["FOR_ONE=yes" in lines for lines in printed] == [False, True]
