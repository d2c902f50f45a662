from __future__ import annotations

from datetime import UTC, datetime

import pytest

from async_triggers.demo.airflow_api import Run, TaskInstance
from async_triggers.simulator import AirbyteSimulator
from benchmarks.end_to_end import WAYS, Cost, delays, main, table

NOON = 1_795_000_000.0


def cost(way: str, **numbers: float) -> Cost:
    given = {"wall": 100.4, "cpu": 50.5, "idle": 0.5, "slowest": 9.96, "median": 4.0}
    return Cost(way=way, tasks=200, workers=400, requests=300, **{**given, **numbers})


def test_every_way_has_its_row() -> None:
    text = table([cost(way.name) for way in WAYS])

    rows = text.splitlines()[2:]
    assert len(rows) == len(WAYS) == 4
    assert (
        rows[1] == "| this package, deferrable | 100 s | 400 | 50 s | 4.0 s, 10.0 s |"
    )


def test_a_delay_is_counted_from_the_end_of_the_tasks_own_job() -> None:
    now = NOON
    airbyte = AirbyteSimulator(clock=lambda: now)
    for number, lasts in enumerate((10, 30)):
        airbyte.add_connection(f"c{number}")
        airbyte.add_job(f"c{number}", f"running:{lasts} succeeded")
    now += 60
    run = Run("ours", "run")
    instances = [
        TaskInstance(
            id=str(number),
            run=run,
            task_id=f"sync_{number}",
            map_index=-1,
            state="success",
            try_number=1,
            max_tries=0,
            start_date=None,
            end_date=datetime.fromtimestamp(NOON + 45, tz=UTC).isoformat(),
            operator=None,
            trigger_id=None,
            triggerer_host=None,
        )
        for number in (1, 0)
    ]

    assert delays(instances, airbyte) == pytest.approx([15, 35])


def test_a_way_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--ways", "theirs"])

    assert "theirs" in capsys.readouterr().err
