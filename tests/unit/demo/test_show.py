from __future__ import annotations

import io

from rich.console import Console

from async_triggers.demo.measure import Moment, Outcome, Sample
from async_triggers.demo.scenarios import EVENT_SCENARIOS, SCENARIOS
from async_triggers.demo.show import (
    Progress,
    progress_line,
    progress_table,
    summary,
    unfinished,
)
from tests.unit.demo.test_measure import SCENARIO, task

SAMPLES = {"two_syncs": Sample({"running": 1, "deferred": 29}, 30)}


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def at(elapsed: float, requests: int = 7) -> Moment:
    return Moment(elapsed, SAMPLES, requests=requests, capacity=4)


def test_a_moment_fits_one_plain_line() -> None:
    assert progress_line(at(1)) == (
        "jobs in flight 30, worker slots held 1 of 4, API requests made 7; "
        "tasks: 1 running, 29 deferred"
    )


def test_a_line_without_tasks_says_nothing_of_them() -> None:
    empty = Moment(1, {"two_syncs": Sample({}, 0)}, requests=0, capacity=4)

    assert progress_line(empty).endswith("API requests made 0")


def test_what_is_not_over_is_named_in_words() -> None:
    samples = {
        "two_syncs": Sample({"running": 1, "success": 29}, 1),
        "begun": Sample({}, 0),
        "over": Sample({"success": 2, "skipped": 1}, 0),
    }
    events = {"when_synced": ["success", "running"], "when_loaded": ["running"]}
    moment = Moment(1, samples, requests=7, capacity=4, events=events)

    assert unfinished(moment) == (
        "two_syncs: 1 running, 29 success; begun: no tasks; "
        "when_loaded: runs that an event has started: running"
    )


def test_how_many_dags_events_have_started_is_shown() -> None:
    events = {"when_synced": ["success", "running"], "when_loaded": []}
    moment = Moment(1, SAMPLES, requests=7, capacity=4, events=events)
    console = plain()
    console.print(progress_table([SCENARIO], moment))

    assert progress_line(moment).endswith("; DAGs started by events: 1 of 2")
    assert "DAGs started by events: 1 of 2" in written(console)


def test_off_a_terminal_lines_come_every_few_seconds() -> None:
    console = plain()
    with Progress(console, [SCENARIO]) as progress:
        progress.show(at(0, requests=1))
        progress.show(at(4, requests=2))
        progress.show(at(5, requests=3))
        progress.show(at(24, requests=3))
        progress.show(at(25, requests=3))

    starts = [line.split(" s ")[0].strip() for line in written(console).splitlines()]
    assert starts == ["0", "5", "25"]


def test_on_a_terminal_there_is_a_table() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Progress(console, [SCENARIO]) as progress:
        progress.show(at(3))

    assert "two_syncs" in written(console)
    assert "worker slots held" in written(console)


def test_the_live_table_fits_eighty_columns() -> None:
    names = [each.dag_id for each in SCENARIOS]
    samples = {name: Sample({"deferred": 30, "success": 30}, 30) for name in names}
    console = Console(file=io.StringIO(), width=80, force_terminal=False)

    console.print(progress_table(SCENARIOS, Moment(99, samples, 1000, 4)))

    shown = written(console)
    assert "…" not in shown
    assert all(name in shown for name in names)


def test_the_summary_tells_everything() -> None:
    outcome = Outcome(
        scenario=SCENARIO,
        tasks=[task(0), task(1), task(2, "failed")],
        at_once=2,
        slots=None,
        separate=40,
        wrong=["task 'sync[2]' is failed, not success"],
    )
    console = plain()

    console.print(
        summary(
            [outcome],
            requested={
                "airbyte": {"GET /jobs": 5, "GET /jobs/{job_id}": 2, "POST /jobs": 3}
            },
            status_requests={"airbyte": ["GET /jobs", "GET /jobs/{job_id}"]},
            at_once=2,
            events=EVENT_SCENARIOS[:1],
            runs={"when_sales_synced": ["failed", "success", "success"]},
        )
    )

    shown = " ".join(written(console).split())
    assert "│ two_syncs │ sync[0-1] │ success │ 1 │" in shown
    assert "│ two_syncs │ sync[2] │ failed │ 1 │" in shown
    assert "│ two_syncs │ two syncs │ 2 │ ? │" in shown
    assert "│ all │ 10 │" in shown
    assert "7 of these polled jobs." in shown
    assert "would have made 40" in shown
    assert "│ when_sales_synced │ starts when a sync" in shown
    assert "│ 3 │ 2 │" in shown
    assert "At most 2 jobs ran at once." in shown
    assert "two_syncs: task 'sync[2]' is failed, not success" in shown
