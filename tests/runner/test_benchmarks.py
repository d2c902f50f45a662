"""The benchmarks, small and in a hurry: that they work, not what they measure."""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from benchmarks import faults, polling
from benchmarks.rows import Run
from benchmarks.stage import ROOT, open_stage
from benchmarks.trouble.real import Worker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.runner


def test_our_triggers_survive_a_few_faults(tmp_path: Path) -> None:
    chosen = ["--only", "503", "--only", "token"]

    part = ["--part", "faults", "--ours", "--hurry"]

    code = faults.main([*part, *chosen, "--out", str(tmp_path)])

    told = json.loads((tmp_path / "faults.json").read_text())["results"]
    assert code == 0
    assert len(told) == 4
    assert {each["verdict"] for each in told} == {"survived"}
    assert all(each["requests_hit"] for each in told if each["fault"] != "token")
    assert "one answer 503" in (tmp_path / "faults.md").read_text()


@pytest.mark.asyncio
async def test_a_cell_that_breaks_down_ends_the_benchmark(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stage = cast("Any", SimpleNamespace(folder=tmp_path, environment=environment))
    worker = Worker("ours", sys.executable, stage)
    try:
        await worker.ready()
        with pytest.raises(RuntimeError, match="KeyError: 'until'"):
            await worker.run({"cell": "without-what-it-needs"})
    finally:
        await worker.stop()


def test_a_network_that_fails_is_survived_in_virtual_time(tmp_path: Path) -> None:
    chosen = [f"--only={name}" for name in ("unresolved", "refused", "tls")]

    code = faults.main(["--part", "long", *chosen, "--out", str(tmp_path)])

    told = json.loads((tmp_path / "faults.json").read_text())["results"]
    assert code == 0
    assert len(told) == 9
    # The end of the job is known when the network is back, ten minutes after it failed.
    assert all(590 < each["late_s"] < 630 for each in told)


def test_a_revoked_key_ends_the_wait_in_virtual_time(tmp_path: Path) -> None:
    chosen = ["--part", "ends", "--only", "revoked", "--vendor", "dbt_cloud"]

    code = faults.main([*chosen, "--out", str(tmp_path)])

    (told,) = json.loads((tmp_path / "faults.json").read_text())["ends"]
    assert code == 0
    assert 0 < told["after"] < 3600
    assert told["requests"] > 0
    assert "credentials" in told["message"]


@pytest.mark.parametrize(
    ("side", "mode"),
    [("floor", []), ("ours", ["--runner"]), ("ours", ["--unwatched"])],
    ids=["floor", "ours", "unwatched"],
)
def test_the_polling_benchmark_is_told_of_all_ends(
    tmp_path: Path, side: str, mode: list[str]
) -> None:
    chosen = ["--n", "20", "--only", side, "--vendor", "dbt_cloud", *mode]

    again = [*chosen, "--floor", "0.4", "--out", str(tmp_path)]

    code = polling.main(again)

    told = json.loads((tmp_path / "polling.json").read_text())
    ((run,),) = (sitting["runs"] for sitting in told["sittings"])
    measured = run["measured"]
    assert code == 0
    assert (measured["told"], measured["wrong"]) == (20, {})
    assert measured["requests"] > 0
    is_watched = "lag_p99_s" in measured
    assert is_watched is ("--unwatched" not in mode)
    # What was not watched is told beside what was.
    said = (tmp_path / "polling.md").read_text()
    assert ("dbt Cloud, 20 together" in said) is is_watched
    assert (tmp_path / "polling.svg").stat().st_size > 0


def test_watchers_beside_waiting_jobs_report_each_end() -> None:
    run = Run(
        vendor="dbt_cloud", side="ours", n=20, watchers=20, seconds=3.0, floor=0.4
    )

    with open_stage() as stage:
        measured = polling.measure(
            run, stage, {"ours": sys.executable}, {sys.executable: 0.0}
        )

    assert measured["told"] == measured["heard"] == measured["to_hear"] == 20
    assert measured["settled_cpu_share"] > 0
