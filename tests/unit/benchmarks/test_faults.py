from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.cells import Fare
from benchmarks.faults import CASES, Case, Cell, Result, chosen_cells, table, tell

if TYPE_CHECKING:
    from benchmarks.cells import Ending

CASE = CASES[1]
FARE = Fare(ending="event", status="success", message="done", at=10.0, blocked=0.02)
RESULT = Result(cell=Cell(CASE, "airbyte", "ours"), fare=FARE, late=2.0, hits=1)


def test_a_success_that_comes_after_the_end_of_the_job_was_survived() -> None:
    assert RESULT.survived
    assert tell(RESULT) == "survived, 2.0 s late"


def test_a_success_before_the_end_of_the_job_is_none() -> None:
    early = replace(RESULT, late=-1.0)

    assert not early.survived
    assert early.verdict == "failed the task"


@pytest.mark.parametrize("ending", ["event", "raised", "silent"])
def test_any_other_end_failed_the_task(ending: Ending) -> None:
    fare = replace(FARE, ending=ending, status="error", message="no\nluck | at all")

    failed = replace(RESULT, fare=fare)

    assert failed.verdict == "failed the task"
    assert tell(failed) == "failed the task: no luck | at all"
    assert r"**failed the task**, `no luck \| at all`" in table([failed], ["ours"])


def test_a_loop_that_stood_still_is_told_of_whatever_became_of_the_task() -> None:
    fare = replace(FARE, ending="none", status="", blocked=61.04)

    frozen = replace(RESULT, fare=fare, late=None)

    assert tell(frozen) == "never answered; loop blocked for 61.0 s"
    assert "| Airbyte, ours | 0 of 1 | 0 of 1 | 1 of 1 | 1 of 1 |" in table(
        [frozen], ["ours"]
    )


def test_what_no_fault_was_made_for_counts_for_no_sum() -> None:
    calm = replace(
        RESULT, cell=Cell(Case(name="none", title="none"), "airbyte", "ours")
    )

    assert "| Airbyte, ours | 1 of 1 |" in table([calm, RESULT], ["ours"])


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no fault 'plague'; these there are"):
        chosen_cells(only=["plague"], vendors=["airbyte"], sides=["ours"])


def test_only_the_vendor_that_can_have_a_fault_is_given_it() -> None:
    cells = chosen_cells(
        only=["token"], vendors=["fivetran", "airbyte"], sides=["ours", "peer"]
    )

    assert {cell.name for cell in cells} == {"token/airbyte/ours", "token/airbyte/peer"}
