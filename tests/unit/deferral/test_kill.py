from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from async_triggers.deferral.kill import (
    CANCEL_LONGEST,
    CANCEL_PATIENCE,
    Patience,
    Verdict,
    judge_kill,
)
from async_triggers.engine.errors import (
    Doubted,
    EngineError,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState

RUNNING = Job(id="1", state=JobState.RUNNING, word="running")
UNKNOWN = RuntimeError("no answer")
MINE = (2, "1")
OTHER_STATES: tuple[Any, ...] = (
    None,
    "failed",
    "success",
    "skipped",
    "scheduled",
    "queued",
    "running",
    "restarting",
    "upstream_failed",
)
TOKENS: tuple[Any, ...] = (None, UNKNOWN, (1, "1"), MINE, (3, "1"), (3, "9"))


def judge(state: Any, token: Any, job: Job | Exception = RUNNING) -> Verdict:
    return judge_kill(state=state, token=token, job=job, job_id="1", attempt=2)


@pytest.mark.parametrize(
    "state", [*OTHER_STATES, "deferred", "up_for_retry", "removed", UNKNOWN]
)
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "end", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]
)
def test_a_job_that_has_ended_is_never_cancelled(
    state: Any, token: Any, end: JobState
) -> None:
    job = Job(id="1", state=end, word=end.value)

    assert judge(state, token, job) is Verdict.ENDED


@pytest.mark.parametrize("state", [*OTHER_STATES, "deferred", "up_for_retry", UNKNOWN])
def test_a_newer_attempt_decides_whatever_the_state(state: Any) -> None:
    assert judge(state, (3, "1")) is Verdict.REATTACHED
    assert judge(state, (3, "9")) is Verdict.CANCEL


@pytest.mark.parametrize("token", [None, UNKNOWN, (1, "1"), (2, "sought")])
@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("scheduled", Verdict.AGAIN),
        ("queued", Verdict.AGAIN),
        ("running", Verdict.AGAIN),
        ("failed", Verdict.CANCEL),
        ("success", Verdict.CANCEL),
        ("restarting", Verdict.CANCEL),
        (None, Verdict.CANCEL),
    ],
)
def test_a_job_that_the_task_looks_for_on_a_worker_is_left_to_it(
    state: Any, token: Any, verdict: Verdict
) -> None:
    found = judge_kill(
        state=state,
        token=token,
        job=RUNNING,
        job_id="1",
        attempt=2,
        sought="sought",
        is_found_again=True,
    )

    assert found is verdict


@pytest.mark.parametrize("state", [*OTHER_STATES, "deferred", "up_for_retry", UNKNOWN])
@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        ((3, "sought"), Verdict.REATTACHED),
        ((3, "sought elsewhere"), Verdict.CANCEL),
    ],
)
def test_a_job_that_a_newer_attempt_looks_for_is_left_to_it(
    state: Any, token: Any, verdict: Verdict
) -> None:
    found = judge_kill(
        state=state,
        token=token,
        job=RUNNING,
        job_id="1",
        attempt=2,
        sought="sought",
    )

    assert found is verdict


@pytest.mark.parametrize("state", [*OTHER_STATES, "deferred", "up_for_retry", UNKNOWN])
@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        ((3, "9"), Verdict.REPLACED),
        # It waits for its turn: nothing of its own runs yet.
        ((3, ""), Verdict.CANCEL),
        ((3, "1"), Verdict.REATTACHED),
    ],
)
def test_a_cancel_that_names_no_job_is_left_to_the_newer_attempt(
    state: Any, token: Any, verdict: Verdict
) -> None:
    found = judge_kill(
        state=state,
        token=token,
        job=RUNNING,
        job_id="1",
        attempt=2,
        stops_whatever_runs=True,
    )

    assert found is verdict


@pytest.mark.parametrize(
    ("state", "token", "verdict"),
    [
        ("deferred", MINE, Verdict.TAKEN_OVER),
        ("deferred", None, Verdict.NO_TOKEN),
        ("deferred", (1, "1"), Verdict.NO_TOKEN),
        ("deferred", UNKNOWN, Verdict.NO_TOKEN),
        ("up_for_retry", MINE, Verdict.RETRY),
        ("removed", MINE, Verdict.REMOVED),
        ("removed", None, Verdict.REMOVED),
        ("removed", (1, "1"), Verdict.REMOVED),
        (UNKNOWN, MINE, Verdict.UNKNOWN),
        (UNKNOWN, None, Verdict.UNKNOWN),
        (UNKNOWN, UNKNOWN, Verdict.UNKNOWN),
    ],
)
def test_doubt_leaves_the_job_alone(state: Any, token: Any, verdict: Verdict) -> None:
    assert judge(state, token) is verdict


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        ("deferred", Verdict.TAKEN_OVER),
        ("up_for_retry", Verdict.RETRY),
        ("removed", Verdict.REMOVED),
    ],
)
def test_what_airflow_sends_is_compared_by_its_value(
    state: str, verdict: Verdict
) -> None:
    """What is decoded is never the very object that the code names."""
    sent = json.loads(json.dumps({"state": state, "attempt": 1000}))

    found = judge_kill(
        state=sent["state"],
        token=(sent["attempt"], "1"),
        job=RUNNING,
        job_id="1",
        attempt=1000,
    )

    assert found is verdict


@pytest.mark.parametrize(
    ("state", "token"),
    list(itertools.product(OTHER_STATES, [None, UNKNOWN, (1, "1"), MINE])),
)
def test_all_else_was_a_users_wish(state: Any, token: Any) -> None:
    assert judge(state, token) is Verdict.CANCEL


def test_a_job_that_cannot_be_asked_for_is_judged_by_the_task() -> None:
    assert judge("failed", MINE, Unreachable("down")) is Verdict.CANCEL
    assert judge("deferred", MINE, Unreachable("down")) is Verdict.TAKEN_OVER


def test_only_verdicts_against_a_users_possible_wish_are_doubtful() -> None:
    doubtful = {verdict for verdict in Verdict if verdict.is_doubtful}

    assert doubtful == {Verdict.NO_TOKEN, Verdict.UNKNOWN}


class TestPatience:
    """How long a cancel is tried again."""

    def test_an_outage_is_waited_out_for_a_quarter_of_an_hour(self) -> None:
        assert ends_after(VendorBroken("503")) == pytest.approx(
            CANCEL_PATIENCE, abs=60.0
        )
        assert ends_after(None) == pytest.approx(CANCEL_PATIENCE, abs=60.0)

    def test_what_the_vendor_asks_to_wait_does_not_count(self) -> None:
        refusal = RateLimited("429", retry_after=3600.0)

        assert ends_after(refusal) == pytest.approx(CANCEL_LONGEST, abs=3700.0)

    def test_more_than_a_day_is_not_waited_for(self) -> None:
        assert ends_after(RateLimited("429", retry_after=CANCEL_LONGEST)) == 0.0

    def test_what_is_in_doubt_counts(self) -> None:
        doubt = Doubted("401", refusal=RequestRejected("401"), retry_after=60.0)

        assert ends_after(doubt) == pytest.approx(CANCEL_PATIENCE, abs=60.0)

    def test_it_is_tried_again_at_once_and_then_ever_more_rarely(self) -> None:
        patience = Patience(1000.0, doubt=300.0)
        for longest in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
            wait = patience.wait_after(VendorBroken("503"), 1000.0)

            assert wait is not None
            assert longest / 2 <= wait <= longest

        assert patience.tries == 8

    @pytest.mark.parametrize(("now", "gives_up"), [(1839.9, False), (1900.0, True)])
    def test_tries_count_for_nothing_only_the_time_that_has_passed(
        self, now: float, *, gives_up: bool
    ) -> None:
        patience = Patience(1000.0, doubt=300.0)
        for _ in range(100):
            assert patience.wait_after(VendorBroken("503"), 1000.0) is not None

        assert (patience.wait_after(VendorBroken("503"), now) is None) is gives_up

    @pytest.mark.parametrize(("now", "wait"), [(1839.0, 60.0), (1840.0, None)])
    def test_the_last_try_is_within_the_quarter_of_an_hour(
        self, now: float, wait: float | None
    ) -> None:
        doubt = Doubted("401", refusal=RequestRejected("401"), retry_after=60.0)

        assert Patience(1000.0, doubt=300.0).wait_after(doubt, now) == wait

    def test_what_airflow_does_not_answer_counts_from_the_first_second(self) -> None:
        assert Patience(1000.0, doubt=300.0).wait_after(None, 1899.6) is None

    def test_a_refusal_is_believed_when_it_has_lasted(self) -> None:
        assert 300.0 <= ends_after(JobNotFound("404")) < 400.0

    def test_the_time_of_an_outage_is_no_part_of_a_refusal(self) -> None:
        patience = Patience(0.0, doubt=300.0)
        for now in (0.0, 5.0, 15.0):
            assert patience.wait_after(JobNotFound("404"), now) is not None

        for now in (60.0, 120.0, 300.0):
            assert patience.wait_after(VendorBroken("503"), now) is not None

        assert patience.wait_after(JobNotFound("404"), 330.0) is not None
        assert patience.wait_after(JobNotFound("404"), 584.0) is not None
        assert patience.wait_after(JobNotFound("404"), 585.0) is None

    @pytest.mark.parametrize(
        "failure",
        [None, Doubted("401", refusal=RequestRejected("401"), retry_after=60.0)],
    )
    def test_what_is_no_outage_takes_nothing_off(
        self, failure: EngineError | None
    ) -> None:
        patience = Patience(0.0, doubt=300.0)
        for now in (0.0, 15.0):
            assert patience.wait_after(JobNotFound("404"), now) is not None

        assert patience.wait_after(failure, 200.0) is not None
        assert patience.wait_after(JobNotFound("404"), 300.0) is None

    def test_a_refusal_is_believed_after_three_checks_at_least(self) -> None:
        patience = Patience(0.0, doubt=0.0)

        assert patience.wait_after(JobNotFound("404"), 0.0) is not None
        assert patience.wait_after(VendorBroken("503"), 500.0) is not None
        assert patience.wait_after(JobNotFound("404"), 501.0) is not None
        assert patience.wait_after(JobNotFound("404"), 502.0) is None


def ends_after(failure: EngineError | None) -> float:
    """Return the seconds after which a cancel is given up that always fails so."""
    patience, now = Patience(0.0, doubt=300.0), 0.0
    while (wait := patience.wait_after(failure, now)) is not None:
        now += wait

    return now
