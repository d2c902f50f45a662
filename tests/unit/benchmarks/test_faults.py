from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from async_triggers.simulator import PROXY_REFUSALS
from benchmarks.cells import Fare
from benchmarks.faults import PARTS, Measured, cases_of, check_names, chosen_cells
from benchmarks.trouble.cases import (
    BRIEF,
    CASES,
    LONG,
    Case,
    Cell,
    Result,
    between,
)
from benchmarks.trouble.ends import Ended
from benchmarks.trouble.first_contact import last_error
from benchmarks.trouble.tables import duration, ends_table, table, tell, tell_end

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
        check_names(["plague"], list(PARTS))

    with pytest.raises(ValueError, match="there is no fault 'revoked'"):
        check_names(["revoked"], ["faults"])

    check_names(["503", "go-404", "revoked"], list(PARTS))


def test_only_the_vendor_that_can_have_a_fault_is_given_it() -> None:
    cells = chosen_cells(
        CASES,
        only=["token"],
        vendors=["fivetran", "airbyte"],
        sides=["ours", "peer"],
    )

    assert {(cell.vendor, cell.side) for cell in cells} == {
        ("airbyte", "ours"),
        ("airbyte", "peer"),
    }


def test_every_refusal_of_a_proxy_is_tried_for_long_and_some_are_beside_the_peers() -> (
    None
):
    brief = {case.name: case for case in between(BRIEF)}
    long = {case.name: case for case in between(LONG)}

    assert set(brief) < set(long)
    assert set(PROXY_REFUSALS) < set(long)
    assert {case.lasts for case in long.values()} == {0.0, LONG}
    # What waits longer by its own rules is waited for longer.
    assert {name for name, case in long.items() if case.patience} == {
        name for name in PROXY_REFUSALS if name.endswith("-429")
    }
    assert {case.way for case in brief.values()} == {
        None,
        "unresolved",
        "refused",
        "tls",
    }
    # Names tell the columns of a table apart from its rows.
    for part in PARTS:
        names = [case.name for case in cases_of(part)]
        assert len(names) == len(set(names))


END = Ended(
    name="revoked",
    title="the key is revoked",
    vendor="airbyte",
    after=301.0,
    message="no `more` |",
    requests=7,
)


def test_an_end_is_shown_with_what_it_took() -> None:
    assert (
        tell_end(END) == "revoked/airbyte: failed after 5 min, 7 requests: no `more` |"
    )
    assert r"| Airbyte | 5 min | 7 | `no 'more' \|` |" in ends_table([END])
    goes_on = replace(END, after=None, message="", requests=None)
    assert "| Airbyte | **goes on** | - | - |" in ends_table([goes_on])
    assert [duration(each) for each in (59.6, 300, 21_600)] == [
        "60 s",
        "5 min",
        "6.0 h",
    ]


def test_a_run_is_good_if_what_should_survive_did_and_what_should_end_has() -> None:
    lost = replace(RESULT, fare=replace(FARE, status="error"))
    peers = replace(lost, cell=Cell(CASE, "airbyte", "peer"))

    def is_good(results: list[Result], ended: list[Ended]) -> bool:
        return Measured(["ours"], {"faults": results}, ended).good

    assert is_good([RESULT, peers], [END])
    assert not is_good([RESULT, lost], [END])
    assert not is_good([RESULT], [END, replace(END, after=None)])
    assert not is_good([RESULT], [replace(END, message="")])


def test_the_parts_stand_one_below_the_other() -> None:
    measured = Measured(["ours"], {"faults": [RESULT], "long": [RESULT]}, [END])

    text = measured.markdown()

    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert titles == [
        "### One fault at a time, beside the official triggers",
        "### What stands in between, for 10 min on a virtual clock",
        "### What must end",
    ]


def test_the_message_of_a_task_is_found_in_its_log() -> None:
    log = (
        "2026 info Job 1: started\n"
        "2026 error Task failed with exception StartFailed: No route: check host\n"
    )

    assert last_error(log) == "No route: check host"
    assert last_error("2026 info all is well") == ""
