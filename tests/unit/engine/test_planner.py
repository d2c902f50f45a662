from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.engine.planner import CHEAPER, Plan, Planner, Situation, serves
from async_triggers.engine.watch import LOOKBACK, Need
from async_triggers.engine.wire import Source, SourceKind
from tests.examples import examples
from tests.steps import counted_steps

CHANGES = Source(name="changes", kind=SourceKind.FEED, page=100)
BY_ID = Source(name="by id", kind=SourceKind.IDS, page=100)
FINISHED = Source(name="finished", kind=SourceKind.FEED, page=100, ends_only=True)
ENDED = Source(
    name="ended", kind=SourceKind.FEED, page=100, parts=("a", "b", "c"), ends_only=True
)
ACCOUNT = Source(name="account", kind=SourceKind.LIST, page=1000)
GROUP = Source(name="group", kind=SourceKind.LIST, page=1000, scoped=True)
LIVE = Source(name="live", kind=SourceKind.LIVE, page=100)

NOW = 1_774_402_200.0


def jobs(count: int) -> list[str]:
    return [f"job {number}" for number in range(count)]


def a_situation(count: int, *sources: Source, **changes: Any) -> Situation:
    due = jobs(count)
    settled: dict[str, Any] = {
        "due": due,
        "behind": {},
        "cursor": NOW - 90.0,
        "now": NOW,
        "sources": sources,
        "interval": 30.0,
        "hourly": 36_000.0,
        **changes,
    }
    return Situation(**settled)


def a_planner(
    *, rows: dict[tuple[Source, str], int] | None = None, row_bytes: int = 1000
) -> Planner:
    """Make a planner that has walked over the sources before, ``rows`` in 90 seconds."""
    planner = Planner()
    for (source, scope), count in (rows or {}).items():
        for _ in range(20):
            planner.learn(
                source, rows=count, size=count * row_bytes, scope=scope, span=120.0
            )

    return planner


class TestCheapestWay:
    def test_airbyte_many_waiters_read_the_feed(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 40})

        plan = planner.plan(a_situation(200, CHANGES))

        assert (plan.name, plan.requests, plan.singles) == ("changes", 1, ())
        assert plan.since == NOW - 90.0

    @pytest.mark.parametrize(
        ("joiners", "name", "requests"),
        [(0, "changes", 1), (150, "changes", 2), (10_000, "ended", 3)],
    )
    def test_airbyte_many_joiners_read_of_ends_and_not_of_beginnings(
        self, joiners: int, name: str, requests: int
    ) -> None:
        behind = dict.fromkeys(jobs(joiners), NOW - 600.0)
        planner = a_planner()

        situation = a_situation(10_000, CHANGES, ENDED, behind=behind, cursor=None)
        if not joiners:
            situation = a_situation(10_000, CHANGES, ENDED)

        plan = planner.plan(situation)
        assert (plan.name, plan.requests) == (name, requests)
        # Nothing keeps it from the cheaper way, in the very next round.
        assert planner.plan(a_situation(10_000, CHANGES, ENDED)).name == "changes"

    def test_a_feed_that_a_burst_made_long_is_soon_read_again(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 1000, (ENDED, ""): 20})
        names = []
        for _ in range(20):
            plan = planner.plan(a_situation(1000, CHANGES, ENDED))
            names.append(plan.name)
            assert plan.source is not None
            planner.learn(plan.source, rows=20, size=20_000, span=120.0)

        assert names == ["ended"] * 2 + ["changes"] * 18

    def test_a_feed_that_stays_long_is_tried_ever_more_rarely(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 1000, (ENDED, ""): 20})
        tries = []
        for number in range(200):
            plan = planner.plan(a_situation(1000, CHANGES, ENDED))
            assert plan.source is not None
            rows = 1000 if plan.source is CHANGES else 20
            planner.learn(plan.source, rows=rows, size=rows * 1000, span=120.0)
            if plan.source is CHANGES:
                tries.append(number)

        assert tries == [2, 7, 16, 33, 66, 131, 196]

    def test_airbyte_few_waiters_in_a_busy_instance_ask_singly(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 2000})

        plan = planner.plan(a_situation(3, CHANGES))

        assert (plan.name, plan.requests) == ("singles", 3)

    def test_airbyte_after_long_downtime_a_few_ask_singly(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 100})

        plan = planner.plan(a_situation(10, CHANGES, cursor=NOW - 86_400.0))

        assert plan.name == "singles"

    def test_airbyte_without_the_feed_asks_singly(self) -> None:
        plan = a_planner().plan(a_situation(50))

        assert (plan.name, plan.requests) == ("singles", 50)
        assert list(plan.singles) == jobs(50)

    def test_dbt_asks_by_id(self) -> None:
        planner = a_planner(rows={(FINISHED, ""): 300})

        plan = planner.plan(a_situation(250, BY_ID, FINISHED))

        assert (plan.name, plan.requests) == ("by id", 3)
        assert [len(batch) for batch in plan.batches] == [100, 100, 50]

    def test_dbt_by_id_each_page_is_a_request_and_its_rows_have_a_weight(self) -> None:
        plan = a_planner().plan(a_situation(250, BY_ID))

        assert plan.cost == pytest.approx(3 + 250 * 1024 / 262_144)

    def test_dbt_reads_the_finished_where_many_wait_and_few_finish(self) -> None:
        planner = a_planner(rows={(FINISHED, ""): 50})

        plan = planner.plan(a_situation(1000, BY_ID, FINISHED))

        assert (plan.name, plan.requests) == ("finished", 1)

    def test_airbyte_many_joiners_without_a_look_are_in_the_list_of_what_runs(
        self,
    ) -> None:
        behind: dict[str, float | None] = dict.fromkeys(jobs(2000))
        situation = a_situation(2000, CHANGES, LIVE, behind=behind, cursor=None)

        plan = a_planner().plan(situation)

        assert (plan.name, plan.requests, plan.stretch) == ("singles", 20, 0.0)
        assert len(plan.singles) == 2000

    def test_airbyte_they_are_followed_by_the_feed_once_they_are_seen(self) -> None:
        """Two pages of the list seem no more than twice one of the feed."""
        behind: dict[str, float | None] = dict.fromkeys(jobs(200))
        planner = a_planner()
        joined = planner.plan(
            a_situation(200, CHANGES, LIVE, behind=behind, cursor=None)
        )

        seen = planner.plan(a_situation(200, CHANGES, LIVE))

        assert (joined.name, joined.requests) == ("singles", 2)
        assert (seen.name, seen.singles) == ("changes", ())

    def test_airbyte_few_of_them_are_asked_for_singly(self) -> None:
        planner = a_planner()

        assert planner.alone(100, [CHANGES, LIVE]) == (
            100,
            100 * planner.single_cost,
            None,
        )

    def test_airbyte_a_list_that_is_long_with_the_jobs_of_others_is_not_read(
        self,
    ) -> None:
        planner = a_planner(rows={(LIVE, ""): 20_000})

        assert planner.alone(150, [CHANGES, LIVE])[2] is None
        assert planner.alone(2000, [CHANGES, LIVE])[2] is LIVE

    def test_dbt_asks_by_id_rather_than_for_what_runs(self) -> None:
        behind: dict[str, float | None] = dict.fromkeys(jobs(1000))
        sources = (FINISHED, BY_ID, LIVE)

        plan = a_planner().plan(a_situation(1000, *sources, behind=behind, cursor=None))

        assert (plan.name, plan.requests) == ("by id", 10)

    def test_fivetran_three_waiters_in_a_large_account_ask_singly(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 5000}, row_bytes=3000)

        assert planner.plan(a_situation(3, ACCOUNT)).name == "singles"

    @pytest.mark.parametrize(("waiters", "name"), [(10, "singles"), (14, "account")])
    def test_fivetran_thirteen_waiters_weigh_as_much_as_a_page(
        self, waiters: int, name: str
    ) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)

        assert planner.plan(a_situation(waiters, ACCOUNT)).name == name

    def test_fivetran_lists_the_groups_that_waiters_sit_in(self) -> None:
        planner = a_planner(
            rows={(ACCOUNT, ""): 5000, (GROUP, "a"): 400, (GROUP, "b"): 400},
            row_bytes=3000,
        )
        homes = {job: "ab"[number % 2] for number, job in enumerate(jobs(60))}

        plan = planner.plan(a_situation(62, ACCOUNT, GROUP, scopes=homes))

        assert (plan.name, plan.scopes) == ("group", ("a", "b"))
        assert plan.singles == ("job 60", "job 61")
        assert plan.requests == 4

    def test_fivetran_those_of_no_group_cost_as_much_as_singly(self) -> None:
        planner = a_planner(rows={(GROUP, "a"): 400})
        planner.learn_single(5_000_000)

        plan = planner._list(GROUP, a_situation(3, GROUP, scopes={"job 0": "a"}))

        _, listed = planner.list_cost(GROUP, "a")
        assert plan is not None
        assert plan.cost == pytest.approx(2 * planner.single_cost + listed)

    def test_fivetran_few_waiters_in_a_group_ask_singly(self) -> None:
        planner = a_planner(rows={(GROUP, "a"): 1000}, row_bytes=3000)

        plan = planner.plan(a_situation(2, GROUP, scopes=dict.fromkeys(jobs(2), "a")))

        assert plan.name == "singles"

    def test_fivetran_lists_the_account_where_groups_are_many(self) -> None:
        homes = {job: f"group {number}" for number, job in enumerate(jobs(100))}
        planner = a_planner(
            rows={
                (ACCOUNT, ""): 3000,
                **{(GROUP, home): 30 for home in homes.values()},
            },
            row_bytes=1000,
        )

        plan = planner.plan(a_situation(100, ACCOUNT, GROUP, scopes=homes))

        assert (plan.name, plan.requests) == ("account", 3)


class TestFeedWindow:
    def test_begins_at_the_cursor(self) -> None:
        behind = dict.fromkeys(jobs(3), NOW - 10.0)

        plan = a_planner().plan(a_situation(50, CHANGES, behind=behind))

        assert (plan.since, plan.singles) == (NOW - 90.0, ())

    def test_opens_as_far_as_the_earliest_look_where_that_is_cheap(self) -> None:
        behind = {job: NOW - 200.0 - at for at, job in enumerate(jobs(20))}
        planner = a_planner(rows={(CHANGES, ""): 20})

        plan = planner.plan(a_situation(50, CHANGES, behind=behind))

        assert (plan.since, plan.singles) == (NOW - 219.0, ())

    def test_opens_a_little_further_also_where_rows_are_large(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 40}, row_bytes=20_000)

        plan = planner.plan(a_situation(50, CHANGES, behind={"job 7": NOW - 100.0}))

        assert (plan.since, plan.singles) == (NOW - 100.0, ())

    def test_asks_singly_who_would_open_it_too_far(self) -> None:
        behind = {"job 7": NOW - 86_400.0, "job 8": NOW - 100.0}
        planner = a_planner(rows={(CHANGES, ""): 40})

        plan = planner.plan(a_situation(50, CHANGES, behind=behind))

        assert plan.singles == ("job 7",)
        assert plan.since == NOW - 100.0

    @pytest.mark.parametrize("old", [1, 100, 3000])
    def test_of_thousands_of_looks_it_finds_a_good_beginning_quickly(
        self, old: int
    ) -> None:
        ages = [
            86_400.0 * 30 - at if at < old else 700.0 - at / 100 for at in range(9999)
        ]
        behind = {job: NOW - age for job, age in zip(jobs(9999), ages, strict=True)}
        planner = a_planner(rows={(CHANGES, ""): 2000})
        situation = a_situation(9999, CHANGES, behind=behind)

        with counted_steps() as steps:
            plan = planner._feed(CHANGES, situation)

        assert plan is not None
        # Whoever looked so long ago is asked singly, and no more than twice as many.
        assert old <= len(plan.singles) <= 2 * old
        assert steps.count < 20 * len(behind)

    @pytest.mark.parametrize(("looks", "singles"), [(128, 3), (129, 4)])
    def test_of_128_looks_each_may_be_the_beginning(
        self, looks: int, singles: int
    ) -> None:
        ages = [86_400.0 - at if at < 3 else 700.0 - at / 100 for at in range(looks)]
        behind = {job: NOW - age for job, age in zip(jobs(looks), ages, strict=True)}

        plan = a_planner(rows={(CHANGES, ""): 200})._feed(
            CHANGES, a_situation(looks, CHANGES, behind=behind)
        )

        assert plan is not None
        assert len(plan.singles) == singles

    def test_of_many_looks_the_earliest_opens_it_where_that_is_cheap(self) -> None:
        behind = {job: NOW - 200.0 - at / 10 for at, job in enumerate(jobs(200))}

        plan = a_planner()._feed(CHANGES, a_situation(300, CHANGES, behind=behind))

        assert plan is not None
        assert plan.singles == ()

    def test_of_many_looks_none_opens_it_after_the_cursor(self) -> None:
        behind = {job: NOW - 1000.0 - at for at, job in enumerate(jobs(256))}
        behind["job 256"] = NOW - 10.0
        planner = a_planner(rows={(CHANGES, ""): 12_000})

        plan = planner._feed(CHANGES, a_situation(300, CHANGES, behind=behind))

        assert plan is not None
        assert plan.since is not None
        assert plan.since <= NOW - 90.0
        assert "job 256" not in plan.singles

    def test_asks_singly_whose_last_look_is_unknown(self) -> None:
        plan = a_planner().plan(a_situation(50, CHANGES, behind={"job 3": None}))

        assert (plan.name, plan.singles) == ("changes", ("job 3",))

    def test_without_cursor_begins_at_a_look(self) -> None:
        behind = dict.fromkeys(jobs(50), NOW - 300.0)

        plan = a_planner().plan(
            a_situation(50, CHANGES, behind=behind, cursor=None, now=None)
        )

        assert (plan.name, plan.since) == ("changes", NOW - 300.0)

    def test_without_any_server_time_there_is_no_window(self) -> None:
        behind = dict.fromkeys(jobs(50))

        plan = a_planner().plan(
            a_situation(50, CHANGES, behind=behind, cursor=None, now=None)
        )

        assert plan.name == "singles"


class TestKeeping:
    def test_keeps_the_plan_while_another_is_a_little_cheaper(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        assert planner.plan(a_situation(20, ACCOUNT)).name == "account"

        for _ in range(10):
            assert planner.plan(a_situation(10, ACCOUNT)).name == "account"

    def test_changes_after_three_rounds_of_half_the_cost(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        planner.plan(a_situation(20, ACCOUNT))

        names = [planner.plan(a_situation(2, ACCOUNT)).name for _ in range(3)]

        assert names == ["account", "account", "singles"]

    def test_one_round_of_another_kind_starts_the_count_again(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        planner.plan(a_situation(20, ACCOUNT))

        counts = [2, 2, 20, 2, 2, 2]
        names = [planner.plan(a_situation(count, ACCOUNT)).name for count in counts]

        assert names == ["account"] * 5 + ["singles"]

    def test_one_round_of_a_little_less_starts_the_count_again(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        planner.plan(a_situation(20, ACCOUNT))

        counts = [2, 2, 10, 2, 2, 2]
        names = [planner.plan(a_situation(count, ACCOUNT)).name for count in counts]

        assert names == ["account"] * 5 + ["singles"]

    def test_one_round_that_does_not_fit_starts_the_count_again(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        planner.plan(a_situation(20, ACCOUNT))

        budgets = [36_000.0, 36_000.0, 60.0, 36_000.0, 36_000.0, 36_000.0]
        names = [
            planner.plan(a_situation(2, ACCOUNT, hourly=hourly)).name
            for hourly in budgets
        ]

        assert names == ["account"] * 5 + ["singles"]

    def test_after_a_change_the_next_one_takes_as_many_rounds(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        planner.plan(a_situation(20, ACCOUNT))
        names = [planner.plan(a_situation(2, ACCOUNT)).name for _ in range(3)]

        planner.learn_single(50_000_000)
        names += [planner.plan(a_situation(2, ACCOUNT)).name for _ in range(3)]

        assert names == ["account"] * 2 + ["singles"] * 3 + ["account"]

    def test_changes_at_once_where_it_saves_half_of_the_requests(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 40})
        assert planner.plan(a_situation(1, CHANGES, cursor=None)).name == "singles"

        assert planner.plan(a_situation(50, CHANGES)).name == "changes"

    def test_begins_with_singles(self) -> None:
        assert repr(Planner()) == "<Planner [singles | rivals 0]>"

    def test_repr_tells_the_plan(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 40})
        planner.plan(a_situation(200, CHANGES))

        assert repr(planner) == "<Planner [changes | rivals 0]>"
        assert planner.current == "changes"


class TestBudget:
    def test_what_does_not_fit_is_not_chosen(self) -> None:
        # 10 singles weigh less than this list, but only 5 requests a round are ours.
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=10_000)
        situation = a_situation(10, ACCOUNT, interval=30.0, hourly=600.0)

        plan = planner.plan(situation)

        assert (plan.name, plan.stretch) == ("account", 0.0)

    def test_where_none_fits_the_interval_is_stretched(self) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 20_000})
        situation = a_situation(50, ACCOUNT, interval=30.0, hourly=600.0)

        plan = planner.plan(situation)

        assert (plan.name, plan.requests) == ("account", 20)
        assert plan.stretch == pytest.approx(120.0)


class TestLearning:
    def test_a_walk_cut_short_tells_the_least(self) -> None:
        planner = Planner()
        planner.learn(ACCOUNT, rows=3000, size=3_000_000, whole=False)

        assert planner.list_cost(ACCOUNT)[0] == 4

    def test_a_feed_cut_short_is_not_chosen_again_for_the_same(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 10})
        assert planner.plan(a_situation(5, CHANGES)).name == "changes"

        planner.learn(CHANGES, rows=600, size=600_000, span=90.0, whole=False)

        assert planner.plan(a_situation(5, CHANGES)).requests > 5 / CHEAPER
        assert planner.plan(a_situation(2, CHANGES)).name == "singles"

    @pytest.mark.parametrize(("whole", "name"), [(True, "account"), (False, "singles")])
    def test_only_a_walk_cut_short_must_win_again(
        self, name: str, *, whole: bool
    ) -> None:
        planner = a_planner(rows={(ACCOUNT, ""): 1000}, row_bytes=3000)
        planner.plan(a_situation(20, ACCOUNT))

        planner.learn(ACCOUNT, rows=1000, size=3_000_000, whole=whole)

        assert planner.plan(a_situation(10, ACCOUNT)).name == name

    def test_a_walk_that_spans_no_time_shows_no_rate(self) -> None:
        planner = Planner()
        planner.learn(CHANGES, rows=1200, size=1_200_000, span=0.0)

        assert planner.reach_back(CHANGES) == LOOKBACK

    def test_rows_of_many_bytes_weigh_more(self) -> None:
        light, heavy = Planner(), Planner()
        light.learn(ACCOUNT, rows=1000, size=100_000)
        heavy.learn(ACCOUNT, rows=1000, size=9_000_000)

        assert light.list_cost(ACCOUNT)[1] < heavy.list_cost(ACCOUNT)[1]
        assert light.list_cost(ACCOUNT)[0] == heavy.list_cost(ACCOUNT)[0] == 1

    def test_singles_of_many_bytes_weigh_more(self) -> None:
        planner = Planner()
        before = planner.single_cost
        planner.learn_single(500_000)

        assert planner.single_cost > before + 0.5

    def test_the_newest_measurement_weighs_three_tenths(self) -> None:
        planner = Planner()
        assert planner.single_cost == 1.0 + 1024 / 262_144

        planner.learn_single(2024)

        assert planner.single_cost == pytest.approx(1.0 + 1324 / 262_144)

    @pytest.mark.parametrize(
        ("rows", "whole", "rate"),
        [
            pytest.param(600, True, 8.5, id="fewer rows"),
            pytest.param(2400, True, 13.0, id="more rows"),
            pytest.param(600, False, 10.0, id="cut short"),
            pytest.param(2400, False, 20.0, id="cut short, and more rows already"),
        ],
    )
    def test_the_rate_of_a_feed_follows_what_walks_show(
        self, rows: int, rate: float, *, whole: bool
    ) -> None:
        planner = a_planner(rows={(CHANGES, ""): 1200})

        planner.learn(CHANGES, rows=rows, size=rows, span=120.0, whole=whole)

        assert planner.reach_back(CHANGES) == pytest.approx(500.0 / rate)


def a_need(*, whole: bool = True, since: float | None = None, scopes: str = "") -> Need:
    return Need(
        since=since, subjects=frozenset(), scopes=frozenset(scopes), whole=whole
    )


class TestThoseWhoWatch:
    @pytest.mark.parametrize(
        ("source", "need", "is_served"),
        [
            (None, a_need(whole=False), True),
            (None, a_need(whole=False, scopes="a"), False),
            (None, a_need(), False),
            (GROUP, a_need(whole=False, scopes="a"), True),
            (GROUP, a_need(), False),
            (ACCOUNT, a_need(), True),
            (CHANGES, a_need(), True),
            (BY_ID, a_need(), False),
            (LIVE, a_need(), False),
        ],
    )
    def test_which_plan_shows_them_all_that_they_need(
        self, source: Source | None, need: Need, *, is_served: bool
    ) -> None:
        plan = Plan(source=source, singles=(), requests=1, cost=1.0)

        assert serves(plan, need) is is_served

    def test_the_plan_that_shows_it_is_taken_though_it_costs_more(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 2000})

        alone = planner.plan(a_situation(3, CHANGES))
        watched = planner.plan(a_situation(3, CHANGES, need=a_need()))

        assert (alone.name, alone.watched) == ("singles", False)
        assert (watched.name, watched.watched) == ("changes", True)

    def test_where_none_shows_it_the_cheapest_is_taken(self) -> None:
        plan = a_planner().plan(a_situation(250, BY_ID, need=a_need()))

        assert (plan.name, plan.watched) == ("by id", True)

    def test_a_walk_that_they_need_is_never_given_up(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 40})
        needed = planner.plan(a_situation(9, CHANGES, need=a_need()))
        other = planner.plan(a_situation(9, CHANGES))

        assert (needed.name, needed.patience) == ("changes", math.inf)
        assert other.name == "changes"
        assert other.patience == 9 * planner.single_cost > other.cost

    def test_a_walk_that_shows_them_nothing_is_given_up(self) -> None:
        plan = a_planner().plan(a_situation(250, BY_ID, need=a_need()))

        assert plan.patience < math.inf

    @pytest.mark.parametrize(
        ("since", "begins"),
        [(NOW - 500.0, NOW - 500.0), (NOW - 10.0, NOW - 90.0), (None, NOW - 90.0)],
    )
    def test_the_window_begins_where_they_need_it(
        self, since: float | None, begins: float
    ) -> None:
        situation = a_situation(50, CHANGES, need=a_need(since=since))

        assert a_planner().plan(situation).since == begins

    def test_a_window_that_opens_further_for_them_covers_early_looks(self) -> None:
        behind = {"job 7": NOW - 400.0, "job 8": NOW - 600.0}
        situation = a_situation(
            50, CHANGES, behind=behind, need=a_need(since=NOW - 500.0)
        )
        planner = a_planner(rows={(CHANGES, ""): 4000})

        plan = planner.plan(situation)

        assert (plan.since, plan.singles) == (NOW - 500.0, ("job 8",))

    def test_without_a_cursor_the_window_begins_where_they_need_it(self) -> None:
        situation = a_situation(
            50, CHANGES, cursor=None, need=a_need(since=NOW - 500.0)
        )

        plan = a_planner().plan(situation)

        assert (plan.name, plan.since) == ("changes", NOW - 500.0)

    def test_the_groups_that_they_watch_are_listed_besides(self) -> None:
        need = a_need(whole=False, scopes="bc")
        homes = {"job 0": "a", "job 1": "b"}

        own = a_planner().plan(a_situation(3, GROUP, scopes=homes, need=need))
        theirs = a_planner().plan(a_situation(0, GROUP, need=need))

        assert (own.scopes, own.singles) == (("a", "b", "c"), ("job 2",))
        assert (theirs.scopes, theirs.singles) == (("b", "c"), ())


class TestReachingBack:
    def test_a_feed_of_unknown_length_is_read_back_as_far_as_needed(self) -> None:
        assert Planner().reach_back(CHANGES) == LOOKBACK

    def test_a_short_feed_is_read_back_as_far_as_needed(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 12})

        assert planner.reach_back(CHANGES) == LOOKBACK

    def test_a_feed_without_rows_is_read_back_as_far_as_needed(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 0})

        assert planner.reach_back(CHANGES) == LOOKBACK

    def test_a_long_feed_is_read_back_by_five_pages(self) -> None:
        planner = a_planner(rows={(CHANGES, ""): 1200})

        assert planner.reach_back(CHANGES) == pytest.approx(50.0)


def covered(plan: Plan, situation: Situation) -> set[str]:
    """Return those whom a plan covers, if its source shows what it promises."""
    singles = set(plan.singles)
    if plan.source is None:
        return singles

    match plan.source.kind:
        case SourceKind.IDS:
            return singles | {job for batch in plan.batches for job in batch}
        case SourceKind.FEED:
            assert plan.since is not None
            start = situation.cursor
            looks = {job: situation.behind.get(job, start) for job in situation.due}
            return singles | {
                job
                for job, look in looks.items()
                if look is not None and look >= plan.since
            }
        case _:
            homes = situation.scopes if plan.source.scoped else {}
            return singles | {
                job for job in situation.due if homes.get(job, "") in plan.scopes
            }


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    count = draw(st.integers(1, 60))
    due = jobs(count)
    cursor = draw(st.none() | st.floats(NOW - 10_000, NOW))
    looks = st.none() | st.floats(NOW - 100_000, NOW)
    # Without a cursor everybody is behind: nothing has been covered.
    those = due if cursor is None else draw(st.lists(st.sampled_from(due), unique=True))
    return a_situation(
        count,
        *draw(st.lists(st.sampled_from(ALL), unique=True)),
        behind={job: draw(looks) for job in those},
        cursor=cursor,
        scopes={job: draw(st.sampled_from(["", "a", "b", "c"])) for job in due},
        interval=draw(st.sampled_from([5.0, 30.0, 300.0])),
        hourly=draw(st.sampled_from([60.0, 600.0, 36_000.0])),
    )


ALL = [CHANGES, BY_ID, FINISHED, ACCOUNT, GROUP, LIVE]
WALKS = st.lists(
    st.tuples(
        st.sampled_from(ALL),
        st.integers(0, 20_000),
        st.integers(100, 5000),
        st.sampled_from(["", "a", "b"]),
        st.booleans(),
    ),
    max_size=12,
)


@examples(50)
@given(rounds=st.lists(situations(), min_size=1, max_size=6), walks=WALKS)
def test_every_due_job_is_covered_and_the_plan_is_cheap(
    rounds: list[Situation], walks: list[tuple[Source, int, int, str, bool]]
) -> None:
    planner = Planner()
    for source, rows, size, scope, whole in walks:
        planner.learn(
            source, rows=rows, size=rows * size, scope=scope, span=90.0, whole=whole
        )

    for situation in rounds:
        plan = planner.plan(situation)
        assert covered(plan, situation) == set(situation.due)

        choices = [
            choice
            for source in [None, *situation.sources]
            if (choice := alone(planner, situation, source)) is not None
        ]
        room = situation.hourly * situation.interval / 3600.0
        fitting = [choice for choice in choices if choice.requests <= room]
        if fitting:
            least = min(fitting, key=lambda choice: choice.cost)
            assert plan.requests <= room
            assert plan.requests <= CHEAPER * least.requests
            assert plan.stretch == 0.0
        else:
            least = min(choices, key=lambda choice: choice.requests)
            assert plan.requests == least.requests
            assert plan.requests <= situation.hourly * plan.stretch / 3600.0 + 1e-6


def alone(planner: Planner, situation: Situation, source: Source | None) -> Plan | None:
    """Return the plan by one source, without touching the planner's memory."""
    if source is None:
        return planner._singles(situation)

    return planner._through(source, situation)
