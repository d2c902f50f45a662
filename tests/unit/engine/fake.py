"""A vendor in memory: a server model with all the bad habits, and how to read it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import orjson

from async_triggers.engine.errors import EngineError, UnreadableRow
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.limiter import Limiter
from async_triggers.engine.poller import Poller
from async_triggers.engine.times import format_time
from async_triggers.engine.transport import Transport
from async_triggers.engine.watch import End, Place
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    SourceKind,
    Token,
    Vendor,
    refuse_by_status,
)

if TYPE_CHECKING:
    from async_triggers.engine.listener import Notice

EPOCH = 1_774_402_200.0
"""The server's time when the virtual clock shows 0."""
OVERLAP = 60.0

EVERYTHING: Place = ("account", "")

FEED = Source(name="feed", kind=SourceKind.FEED, page=5)
ENDS = Source(
    name="ends",
    kind=SourceKind.FEED,
    page=5,
    parts=("succeeded", "failed", "cancelled"),
    ends_only=True,
)
IDS = Source(name="ids", kind=SourceKind.IDS, page=10)
LIST = Source(name="list", kind=SourceKind.LIST, page=20)
GROUPS = Source(name="groups", kind=SourceKind.LIST, page=20, scoped=True)
LIVE = Source(name="live", kind=SourceKind.LIVE, page=20)

GENEROUS = Budget(requests=360_000, per=3600.0, share=1.0, polls=4)


def an_account(**changes: Any) -> Account:
    account = Account(
        vendor="Fake",
        base_url="http://fake.test",
        credentials=Credentials(kind=CredentialKind.NONE),
        budget=GENEROUS,
    )
    return replace(account, **changes)


@dataclass(frozen=True, slots=True)
class Life:
    """When a job starts and ends, in virtual seconds, and how."""

    starts: float
    ends: float
    outcome: JobState = JobState.SUCCEEDED
    group: str = "g"
    touched: float = 0.0
    """Seconds between two changes of the row that mean nothing, 0 for none."""


@dataclass(slots=True)
class Server:
    """What the vendor does. Its habits may be changed at any time."""

    skew: float = 0.0
    lag: float = 0.0
    """Seconds after which a change shows in the feed and in lists."""
    hidden: set[str] = field(default_factory=set)
    """Ids that no feed and no list shows."""
    repeats: int = 0
    """Rows of the last page that the next one shows again."""
    ignores_filter: bool = False
    refusals: dict[str, int] = field(default_factory=dict)
    """HTTP status by the name of a source, "single" or an id."""
    fault: Callable[[Request], EngineError | None] = lambda _: None
    latency: float = 0.1
    dated: bool = True
    dates_off: float = 0.0
    lives: dict[str, Life] = field(default_factory=dict)
    requests: list[tuple[float, str, str]] = field(default_factory=list)
    """When, what kind, which id or window: all that was asked."""
    shown_ends: dict[str, float] = field(default_factory=dict)
    """When a row first showed the end of a job."""

    def now(self) -> float:
        """Tell the server's time."""
        return EPOCH + self.skew + self._passed()

    @staticmethod
    def _passed() -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0

    def start(self, job: str, *, lasts: float, **life: Any) -> str:
        """Start a job now."""
        now = self._passed()
        self.lives[job] = Life(now, now + lasts, **life)
        return job

    @property
    def counts(self) -> Counter[str]:
        """Count the requests by their kind."""
        return Counter(kind for _, kind, _ in self.requests)

    def row(self, job: str, *, lag: float = 0.0) -> dict[str, Any] | None:
        """Show a job as it was some seconds ago."""
        at = self._passed() - lag
        life = self.lives[job]
        if at < life.starts:
            return None

        ended = at >= life.ends
        changed = life.starts
        if life.touched:
            last = min(at, life.ends)
            changed += (last - life.starts) // life.touched * life.touched

        changed = life.ends if ended else changed
        return {
            "id": job,
            "state": life.outcome.value if ended else "running",
            "changed": EPOCH + self.skew + changed,
            "started": EPOCH + self.skew + life.starts,
            "ended": EPOCH + self.skew + life.ends if ended else None,
            "group": life.group,
        }

    def answer(self, request: Request) -> Reply:
        """Answer a request."""
        what: dict[str, Any] = request.note
        kind = what["kind"]
        self.requests.append((self._passed(), kind, str(what.get("id", what))))
        refusal = self.refusals.get(kind) or self.refusals.get(str(what.get("id")))
        if kind == "single":
            known = what["id"] in self.lives
            row = self.row(what["id"]) if known else None
            rows = [row] if row is not None else []
            if row is None and refusal is None:
                refusal = 404
        else:
            rows = self._many(what)

        start, page = what.get("offset", 0), what.get("page", len(rows))
        shown = rows[start : start + page]
        if not refusal:
            for row in shown:
                if row["ended"] is not None:
                    self.shown_ends.setdefault(row["id"], self._passed())

        headers = {}
        if self.dated:
            date = self.now() + self.dates_off
            headers["date"] = formatdate(date, usegmt=True)

        return Reply(
            refusal or 200,
            MappingProxyType(headers),
            b"no" if refusal else orjson.dumps(shown),
        )

    def _many(self, what: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = what.get("ids", ())
        among = asked if asked and not self.ignores_filter else self.lives
        rows = [
            row
            for job in among
            if job in self.lives
            and job not in self.hidden
            and (row := self.row(job, lag=self.lag)) is not None
        ]
        match what["kind"]:
            case "feed":
                if not self.ignores_filter:
                    rows = [row for row in rows if row["changed"] >= what["since"]]

                rows.sort(key=lambda row: (row["changed"], row["id"]), reverse=True)
            case "ends":
                rows = [
                    row
                    for row in rows
                    if self.ignores_filter
                    or (
                        row["changed"] >= what["since"] and row["state"] == what["part"]
                    )
                ]
                rows.sort(key=lambda row: (row["changed"], row["id"]), reverse=True)
            case "live":
                rows = [row for row in rows if row["ended"] is None]
            case "groups":
                rows = [row for row in rows if row["group"] == what["scope"]]

        return rows


class FakeVendor:
    """Reads what :class:`Server` says."""

    name = "Fake"
    noun = "job"
    grid_floor = 5.0
    overlap = OVERLAP
    end_fields = ("state", "ended")

    def __init__(self, *sources: Source, confirms: bool = False) -> None:
        self.sources: Sequence[Source] = sources
        self.confirms = confirms
        self.unreadable: set[str] = set()
        self.digests = True
        self.tells_all: Callable[[Job], Job | None] | None = None
        self.rest: Callable[[Sequence[End]], Sequence[End]] | None = None
        self.judged: Counter[str] = Counter()

    def name_of(self, job_id: str) -> str:
        return f"job {job_id}"

    def token_request(self, account: Account) -> Request | None:
        return None

    def read_token(self, reply: Reply) -> Token:
        raise NotImplementedError

    def authorize(self, account: Account, token: Token | None) -> Mapping[str, str]:
        return {}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        return True

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        return True

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        return refuse_by_status(self.name, request, reply)

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        return None

    def single(self, account: Account, subject: str) -> Request:
        return _ask({"kind": "single", "id": subject})

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        what: dict[str, Any] = {"kind": source.name, "page": source.page, "offset": 0}
        if source.kind is SourceKind.FEED:
            assert since is not None
            what["since"] = since
            what["part"] = scope
        elif source.kind is SourceKind.IDS:
            what["ids"] = list(subjects)
        elif source.scoped:
            what["scope"] = scope

        return _ask(what)

    def read(self, request: Request, reply: Reply) -> Page:
        what: dict[str, Any] = request.note
        rows = reply.json(request.about)
        page = {row["id"]: row for row in rows}
        if what["kind"] == "single":
            return Page(rows=page, count=len(rows))

        following = None
        if len(rows) == what["page"]:
            step = max(1, what["page"] - what.get("repeats", 0))
            following = _ask({**what, "offset": what["offset"] + step})

        sound, resume = True, None
        if what["kind"] in {"feed", "ends"}:
            sound = all(row["changed"] >= what["since"] for row in rows)
            if reply.date is not None:
                resume = reply.date - self.overlap
            if what["part"]:
                sound = sound and all(row["state"] == what["part"] for row in rows)
        elif what["kind"] == "ids":
            sound = set(page) <= set(what["ids"])

        return Page(
            rows=page, count=len(rows), next=following, resume=resume, sound=sound
        )

    def judge(self, account: Account, subject: str, row: Row, mark: str | None) -> Job:
        self.judged[subject] += 1
        if subject in self.unreadable:
            msg = f"The row of {subject} holds nonsense"
            raise UnreadableRow(msg)

        assert row["id"] == subject
        return Job(
            id=subject,
            state=JobState(row["state"]),
            word=row["state"],
            started_at=format_time(row["started"]),
            ended_at=row["ended"],
            statistics={"rows": row.get("rows", 0)},
        )

    def digest(self, row: Row) -> int | None:
        if not self.digests or row["ended"] is not None:
            return None

        return hash((row["state"], row.get("rows", 0)))

    def scope_of(self, row: Row) -> str:
        return str(row["group"])

    def needs_confirmation(self, job: Job) -> bool:
        return self.confirms

    def confirmation(self, job: Job, *, now: float | None) -> Request | None:
        if self.tells_all is None:
            return None

        return _ask({"kind": "whole", "id": job.id})

    def confirmed(self, request: Request, reply: Reply, job: Job) -> Job | None:
        assert self.tells_all is not None
        return self.tells_all(job)

    def watched(self, request: Request) -> Request:
        return request

    def places(self, row: Row) -> Sequence[Place]:
        return (("id", row["id"]), ("group", row["group"]), EVERYTHING)

    def ends(self, account: Account, row: Row) -> Sequence[End]:
        if row["id"] in self.unreadable:
            msg = f"The row of {row['id']} holds nonsense"
            raise ValueError(msg)

        if row["ended"] is None:
            return ()

        job = self.judge(account, row["id"], row, None)
        return (End(key=row["id"], at=row["ended"], job=job),)

    def rest_of(
        self, account: Account, ends: Sequence[End], *, since: float, now: float | None
    ) -> Request | None:
        if self.rest is None:
            return None

        return _ask({"kind": "rest", "id": ends[-1].key})

    def read_rest(
        self, account: Account, reply: Reply, request: Request, ends: Sequence[End]
    ) -> Sequence[End]:
        assert self.rest is not None
        return self.rest(ends)


def _ask(what: dict[str, Any]) -> Request:
    about = f"{what['kind']} {what.get('id', '')}".strip()
    return Request(method="GET", path="/", about=about, note=what)


class FakeTransport(Transport):
    """Carries requests to a server in memory, and judges its answers as ever."""

    def __init__(self, vendor: FakeVendor, account: Account, server: Server) -> None:
        super().__init__(cast("Vendor", vendor), account, Limiter(account.budget))
        self.server = server

    async def _prove_and_exchange(self, request: Request, lane: Lane) -> Reply:
        async with self.limiter.admit(lane):
            what = request.note
            if "offset" in what and self.server.repeats:
                what["repeats"] = self.server.repeats

            await asyncio.sleep(self.server.latency)
            fault = self.server.fault(request)
            if fault is not None:
                self.server.requests.append((self.server._passed(), "fault", ""))
                raise fault

            reply = self.server.answer(request)

        if reply.status == 200:
            return reply

        raise self.vendor.refuse(request, reply)


@dataclass(frozen=True, slots=True)
class Hears:
    """Takes the news of a job, and lets it go on."""

    news: Callable[[Job], object]
    notices: Callable[[Notice], object] | None = None
    again: Callable[[], object] | None = None

    def hear(self, job: Job) -> None:
        """Take note that the job has changed."""
        self.news(job)

    def needs_attention(self, job: Job) -> bool:
        """No job does."""
        return False

    def hear_again(self) -> None:
        """Take note that nothing has changed."""
        if self.again is not None:
            self.again()

    def hear_notice(self, notice: Notice) -> None:
        """Take note of trouble, or of its end."""
        if self.notices is not None:
            self.notices(notice)


@dataclass(slots=True)
class World:
    """A server, a poller, and those who wait."""

    server: Server
    vendor: FakeVendor
    transport: FakeTransport
    poller: Poller
    stirred: asyncio.Event
    waits: dict[str, asyncio.Task[Job]] = field(default_factory=dict)
    told_at: dict[str, float] = field(default_factory=dict)
    """When each waiter was told, by its name."""

    def join(
        self,
        job: str,
        *,
        name: str = "",
        interval: float = 30.0,
        sees: bool = True,
        news: Callable[[Job], object] | None = None,
        notices: Callable[[Notice], object] | None = None,
        again: Callable[[], object] | None = None,
        **how: Any,
    ) -> asyncio.Task[Job]:
        """Wait for a job, whose last look is now unless said otherwise."""
        name = name or job
        if (news, notices, again) != (None, None, None):
            how["listener"] = Hears(news or (lambda _: None), notices, again)

        if sees:
            how.setdefault("seen_at", self.server.now())

        async def wait() -> Job:
            try:
                return await self.poller.wait(job, interval=interval, **how)
            finally:
                self.told_at[name] = asyncio.get_running_loop().time()

        task = asyncio.get_running_loop().create_task(wait(), name=name)
        self.waits[name] = task
        return task

    def start_and_join(self, jobs: Iterable[str], *, lasts: float, **how: Any) -> None:
        """Start jobs and wait for them."""
        for job in jobs:
            self.server.start(job, lasts=lasts)
            self.join(job, **how)

    async def all_told(self) -> dict[str, Job]:
        """Wait until every waiter has been told."""
        async with asyncio.timeout(10_000.0):
            await asyncio.gather(*self.waits.values())

        return {name: task.result() for name, task in self.waits.items()}

    async def drive(self) -> None:
        """Do what the keeper of an account does."""
        while True:
            await self.stirred.wait()
            self.stirred.clear()
            await self.poller.run()


@asynccontextmanager
async def a_world(
    *sources: Source,
    server: Server | None = None,
    budget: Budget = GENEROUS,
    confirms: bool = False,
) -> AsyncIterator[World]:
    """Set up a poller over a server in memory."""
    vendor = FakeVendor(*sources, confirms=confirms)
    transport = FakeTransport(vendor, an_account(budget=budget), server or Server())
    stirred = asyncio.Event()
    world = World(
        server=transport.server,
        vendor=vendor,
        transport=transport,
        poller=Poller(transport, stir=stirred.set),
        stirred=stirred,
    )
    driver = asyncio.get_running_loop().create_task(world.drive(), name="driver")
    try:
        yield world
    finally:
        for task in [*world.waits.values(), driver]:
            task.cancel()

        for task in world.waits.values():
            with suppress(asyncio.CancelledError, EngineError, TimeoutError):
                await task

        with suppress(asyncio.CancelledError):
            await driver
