"""The benchmarks that need a whole Airflow, small: that they work, not what they show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import end_to_end, scale_out, storm

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1500)]


def test_tasks_are_counted_from_their_start_to_their_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--tasks", "3", "--shortest", "10", "--longest", "12", "--settle", "0")
    common = ("--vendors", "airbyte", *small, "--rounds", "1", "--out", str(tmp_path))

    codes = [
        end_to_end.main(["--ways", way, *common, "--add"])
        for way in ("ours_ended", "ours")
    ]

    assert codes == [0, 0]
    raw = json.loads((tmp_path / "end_to_end.json").read_text())
    (ended,), (plain,) = raw["rounds"]
    assert ended["workers"] == ended["tasks"] == 3
    assert ended["cpu"] > 0
    assert ended["calls"]["start"]["run"] == 3
    assert ended["segments"]["start"]["count"] == 3
    assert not ended["calls"]["resume"]
    assert "with `end_from_trigger` | " in (tmp_path / "end_to_end.md").read_text()

    assert plain["segments"]["resume"]["count"] == 3
    (logs,) = [
        line.removeprefix("logs: ")
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("logs: ")
    ][1:]
    written = [
        json.loads(each.read_text())["modules"]
        for each in Path(logs).rglob("segments/*.json")
    ]
    assert len(written) == 6
    loaded = {name for names in written for name in names}
    assert {
        name for name in loaded if name.startswith(("aiohttp", "async_triggers"))
    } == set()


def test_a_storm_starts_each_connection_once(tmp_path: Path) -> None:
    """Eight workers start what they can, on a server of five threads."""
    small = ("--starts", "8", "--blocks", "2", "--before", "2", "--lasts", "10")
    places = ("--out", str(tmp_path), "--home", str(tmp_path / "airflow"))

    code = storm.main(["--way", "free", "--workers", "8", *small, *places])

    seen = json.loads((tmp_path / "storm-free.json").read_text())
    assert code == 0
    assert seen["starts"] == {"1": 8}
    assert len(seen["notices"]) == 2
    assert "| 8 of 8 |" in (tmp_path / "storm.md").read_text()


def test_two_triggerers_share_the_jobs_and_one_takes_over(tmp_path: Path) -> None:
    small = ("--jobs", "30", "--triggerers", "2", "--calm", "5", "--ending", "3")

    code = scale_out.main([*small, "--out", str(tmp_path)])

    (seen,) = json.loads((tmp_path / "scale_out.json").read_text())["scales"]
    assert code == 0
    assert sum(seen["split"]) == 30
    assert seen["lost"] > 0
    assert 0 < sum(seen["runners"]) < sum(seen["cpu"])
    assert seen["requests"] < 30
    assert "| 2 triggerers |" in (tmp_path / "scale_out.md").read_text()
