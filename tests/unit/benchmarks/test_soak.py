"""The parts of the day-long soak: what is planned, what is measured, what is a finding."""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.engine.waiters import Waiter, Waiters
from benchmarks import soak
from benchmarks.sides import VENDORS
from benchmarks.soaking.clock import EPOCH, DayLoop, Dial
from benchmarks.soaking.day import Day, arrivals, is_troubled, standing, troubles
from benchmarks.soaking.meter import Grid, Hour, Window
from benchmarks.soaking.play import Outcome
from benchmarks.soaking.sizes import sizes_of, sizes_of_modules
from benchmarks.soaking.verdict import findings
from benchmarks.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = Day(hours=24, jobs=2400, standing=3)


def an_hour(number: int, **changes: Any) -> Hour:
    sound: dict[str, Any] = {
        "ended": 800,
        "waiting": 90,
        "resident_mb": 166.0,
        "objects": 230_000,
        "descriptors": 17,
        "tasks": 99,
        "accounts": 3,
        "tables": {"Airbyte.poller.state.waiters.watched": 30},
        "rounds": 600,
        "requests": dict.fromkeys(VENDORS, 300),
        "busiest": dict.fromkeys(VENDORS, 10),
        "refused": dict.fromkeys(VENDORS, 0),
    }
    return Hour(hour=number, **{**sound, **changes})


def hours_with(**changes: Any) -> list[Hour]:
    """Return a day whose last hour is another one."""
    return [an_hour(1), an_hour(2), an_hour(3), an_hour(4, **changes)]


def an_outcome(**changes: Any) -> Outcome:
    outcome = Outcome(Hour(hour=0, descriptors=10, tasks=3), Hour(hour=0))
    outcome.after = replace(outcome.before)
    return replace(outcome, ended=3200, to_cancel=9, cancels=9, **changes)


def test_all_jobs_of_an_hour_end_in_it() -> None:
    planned = [*arrivals(DAY)]

    assert len(planned) == DAY.jobs
    assert planned == sorted(planned, key=lambda each: each.at)
    hours = [
        (each.at // DAY.hour, (each.at + each.lasts) / DAY.hour) for each in planned
    ]
    assert all(ends < hour + 0.9 for hour, ends in hours)
    counts = Counter(each.ending for each in planned)
    assert counts.keys() == {"success", "error", "stopped", "timeout"}
    assert counts["success"] > 0.9 * DAY.jobs
    # Fivetran's only cancel pauses a connection.
    assert {each.ending for each in planned if each.vendor == "fivetran"} == {
        "success",
        "error",
    }
    assert all(each.at + each.lasts > DAY.ends for each in standing(DAY))


def test_each_vendor_has_its_trouble() -> None:
    planned = troubles(DAY)

    assert planned == sorted(planned, key=lambda each: each.at)
    for vendor in VENDORS:
        titles = {each.title for each in planned if each.vendor == vendor}
        assert {"429", "outage", "key rotated"} <= titles

    assert {"certificate", "authority"} <= {each.kind for each in planned}
    assert len(troubles(replace(DAY, hours=2))) < len(planned)


def test_an_end_counts_as_in_trouble_until_it_is_over() -> None:
    (trouble,) = (
        each for each in troubles(replace(DAY, hours=2)) if each.title == "429"
    )
    at = trouble.at

    def is_in_it(vendor: str, began: float, ended: float) -> bool:
        return is_troubled(vendor, began, ended, [trouble])

    assert is_in_it("airbyte", at - 10, at + 10)
    assert not is_in_it("airbyte", at - 10, at - 5)
    assert not is_in_it("airbyte", at + 1000, at + 1010)
    assert not is_in_it("dbt_cloud", at - 10, at + 10)


def test_containers_are_found_wherever_they_are_held() -> None:
    waiters = Waiters()
    loop = asyncio.new_event_loop()
    for number in range(3):
        waiter = Waiter(loop.create_future(), 5.0, None, None, None, math.inf)
        waiters.join(str(number), waiter, 0.0, known=False)

    holder: Any = Waiters()
    holder.watched["a"] = waiters
    loop.close()

    assert sizes_of(waiters, "w")["w.watched"] == 3
    assert sizes_of(holder, "h")["h.watched[].watched"] == 3
    assert "engine.accounts._accounts" in sizes_of_modules()


def test_the_busiest_window_is_that_of_any_time() -> None:
    window = Window(60.0)
    for at in (0.0, 50.0, 55.0, 100.0, 109.0, 200.0):
        window.note(at)

    assert window.busiest == 4


def test_the_grid_drifts_where_its_places_do_not_stand_at_intervals() -> None:
    grid = Grid()
    for planned in (0.0, 15.0, 45.0, 60.0):
        grid.note(1, planned, planned, 15.0)

    assert grid.take() == (4, 0.0, 0.0)

    grid.note(1, 75.5, 76.0, 15.0)
    grid.note(1, 91.0, 91.0, 15.0)
    assert grid.take() == (2, 0.5, 1.0)

    # A backoff has a pace of its own.
    grid.restart(1)
    grid.note(1, 99.0, 99.0, 15.0)
    assert grid.take() == (1, 0.0, 0.0)


def test_a_sound_day_has_no_findings() -> None:
    assert findings(hours_with(), an_outcome()) == []
    # What waits longer holds more.
    assert findings(hours_with(waiting=120, tasks=129), an_outcome()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objects": 235_000}, "5000 more traced objects"),
        ({"resident_mb": 180.0}, "14.0 MB more memory"),
        ({"descriptors": 40}, "open files: 17"),
        ({"tasks": 120}, "tasks of the loop: 99"),
        ({"accounts": 4}, "accounts: 3"),
        ({"tables": {"Airbyte.poller.kept": 60}}, "kept has grown from 0 to 60"),
        ({"grid_drift": 0.2}, "the grid has moved by 0.2 s"),
        ({"round_late": 31.0}, "31.0 s late"),
        ({"busiest": {"dbt_cloud": 5001}}, "5001 requests to dbt Cloud in 60 s"),
        ({"broken_rounds": 1}, "1 rounds broke down"),
    ],
)
def test_what_grows_or_goes_too_far_is_found(
    change: dict[str, Any], words: str
) -> None:
    (found,) = findings(hours_with(**change), an_outcome())

    assert words in found


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda it: setattr(it, "never", 2), "2 ends were never reported"),
        (lambda it: setattr(it, "late", 3), "3 ends were reported late"),
        (lambda it: it.wrong.update(["error"]), "1 tasks ended as they should not"),
        (lambda it: setattr(it, "cancels", 8), "8 jobs were cancelled, not 9"),
        (lambda it: setattr(it.after, "accounts", 1), "1 accounts stay open"),
        (lambda it: setattr(it.after, "descriptors", 12), "2 files stay open"),
        (lambda it: setattr(it.after, "tasks", 4), "1 tasks stay"),
    ],
)
def test_what_is_lost_or_left_is_found(
    spoil: Callable[[Outcome], object], words: str
) -> None:
    outcome = an_outcome()
    spoil(outcome)

    (found,) = findings(hours_with(), outcome)

    assert words in found


def test_tables_and_raw_numbers_are_written(tmp_path: Path) -> None:
    outcome = an_outcome(delays=Counter({4: 10, 12: 2}))
    outcome.before = outcome.after = an_hour(0, ended=0, waiting=0)

    soak.write(DAY, hours_with(), outcome, tmp_path, took={}, found=["a finding"])

    raw = json.loads((tmp_path / "soak.json").read_text())
    assert raw["findings"] == ["a finding"]
    assert len(raw["hours"]) == 6
    assert raw["hours"][1]["late_p50"] is None
    text = (tmp_path / "soak.md").read_text()
    assert (
        "| from end to event without trouble: p50 / p99 / max | 4 s / 12 s / 12 s |"
        in text
    )
    assert "| 4 | 800 | 90 | 166 | 230,000 | 17 | 99 | 30 | 300, 300, 300 |" in text


def test_time_stands_still_while_an_answer_is_on_its_way(tmp_path: Path) -> None:
    dial = Dial(tmp_path / "dial")
    ours, theirs = socket.socketpair()
    ours.settimeout(0.0)
    answering = threading.Timer(0.05, theirs.send, [b"x"])

    async def play() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, DayLoop)
        asyncio.get_running_loop().call_later(30.0, lambda: None)
        await asyncio.sleep(10.0)
        answering.start()
        with loop.exchange():
            await loop.sock_recv(ours, 1)

        at_answer = loop.time()
        await asyncio.sleep(100.0)
        return at_answer, dial.now()

    with (
        ours,
        theirs,
        asyncio.Runner(loop_factory=lambda: DayLoop(dial)) as runner,
    ):
        assert runner.run(play()) == (10.0, EPOCH + 110.0)


def test_the_other_process_sees_no_time_that_was_not_set(tmp_path: Path) -> None:
    dial = Dial(tmp_path / "dial")
    dial.set(1.0)
    read = (
        "import sys; from pathlib import Path; from benchmarks.soaking.clock import Dial;"
        " dial = Dial(Path(sys.argv[1]));"
        " print(*sorted({dial.now() for _ in range(100_000)}))"
    )

    with subprocess.Popen(
        [sys.executable, "-c", read, str(tmp_path / "dial")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as reading:
        while reading.poll() is None:
            dial.set(1.0)
            dial.set(2.0)

        assert reading.stdout is not None
        seen = {float(each) - EPOCH for each in reading.stdout.read().split()}

    assert seen
    assert seen <= {1.0, 2.0}
