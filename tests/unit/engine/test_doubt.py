"""When a refusal is believed: of an account, of a job, of most jobs, and of a clock."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest

from async_triggers.engine.clock import ServerClock
from async_triggers.engine.doubt import Doubt, Trust
from async_triggers.engine.errors import (
    AccountMisconfigured,
    CredentialsRejected,
    Doubted,
    EngineError,
    InBetween,
    JobNotFound,
    PermanentError,
    RefusedInBetween,
    Suspect,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.job_doubts import JobDoubts
from async_triggers.engine.wire import Belief


def refusal(*, is_locked: bool = False) -> CredentialsRejected:
    error = CredentialsRejected("The vendor does not accept the key", status=401)
    error.is_locked = is_locked
    return error


def gone(job: str = "a") -> JobNotFound:
    return JobNotFound(f"The vendor does not know job {job}", status=404)


def between(status: int = 403, *, suspect: Suspect | None = None) -> InBetween:
    error = InBetween(f"something answered {status}", status=status, excerpt="denied")
    error.suspect = suspect
    return error


def checks(doubt: Doubt) -> Iterable[float]:
    """Refuse at each check until the refusal is believed; yield the times."""
    while True:
        now = doubt.next_check
        yield now
        if doubt.refused(doubt.refusal, now):
            return


class TestDoubt:
    def test_is_checked_often_at_first_then_each_minute_and_at_its_end(self) -> None:
        doubt = Doubt(refusal(), 1000.0, lasts=300.0)
        assert list(checks(doubt)) == [1005, 1015, 1045, 1105, 1165, 1225, 1285, 1300]

    @pytest.mark.parametrize(
        ("lasts", "ends"), [(0.0, 15.0), (1.0, 15.0), (10.0, 15.0), (46.0, 46.0)]
    )
    def test_takes_three_refusals_however_short_it_is(
        self, lasts: float, ends: float
    ) -> None:
        times = list(checks(Doubt(refusal(), 0.0, lasts=lasts)))

        assert len(times) >= 2
        assert times[-1] <= ends

    def test_an_hour_takes_a_check_a_minute(self) -> None:
        times = list(checks(Doubt(refusal(), 0.0, lasts=3600.0)))

        assert times[-1] == 3600.0
        assert len(times) == 3 + 60

    def test_of_a_locked_client_is_checked_once_at_its_end(self) -> None:
        doubt = Doubt(refusal(is_locked=True), 0.0, lasts=300.0)
        assert list(checks(doubt)) == [300.0]

    def test_of_a_client_that_gets_locked_stops_the_checks(self) -> None:
        doubt = Doubt(refusal(), 0.0, lasts=300.0)
        assert not doubt.refused(refusal(is_locked=True), 5.0)
        assert doubt.next_check == 300.0
        assert doubt.refused(refusal(), 300.0)

    def test_a_check_without_an_answer_is_no_refusal(self) -> None:
        doubt = Doubt(refusal(), 0.0, lasts=20.0)
        for _ in range(10):
            doubt.missed(doubt.next_check)

        late = doubt.next_check
        assert late > 300.0
        assert not doubt.refused(refusal(), late)
        assert doubt.refused(refusal(), doubt.next_check)

    def test_the_time_before_a_check_without_an_answer_does_not_count(self) -> None:
        doubt = Doubt(refusal(), 0.0, lasts=300.0)
        for at in (5.0, 15.0, 45.0):
            assert not doubt.refused(refusal(), at)

        missed = []
        while doubt.next_check < 4000.0:
            missed.append(doubt.next_check)
            doubt.missed(doubt.next_check)

        # An outage is not knocked at any faster, however little is left of the doubt.
        assert min(b - a for a, b in itertools.pairwise(missed)) == 60.0
        back = missed[-1]
        times = list(checks(doubt))
        assert times[-1] == back + 300.0 - 45.0

    def test_of_a_locked_client_that_misses_its_check_is_not_checked_sooner(
        self,
    ) -> None:
        doubt = Doubt(refusal(is_locked=True), 0.0, lasts=300.0)
        doubt.missed(doubt.next_check)
        assert list(checks(doubt)) == [600.0]

        late = Doubt(refusal(), 0.0, lasts=50.0)
        late.refused(refusal(), 45.0)
        late.halt()
        late.missed(late.next_check)
        assert late.next_check >= 50.0 + 60.0

    def test_a_check_of_two_that_is_missed_makes_it_take_twice_as_long(self) -> None:
        doubt, now, is_over = Doubt(refusal(), 0.0, lasts=300.0), 0.0, False
        while not is_over:
            doubt.missed(doubt.next_check)
            now = doubt.next_check
            is_over = doubt.refused(refusal(), now)

        assert 300.0 < now <= 2 * 300.0 + 2 * 60.0


class TestTrust:
    def refuse(self, trust: Trust, now: float, *, is_check: bool = True) -> EngineError:
        return trust.refused(refusal(), now, is_check=is_check)

    def test_what_has_never_worked_is_refused_at_once(self) -> None:
        trust = Trust(Belief())

        assert type(self.refuse(trust, 0.0)) is CredentialsRejected
        # The vendor is spared the same question for some seconds.
        with pytest.raises(CredentialsRejected):
            trust.admit(1.0, is_start=False)

        assert not trust.admit(6.0, is_start=False)

    def test_what_has_worked_is_doubted_and_then_believed(self) -> None:
        trust, now = Trust(Belief()), 0.0
        trust.answered()
        assert type(self.refuse(trust, now, is_check=False)) is Doubted
        sent = 0
        while now < 1000.0:
            now += 1.0
            try:
                is_check = trust.admit(now, is_start=False)
            except Doubted:
                continue

            sent += 1
            assert is_check
            error = self.refuse(trust, now)
            trust.check_ended(now)
            if type(error) is CredentialsRejected:
                break

        assert 300.0 <= now <= 301.0
        assert sent == 8

    def test_one_good_answer_ends_the_doubt(self) -> None:
        trust = Trust(Belief())
        trust.answered()
        self.refuse(trust, 0.0)
        trust.answered()

        assert trust.doubt is None
        assert not trust.admit(0.1, is_start=True)

    def test_starts_wait_for_the_end_of_the_doubt(self) -> None:
        trust = Trust(Belief())
        trust.answered()
        self.refuse(trust, 0.0)
        for now in (1.0, 5.0, 50.0, 500.0):
            with pytest.raises(Doubted):
                trust.admit(now, is_start=True)

    def test_one_request_at_a_time_checks(self) -> None:
        trust = Trust(Belief())
        trust.answered()
        self.refuse(trust, 0.0)
        assert trust.admit(5.0, is_start=False)
        with pytest.raises(Doubted):
            trust.admit(5.0, is_start=False)

    def test_those_that_were_under_way_are_no_checks(self) -> None:
        trust = Trust(Belief(doubt=0.0))
        trust.answered()
        for _ in range(8):
            error = trust.refused(refusal(), 0.1, is_check=False)
            assert type(error) is Doubted

    def test_a_429_stops_the_checks(self) -> None:
        trust = Trust(Belief())
        trust.answered()
        self.refuse(trust, 0.0)
        trust.rate_limited()

        assert trust.doubt is not None
        assert trust.doubt.next_check == 300.0

    def test_waiters_that_came_with_a_good_answer_vouch_for_the_account(self) -> None:
        trust = Trust(Belief())
        self.refuse(trust, 0.0)
        trust.vouch()

        assert not trust.admit(0.1, is_start=False)
        assert type(self.refuse(trust, 0.2)) is Doubted

    def test_in_between_answers_end_after_hours_of_nothing_else(self) -> None:
        trust = Trust(Belief(in_between=3600.0))
        trust.answered()
        now = 0.0
        while True:
            error = trust.refused_in_between(between(), now, "Airbyte")
            if not isinstance(error, InBetween):
                break

            now += 60.0

        assert now == 3600.0
        assert type(error) is RefusedInBetween
        assert error.message == (
            "Something between Airflow and Airbyte refuses every request: 403, denied"
        )

    @pytest.mark.parametrize("has_worked", [True, False])
    def test_an_address_that_has_worked_is_not_what_to_change(
        self, *, has_worked: bool
    ) -> None:
        trust, page = Trust(Belief(in_between=60.0)), Suspect("host", "a web page")
        if has_worked:
            trust.answered()
        for now in (0.0, 30.0, 60.0):
            error = trust.refused_in_between(between(suspect=page), now, "Airbyte")

        assert type(error) is RefusedInBetween
        assert error.suspect == (None if has_worked else page)

    @pytest.mark.parametrize("limit", [0.0, 3600.0])
    def test_a_good_answer_or_an_outage_takes_its_time_off(self, limit: float) -> None:
        trust = Trust(Belief(in_between=limit))
        trust.answered()
        for hour in range(24):
            now = hour * 3600.0
            trust.refused_in_between(between(), now, "Airbyte")
            trust.missed(Unreachable("no route"), now + 10.0)
            # An outage of hours is not their doing.
            error = trust.refused_in_between(between(), now + 3500.0, "Airbyte")
            assert type(error) is InBetween
            if hour % 10 == 9:
                trust.answered()

    def test_an_outage_now_and_then_does_not_let_it_go_on_for_ever(self) -> None:
        trust, now = Trust(Belief(in_between=3600.0)), 0.0
        trust.answered()
        for number in range(1000):
            now += 30.0
            if number % 10 == 9:
                trust.missed(VendorBroken("502", status=502), now)
            elif isinstance(
                trust.refused_in_between(between(), now, "Airbyte"), RefusedInBetween
            ):
                break

        assert 3600.0 <= now <= 3600.0 * 1.3

    def test_evidence_of_a_wrong_field_ends_the_first_contact(self) -> None:
        trust = Trust(Belief())
        wrong = Unreachable("no such name")
        wrong.suspect = Suspect("host", "check its spelling")
        wrong.url = "https://x.test"
        for now in (0.0, 60.0, 299.0):
            trust.missed(wrong, now)
            assert trust.wrong_field(now) is None

        trust.missed(wrong, 300.0)
        final = trust.wrong_field(300.0)
        assert type(final) is AccountMisconfigured
        assert final.suspect == wrong.suspect
        assert final.url == wrong.url

    @pytest.mark.parametrize("rest", ["outage", "429", "answer", "vouched"])
    def test_an_outage_or_a_good_answer_starts_the_first_contact_again(
        self, rest: str
    ) -> None:
        trust = Trust(Belief())
        wrong = between(404, suspect=Suspect("host", "check the path"))
        for now in range(0, 3600, 60):
            if now % 240 == 180 and rest == "outage":
                trust.missed(VendorBroken("503"), float(now))
            elif now % 240 == 180 and rest == "429":
                trust.rate_limited()
            elif now == 180 and rest == "answer":
                trust.answered()
            elif now == 180 and rest == "vouched":
                trust.vouch()
            else:
                error = trust.refused_in_between(wrong, float(now), "Airbyte")
                assert error is wrong

            assert trust.wrong_field(float(now)) is None


class TestJobDoubts:
    def weigh(
        self, doubts: JobDoubts, now: float, jobs: Iterable[str], *, waiting: int
    ) -> tuple[dict[str, PermanentError], list[str]]:
        return doubts.weigh(
            {job: gone(job) for job in jobs}, waiting=waiting, is_sound=False, now=now
        )

    @pytest.mark.parametrize("waiting", [1, 2])
    def test_one_or_two_jobs_are_believed_by_the_plain_rule(self, waiting: int) -> None:
        doubts, now = JobDoubts(300.0), 0.0
        jobs = ["a", "b"][:waiting]
        believed, _ = self.weigh(doubts, now, jobs, waiting=waiting)
        while not believed:
            now = doubts.next_check
            believed, _ = self.weigh(doubts, now, doubts.due(now), waiting=waiting)

        assert now == 300.0
        assert set(believed) == set(jobs)

    @pytest.mark.parametrize("left", [1, 2])
    def test_what_is_left_of_three_is_believed_by_the_plain_rule(
        self, left: int
    ) -> None:
        doubts, now = JobDoubts(300.0), 0.0
        jobs = ["a", "b", "c"]
        believed, _ = self.weigh(doubts, now, jobs, waiting=3)
        while now < 165.0:
            now = doubts.next_check
            believed, most = self.weigh(doubts, now, doubts.due(now), waiting=3)
            assert (believed, most) == ({}, [])

        gone_by = jobs[left:]
        for job in gone_by:
            doubts.forget(job)

        while not believed:
            now = doubts.next_check
            due = doubts.due(now)
            assert not {*due} & {*gone_by}
            believed, _ = self.weigh(doubts, now, due, waiting=left)

        # What it had lasted among three counts.
        assert now == 300.0
        assert {*believed} == {*jobs[:left]}

    def test_what_is_left_of_three_keeps_what_an_outage_took_off(self) -> None:
        doubts, now = JobDoubts(300.0), 0.0
        believed, _ = self.weigh(doubts, now, ["a", "b", "c"], waiting=3)
        while now < 600.0:
            now = doubts.next_check
            doubts.missed(doubts.due(now), now)

        doubts.forget("c")
        back = now
        while not believed:
            now = doubts.next_check
            believed, _ = self.weigh(doubts, now, doubts.due(now), waiting=2)

        assert now == back + 300.0

    def test_the_refusal_of_most_counts_for_nothing_for_longer(self) -> None:
        doubts, now, asked = JobDoubts(300.0), 0.0, 0
        jobs = [f"job {number}" for number in range(100)]
        believed, most = self.weigh(doubts, now, jobs, waiting=100)
        while not most:
            assert not believed
            now = doubts.next_check
            due = doubts.due(now)
            asked += len(due)
            believed, most = self.weigh(doubts, now, due, waiting=100)

        assert now == 900.0
        assert set(most) == set(jobs)
        # A few at a time, in turn.
        assert asked <= 3 * 19
        assert set(doubts.believe_most({"job 7": gone()})) == {"job 7"}
        assert len(doubts) == 0

    def test_an_answer_makes_each_of_them_a_doubt_of_its_own(self) -> None:
        doubts = JobDoubts(300.0)
        self.weigh(doubts, 0.0, ["a", "b", "c"], waiting=4)
        believed, most = doubts.weigh(
            {"a": gone()}, waiting=4, is_sound=True, now=1000.0
        )

        assert (believed, most) == ({}, [])
        # Those that were not refused this time are asked for like any other.
        assert "a" in doubts
        assert "b" not in doubts
        now = 1000.0
        while not believed:
            now = doubts.next_check
            believed, _ = doubts.weigh({"a": gone()}, waiting=4, is_sound=True, now=now)

        assert now == 1300.0

    def test_less_than_half_are_doubted_one_by_one(self) -> None:
        doubts = JobDoubts(300.0)
        self.weigh(doubts, 0.0, ["a", "b"], waiting=5)

        assert doubts.next_check == 5.0
        assert doubts.due(5.0) == ["a", "b"]

    def test_many_doubts_are_checked_a_few_at_a_time(self) -> None:
        doubts = JobDoubts(300.0)
        jobs = [f"job {number}" for number in range(100)]
        doubts.weigh(
            {job: gone() for job in jobs}, waiting=1000, is_sound=True, now=0.0
        )
        now = 5.0
        asked: list[str] = []
        while len(asked) < 100:
            due = doubts.due(now)
            assert len(due) <= 20
            asked += due
            doubts.weigh(
                {job: gone() for job in due}, waiting=1000, is_sound=True, now=now
            )
            now = max(now, doubts.next_check)

        assert now <= 40.0
        assert set(asked) == set(jobs)

    def test_a_job_that_is_shown_again_is_in_doubt_no_more(self) -> None:
        doubts = JobDoubts(300.0)
        self.weigh(doubts, 0.0, ["a", "b", "c"], waiting=3)
        for job in "abc":
            assert doubts.refusal_of(job) is not None
            doubts.forget(job)
            assert job not in doubts

        assert doubts.next_check == math.inf


class TestServerClock:
    def test_follows_the_server(self) -> None:
        clock = ServerClock()
        assert clock.now(0.0) is None
        assert clock.read(1000.0, 0.0) == (1000.0, 0.0)
        assert clock.now(50.0) == 1050.0
        assert clock.read(1051.0, 50.0) == (1051.0, 0.0)

    @pytest.mark.parametrize("off", [3600.0, -3600.0, 90.0, 1e9])
    def test_one_wrong_date_moves_nothing(self, off: float) -> None:
        clock = ServerClock()
        for now in (0.0, 5.0, 10.0):
            clock.read(1000.0 + now, now)

        assert clock.read(1015.0 + off, 15.0) == (1015.0, 0.0)
        assert clock.read(1020.0, 20.0) == (1020.0, 0.0)
        # Now and then one, but never two in a row that agree.
        assert clock.read(1025.0 + off, 25.0) == (1025.0, 0.0)
        assert clock.read(1030.0 - 2 * off, 30.0) == (1030.0, 0.0)
        assert clock.now(30.0) == 1030.0

    @pytest.mark.parametrize("step", [3600.0, -3600.0])
    def test_two_that_agree_are_a_step(self, step: float) -> None:
        clock = ServerClock()
        for now in (0.0, 5.0, 10.0):
            clock.read(1000.0 + now, now)

        clock.read(1015.0 + step, 15.0)
        assert clock.read(1020.0 + step, 20.0) == (1020.0 + step, step)
        assert clock.now(20.0) == 1020.0 + step

    def test_a_first_date_that_was_ahead_gives_way_to_the_second(self) -> None:
        clock = ServerClock()
        clock.read(4600.0, 0.0)
        assert clock.read(1005.0, 5.0) == (1005.0, -3600.0)

    def test_a_first_date_that_was_behind_takes_two(self) -> None:
        clock = ServerClock()
        clock.read(1000.0, 0.0)
        assert clock.read(4605.0, 5.0) == (1005.0, 0.0)
        assert clock.read(4610.0, 10.0) == (4610.0, 3600.0)
