from __future__ import annotations

from dataclasses import replace

import pytest

from async_triggers.demo.airflow_api import Run, TaskInstance
from async_triggers.demo.measure import (
    JobTimes,
    Moment,
    Sample,
    conclude,
    most_at_once,
    sample,
    separate_requests,
    slots_while_waiting,
    wrong_events,
)
from async_triggers.demo.scenarios import SCENARIOS, STATUS_REQUESTS, Scenario

SCENARIO = Scenario(
    dag_id="two_syncs",
    shows="two syncs",
    vendor="airbyte",
    conn_id="airbyte_conn_example",
    targets=("one", "two"),
    life="running:10 succeeded",
    tasks={"sync": 2},
    interval=3,
    slots=0,
)
JOBS = (JobTimes("one", 0, 10), JobTimes("two", 4, 14), JobTimes("other", 0, 60))


def task(map_index: int, state: str | None = "success") -> TaskInstance:
    return TaskInstance(
        id=f"id-{map_index}",
        run=Run("two_syncs", "manual__1"),
        task_id="sync",
        map_index=map_index,
        state=state,
        try_number=1,
        max_tries=0,
        start_date=None,
        end_date=None,
        operator=None,
        trigger_id=None,
        triggerer_host=None,
    )


def moment(jobs: int, **states: int) -> Moment:
    return Moment(1.0, {"two_syncs": Sample(states, jobs)}, requests=0, capacity=4)


MOMENTS = (
    moment(0),
    moment(1, running=1, none=1),
    moment(2, running=1, deferred=1),
    moment(2, deferred=2),
    moment(2, deferred=2),
    moment(1, deferred=1, running=1),
    moment(0, success=2),
)


def test_a_run_that_went_well_has_nothing_wrong() -> None:
    outcome = conclude(SCENARIO, tasks=[task(0), task(1)], jobs=JOBS, moments=MOMENTS)

    assert outcome.wrong == []
    assert outcome.at_once == 2
    assert outcome.slots == 0
    assert outcome.separate == 8


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        (
            {"tasks": [task(0), task(1, "failed")]},
            "task 'sync[1]' is failed, not success",
        ),
        ({"tasks": [task(0)]}, "task 'sync' has 1 instances, not 2"),
        (
            {"tasks": [task(0), task(1), replace(task(-1), task_id="extra")]},
            "task 'extra' is not expected at all",
        ),
        ({"jobs": [*JOBS, JobTimes("two", 20, 30)]}, "2 jobs of 'two' were started"),
        ({"jobs": JOBS[:1]}, "0 jobs of 'two' were started, not 1"),
        (
            {"moments": [moment(2, running=2)]},
            "worker slots held while waiting: 2, not 0",
        ),
        ({"moments": [moment(0)]}, "never seen, not 0"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, object], wrong: str) -> None:
    facts = {"tasks": [task(0), task(1)], "jobs": JOBS, "moments": MOMENTS}

    outcome = conclude(SCENARIO, **(facts | changes))  # type: ignore[arg-type]

    assert any(wrong in told for told in outcome.wrong), outcome.wrong


def test_slots_that_are_a_matter_of_chance_are_not_judged() -> None:
    outcome = conclude(
        replace(SCENARIO, slots=None),
        tasks=[task(0), task(1)],
        jobs=JOBS,
        moments=[moment(2, running=2)],
    )

    assert outcome.slots == 2
    assert outcome.wrong == []


def test_jobs_that_follow_each_other_do_not_run_at_once() -> None:
    assert most_at_once([JobTimes("a", 0, 5), JobTimes("b", 5, 9)]) == 1


def test_a_job_without_an_end_still_runs() -> None:
    assert most_at_once([JobTimes("a", 0, None), JobTimes("b", 50, 60)]) == 2


def test_no_jobs_are_none_at_once() -> None:
    assert most_at_once([]) == 0


@pytest.mark.parametrize(("end", "requests"), [(9.0, 3), (9.1, 4), (None, 0)])
def test_separate_polling_asks_once_an_interval(
    end: float | None, requests: int
) -> None:
    assert separate_requests([JobTimes("a", 0, end)], interval=3) == requests


def test_slots_are_those_of_the_moments_with_most_jobs() -> None:
    samples = [
        Sample({"running": 4}, 1),
        Sample({"running": 1}, 3),
        Sample({"running": 0}, 3),
        Sample({"running": 0}, 3),
    ]

    assert slots_while_waiting(samples) == 0
    assert slots_while_waiting([]) is None


@pytest.mark.parametrize(
    ("states", "over"),
    [
        ([], False),
        ([None], False),
        (["success", "deferred"], False),
        (["success", "failed", "upstream_failed"], True),
    ],
)
def test_a_scenario_is_over_when_it_has_only_finished_tasks(
    states: list[str | None], *, over: bool
) -> None:
    tasks = [task(number, state) for number, state in enumerate(states)]

    assert sample(tasks, 0).over is over


def test_the_scenarios_do_not_share_anything() -> None:
    targets = [(each.vendor, target) for each in SCENARIOS for target in each.targets]

    assert len(set(targets)) == len(targets)
    assert len({each.dag_id for each in SCENARIOS}) == len(SCENARIOS)
    assert {each.vendor for each in SCENARIOS} <= STATUS_REQUESTS.keys()


@pytest.mark.parametrize(
    ("states", "over"),
    [([], False), (["running"], False), (["queued"], False), (["success"], True)],
)
def test_the_demo_waits_for_the_runs_that_events_start(
    states: list[str], over: bool
) -> None:
    done = {"two_syncs": Sample({"success": 2}, 0)}
    moment = Moment(1.0, done, requests=0, capacity=4, events={"when_synced": states})

    assert moment.over is over


def test_an_event_that_has_started_no_good_run_is_wrong() -> None:
    events = {"good": ["failed", "success"], "bad": ["failed"], "never": []}

    assert list(wrong_events(events)) == [
        "bad: runs that an event has started: failed",
        "never: runs that an event has started: none",
    ]
