"""What stands in between, and what is wrong in one place: waiting goes on, and ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.engine.accounts import hold, shared_accounts
from async_triggers.engine.errors import (
    AccountMisconfigured,
    ConnectionChanged,
    CredentialsRejected,
    Doubted,
    EngineError,
    InBetween,
    JobNotFound,
    RateLimited,
    RefusedInBetween,
    RequestRejected,
    Suspect,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.limiter import urgent
from async_triggers.engine.wire import (
    Account,
    Belief,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Request,
    Row,
)
from tests.unit.engine.fake import (
    ENDS,
    EPOCH,
    FEED,
    GENEROUS,
    IDS,
    LIST,
    FakeTransport,
    FakeVendor,
    Server,
    World,
    a_world,
    an_account,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.listener import Notice

virtual = pytest.mark.asyncio(loop_factories=["virtual"])
EVERY_SOURCE = pytest.mark.parametrize(
    "sources", [(), (FEED,), (LIST,), (IDS,)], ids=["single", "feed", "list", "ids"]
)


def now() -> float:
    return asyncio.get_running_loop().time()


def jobs(count: int) -> list[str]:
    return [f"job {number}" for number in range(count)]


def between(status: int) -> InBetween:
    return InBetween(f"Something answered {status}", status=status, excerpt="no")


def _one_of(faults: list[InBetween], _: Request) -> EngineError | None:
    return faults.pop() if faults else None


def rejected() -> CredentialsRejected:
    return CredentialsRejected("The vendor does not accept the key", status=401)


class TestInBetween:
    @EVERY_SOURCE
    @pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 408, 418, 421, 425])
    @pytest.mark.parametrize("lasts", [25.0, 600.0, 3600.0])
    @virtual
    async def test_its_answers_end_no_wait(
        self, sources: Any, status: int, lasts: float
    ) -> None:
        async with a_world(*sources) as world:
            world.start_and_join(jobs(20), lasts=60.0)
            await asyncio.sleep(40.0)
            world.server.fault = lambda _: between(status)
            await asyncio.sleep(lasts)
            assert not world.told_at
            world.server.fault = lambda _: None
            told = await world.all_told()

            assert {job.state for job in told.values()} == {JobState.SUCCEEDED}
            assert now() <= 40.0 + lasts + 60.0 + 31.0

    @virtual
    async def test_a_single_one_among_good_answers_is_nothing(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(200), lasts=100.0)
            for _ in range(3):
                await asyncio.sleep(20.0)
                faults = [between(401)]
                world.server.fault = partial(_one_of, faults)

            assert len(await world.all_told()) == 200

    @virtual
    async def test_they_end_all_waits_after_six_hours(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            await asyncio.sleep(40.0)
            world.server.fault = lambda _: between(403)
            done = await asyncio.gather(*world.waits.values(), return_exceptions=True)

            assert {type(error) for error in done} == {RefusedInBetween}
            assert len({id(error) for error in done}) == 20
            assert 6 * 3600.0 <= now() <= 6 * 3600.0 + 200.0
            # A round or two a minute, of the feed and of one job.
            assert world.server.counts["fault"] < 6 * 60 * 5

    @virtual
    async def test_the_state_is_shown(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(5), lasts=math.inf)
            await asyncio.sleep(40.0)
            world.server.fault = lambda _: between(403)
            await asyncio.sleep(600.0)

            state = world.transport.statistics()
            assert 500.0 <= state.in_between_for <= 600.0
            assert "in between: Something answered 403" in repr(world.transport)
            assert world.poller.statistics().trouble == "Something answered 403"
            world.server.fault = lambda _: None
            await asyncio.sleep(90.0)
            assert world.transport.statistics().in_between_for == 0.0
            assert world.poller.statistics().trouble == ""


class TestDoubtedAccount:
    @EVERY_SOURCE
    @virtual
    async def test_a_refusal_for_less_than_five_minutes_ends_no_wait(
        self, sources: Any
    ) -> None:
        async with a_world(*sources) as world:
            world.start_and_join(jobs(20), lasts=60.0)
            await asyncio.sleep(40.0)
            world.server.fault = lambda _: rejected()
            await asyncio.sleep(240.0)
            assert not world.told_at
            assert world.transport.statistics().doubt != ""
            assert "does not accept the key" in repr(world.transport)
            # Checked by one request at a time.
            assert world.server.counts["fault"] <= 7 + GENEROUS.polls
            world.server.fault = lambda _: None
            assert len(await world.all_told()) == 20
            assert world.transport.statistics().doubt == ""

    @virtual
    async def test_a_locked_client_is_not_hammered(self) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            await asyncio.sleep(40.0)
            locked = rejected()
            locked.is_locked = True
            world.server.fault = lambda _: locked
            done = await asyncio.gather(*world.waits.values(), return_exceptions=True)

            assert {type(error) for error in done} == {CredentialsRejected}
            assert world.server.counts["fault"] == 2

    @virtual
    async def test_a_doubt_that_begins_between_two_rounds_is_checked(self) -> None:
        async with a_world() as world:
            world.server.start("a", lasts=math.inf)
            world.join("a", interval=3600.0)
            await asyncio.sleep(100.0)
            look = Request(
                method="GET", path="/", about="a", note={"kind": "single", "id": "a"}
            )
            world.server.fault = lambda _: rejected()
            with pytest.raises(Doubted):
                await world.transport.send(look)

            world.server.fault = lambda _: None
            await asyncio.sleep(20.0)
            assert world.transport.trust.doubt is None

    @virtual
    async def test_a_trigger_that_goes_on_elsewhere_is_in_doubt_from_the_first(
        self,
    ) -> None:
        async with a_world(FEED) as world:
            world.server.fault = lambda _: rejected()
            world.start_and_join(jobs(3), lasts=math.inf)
            await asyncio.sleep(250.0)
            assert not world.told_at
            with pytest.raises(CredentialsRejected):
                await world.waits["job 1"]

            assert 300.0 <= now() <= 320.0

    @virtual
    async def test_one_that_has_never_been_shown_fails_at_once(self) -> None:
        async with a_world(FEED) as world:
            world.server.fault = lambda _: rejected()
            with pytest.raises(CredentialsRejected):
                await world.join("job 1", sees=False)

            assert now() < 6.0


class TestFirstContact:
    @EVERY_SOURCE
    @virtual
    async def test_evidence_of_a_wrong_field_ends_the_waits_after_five_minutes(
        self, sources: Any
    ) -> None:
        async with a_world(*sources) as world:
            wrong = between(404)
            wrong.suspect = Suspect("host", "check the path")
            world.server.fault = lambda _: wrong
            for job in jobs(5):
                world.join(job, sees=False)

            done = await asyncio.gather(*world.waits.values(), return_exceptions=True)
            assert {type(error) for error in done} == {AccountMisconfigured}
            assert 300.0 <= now() <= 380.0

    @pytest.mark.parametrize("how", [{"vouched": True}, {"known": True}])
    @virtual
    async def test_one_that_has_worked_before_is_an_outage(self, how: Any) -> None:
        async with a_world(FEED) as world:
            wrong = between(404)
            wrong.suspect = Suspect("host", "check the path")
            world.server.fault = lambda _: wrong
            world.server.start("a", lasts=100.0)
            world.join("a", sees=False, **how)
            world.server.start("b", lasts=100.0)
            world.join("b", sees=False)
            await asyncio.sleep(3600.0)
            assert not world.told_at
            world.server.fault = lambda _: None
            assert len(await world.all_told()) == 2


class TestDoubtedJobs:
    @virtual
    async def test_most_at_once_are_no_answer_for_fifteen_minutes(self) -> None:
        async with a_world() as world:
            world.start_and_join(jobs(20), lasts=math.inf)
            await asyncio.sleep(100.0)
            before = len(world.server.requests)
            for job in jobs(20):
                world.server.refusals[job] = 404

            await asyncio.sleep(880.0)
            assert not world.told_at
            assert world.poller.statistics().doubtful == 20
            # A few are asked for, in turn, and not all in each round.
            assert len(world.server.requests) - before < 20 + 20 * 3
            done = await asyncio.gather(*world.waits.values(), return_exceptions=True)
            assert {type(error) for error in done} == {JobNotFound}
            assert now() <= 100.0 + 900.0 + 120.0

    @virtual
    async def test_most_come_back_when_one_is_shown(self) -> None:
        async with a_world() as world:
            world.start_and_join(jobs(20), lasts=400.0)
            await asyncio.sleep(100.0)
            for job in jobs(20):
                world.server.refusals[job] = 404

            await asyncio.sleep(600.0)
            world.server.refusals.clear()
            assert len(await world.all_told()) == 20
            assert now() <= 700.0 + 60.0 + 60.0

    @EVERY_SOURCE
    @pytest.mark.parametrize(("count", "gone"), [(3, 2), (4, 3), (5, 3), (100, 60)])
    @virtual
    async def test_most_that_are_gone_while_others_answer_are_believed(
        self, sources: Any, count: int, gone: int
    ) -> None:
        async with a_world(*sources) as world:
            world.start_and_join(jobs(count), lasts=math.inf)
            await asyncio.sleep(100.0)
            before = len(world.server.requests)
            for job in jobs(gone):
                world.server.refusals[job] = 404

            world.server.hidden = set(jobs(gone))
            done = await asyncio.gather(
                *(world.waits[job] for job in jobs(gone)), return_exceptions=True
            )
            assert {type(error) for error in done} == {JobNotFound}
            # Found by the sweep at the latest, then in doubt, a few at a time.
            assert now() <= 100.0 + 300.0 + 60.0 + 300.0 + 360.0
            assert world.poller.statistics().jobs == count - gone
            healthy = count * (now() - 100.0) / 30.0
            assert len(world.server.requests) - before <= healthy + gone * 12

    @virtual
    async def test_one_of_many_is_gone_after_five_minutes(self) -> None:
        async with a_world() as world:
            world.start_and_join(jobs(5), lasts=math.inf)
            await asyncio.sleep(100.0)
            world.server.refusals["job 0"] = 404
            with pytest.raises(JobNotFound):
                await world.waits["job 0"]

            assert 400.0 <= now() <= 100.0 + 30.0 + 300.0 + 30.0
            assert world.poller.statistics().jobs == 4

    @virtual
    async def test_two_that_are_left_of_three_are_believed_by_the_plain_rule(
        self,
    ) -> None:
        async with a_world() as world:
            world.start_and_join(jobs(3), lasts=math.inf)
            await asyncio.sleep(100.0)
            for job in jobs(3):
                world.server.refusals[job] = 404

            await asyncio.sleep(200.0)
            assert world.poller.statistics().doubtful == 3
            world.waits.pop("job 0").cancel()
            done = await asyncio.gather(*world.waits.values(), return_exceptions=True)

            assert {type(error) for error in done} == {JobNotFound}
            # They have been in doubt since the three were.
            assert 400.0 <= now() <= 100.0 + 30.0 + 300.0 + 61.0


SHOWING = pytest.mark.parametrize(
    "sources", [(FEED,), (ENDS,), (LIST,), (IDS,)], ids=["feed", "ends", "list", "ids"]
)


class TestUnconfirmedEnds:
    """A list shows an end, and what would confirm it is refused."""

    @SHOWING
    @pytest.mark.parametrize("how", ["the job", "the account", "both confirmations"])
    @pytest.mark.parametrize("end", [JobState.SUCCEEDED, JobState.FAILED])
    @virtual
    async def test_they_count_once_the_refusal_is_believed(
        self, sources: Any, how: str, end: JobState
    ) -> None:
        async with a_world(*sources, confirms=True) as world:
            if how == "both confirmations":
                world.vendor.tells_all = lambda job: job

            world.start_and_join(jobs(30), lasts=math.inf, interval=10.0)
            for job in ("a", "b"):
                world.server.start(job, lasts=100.0, outcome=end)
                world.join(job, interval=10.0)

            await asyncio.sleep(90.0)
            refuse_single(world, {"a"}, of_account=how == "the account")
            async with asyncio.timeout(5000.0):
                told = await asyncio.gather(world.waits["a"], world.waits["b"])

            assert {job.state for job in told} == {end}
            assert world.told_at["b"] <= 130.0
            assert 400.0 <= world.told_at["a"] <= 100.0 + 30.0 + 300.0 + 65.0
            # Checked at the times of a doubt, and not in each round.
            assert world.server.counts["fault"] <= 13

    @SHOWING
    @virtual
    async def test_all_of_them_count_as_well(self, sources: Any) -> None:
        async with a_world(*sources, confirms=True) as world:
            world.start_and_join(jobs(20), lasts=100.0)
            await asyncio.sleep(90.0)
            refuse_single(world, set(jobs(20)))
            told = await world.all_told()

            assert {job.state for job in told.values()} == {JobState.SUCCEEDED}
            assert min(world.told_at.values()) >= 400.0
            # Most at once: nothing but refusals has come for three times as long.
            assert max(world.told_at.values()) <= 100.0 + 60.0 + 900.0 + 65.0

    @SHOWING
    @virtual
    async def test_a_confirmation_that_comes_ends_the_doubt(self, sources: Any) -> None:
        async with a_world(*sources, confirms=True) as world:
            world.start_and_join(["a", *jobs(30)], lasts=100.0)
            await asyncio.sleep(90.0)
            refuse_single(world, {"a"})
            await asyncio.sleep(200.0)
            assert "a" not in world.told_at
            refuse_single(world, set())
            assert (await world.waits["a"]).state is JobState.SUCCEEDED
            assert now() <= 290.0 + 65.0

    @pytest.mark.parametrize("digests", [True, False])
    @virtual
    async def test_a_job_that_a_list_shows_under_way_is_in_no_doubt(
        self, *, digests: bool
    ) -> None:
        async with a_world(LIST, confirms=True) as world:
            world.vendor.digests = digests
            world.start_and_join(["a", "b"], lasts=2000.0)
            await asyncio.sleep(90.0)
            refuse_single(world, {"a"})
            await asyncio.sleep(60.0)
            assert world.poller.statistics().doubtful == 1
            # So many are asked for by a list.
            world.start_and_join(jobs(30), lasts=2000.0)
            await asyncio.sleep(60.0)
            assert world.poller.statistics().doubtful == 0
            await asyncio.sleep(1700.0)
            assert not world.told_at
            assert (await world.waits["a"]).state is JobState.SUCCEEDED
            assert now() <= 2000.0 + 60.0 + 300.0 + 65.0

    @virtual
    async def test_an_end_that_a_later_row_takes_back_does_not_count(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            world.start_and_join(jobs(30), lasts=math.inf)
            world.start_and_join(["a"], lasts=100.0)
            await asyncio.sleep(90.0)
            refuse_single(world, {"a"})
            await asyncio.sleep(60.0)
            assert world.poller.statistics().doubtful == 1
            world.server.lives["a"] = replace(world.server.lives["a"], ends=math.inf)
            await asyncio.sleep(60.0)
            assert world.poller.statistics().doubtful == 0
            world.server.hidden = {"a"}
            with pytest.raises(JobNotFound):
                await world.waits["a"]

    @virtual
    async def test_whoever_waits_for_another_run_of_it_waits_on(self) -> None:
        async with a_world(LIST, confirms=True) as world:
            judge = world.vendor.judge

            def judged(account: Any, subject: str, row: Row, mark: Any) -> Job:
                job = judge(account, subject, row, mark)
                return job if mark is None else replace(job, state=JobState.RUNNING)

            world.vendor.judge = judged  # type: ignore[method-assign]
            world.start_and_join(jobs(30), lasts=math.inf)
            world.start_and_join(["a"], lasts=100.0)
            world.join("a", name="the next", mark="next")
            await asyncio.sleep(90.0)
            refuse_single(world, {"a"})
            assert (await world.waits["a"]).state is JobState.SUCCEEDED
            await asyncio.sleep(1000.0)
            assert "the next" not in world.told_at


def refuse_single(world: World, refused: set[str], *, of_account: bool = False) -> None:
    """Let the vendor refuse all that is asked about some jobs alone, and show lists."""

    def fault(request: Request) -> EngineError | None:
        what: dict[str, Any] = request.note
        if what.get("id") not in refused:
            return None

        return rejected() if of_account else JobNotFound("No such job", status=404)

    world.server.fault = fault


class TestDoubtInOutage:
    """An outage refuses nothing: its time is no part of a doubt."""

    @EVERY_SOURCE
    @pytest.mark.parametrize("of_account", [True, False], ids=["account", "job"])
    @pytest.mark.parametrize("error", ["503", "unreachable", "in between"])
    @virtual
    async def test_it_counts_for_nothing(
        self, sources: Any, error: str, *, of_account: bool
    ) -> None:
        outages: dict[str, EngineError] = {
            "503": VendorBroken("no", status=503),
            "unreachable": Unreachable("no answer"),
            "in between": between(403),
        }
        async with a_world(*sources) as world:
            world.start_and_join(["a"], lasts=math.inf)
            await asyncio.sleep(100.0)
            refusal = rejected() if of_account else JobNotFound("gone", status=404)
            world.server.hidden = {"a"}
            if not of_account:
                # A list that hides it says nothing, and the sweep asks for it.
                world.vendor.sources = ()

            world.server.fault = lambda _: refusal
            await asyncio.sleep(100.0)
            world.server.fault = lambda _: outages[error]
            await asyncio.sleep(3600.0)
            world.server.fault = lambda _: refusal
            back = now()
            await asyncio.sleep(120.0)
            assert not world.told_at
            with pytest.raises(type(refusal)):
                await world.waits["a"]

            # What it had lasted before counts, and a check before the outage was seen.
            assert 120.0 < now() - back <= 300.0 + 65.0

    @pytest.mark.parametrize("of_account", [True, False], ids=["account", "job"])
    @virtual
    async def test_one_of_two_servers_that_is_away_lets_it_end(
        self, *, of_account: bool
    ) -> None:
        async with a_world() as world:
            world.start_and_join(["a"], lasts=math.inf)
            await asyncio.sleep(100.0)
            refusal = rejected() if of_account else JobNotFound("gone", status=404)
            turns = [0]

            def fault(_: Request) -> EngineError:
                turns[0] += 1
                return refusal if turns[0] % 2 else VendorBroken("no", status=502)

            world.server.fault = fault
            with pytest.raises(type(refusal)):
                await world.waits["a"]

            assert now() <= 100.0 + 30.0 + 2 * 300.0 + 130.0


class TestOneBadThing:
    @pytest.mark.parametrize("subject", [None, "", "  ", 5])
    @virtual
    async def test_a_bad_id_fails_alone(self, subject: Any) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(60), lasts=100.0)
            with pytest.raises(RequestRejected, match="is no id"):
                await world.join(subject, name="bad", sees=False)

            del world.waits["bad"]
            assert len(await world.all_told()) == 60

    @pytest.mark.parametrize("interval", [None, "60", -1, math.nan, math.inf, True])
    @virtual
    async def test_a_bad_interval_fails_alone(self, interval: Any) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(60), lasts=100.0)
            with pytest.raises(RequestRejected, match="is not an interval"):
                await world.join("bad", interval=interval)

            del world.waits["bad"]
            assert len(await world.all_told()) == 60

    @virtual
    async def test_a_job_that_no_request_can_be_made_for_fails_alone(self) -> None:
        async with a_world() as world:
            real = world.vendor.single

            def single(account: Any, subject: str) -> Request:
                return real(account, str(int(subject.removeprefix("job ")) and subject))

            world.vendor.single = single  # type: ignore[method-assign]
            world.start_and_join(["job 1", "job 2"], lasts=100.0)
            with pytest.raises(RequestRejected, match="ValueError at"):
                await world.join("job x")

            del world.waits["job x"]
            assert len(await world.all_told()) == 2

    @EVERY_SOURCE
    @virtual
    async def test_a_row_that_breaks_fails_its_job_alone(
        self, sources: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with a_world(*sources) as world:
            real = world.vendor.judge

            def judge(account: Any, subject: str, row: Row, mark: Any) -> Job:
                if subject == "job 7":
                    raise KeyError(subject)

                return real(account, subject, row, mark)

            world.vendor.judge = judge  # type: ignore[method-assign]
            world.start_and_join(jobs(20), lasts=100.0)
            with pytest.raises(RequestRejected, match="KeyError at"):
                await world.waits["job 7"]

            del world.waits["job 7"]
            assert len(await world.all_told()) == 19
            assert now() < 200.0

    @EVERY_SOURCE
    @virtual
    async def test_a_row_that_stays_unreadable_fails_its_job_alone(
        self, sources: Any
    ) -> None:
        async with a_world(*sources) as world:
            world.vendor.unreadable.add("job 7")
            world.start_and_join(jobs(20), lasts=100.0)
            with pytest.raises(RequestRejected, match="of job 7 holds nonsense"):
                await world.waits["job 7"]

            assert 300.0 <= now() < 700.0
            del world.waits["job 7"]
            assert len(await world.all_told()) == 19
            assert (
                max(each for name, each in world.told_at.items() if name != "job 7")
                < 200.0
            )

    @EVERY_SOURCE
    @virtual
    async def test_a_row_that_is_unreadable_for_a_while_ends_no_wait(
        self, sources: Any
    ) -> None:
        async with a_world(*sources) as world:
            world.vendor.unreadable.update(jobs(1))
            # Of no job is known that it was shown before.
            world.start_and_join(jobs(2), lasts=800.0, sees=False)
            await asyncio.sleep(250.0)
            world.vendor.unreadable.clear()
            assert len(await world.all_told()) == 2

    @virtual
    async def test_rows_that_are_all_unreadable_fail_their_jobs_later(self) -> None:
        async with a_world(LIST) as world:
            world.vendor.unreadable.update(jobs(20))
            world.start_and_join(jobs(20), lasts=5000.0)
            await asyncio.sleep(850.0)
            assert not any(task.done() for task in world.waits.values())
            await asyncio.wait(world.waits.values(), timeout=600.0)
            assert all(task.done() for task in world.waits.values())

    @pytest.mark.parametrize("method", ["many", "read"])
    @virtual
    async def test_a_source_that_breaks_is_distrusted(self, method: str) -> None:
        async with a_world(FEED) as world:
            real = getattr(world.vendor, method)

            def broken(*given: Any, **more: Any) -> Any:
                note = getattr(given[0], "note", None) or {}
                if note.get("kind") == "single":
                    return real(*given, **more)

                raise ZeroDivisionError

            setattr(world.vendor, method, broken)
            world.start_and_join(jobs(30), lasts=100.0)

            assert len(await world.all_told()) == 30
            assert FEED not in world.poller.state.sources.trusted
            assert now() < 200.0

    @virtual
    async def test_a_round_that_breaks_twice_at_one_place_is_shown(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with a_world(FEED) as world:
            heard: list[Notice] = []
            world.server.start("a", lasts=300.0)
            world.join("a", notices=heard.append)
            real = world.poller.round._plan

            def plan(due: Any, need: Any) -> Any:
                raise ZeroDivisionError

            world.poller.round._plan = plan  # type: ignore[method-assign]
            await asyncio.sleep(200.0)
            assert world.poller.statistics().broken_rounds >= 2
            assert "again and again: ZeroDivisionError" in heard[-1].text
            world.poller.round._plan = real  # type: ignore[method-assign]
            await world.all_told()
            assert heard[-1].is_over

    @virtual
    async def test_an_answer_belongs_to_the_job_that_was_asked_for(self) -> None:
        async with a_world(FEED) as world:
            real = world.vendor.single

            def single(account: Any, subject: str) -> Request:
                return real(account, subject.lstrip("0"))

            world.vendor.single = single  # type: ignore[method-assign]
            judge = world.vendor.judge
            world.vendor.judge = lambda account, subject, row, mark: judge(  # type: ignore[method-assign]
                account, subject.lstrip("0"), row, mark
            )
            world.server.start("1", lasts=100.0)
            job = await world.join("001")

            assert job.state is JobState.SUCCEEDED
            assert now() <= 100.0 + 300.0 + 31.0


class TestClocks:
    @pytest.mark.parametrize("page", [5, 100])
    @pytest.mark.parametrize("off", [3600.0, -3600.0])
    @pytest.mark.parametrize("at", [0.0, 65.0, 125.0])
    @virtual
    async def test_one_wrong_date_costs_nothing(
        self, off: float, at: float, page: int
    ) -> None:
        async with a_world(replace(FEED, page=page)) as world:
            world.start_and_join(jobs(30), lasts=200.0, interval=10.0)
            await asyncio.sleep(at)
            world.server.skew += off
            seen = len(world.server.requests)
            while len(world.server.requests) == seen:  # noqa: ASYNC110 - of no task of ours
                await asyncio.sleep(0.1)

            world.server.skew -= off
            await world.all_told()

            # By the feed, two rounds after the end at the latest. The sweep asks for some,
            # and a first date that is wrong costs a round of single questions.
            assert now() <= 200.0 + 2 * 10.0 + 1.0
            assert world.server.counts["single"] <= 11 + (0 if at else 30)

    @pytest.mark.parametrize("step", [3600.0, -3600.0])
    @virtual
    async def test_a_server_clock_that_is_set_is_followed(self, step: float) -> None:
        async with a_world(FEED) as world:
            world.start_and_join(jobs(30), lasts=200.0, interval=10.0)
            await asyncio.sleep(95.0)
            world.server.skew += step
            await world.all_told()

            assert now() <= 200.0 + 2 * 10.0 + 1.0


class TestNotices:
    @virtual
    async def test_those_who_wait_hear_when_it_begins_now_and_then_and_ends(
        self,
    ) -> None:
        async with a_world(FEED) as world:
            heard: list[tuple[float, Notice]] = []
            world.server.start("a", lasts=math.inf)
            world.join("a", notices=lambda notice: heard.append((now(), notice)))
            await asyncio.sleep(100.0)
            world.server.fault = lambda _: between(403)
            await asyncio.sleep(1500.0)
            world.server.fault = lambda _: None
            await asyncio.sleep(100.0)

            assert [notice.is_over for _, notice in heard] == [False] * 3 + [True]
            times = [at for at, _ in heard]
            assert times[0] <= 140.0
            assert 600.0 <= times[1] - times[0] <= 700.0
            assert "Something answered 403" in heard[0][1].text

    @pytest.mark.parametrize("sources", [(), (FEED,)], ids=["single", "feed"])
    @virtual
    async def test_a_pause_of_an_hour_is_heard_of_while_a_round_waits_for_its_end(
        self, sources: Any
    ) -> None:
        async with a_world(*sources) as world:
            heard: dict[str, list[tuple[float, bool]]] = {job: [] for job in jobs(20)}

            def note(job: str, notice: Notice) -> None:
                heard[job].append((now(), notice.is_over))

            for job in jobs(20):
                world.server.start(job, lasts=math.inf)
                world.join(job, notices=partial(note, job))

            await asyncio.sleep(100.0)
            faults = [RateLimited("429", status=429, retry_after=3600.0)]

            def fault(_: Request) -> EngineError | None:
                if not faults:
                    return None

                # As the transport does with what it is asked for.
                world.transport.limiter.pause(3600.0)
                return faults.pop()

            world.server.fault = fault
            await asyncio.sleep(3900.0)

            for of_job in heard.values():
                times = [at for at, is_over in of_job if not is_over]
                over = [at for at, is_over in of_job if is_over]
                assert len(times) == 6
                assert 160.0 <= times[0] <= 195.0
                for sooner, later in itertools.pairwise(times):
                    assert 600.0 <= later - sooner <= 665.0

                assert len(over) == 1
                assert 3700.0 <= over[0] <= 3800.0

    @virtual
    async def test_no_more_than_ten_a_second_hear(self) -> None:
        async with a_world(FEED) as world:
            heard: list[float] = []
            for job in jobs(100):
                world.server.start(job, lasts=math.inf)
                world.join(job, notices=lambda _: heard.append(now()))

            await asyncio.sleep(100.0)
            world.server.fault = lambda _: rejected()
            await asyncio.sleep(60.0)

            assert len(heard) == 100
            for at in heard:
                assert sum(at <= other < at + 1.0 for other in heard) <= 20

    @virtual
    async def test_a_short_outage_is_no_news_and_a_long_one_is(self) -> None:
        async with a_world(FEED) as world:
            heard: list[Notice] = []
            world.server.start("a", lasts=math.inf)
            world.join("a", notices=heard.append, interval=5.0)
            await asyncio.sleep(50.0)
            world.server.fault = lambda _: VendorBroken("503", status=503)
            await asyncio.sleep(40.0)
            world.server.fault = lambda _: None
            await asyncio.sleep(100.0)
            assert heard == []
            world.server.fault = lambda _: VendorBroken("503", status=503)
            await asyncio.sleep(200.0)
            assert [notice.is_over for notice in heard] == [False]

    @virtual
    async def test_a_listener_that_breaks_ends_no_wait(self) -> None:
        async with a_world(FEED) as world:

            def broken(_: Notice) -> None:
                raise ZeroDivisionError

            world.server.start("a", lasts=200.0)
            world.join("a", notices=broken)
            await asyncio.sleep(100.0)
            world.server.fault = lambda _: between(403)
            await asyncio.sleep(100.0)
            world.server.fault = lambda _: None
            assert len(await world.all_told()) == 1


class TestLanes:
    @virtual
    async def test_the_shared_request_goes_before_thousands_of_looks(self) -> None:
        budget = Budget(requests=20_000, per=3600.0, share=1.0, polls=8)
        async with a_world(FEED, budget=budget) as world:
            world.start_and_join(jobs(100), lasts=math.inf, interval=30.0)
            await asyncio.sleep(65.0)
            spent: list[float] = []

            async def look() -> None:
                request = Request(
                    method="GET", path="/", about="x", note={"kind": "whole", "id": "x"}
                )
                with_server = world.transport
                try:
                    await with_server.send(request)
                except EngineError:
                    spent.append(now())

            looks = [asyncio.create_task(look()) for _ in range(5000)]
            await asyncio.sleep(0.0)
            lists = [at for at, what, _ in world.server.requests if what == "feed"]
            await asyncio.sleep(600.0)
            later = [
                at
                for at, what, _ in world.server.requests
                if what == "feed" and at > lists[-1]
            ]
            planned = [lists[-1] + 30.0 * (each + 1) for each in range(len(later))]
            late = [at - when for at, when in zip(later, planned, strict=True)]

            assert len(later) >= 19
            assert max(late) <= 1.0 + 3600.0 / 20_000 + world.server.latency
            for task in looks:
                task.cancel()

            await asyncio.wait(looks)

    @virtual
    async def test_looks_have_a_quarter_beside_everything_else(self) -> None:
        budget = Budget(requests=3600, per=3600.0, share=1.0, polls=8)
        async with a_world(budget=budget) as world:
            limiter = world.transport.limiter
            granted: dict[Lane, int] = dict.fromkeys(Lane, 0)
            limiter.pause(1.0)

            async def use(lane: Lane) -> None:
                async with limiter.admit(lane):
                    granted[lane] += 1

            tasks = [
                asyncio.create_task(use(lane))
                for lane in (Lane.POLL, Lane.LOOK, Lane.START, Lane.CANCEL)
                for _ in range(2000)
            ]
            await asyncio.sleep(1200.0)
            assert granted[Lane.LOOK] >= sum(granted.values()) // 4
            for task in tasks:
                task.cancel()

            await asyncio.wait(tasks)


class Vault:
    """The Airflow connections, by their names, and how often each was read."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets
        self.reads: dict[str, int] = {}
        self.gone: set[str] = set()

    def account(self, name: str) -> Account:
        if name in self.gone:
            msg = "the connection could not be looked up"
            raise Unreachable(msg)

        self.reads[name] = self.reads.get(name, 0) + 1
        return an_account(
            credentials=Credentials(
                kind=CredentialKind.BEARER, secret=self.secrets[name]
            )
        )

    def reload(self, name: str) -> Callable[[], Awaitable[Account]]:
        async def read() -> Account:
            return self.account(name)

        return read

    def hold(self, name: str, *, lists: bool = True) -> LeasedAccount:
        vendor: Any = FakeVendor(*((FEED,) if lists else ()))
        return hold(
            vendor, self.account(name), connection=name, reload=self.reload(name)
        )


SINGLE = Request(
    method="GET", path="/", about="mine", note={"kind": "single", "id": "mine"}
)


def serve(server: Server, accepts: set[str], *, is_locked: bool = False) -> None:
    """Answer the accounts in use from one server, which accepts some keys."""
    for shared in shared_accounts():
        if isinstance(shared.transport, FakeTransport):
            continue

        vendor: Any = shared.vendor
        fake = FakeTransport(vendor, shared.account, server)
        fake._on_refusal = shared.read_again
        fake.trust.on_doubt = shared.poller._hurry
        send = fake._prove_and_exchange

        async def checked(
            *given: Any,
            secret: str = shared.account.credentials.secret,
            real: Any = send,
        ) -> Any:
            if secret not in accepts:
                server.requests.append((now(), "refused", ""))
                error = rejected()
                error.is_locked = is_locked
                raise error

            return await real(*given)

        fake._prove_and_exchange = checked  # type: ignore[method-assign,assignment]
        shared.transport = fake
        shared.poller.state.transport = fake


class TestConnections:
    @virtual
    async def test_each_waiter_follows_its_own_connection(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        vault, server, accepts = Vault(a="old", b="old"), Server(), {"old"}
        one, two = vault.hold("a"), vault.hold("b")
        assert one.shared is two.shared
        serve(server, accepts)
        loop = asyncio.get_running_loop()

        async def wait(leased: LeasedAccount, job: str) -> Job:
            while True:
                try:
                    return await leased.wait(
                        job, interval=5.0, seen_at=server.now(), known=True
                    )
                except ConnectionChanged:
                    serve(server, accepts)

        for job in ("mine", "yours"):
            server.start(job, lasts=100.0)

        mine = loop.create_task(wait(one, "mine"))
        yours = loop.create_task(wait(two, "yours"))
        await asyncio.sleep(50.0)
        # The key is replaced at the vendor, and in one of two connections.
        accepts.clear()
        accepts.add("new")
        vault.secrets["b"] = "new"
        assert (await yours).state is JobState.SUCCEEDED
        assert two.shared is not one.shared
        assert two.account.credentials.secret == "new"
        assert one.account.credentials.secret == "old"
        assert now() <= 110.0
        assert not mine.done()
        with pytest.raises(CredentialsRejected):
            await mine

        assert 50.0 + 300.0 <= now() <= 50.0 + 330.0
        one.release()
        two.release()
        await asyncio.sleep(100.0)
        assert shared_accounts() == []

    @virtual
    async def test_one_that_is_corrected_late_goes_on(self) -> None:
        vault, server, accepts = Vault(a="old"), Server(), {"old"}
        leased = vault.hold("a")
        serve(server, accepts)
        server.start("mine", lasts=100.0)

        async def wait() -> Job:
            while True:
                try:
                    return await leased.wait("mine", interval=5.0, known=True)
                except ConnectionChanged:
                    serve(server, accepts)

        task = asyncio.get_running_loop().create_task(wait())
        await asyncio.sleep(50.0)
        accepts.clear()
        accepts.add("new")
        await asyncio.sleep(150.0)
        reads = vault.reads["a"]
        vault.secrets["a"] = "new"

        assert (await task).state is JobState.SUCCEEDED
        assert now() <= 200.0 + 70.0
        assert reads <= 9
        leased.release(0.0)
        await leased.shared.wait_closed()

    @pytest.mark.parametrize("is_locked", [False, True])
    @virtual
    async def test_a_changed_connection_is_tried_at_once(
        self, *, is_locked: bool
    ) -> None:
        vault, server, accepts = Vault(a="old"), Server(), {"old"}
        leased = vault.hold("a")
        serve(server, accepts, is_locked=is_locked)
        server.start("mine", lasts=100.0)

        async def wait() -> Job:
            while True:
                try:
                    return await leased.wait("mine", interval=5.0, known=True)
                except ConnectionChanged:
                    serve(server, accepts)

        task = asyncio.get_running_loop().create_task(wait())
        await asyncio.sleep(50.0)
        accepts.clear()
        accepts.add("new")
        await asyncio.sleep(70.0)
        refused = server.counts["refused"]
        vault.secrets["a"] = "new"

        assert (await task).state is JobState.SUCCEEDED
        assert now() <= 120.0 + 60.0 + 10.0
        assert refused <= (1 if is_locked else 5)
        leased.release(0.0)
        await leased.shared.wait_closed()

    @pytest.mark.parametrize("paused_first", [False, True])
    @pytest.mark.parametrize("after", [10.0, 400.0])
    @virtual
    async def test_one_that_changes_in_a_pause_is_tried_all_the_same(
        self, after: float, *, paused_first: bool
    ) -> None:
        """Whether the pause holds a check up, or a round that began before the doubt."""
        vault, server, accepts = Vault(a="old"), Server(), {"old"}
        leased = vault.hold("a")
        serve(server, accepts)
        transport = leased.shared.poller.state.transport
        server.start("mine", lasts=100.0)

        async def wait() -> Job:
            while True:
                try:
                    return await leased.wait("mine", interval=5.0, known=True)
                except ConnectionChanged:
                    serve(server, accepts)

        task = asyncio.get_running_loop().create_task(wait())
        await asyncio.sleep(50.0)
        if paused_first:
            transport.limiter.pause(3600.0)
            await asyncio.sleep(10.0)

        accepts.clear()
        accepts.add("new")
        if paused_first:
            with urgent(), pytest.raises(Doubted):
                await transport.send(SINGLE)
        else:
            await asyncio.sleep(6.0)
            transport.limiter.pause(3600.0)
            transport.trust.rate_limited()

        await asyncio.sleep(after)
        reads, changed = vault.reads["a"], now()
        vault.secrets["a"] = "new"

        assert (await task).state is JobState.SUCCEEDED
        assert now() <= max(changed, 100.0) + 60.0 + 10.0
        assert reads <= 6 + after / 60.0
        leased.release(0.0)
        await leased.shared.wait_closed()

    @virtual
    async def test_a_job_in_doubt_does_not_keep_it_from_that(self) -> None:
        vault, server, accepts = Vault(a="old"), Server(), {"old"}
        leased = vault.hold("a", lists=False)
        serve(server, accepts)
        transport = leased.shared.poller.state.transport
        for job in ("mine", "gone"):
            server.start(job, lasts=300.0)

        async def wait(job: str) -> Job:
            while True:
                try:
                    return await leased.wait(job, interval=5.0, known=True)
                except ConnectionChanged:
                    serve(server, accepts)

        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(wait(job)) for job in ("mine", "gone")]
        await asyncio.sleep(40.0)
        server.refusals["gone"] = 404
        await asyncio.sleep(60.0)
        assert leased.shared.poller.statistics().doubtful == 1
        accepts.clear()
        await asyncio.sleep(6.0)
        transport.limiter.pause(3600.0)
        transport.trust.rate_limited()
        await asyncio.sleep(400.0)
        accepts.add("new")
        server.refusals.clear()
        vault.secrets["a"] = "new"

        for task in tasks:
            assert (await task).state is JobState.SUCCEEDED

        assert now() <= 506.0 + 60.0 + 60.0
        leased.release(0.0)
        await leased.shared.wait_closed()

    @virtual
    async def test_a_connection_that_is_gone_keeps_none_from_being_believed(
        self,
    ) -> None:
        vault, server, accepts = Vault(a="old", b="old"), Server(), {"old"}
        one, two = vault.hold("a"), vault.hold("b")
        serve(server, accepts)
        server.start("mine", lasts=math.inf)
        waiting = asyncio.get_running_loop().create_task(
            one.wait("mine", interval=5.0, known=True)
        )
        await asyncio.sleep(50.0)
        accepts.clear()
        vault.gone.add("b")
        with pytest.raises(CredentialsRejected):
            await waiting

        assert now() <= 50.0 + 330.0
        for each in (one, two):
            each.release(0.0)

        await one.shared.wait_closed()

    @virtual
    async def test_a_call_goes_on_where_its_connection_leads_now(self) -> None:
        vault, server, accepts = Vault(a="old"), Server(), {"old", "new"}
        leased = vault.hold("a")
        serve(server, accepts)
        server.start("x", lasts=100.0)
        request = Request(
            method="GET", path="/", about="x", note={"kind": "single", "id": "x"}
        )
        accepts.remove("old")
        vault.secrets |= {"a": "new", "b": "new"}
        other = vault.hold("b")
        serve(server, accepts)
        assert leased.shared is not other.shared
        assert (await leased.call(request)).status == 200
        assert leased.shared is other.shared
        for each in (leased, other):
            each.release(0.0)

        await leased.shared.wait_closed()


@virtual
async def test_belief_is_the_connections_own() -> None:
    async with a_world(FEED) as world:
        assert isinstance(world, World)
        account = replace(an_account(), belief=Belief(doubt=10.0))
        fake = FakeTransport(world.vendor, account, world.server)
        fake.trust.answered()
        doubted = fake.trust.refused(rejected(), 0.0, is_check=False)
        assert "checked again for 10 s" in doubted.message
        doubt = fake.trust.doubt
        assert doubt is not None
        assert doubt.ends == 10.0
        assert EPOCH > 0
