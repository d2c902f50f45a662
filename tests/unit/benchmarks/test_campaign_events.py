"""The judge of a campaign's events sees what is missed, repeated and wrong."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from async_triggers.simulator.lives import Life
from benchmarks.campaign.events import (
    EVENT_SINS,
    EventSin,
    SeenEvent,
    Watched,
    event_table,
    judge_events,
)
from benchmarks.campaign.plan import PlannedWatch, Vendor, make_plan
from benchmarks.campaign.verdict import SeenJob, State
from benchmarks.campaign.watch import Watching

START = 1_000_000.0


def job(number: int, ends: float | None, state: State = "succeeded") -> SeenJob:
    return SeenJob(
        job_id=str(number),
        created=START,
        ended=None if ends is None else START + ends,
        state=state,
        by_request=False,
        cancels=0,
    )


def event(
    job_id: int | str, at: float, state: State = "succeeded", ended: float = 0
) -> SeenEvent:
    return SeenEvent(
        job_id=str(job_id), state=state, ended=START + ended, at=START + at
    )


def watched(
    *jobs: SeenJob,
    events: tuple[SeenEvent, ...],
    vendor: Vendor = "airbyte",
    hits: tuple[tuple[float, float], ...] = (),
) -> Watched:
    return Watched(
        plan=PlannedWatch(vendor=vendor, every=20, lives=("running:5 succeeded",)),
        since=START + 5,
        until=START + 100,
        jobs=jobs,
        events=events,
        interruptions=tuple((START + begin, START + end) for begin, end in hits),
    )


ONE, TWO, THREE = job(1, 10), job(2, 30, "failed"), job(3, 50)
FIRST, SECOND = event(1, 12), event(2, 33, "failed")
# What Fivetran's connection shows where its history cannot be read.
ROW = event("watched@1970-01-12T13:47:30Z", 60, ended=50.4)

FINE = {
    "each end once": watched(ONE, TWO, events=(FIRST, SECOND)),
    "ended before the watcher began": watched(job(9, 4), ONE, events=(FIRST,)),
    "that one reported all the same": watched(job(9, 4), events=(event(9, 6),)),
    "ended after the campaign": watched(ONE, job(9, 101), events=(FIRST,)),
    "runs on": watched(ONE, job(9, None, "running"), events=(FIRST,)),
    "hidden by a clock": replace(watched(ONE, events=()), hidden=("1",)),
    "several ends in one of Fivetran's connection": watched(
        ONE, TWO, THREE, vendor="fivetran", events=(FIRST, ROW)
    ),
    "killed before the mark": watched(ONE, events=(FIRST, event(1, 45)), hits=((14, 14),)),
    "frozen and awake again": watched(ONE, events=(FIRST, event(1, 45)), hits=((2, 44),)),
    "killed twice": watched(
        ONE, events=(FIRST, event(1, 45), event(1, 90)), hits=((14, 14), (50, 50))
    ),
}  # fmt: skip


@pytest.mark.parametrize("fine", FINE.values(), ids=FINE)
def test_what_must_be_is_no_finding(fine: Watched) -> None:
    assert not list(judge_events(fine))


BAD: dict[str, tuple[EventSin, Watched]] = {
    "no event": ("event missed", watched(ONE, TWO, events=(FIRST,))),
    "a later one does not stand for it": (
        "event missed",
        watched(ONE, TWO, THREE, events=(FIRST, event(3, 55, ended=50))),
    ),
    "nor at Fivetran where the history was read": (
        "event missed",
        watched(
            ONE, TWO, THREE, vendor="fivetran", events=(FIRST, event(3, 55, ended=50), ROW)
        ),
    ),
    "nor an earlier one": (
        "event missed",
        watched(THREE, job(4, 70), vendor="fivetran", events=(ROW,)),
    ),
    "again without a reason": ("event twice", watched(ONE, events=(FIRST, event(1, 20)))),
    "again, and hit long after the mark": (
        "event twice",
        watched(ONE, events=(FIRST, event(1, 90)), hits=((40, 70),)),
    ),
    "again while another one is frozen": (
        "event twice",
        watched(ONE, events=(event(1, 30), event(1, 40)), hits=((2, 44),)),
    ),
    "again before anything was hit": (
        "event twice",
        watched(ONE, events=(FIRST, event(1, 13)), hits=((20, 20),)),
    ),
    "again by the connection's row": (
        "event twice",
        watched(THREE, vendor="fivetran", events=(event(3, 55, ended=50), ROW)),
    ),
    "of another connection": ("event wrong", watched(ONE, events=(FIRST, event(7, 20)))),
    "before its end": (
        "event wrong",
        watched(ONE, job(2, None, "running"), events=(FIRST, event(2, 20))),
    ),
    "another end": ("event wrong", watched(ONE, events=(event(1, 12, "cancelled"),))),
    "a row's id is Fivetran's alone": ("event wrong", watched(THREE, events=(ROW,))),
}  # fmt: skip


@pytest.mark.parametrize(("sin", "bad"), BAD.values(), ids=BAD)
def test_what_must_not_be_is_found(sin: EventSin, bad: Watched) -> None:
    assert sin in {finding.sin for finding in judge_events(bad)}
    assert all(str(finding).startswith(finding.sin) for finding in judge_events(bad))


def test_the_table_counts_ends_and_what_is_explained() -> None:
    rows = event_table([FINE["killed twice"], BAD["no event"][1]])

    assert [row.name for row in rows] == ["airbyte", "airbyte", "all"]
    assert [(row.ends, row.events, row.repeats) for row in rows] == [
        *((1, 3, 2), (2, 1, 0), (3, 4, 2)),
    ]
    assert rows[-1].sins == dict.fromkeys(EVENT_SINS, 0) | {"event missed": 1}


@pytest.mark.parametrize("seed", range(5))
def test_each_vendor_is_watched(seed: int) -> None:
    plan = make_plan(seed, minutes=2, jobs_per_minute=9)

    assert {each.vendor for each in plan.watches} == {
        "airbyte",
        "fivetran",
        "dbt_cloud",
    }
    targets = {job.target for job in plan.jobs}
    for each in plan.watches:
        assert each.target not in targets
        assert len(each.lives) > 1
        # One has ended before the next begins.
        assert all(Life.parse(life).steps[0][1] < each.every for life in each.lives)


def test_a_watcher_that_moves_is_an_interruption() -> None:
    host: list[Any] = [1, 5, START]
    watching = Watching((), cast("Any", SimpleNamespace()), lambda _: [tuple(host)])
    watching.look()
    watching.look()
    assert watching.interruptions == []

    # No triggerer has it for a moment, then another one does.
    host[1:] = [None, None]
    watching.look()
    host[1:] = [6, START + 30]
    watching.look()

    ((begin, end),) = watching.interruptions
    assert begin == START
    assert end > begin


def test_an_airflow_that_keeps_no_marks_is_not_watched() -> None:
    plan = make_plan(1, minutes=1, jobs_per_minute=1).watches
    statements: list[str] = []

    def query(statement: str) -> list[tuple[Any, ...]]:
        statements.append(statement)
        return [(None,)]

    watching = Watching(plan, cast("Any", SimpleNamespace()), query)
    watching.begin(cast("Any", SimpleNamespace()))

    assert len(statements) == 1
    assert watching.plan == ()
