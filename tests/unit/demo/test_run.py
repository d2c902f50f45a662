from __future__ import annotations

import fcntl
import io
from typing import TYPE_CHECKING

from rich.console import Console

from async_triggers.demo.run import arrange, run
from async_triggers.demo.scenarios import EVENT_SCENARIOS, SCENARIOS
from async_triggers.simulator.server import Simulator

if TYPE_CHECKING:
    from pathlib import Path


def refused(home: Path) -> str:
    console = Console(file=io.StringIO(), width=300)
    assert run(home=home, console=console) == 1
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_directory_with_other_things_is_not_emptied(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    precious = home / "thesis.txt"
    precious.write_text("chapter one")

    said = refused(home)

    assert f"{home} holds other things" in said
    assert "--home" in said
    assert precious.read_text() == "chapter one"


def test_a_second_demo_in_the_same_place_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with (tmp_path / "home.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        said = refused(home)

    assert f"another demo runs in {home}" in said


def test_everything_the_scenarios_start_is_at_the_simulator() -> None:
    simulator = Simulator()

    arrange(simulator, SCENARIOS)

    assert set(simulator.airbyte.connections) == {
        target
        for scenario in SCENARIOS
        if scenario.vendor == "airbyte"
        for target in scenario.targets
    }


def test_what_vendors_start_by_themselves_is_on_their_schedules() -> None:
    simulator = Simulator()
    arrange(simulator, [], EVENT_SCENARIOS)
    now = simulator.airbyte.now()

    for vendor in simulator.vendors:
        assert vendor.jobs() == []
        vendor.now = lambda: now + 31.0  # type: ignore[method-assign]
        vendor.run_schedules()
        started = {str(job.target) for job in vendor.jobs()}
        assert started == {
            each.target
            for event in EVENT_SCENARIOS
            for each in event.scheduled
            if each.vendor == vendor.name
        }
