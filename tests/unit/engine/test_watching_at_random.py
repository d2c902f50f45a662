"""Those who watch, under any order of anything that happens, against a plain model.

Each hears of each end once: of those since it has begun, and also of those of its absences,
if it comes back with its mark.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from async_triggers.engine.errors import UnreadableReply, VendorBroken
from async_triggers.engine.jobs import JobState
from async_triggers.engine.watch import Mark, Watch
from async_triggers.engine.wire import Source, SourceKind
from tests.unit.engine.fake import (
    ENDS,
    EVERYTHING,
    GROUPS,
    IDS,
    LIST,
    LIVE,
    Life,
    World,
    a_world,
)

if TYPE_CHECKING:
    from async_triggers.engine.errors import EngineError
    from async_triggers.engine.watch import End
    from async_triggers.engine.wire import Request

virtual = pytest.mark.asyncio(loop_factories=["virtual"])

FEED = Source(name="feed", kind=SourceKind.FEED, page=20)
PLACES = (EVERYTHING, ("group", "a"), ("group", "b"))
OUTCOMES = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
BUSY = 1500.0
"""Seconds in which things happen."""
CALM = 1400.0
"""Seconds after that, in which everyone is to hear what is left."""
AT_ONCE = 5.0
"""Seconds between two ends which the parts of a feed may show in either order."""


@dataclass(slots=True)
class Listener:
    """Watches, goes away, and comes back with its mark."""

    world: World
    watch: Watch
    interval: float
    grace: float
    """Seconds within which it has begun, by the server's time."""
    before: float
    """Seconds by which the server's time may have been behind when it began."""
    began: float = 0.0
    mark: Mark | None = None
    heard: list[str] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def come(self) -> None:
        loop = asyncio.get_running_loop()
        if self.mark is None:
            self.began = loop.time()

        self.task = loop.create_task(self.hear())

    async def hear(self) -> None:
        subscription = self.world.poller.subscribe(
            self.watch, interval=self.interval, mark=self.mark
        )
        try:
            while True:
                heard = await subscription.hear()
                times = [end.at for end in heard.ends]
                assert times == sorted(times)
                self.heard += [end.job.id for end in heard.ends]
                self.ends += times
                self.mark = Mark.from_json(heard.mark.to_json())
        finally:
            subscription.close()

    async def go(self) -> None:
        if self.task is None:
            return

        self.task.cancel()
        await asyncio.wait({self.task})
        assert self.task.cancelled(), self.task.exception()
        self.task = None

    def check(self, *, orderly: bool) -> None:
        name, group = self.watch.place
        wanted, maybe = set(), set()
        for job, life in self.world.server.lives.items():
            if name == "group" and life.group != group:
                continue

            if life.ends > self.began + self.grace:
                wanted.add(job)
            elif life.ends > self.began - self.before:
                maybe.add(job)

        assert len(self.heard) == len(set(self.heard)), "an end was heard twice"
        assert wanted - {*self.heard} == set(), "an end was not heard"
        assert {*self.heard} - wanted - maybe == set(), "an old end was heard"
        if orderly:
            last = 0.0
            for at in self.ends:
                assert at > last - AT_ONCE, "an end was heard after a later one"
                last = max(last, at)


class Play:
    """What happens, by the numbers of one seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.orderly = seed % 2 == 0
        self.broken_until = self.restless_until = 0.0
        self.breaks_off = False
        self.jobs = 0
        self.listeners: list[Listener] = []
        world.server.fault = self.fault
        if not self.orderly:
            world.vendor.rest = self.rest

    def fault(self, _: Request) -> EngineError | None:
        if asyncio.get_running_loop().time() >= self.broken_until:
            return None

        offset = _.note.get("offset")
        return VendorBroken("no") if offset or not self.breaks_off else None

    def rest(self, ends: Sequence[End]) -> Sequence[End]:
        if asyncio.get_running_loop().time() < self.restless_until:
            msg = "not yet"
            raise UnreadableReply(msg)

        return ends

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        deeds = [self.end_some] * 4 + [self.come] * 3 + [self.go] * 3 + [self.break_off]
        if not self.orderly:
            # A feed that fails while single jobs can be polled is not used for a while, and
            # what it has shown until then is reported.
            deeds += [
                self.wait_for_one,
                self.hide,
                self.refuse_rest,
                self.distrust,
                self.lie,
            ]

        await self.come()
        while loop.time() < BUSY:
            await self.chance.choice(deeds)()
            await asyncio.sleep(self.chance.choice([0.05, 0.15, 3.0, 20.0, 60.0]))

        for each in self.listeners:
            if each.task is None:
                each.come()

        self.world.server.hidden = set()
        self.world.server.dates_off = 0.0
        await asyncio.sleep(CALM)
        for each in self.listeners:
            await each.go()

    async def end_some(self) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(self.chance.choice([1, 1, 2, 6])):
            self.jobs += 1
            ends = now + self.chance.uniform(0.0, 60.0)
            self.world.server.lives[f"job {self.jobs}"] = Life(
                max(0.0, now - 5.0),
                ends,
                outcome=self.chance.choice(OUTCOMES),
                group=self.chance.choice("abc"),
            )

    async def come(self) -> None:
        if self.is_misled:
            # One that begins now would begin at a wrong time.
            return

        away = [each for each in self.listeners if each.task is None]
        if away and self.chance.random() < 0.6:
            self.chance.choice(away).come()
            return

        if len(self.listeners) == 8:
            return

        feeds = any(each.kind is SourceKind.FEED for each in self.world.vendor.sources)
        place = self.chance.choice(PLACES if feeds else PLACES[1:])
        scope = "" if feeds else place[1]
        interval = self.chance.choice([5.0, 37.0, 300.0])
        # A list has to be read first, in trouble or not, and a date may be a lie.
        knows_time = feeds and self.world.poller.state.coverage.server_now is not None
        grace = 2.0 if knows_time and self.orderly else 400.0
        watch = Watch(place=place, scope=scope)
        before = 2.0 if self.orderly else 3700.0
        listener = Listener(self.world, watch, interval, grace, before)
        self.listeners.append(listener)
        listener.come()

    @property
    def is_misled(self) -> bool:
        known = self.world.poller.state.coverage.server_now
        return known is not None and abs(known - self.world.server.now()) > 100.0

    async def go(self) -> None:
        here = [each for each in self.listeners if each.task is not None]
        if here:
            await self.chance.choice(here).go()

    async def break_off(self) -> None:
        now = asyncio.get_running_loop().time()
        self.broken_until = now + self.chance.choice([1.0, 20.0, 200.0])
        self.breaks_off = self.chance.random() < 0.5

    async def wait_for_one(self) -> None:
        job = f"job {self.jobs}"
        if job in self.world.server.lives and job not in self.world.waits:
            self.world.join(job)

    async def hide(self) -> None:
        server, now = self.world.server, asyncio.get_running_loop().time()
        some = [job for job, life in server.lives.items() if life.ends > now]
        server.hidden = set(some[:2])
        asyncio.get_running_loop().call_later(100.0, server.hidden.clear)

    async def refuse_rest(self) -> None:
        now = asyncio.get_running_loop().time()
        self.restless_until = now + self.chance.choice([5.0, 50.0, 400.0])

    async def distrust(self) -> None:
        sources = self.world.poller.state.sources
        sources.distrust(self.world.vendor.sources[0], "by chance")

    async def lie(self) -> None:
        server = self.world.server
        server.dates_off = self.chance.choice([-3600.0, -30.0, 30.0, 3600.0])

        def stop() -> None:
            server.dates_off = 0.0

        asyncio.get_running_loop().call_later(self.chance.choice([1.0, 40.0]), stop)


SEEDS = (7, 10)
WAYS: Sequence[tuple[Source, ...]] = (
    (FEED, LIVE),
    (ENDS, LIVE),
    (IDS, FEED, LIVE),
    (LIST, GROUPS),
)


async def play(sources: tuple[Source, ...], seed: int) -> None:
    # For the pauses between failed rounds.
    random.seed(seed)
    async with a_world(*sources) as world:
        game = Play(world, seed)
        await game.run()
        for each in game.listeners:
            each.check(orderly=game.orderly)

        watchers = world.poller.state.watchers
        assert not watchers.found
        assert watchers.shortest_interval() == float("inf")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "sources", WAYS, ids=lambda way: "+".join(each.name for each in way)
)
@virtual
async def test_each_end_is_heard_once(sources: tuple[Source, ...], seed: int) -> None:
    await play(sources, seed)
