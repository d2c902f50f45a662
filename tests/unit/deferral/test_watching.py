"""Watchers of ends, for every vendor, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.dbt_cloud.api import requests
from async_triggers.deferral import watching
from async_triggers.deferral.watching import EndWatcher, WatcherUnusable
from async_triggers.engine.errors import CredentialsRejected
from async_triggers.engine.watch import Mark
from async_triggers.simulator import Fault
from async_triggers.simulator.faults import ListQuirks
from tests.unit.deferral.stage import EPOCH
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import (
    AIRBYTE,
    DBT_CLOUD,
    FIVETRAN,
    every_vendor,
    every_watch,
    widely_watched,
)
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from async_triggers.simulator.exchange import SimReply, SimRequest

T = TypeVar("T")

log = logging.getLogger("task")

HOUR = 3600.0


class Store:
    """The store of one asset, as a triggerer reaches it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.writes = 0
        self.is_down = False

    async def aget(self, key: str) -> Any:
        self._answer()
        return self.values.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self._answer()
        self.writes += 1
        self.values[key] = value

    def _answer(self) -> None:
        if self.is_down:
            msg = "the database is down"
            raise RuntimeError(msg)


class Stores:
    """What Airflow gives a watcher of some assets."""

    def __init__(self, *stores: Store) -> None:
        self._by_name = {f"asset {number}": each for number, each in enumerate(stores)}
        self._by_uri: dict[str, Store] = {}


class Watched:
    """A watcher in a triggerer, and the events that it has yielded."""

    def __init__(self, trigger: EndWatcher, *stores: Store) -> None:
        classpath, arguments = trigger.serialize()
        module, _, name = classpath.rpartition(".")
        assert type(trigger).__module__ == module
        assert type(trigger).__name__ == name
        made: Any = type(trigger)
        self.trigger: Any = made(**arguments)
        self.trigger._log = log
        if stores:
            self.trigger.asset_state_store = Stores(*stores)

        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.has_fired = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> Watched:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def _run(self) -> None:
        async for event in self.trigger.run():
            self.events.append(event.payload)
            self.times.append(asyncio.get_running_loop().time())
            self.has_fired.set()

    async def end(self) -> None:
        """End it, which nothing but a cancellation may have done before."""
        assert self._task is not None
        assert not self._task.done(), self._task
        self._task.cancel()
        await asyncio.wait({self._task})

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.events]


Make = Callable[..., VendorWorld]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make_it(case: Case) -> VendorWorld:
        world = make_vendor_world(monkeypatch, case)
        world.add_target()
        return world

    return make_it


def play(world: VendorWorld, scene: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=world.new_loop) as runner:
        return runner.run(scene)


def add(world: VendorWorld, case: Case, end: str = "success", lasts: float = 20) -> Any:
    """Let something else begin a job."""
    return case.add_job(world.vendor, case.target, case.life(end, lasts=lasts))


async def ending(world: VendorWorld, case: Case, count: int) -> None:
    """Let jobs end, one after another."""
    for _ in range(count):
        add(world, case)
        await asyncio.sleep(60.0)


async def run_while(
    watched: Sequence[Watched], scene: Coroutine[Any, Any, None]
) -> None:
    for each in watched:
        each.begin()

    await asyncio.sleep(30.0)
    await scene
    for each in watched:
        await each.end()


def watcher(world: VendorWorld, case: Case, *, wide: bool = False, **given: Any) -> Any:
    if wide:
        return case.wide_watcher(world.vendor, case.target, **given)

    return case.watcher(case.target, **given)


# What counts -------------------------------------------------------------------------


@every_watch
def test_each_end_is_one_event_with_all_that_is_known(
    make: Make, case: Case, *, wide: bool
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case, wide=wide))

    play(world, run_while([watched], ending(world, case, 3)))

    assert len(set(watched.ids)) == len(watched.events) == 3
    for event, at in zip(watched.events, watched.times, strict=True):
        assert event["vendor"] == case.noun
        assert event["status"] == "success"
        assert event["url"].startswith("http") or not case.knows_url
        ended = datetime.fromisoformat(event["ended_at"]).timestamp()
        assert 0 <= at + EPOCH - ended <= 15.0 + 2.0
        assert event["statistics"]


@every_watch
def test_unpausing_for_the_first_time_reports_nothing_of_before(
    make: Make, case: Case, *, wide: bool
) -> None:
    world = make(case)

    async def scene() -> None:
        await ending(world, case, 3)
        watched = Watched(watcher(world, case, wide=wide), Store())
        await run_while([watched], asyncio.sleep(HOUR))
        assert watched.events == []

    play(world, scene())


@every_watch
def test_what_ended_while_the_triggerer_was_down_is_reported_in_order(
    make: Make, case: Case, *, wide: bool
) -> None:
    world, store = make(case), Store()
    first = Watched(watcher(world, case, wide=wide), store)
    play(world, run_while([first], ending(world, case, 2)))
    assert len(first.events) == 2

    async def away() -> None:
        for _ in range(3):
            add(world, case)
            await asyncio.sleep(HOUR / 3)
            world.vendor.jobs()

    play(world, away())
    second = Watched(watcher(world, case, wide=wide), store)
    play(world, run_while([second], asyncio.sleep(HOUR)))

    assert len(second.events) == 3
    assert not set(first.ids) & set(second.ids)
    times = [each["ended_at"] for each in second.events]
    assert times == sorted(times)
    assert len(set(times)) == 3


@every_vendor
def test_a_triggerer_killed_before_the_mark_moved_reports_again_with_the_same_id(
    make: Make, case: Case
) -> None:
    world, store = make(case), Store()
    first = Watched(watcher(world, case), store)

    async def killed() -> None:
        first.begin()
        await asyncio.sleep(60.0)
        add(world, case)
        await first.has_fired.wait()

        # It is gone before the event can be in the database.
        store.is_down = True
        await first.end()

    play(world, killed())
    store.is_down = False
    second = Watched(watcher(world, case), store)
    play(world, run_while([second], asyncio.sleep(HOUR)))

    assert second.ids == first.ids
    assert second.events == first.events


@every_vendor
def test_a_restart_after_the_mark_has_moved_repeats_nothing(
    make: Make, case: Case
) -> None:
    world, store = make(case), Store()
    first = Watched(watcher(world, case), store)

    async def restarted() -> None:
        first.begin()
        await asyncio.sleep(60.0)
        add(world, case)
        await first.has_fired.wait()

        await asyncio.sleep(watching.SETTLE + 1.0)
        await first.end()

    play(world, restarted())
    second = Watched(watcher(world, case), store)
    play(world, run_while([second], asyncio.sleep(HOUR)))

    assert len(first.events) == 1
    assert second.events == []


@every_vendor
def test_the_mark_is_written_to_each_asset_of_equal_watchers(
    make: Make, case: Case
) -> None:
    world = make(case)
    stores = [Store(), Store()]
    play(
        world,
        run_while([Watched(watcher(world, case), *stores)], ending(world, case, 2)),
    )
    assert stores[0].values == stores[1].values
    # One of the assets is gone, and one more has come.
    again = Watched(watcher(world, case), stores[1], Store())
    play(world, run_while([again], ending(world, case, 1)))

    assert len(again.events) == 1


@widely_watched
def test_two_watchers_of_one_asset_keep_marks_of_their_own(
    make: Make, case: Case
) -> None:
    world, store = make(case), Store()
    one = Watched(watcher(world, case), store)
    other = Watched(watcher(world, case, wide=True), store)
    play(world, run_while([one, other], ending(world, case, 2)))

    assert len(one.events) == len(other.events) == 2
    assert len(store.values) == 2


@every_vendor
def test_a_target_in_ten_dags_is_heard_of_in_each(make: Make, case: Case) -> None:
    world = make(case)
    many = [Watched(watcher(world, case)) for _ in range(10)]
    play(world, run_while(many, ending(world, case, 3)))
    requests = len(world.requests)

    single = make(case)
    play(single, run_while([Watched(watcher(single, case))], ending(single, case, 3)))

    assert {len(each.events) for each in many} == {3}
    # Each checks once whether it is there.
    assert requests <= len(single.requests) + 9


@every_vendor
def test_the_first_job_ever_is_one_event(make: Make, case: Case) -> None:
    world = make(case)
    target = case.other_target(1)
    case.add_new_target(world.vendor, target)

    async def first() -> None:
        case.add_job(world.vendor, target, case.life("success", lasts=20))
        await asyncio.sleep(HOUR)

    watched = Watched(case.watcher(target), Store())
    play(world, run_while([watched], first()))

    assert len(watched.events) == 1


@every_vendor
def test_only_the_wanted_ends_are_events(make: Make, case: Case) -> None:
    world = make(case)
    good = Watched(watcher(world, case))
    bad = Watched(watcher(world, case, statuses=("error",)))
    both = Watched(watcher(world, case, statuses=["success", "error"]))

    async def ends() -> None:
        for end in ("success", "error", "success"):
            add(world, case, end)
            await asyncio.sleep(60.0)

    play(world, run_while([good, bad, both], ends()))

    assert [each["status"] for each in good.events] == ["success"] * 2
    assert [each["status"] for each in bad.events] == ["error"]
    assert [each["status"] for each in both.events] == ["success", "error", "success"]


@every_vendor
def test_since_goes_back(make: Make, case: Case) -> None:
    world = make(case)

    async def scene() -> None:
        await ending(world, case, 4)
        since = datetime.fromtimestamp(EPOCH + 50.0, tz=UTC)
        watched = Watched(watcher(world, case, since=since), Store())
        await run_while([watched], asyncio.sleep(60.0))
        assert len(watched.events) == 3

    play(world, scene())


@every_vendor
def test_a_mark_is_stored_although_nothing_ends(make: Make, case: Case) -> None:
    world, store = make(case), Store()
    watched = Watched(watcher(world, case), store)
    play(world, run_while([watched], asyncio.sleep(2 * HOUR)))

    (value,) = store.values.values()
    mark = Mark.from_json(value)
    assert mark is not None
    assert mark.at >= EPOCH + HOUR
    assert store.writes <= 10


# Trouble -------------------------------------------------------------------------------


def fault(kind: str, **how: Any) -> Fault:
    given: dict[str, Any] = {"kind": kind, "method": "GET", **how}
    return Fault(**given)


@every_watch
@pytest.mark.parametrize(
    "trouble",
    [
        fault("status", status=503),
        fault("status", status=429, retry_after=3600),
        fault("html"),
        fault("reset"),
    ],
    ids=["outage", "limit", "page", "reset"],
)
def test_an_hour_of_trouble_makes_events_late_and_logs_little(
    make: Make,
    case: Case,
    trouble: Fault,
    caplog: pytest.LogCaptureFixture,
    *,
    wide: bool,
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case, wide=wide), Store())

    async def scene() -> None:
        add(world, case)
        await asyncio.sleep(60.0)
        caplog.clear()
        caplog.set_level(logging.INFO)
        world.vendor.faults.add(trouble)
        for _ in range(3):
            add(world, case)
            await asyncio.sleep(HOUR / 3)
            world.vendor.jobs()

        assert len(caplog.records) <= 6
        world.vendor.faults.clear()
        await asyncio.sleep(HOUR + 600.0)

    play(world, run_while([watched], scene()))

    assert [each["status"] for each in watched.events] == ["success"] * 4
    assert len(set(watched.ids)) == 4


# What only the row of what is watched meets ------------------------------------------


def rows_in(value: Any, name: str) -> Iterator[dict[str, Any]]:
    """Return the rows of jobs in an answer: what has this field."""
    if isinstance(value, dict):
        if name in value:
            yield value

        value = [*value.values()]

    for each in value if isinstance(value, list) else ():
        yield from rows_in(each, name)


@every_watch
@pytest.mark.parametrize(
    "change",
    [
        {"status": None, "state": None},
        {"status": {}, "state": {}, "succeeded_at": "soon"},
    ],
)
def test_a_row_that_cannot_be_read_is_a_warning_an_hour(
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    case: Case,
    change: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    *,
    wide: bool,
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case, wide=wide), Store())
    respond = world.vendor.respond

    def odd(asked: SimRequest) -> SimReply:
        reply: SimReply = respond(asked)
        if world.elapsed() < 60 or reply.status != 200:
            return reply

        body = json.loads(reply.body)
        for row in rows_in(body, case.row_field):
            row.update(change)

        return replace(reply, body=json.dumps(body).encode())

    monkeypatch.setattr(world.vendor, "respond", odd)

    async def scene() -> None:
        await asyncio.sleep(60.0)
        caplog.clear()
        caplog.set_level(logging.INFO)
        for _ in range(30):
            # Feeds show what has ended just now.
            add(world, case)
            await asyncio.sleep(600.0)
            world.vendor.jobs()

    play(world, run_while([watched], scene()))

    said = [each for each in caplog.records if "cannot be read" in each.getMessage()]
    others = [each for each in caplog.records if each not in said]
    assert watched.events == []
    assert 4 <= len(said) <= 6
    assert {each.levelname for each in said} == {"WARNING"}
    assert others == []


@pytest.mark.parametrize(
    "trouble",
    [
        Fault(kind="status", status=503, times=None, lasts=HOUR),
        Fault(kind="html", times=None, lasts=HOUR),
        Fault(kind="status", status=200, body="{}", times=None, lasts=HOUR),
        Fault(kind="proxy", answer="go-404", times=None, lasts=HOUR),
    ],
    ids=["503", "page", "foreign", "404"],
)
@pytest.mark.parametrize("has_others", [False, True])
def test_trouble_with_one_target_is_a_line_when_it_begins_and_when_it_ends(
    make: Make, trouble: Fault, caplog: pytest.LogCaptureFixture, *, has_others: bool
) -> None:
    world = make(FIVETRAN)
    watched = [Watched(FIVETRAN.watcher(FIVETRAN.target), Store())]
    if has_others:
        FIVETRAN.add_target(world.vendor, "other")
        watched.append(Watched(FIVETRAN.watcher("other"), Store()))

    async def scene() -> None:
        caplog.clear()
        caplog.set_level(logging.INFO)
        path = f"*/connections/{FIVETRAN.target}"
        world.vendor.faults.add(replace(trouble, path=path))
        await asyncio.sleep(HOUR + 60.0)
        add(world, FIVETRAN)
        await asyncio.sleep(120.0)

    play(world, run_while(watched, scene()))

    assert caplog.text.count("polling failed") <= 2
    assert caplog.text.count("polling works again") <= 2
    assert len(watched[0].events) == 1


@every_watch
@pytest.mark.parametrize("minutes", [4, 10, 180])
def test_a_key_that_is_revoked_for_a_while_loses_nothing(
    make: Make,
    case: Case,
    caplog: pytest.LogCaptureFixture,
    minutes: int,
    *,
    wide: bool,
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case, wide=wide), Store())

    async def scene() -> None:
        add(world, case)
        await asyncio.sleep(60.0)
        before = dict(case.accepts("simulator-client", "simulator-secret", ""))
        known = {name: getattr(world.vendor.settings, name) for name in before}
        world.vendor.configure(**case.accepts("x", "y", "z"))
        case.expire_tokens(world.vendor)
        requests = len(world.requests)
        add(world, case)
        await asyncio.sleep(minutes * 60.0)
        assert len(world.requests) - requests <= 4 * minutes + 10
        caplog.clear()
        world.vendor.configure(**known)
        await asyncio.sleep(600.0)

    play(world, run_while([watched], scene()))

    assert len(watched.events) == 2
    assert caplog.text.count("cannot be watched now") <= minutes / 60 + 1


@every_watch
def test_a_list_that_skips_rows_loses_nothing(
    make: Make, case: Case, *, wide: bool
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case, wide=wide), Store())

    async def scene() -> None:
        world.vendor.quirks = ListQuirks(skip=0.5, repeat=0.3)
        await ending(world, case, 10)
        world.vendor.quirks = ListQuirks()
        await asyncio.sleep(HOUR)

    play(world, run_while([watched], scene()))

    assert len(set(watched.ids)) == len(watched.events) == 10


@every_vendor
def test_a_list_that_lags_loses_nothing(make: Make, case: Case) -> None:
    world = make(case)
    wide = case.has_wide_watchers
    watched = Watched(watcher(world, case, wide=wide), Store())

    async def scene() -> None:
        world.vendor.quirks = ListQuirks(lag=200.0)
        await ending(world, case, 5)
        await asyncio.sleep(HOUR)

    play(world, run_while([watched], scene()))

    assert len(set(watched.ids)) == len(watched.events) == 5


@every_vendor
def test_what_is_deleted_is_a_warning_an_hour(
    make: Make, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case, poll_interval=300), Store())
    hours = 24

    async def scene() -> None:
        add(world, case)
        await asyncio.sleep(600.0)
        caplog.clear()
        case.remove_target(world.vendor, case.target)
        await asyncio.sleep(hours * HOUR)

    play(world, run_while([watched], scene()))

    assert len(watched.events) == 1
    count = caplog.text.count("cannot be watched now")
    assert hours - 9 <= count <= hours
    assert "Check the id" in caplog.text


@every_vendor
def test_what_was_never_there_is_a_warning_at_once(
    make: Make, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(case)
    world.vendor.configure(accept_unknown=False)
    watched = Watched(case.watcher(case.unknown), Store())

    play(world, run_while([watched], asyncio.sleep(60.0)))

    assert caplog.text.count("cannot be watched now") == 1
    assert str(case.unknown) in caplog.text


@every_vendor
def test_a_connection_that_leads_to_a_new_key_is_followed(
    make: Make, case: Case
) -> None:
    world = make(case)
    watched = Watched(watcher(world, case), Store())

    async def scene() -> None:
        add(world, case)
        await asyncio.sleep(60.0)
        world.vendor.configure(**case.new_secret)
        case.expire_tokens(world.vendor)
        world.connect(
            f"{case.name}_default",
            **{
                "conn_type": case.name,
                "host": "http://localhost:8000",
                **case.connection,
                "password": "new",
            },
        )
        add(world, case)
        await asyncio.sleep(600.0)

    play(world, run_while([watched], scene()))

    assert len(watched.events) == 2


@every_vendor
def test_a_connection_that_airflow_cannot_look_up_is_waited_for(
    make: Make, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(case)
    name = f"{case.name}_default"
    connection = world.connections[name]
    world.connections[name] = RuntimeError("the database is down")
    watched = Watched(watcher(world, case), Store())

    async def scene() -> None:
        await asyncio.sleep(3 * HOUR)
        assert caplog.text.count("cannot be watched now") <= 4
        world.connections[name] = connection
        await asyncio.sleep(600.0)
        await ending(world, case, 1)

    play(world, run_while([watched], scene()))

    assert len(watched.events) == 1


@every_vendor
def test_a_store_that_is_down_is_waited_for(
    make: Make, case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    world, store = make(case), Store()
    play(
        world,
        run_while([Watched(watcher(world, case), store)], ending(world, case, 1)),
    )
    store.is_down = True
    watched = Watched(watcher(world, case), store)

    async def scene() -> None:
        add(world, case)
        await asyncio.sleep(HOUR)
        assert watched.events == []
        store.is_down = False
        await asyncio.sleep(120.0)
        assert len(watched.events) == 1
        store.is_down = True
        await ending(world, case, 1)
        store.is_down = False
        await asyncio.sleep(120.0)

    play(world, run_while([watched], scene()))
    assert caplog.text.count("could not be") <= 3
    again = Watched(watcher(world, case), store)
    play(world, run_while([again], asyncio.sleep(HOUR)))

    assert len(watched.events) == 2
    assert again.events == []


# Where a job belongs ------------------------------------------------------------------


def not_found(target: str = "*", **how: Any) -> Fault:
    """Airbyte's own answer that it does not know a connection."""
    return fault("status", status=404, path=f"*/connections/{target}", **how)


@pytest.mark.parametrize(
    "faults",
    [
        [not_found()],
        [not_found(times=None, lasts=240)],
        [fault("status", status=503, path="*/connections/*", times=None, lasts=400)],
        # Nothing is known of the time in which it did not answer.
        [
            not_found(times=None, lasts=30),
            fault("status", status=503, times=None, start_in=30, lasts=900),
            not_found(times=None, start_in=930, lasts=120),
        ],
    ],
    ids=["once", "four minutes", "outage", "outage between"],
)
def test_a_connection_that_is_not_shown_for_a_while_loses_no_end(
    make: Make, faults: list[Fault]
) -> None:
    world = make(AIRBYTE)
    watched = Watched(watcher(world, AIRBYTE, wide=True), Store())

    async def scene() -> None:
        for each in faults:
            world.vendor.faults.add(each)

        add(world, AIRBYTE, lasts=5)
        await asyncio.sleep(HOUR)

    play(world, run_while([watched], scene()))

    assert len(watched.events) == 1


def test_an_end_that_is_in_doubt_outlives_the_triggerer(make: Make) -> None:
    world, store = make(AIRBYTE), Store()
    first = Watched(watcher(world, AIRBYTE, wide=True), store)

    async def scene() -> None:
        world.vendor.faults.add(not_found(times=None))
        add(world, AIRBYTE)
        await asyncio.sleep(120.0)

    play(world, run_while([first], scene()))
    world.vendor.faults.clear()
    second = Watched(watcher(world, AIRBYTE, wide=True), store)
    play(world, run_while([second], asyncio.sleep(120.0)))

    assert first.events == []
    assert len(second.events) == 1


def test_a_connection_that_is_never_shown_delays_the_others_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    world = make(AIRBYTE)
    other = AIRBYTE.other_target(1)
    AIRBYTE.add_target(world.vendor, other)
    watched = Watched(watcher(world, AIRBYTE, wide=True), Store())

    async def both_end() -> None:
        add(world, AIRBYTE)
        AIRBYTE.add_job(world.vendor, other, AIRBYTE.life("success", lasts=20))
        await asyncio.sleep(120.0)

    async def scene() -> None:
        world.vendor.faults.add(not_found(AIRBYTE.target, times=None))
        await both_end()
        assert watched.events == []
        await asyncio.sleep(300.0)
        assert len(watched.events) == 1
        await both_end()

    play(world, run_while([watched], scene()))

    assert len(watched.events) == 2
    assert {each["statistics"]["connection_id"] for each in watched.events} == {other}
    assert caplog.text.count("cannot be watched now") == 1
    assert caplog.text.count(f"ignores what {AIRBYTE.target} runs") == 1


def test_what_concerns_the_account_says_nothing_of_a_connection(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make(AIRBYTE)
    watched = Watched(watcher(world, AIRBYTE, wide=True), Store())
    workspace_of = AirbyteHook.workspace_of
    refusals = [CredentialsRejected("Airbyte rejected the credentials", status=401)] * 3

    async def refused(hook: AirbyteHook, *which: Any) -> str:
        if refusals:
            raise refusals.pop().again()

        return await workspace_of(hook, *which)

    monkeypatch.setattr(AirbyteHook, "workspace_of", refused)

    async def scene() -> None:
        await ending(world, AIRBYTE, 1)
        await asyncio.sleep(HOUR)

    play(world, run_while([watched], scene()))

    assert refusals == []
    assert len(watched.events) == 1


# What it costs ------------------------------------------------------------------------


def test_busy_accounts_cost_the_pages_of_their_feed(make: Make) -> None:
    world = make(DBT_CLOUD)
    world.vendor.configure(foreign_runs_per_minute=1000)
    targets = [DBT_CLOUD.other_target(number) for number in range(10)]
    for each in targets:
        world.vendor.add_job(each)

    many = [Watched(DBT_CLOUD.watcher(each)) for each in targets]

    async def scene() -> None:
        for each in targets:
            world.vendor.add_run(each, "running:20 success")

        await asyncio.sleep(300.0)

    play(world, run_while(many, scene()))

    assert [len(each.events) for each in many] == [1] * 10
    # Windows of 15 s with an overlap of 60 s, in pages of 100; each watcher looks once
    # whether its job is there.
    pages = 1000 / 60 * 75 / 100 + 1
    assert len(world.requests) <= pages * (330 / 15 + 1) + 10 + 1


# Whose job it was ---------------------------------------------------------------------


def test_own_tells_the_runs_of_this_package_apart(make: Make) -> None:
    world = make(DBT_CLOUD)
    every, own, others = (
        Watched(watcher(world, DBT_CLOUD, own=own)) for own in (None, True, False)
    )

    async def scene() -> None:
        add(world, DBT_CLOUD)
        operator: Any = DBT_CLOUD.sync(wait_for_termination=False)()
        hook = operator.hook
        marker = requests.make_marker(["dag"], 1)
        cause = requests.make_cause("Triggered", marker)
        await hook.run_async(
            lambda leased: hook.start_run(leased, DBT_CLOUD.target, cause=cause)
        )
        await asyncio.sleep(300.0)

    play(world, run_while([every, own, others], scene()))

    assert len(every.events) == 2
    assert len(own.events) == len(others.events) == 1
    assert {*own.ids, *others.ids} == {*every.ids}
    assert "[at:" in own.events[0]["statistics"]["cause"]


@pytest.mark.parametrize("case", [AIRBYTE, FIVETRAN], ids=lambda case: case.name)
@pytest.mark.parametrize("own", [True, False])
def test_own_is_refused_where_it_cannot_be_known(case: Case, *, own: bool) -> None:
    with pytest.raises(WatcherUnusable, match="does not show who has started"):
        case.watcher(case.target, own=own)


# Arguments ----------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"statuses": "success"}, "statuses must be"),
        ({"statuses": []}, "statuses must be"),
        ({"statuses": ["succeeded"]}, "statuses must be"),
        ({"since": "yesterday"}, "since must be a time"),
        ({"since": ""}, "since must be a time"),
        ({"poll_interval": 0}, "poll_interval must be"),
        ({"poll_interval": True}, "poll_interval must be"),
        ({"poll_interval": float("nan")}, "poll_interval must be"),
    ],
)
def test_a_wrong_argument_is_an_import_error(
    case: Case, given: dict[str, Any], match: str
) -> None:
    # No other exception of a constructor is survived by a triggerer.
    with pytest.raises(TypeError, match=match):
        case.watcher(case.target, **given)


@every_vendor
def test_exactly_one_thing_is_watched(case: Case) -> None:
    with pytest.raises(WatcherUnusable, match="Give one of"):
        case.watcher(None)


@every_vendor
def test_equal_watchers_are_equal_to_airflow(case: Case) -> None:
    from airflow.triggers.base import BaseEventTrigger

    def hashed(trigger: BaseTrigger) -> int:
        return BaseEventTrigger.hash(*trigger.serialize())

    one = case.watcher(case.target, statuses=("success",), poll_interval=20)
    other = case.watcher(case.target, statuses=["success"], poll_interval=20.0)

    assert hashed(one) == hashed(other)
    assert one.key == other.key


@every_vendor
def test_a_mark_outlives_a_change_of_what_counts(case: Case) -> None:
    one = case.watcher(case.target)
    other = case.watcher(case.target, statuses=["error"], poll_interval=99)
    later = case.watcher(case.target, since="2026-01-01T00:00:00Z")

    assert one.key == other.key
    assert one.key != later.key
