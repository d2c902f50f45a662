"""The plan of a campaign follows from its seed, and its judge sees every sin."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from async_triggers.simulator.faults import Fault, ListQuirks
from async_triggers.simulator.lives import Life
from benchmarks.campaign.plan import (
    BLOWS,
    STEPS,
    VENDORS,
    Kind,
    PlannedBlow,
    PlannedJob,
    Vendor,
    Wish,
    make_plan,
)
from benchmarks.campaign.play import Campaign, clock_env, clock_file
from benchmarks.campaign.verdict import (
    SINS,
    SeenJob,
    Sin,
    State,
    Told,
    delays,
    judge,
    table,
)

if TYPE_CHECKING:
    from pathlib import Path

START = 1_000_000.0


def job(
    number: int = 1,
    *,
    begins: float = 0,
    ends: float | None = 10,
    state: State = "succeeded",
    by_request: bool = True,
    cancels: int = 0,
) -> SeenJob:
    return SeenJob(
        job_id=str(number),
        created=START + begins,
        ended=None if ends is None else START + ends,
        state=state,
        by_request=by_request,
        cancels=cancels,
    )


def told(
    *jobs: SeenJob,
    state: str | None = "success",
    kind: Kind = "deferred",
    vendor: Vendor = "airbyte",
    wish: Wish | None = None,
    wished: float | None = None,
    ended: float | None = 20,
) -> Told:
    plan = PlannedJob(
        number=1, at=0, vendor=vendor, kind=kind, lives=("running:10 x",), wish=wish
    )
    return Told(
        plan=plan,
        begun=START - 1,
        state=state,
        attempts=1,
        ended=None if ended is None else START + ended,
        wished_at=None if wished is None else START + wished,
        jobs=jobs,
    )


FAILED = job(1, state="failed")
CANCELLED = job(1, state="cancelled", cancels=1)


@pytest.mark.parametrize(
    "fine",
    [
        told(job()),
        told(FAILED, job(2, begins=12, ends=18)),
        told(FAILED, job(2, begins=12, ends=18, state="failed"), state="failed", kind="frail"),
        told(job(by_request=False), kind="sensor"),
        told(CANCELLED, state="failed", wish="mark failed", wished=9),
        told(CANCELLED, state="success", wish="mark success", wished=9),
        told(state="success", wish="mark success", wished=9),
        told(CANCELLED, job(2, begins=12, ends=18), wish="clear", wished=9),
        told(job(), job(2, begins=12, ends=18), wish="clear", wished=9),
        told(replace(CANCELLED, ended=START + 26), job(2, begins=27, ends=30), kind="timeout"),
        told(job(ends=None, state="running"), state="failed", vendor="fivetran", wish="fail the run", wished=9),
        # Its timeout passed sooner where the triggerer's clock was ahead.
        replace(told(CANCELLED, job(2, begins=12, ends=18), kind="timeout"), ahead=60.0),
    ],
)  # fmt: skip
def test_what_must_be_is_no_finding(fine: Told) -> None:
    assert not list(judge(fine))


@pytest.mark.parametrize(
    ("sin", "bad"),
    [
        ("duplicate start", told(job(ends=30), job(2, begins=12, ends=18))),
        ("duplicate start", told(job(), job(2, begins=12, ends=18))),
        ("duplicate start", told(job(ends=None, state="running"), job(2, begins=12, ends=18))),
        ("duplicate start", told(job(), job(2, begins=12, ends=18), wish="clear", wished=15)),
        ("duplicate start", told(job(), job(2, begins=11, ends=12), job(3, begins=13, ends=14), wish="clear", wished=10.9)),
        ("duplicate start", told(CANCELLED, job(2, begins=12), state="failed", wish="mark failed", wished=9)),
        ("duplicate start", told(job(), kind="sensor")),
        ("lost job", told(job(), state="deferred", ended=None)),
        ("lost job", told(state=None, ended=None)),
        ("lost job", told(state="success")),
        ("lost job", told(state="success", wish="clear", wished=9)),
        ("lost job", told(job(ends=None, state="running"), state="failed")),
        ("wrong final state", told(FAILED, state="failed")),
        ("wrong final state", told(FAILED, state="success")),
        ("wrong final state", told(FAILED, state="success", kind="frail")),
        ("wrong final state", told(CANCELLED, state="success", wish="mark failed", wished=9)),
        ("unwanted cancel", told(CANCELLED, job(2, begins=12, ends=18))),
        ("unwanted cancel", told(CANCELLED, job(2, begins=12, ends=18), wish="clear", wished=15)),
        ("unwanted cancel", told(CANCELLED, job(2, begins=12, ends=18), kind="timeout")),
        ("unwanted cancel", told(job(by_request=False, cancels=1), kind="sensor")),
        ("unwanted cancel", told(CANCELLED, job(2, begins=12, ends=18), vendor="fivetran", wish="clear", wished=9)),
        ("missing cancel", told(job(ends=None, state="running"), state="failed", wish="mark failed", wished=9)),
        ("missing cancel", told(job(ends=None, state="running"), job(2, begins=12, ends=18), kind="timeout")),
    ],
)  # fmt: skip
def test_what_must_not_be_is_found(sin: Sin, bad: Told) -> None:
    assert sin in {finding.sin for finding in judge(bad)}


def test_the_table_counts_by_vendor_and_in_all() -> None:
    rows = table([told(job()), told(state=None, ended=None, vendor="dbt_cloud")])

    assert [row.name for row in rows] == ["airbyte", "dbt_cloud", "all"]
    assert [row.sins["lost job"] for row in rows] == [0, 1, 1]
    assert rows[0].slowest == rows[0].median == 10
    assert all(set(row.sins) == set(SINS) for row in rows)


def test_a_delay_is_that_of_a_task_nobody_disturbed() -> None:
    assert delays([told(job(), ended=17.5)]) == [7.5]
    assert not delays([told(job(), wish="clear", wished=9)])
    assert not delays([told(FAILED, state="failed", kind="frail")])


def test_a_seed_is_a_plan() -> None:
    first = make_plan(3, minutes=10, jobs_per_minute=15)

    assert first == make_plan(3, minutes=10, jobs_per_minute=15)
    assert first != make_plan(4, minutes=10, jobs_per_minute=15)
    assert len(first.jobs) == 150


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_can_be_carried_out(seed: int) -> None:
    plan = make_plan(seed, minutes=10, jobs_per_minute=15)

    assert {each.vendor for each in plan.jobs} == set(VENDORS)
    assert {each.blow for each in plan.blows} == set(BLOWS)
    assert any(each.wish for each in plan.jobs)
    for each in plan.jobs:
        for life in each.lives:
            Life.parse(life)
    for trouble in plan.troubles:
        if trouble.fault is not None:
            Fault.from_dict(trouble.fault)
        if trouble.quirks is not None:
            ListQuirks.from_dict(trouble.quirks)


@pytest.mark.parametrize("seed", range(5))
def test_each_vendor_has_a_proxy_that_stays_until_it_is_met(seed: int) -> None:
    plan = make_plan(seed, minutes=10, jobs_per_minute=15)

    once = [each for each in plan.troubles if (each.fault or {}).get("times") == 1]
    assert {each.vendor for each in once} == set(VENDORS)
    for each in once:
        assert each.at + each.lasts > plan.seconds
        assert not str((each.fault or {})["answer"]).endswith("-429")


def test_what_stands_in_between_and_clocks_go_wrong_everywhere() -> None:
    plans = [make_plan(seed, minutes=10, jobs_per_minute=15) for seed in range(8)]
    faults = {vendor: list[dict[str, Any]]() for vendor in VENDORS}
    for plan in plans:
        for trouble in plan.troubles:
            faults[trouble.vendor].append(trouble.fault or {})
            # A token endpoint that is away is noticed by who has no token any more.
            is_token = (trouble.fault or {}).get("operation") == "token"
            assert not is_token or trouble.expires

    for vendor, found in faults.items():
        operations = {each["operation"] for each in found if "operation" in each}
        assert operations == {
            *(None, "poll", "list", "start", "cancel"),
            *(["token"] if vendor == "airbyte" else []),
        }
        kinds = {each.get("kind") for each in found}
        # Fivetran's API says by times alone what has become of a sync.
        assert {"date", "clock"} - kinds == (
            {"clock"} if vendor == "fivetran" else set()
        )
        assert {True, False} == {
            each["takes_effect"] for each in found if each.get("operation") == "start"
        }

    steps = {
        blow.off
        for plan in plans
        for blow in plan.blows
        if blow.blow == "step a triggerer's clock"
    }
    assert steps == set(STEPS)
    assert {blow.off for plan in plans for blow in plan.blows} == {0.0, *STEPS}


def test_even_a_short_campaign_strikes_every_blow() -> None:
    plan = make_plan(1, minutes=1.5, jobs_per_minute=20)

    assert {each.blow for each in plan.blows} >= set(BLOWS)


class FakeTriggerer:
    """A triggerer that is dead until it is started again."""

    def __init__(self) -> None:
        self.alive = False


def campaign(
    home: Path, *triggerers: FakeTriggerer, blows: tuple[Any, ...] = ()
) -> Any:
    """Return a campaign that kills triggerers which are not there."""
    killed = threading.Event()
    deployment = SimpleNamespace(
        home=home,
        triggerers=list(triggerers),
        kill_triggerer=lambda *_: killed.set(),
        killed=killed,
    )
    plan = SimpleNamespace(
        seed=1, seconds=1, jobs=(), troubles=(), blows=blows, watches=()
    )
    nothing = cast("Any", SimpleNamespace())
    made = Campaign(
        cast("Any", plan), cast("Any", deployment), nothing, nothing, lambda _: None
    )
    made._calm.set()
    made._began = 0.0
    return made


def test_a_triggerer_is_hit_once_there_is_one(tmp_path: Path) -> None:
    triggerers = [FakeTriggerer(), FakeTriggerer()]
    blow = PlannedBlow(at=0, blow="kill -9 a triggerer", seconds=0)
    made = campaign(tmp_path, *triggerers, blows=(blow,))
    striking = threading.Thread(target=made._strike)
    striking.start()
    assert not made.deployment.killed.wait(0.3)
    assert made.hits == Counter()

    triggerers[1].alive = True

    assert made.deployment.killed.wait(10)
    striking.join(10)
    assert made.hits == {"kill -9 a triggerer": 1}
    assert not made.notes


def test_the_clock_of_a_triggerer_is_stepped_and_set_right(tmp_path: Path) -> None:
    triggerer = FakeTriggerer()
    triggerer.alive = True
    made = campaign(tmp_path, triggerer)
    blow = PlannedBlow(at=0, blow="step a triggerer's clock", seconds=20, off=900.0)

    undo = made._hit(blow)

    assert clock_file(tmp_path, 0).read_text() == "900.0"
    assert made._most_ahead(time.time()) == 900.0
    assert made._most_ahead(time.time() + 3600) == 0.0
    undo()
    assert clock_file(tmp_path, 0).read_text() == "0"


def test_each_triggerer_has_a_clock_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("time_machine")

    variables = clock_env(tmp_path)

    assert set(variables) == {"triggerer-0", "triggerer-1"}
    clocks = {each["ASYNC_TRIGGERS_BENCHMARK_CLOCK"] for each in variables.values()}
    assert len(clocks) == 2
    assert all("hooks" in each["PYTHONPATH"] for each in variables.values())
