"""What happens in a campaign and when: all of it follows from the seed.

Pure. The plan names moments, not reactions: how long Airflow takes to recover from a
blow differs from run to run, so two runs of one seed are alike and not identical.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

from async_triggers.simulator.proxies import PROXY_REFUSALS

Vendor = Literal["airbyte", "fivetran", "dbt_cloud"]
VENDORS: Final[tuple[Vendor, ...]] = ("airbyte", "fivetran", "dbt_cloud")

Kind = Literal["deferred", "worker", "sensor", "timeout", "frail"]
"""How a task waits: deferred, on its worker, for a job of somebody else; with a timeout
that its first job outlasts; with few retries, for jobs that all fail."""

Wish = Literal["mark failed", "mark success", "clear", "fail the run"]
"""What a user does to a deferred task."""

Blow = Literal[
    "kill -9 a triggerer",
    "drain a triggerer",
    "freeze a triggerer",
    "kill -9 the scheduler",
    "kill -9 a worker",
    "restart PostgreSQL",
    "step a triggerer's clock",
]
BLOWS: Final[tuple[Blow, ...]] = (
    "kill -9 a triggerer",
    "kill -9 a worker",
    "freeze a triggerer",
    "restart PostgreSQL",
    "drain a triggerer",
    "step a triggerer's clock",
    "kill -9 the scheduler",
)
STEPS: Final = (-1800.0, -60.0, 60.0, 900.0)
"""Seconds by which the wall clock of a triggerer's triggers is stepped.

Ahead by less than the shortest timeout that a task has by default, which is an hour: who
is shown a later time than that must think that it has passed.
"""

_WORDS: Final[dict[Vendor, tuple[str, str, str, str]]] = {
    "airbyte": ("running", "succeeded", "failed", "cancelled"),
    "fivetran": ("syncing", "succeeded", "failed", "canceled"),
    "dbt_cloud": ("running", "success", "error", "cancelled"),
}

_WATCHED_LIVES: Final = 200

TIMEOUT: Final = 25.0
"""Seconds of the ``timeout`` of tasks of the kind "timeout"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One task and the lives of the jobs it will start, the last one for all further.

    ``at`` is when its DAG run begins, in seconds from the start of the campaign;
    ``target`` the vendor's id of what it starts. ``wish`` is what a user does to it once
    it is deferred.
    """

    number: int
    at: float
    vendor: Vendor
    kind: Kind
    lives: tuple[str, ...]
    wish: Wish | None = None

    @property
    def target(self) -> str:
        """The vendor's id of the connection or job that is this task's alone."""
        if self.vendor == "dbt_cloud":
            return str(100_000 + self.number)
        return f"chaos_{self.number}"

    @property
    def dag_id(self) -> str:
        """The DAG whose run this is."""
        return f"chaos_{self.vendor}_{self.kind}"

    @property
    def run_id(self) -> str:
        """The run, by a name that makes asking for it twice harmless."""
        return f"chaos-{self.number}"

    @property
    def ends_well(self) -> bool:
        """Whether the task is to succeed if nobody meddles with it."""
        return self.kind != "frail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The simulator misbehaves from ``at`` on for ``lasts`` seconds.

    ``fault`` are fields of the simulator's ``Fault``, ``quirks`` of its ``ListQuirks``;
    ``what`` says it in words. With ``expires``, all access tokens end at that moment.
    """

    at: float
    lasts: float
    vendor: Vendor
    what: str
    fault: dict[str, Any] | None = None
    quirks: dict[str, Any] | None = None
    expires: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBlow:
    """A process is hit at ``at``; ``seconds`` is how long it stays frozen or away.

    ``off`` is by how many seconds a clock is stepped for so long.
    """

    at: float
    blow: Blow
    seconds: float
    off: float = 0.0


WATCHED: Final[dict[Vendor, str]] = {
    "airbyte": "watched",
    "fivetran": "watched",
    "dbt_cloud": "99000",
}
"""The vendor's id of what is watched; no task starts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWatch:
    """What a watcher hears of: the vendor runs jobs of it by itself.

    One job begins every so many seconds, with these lives in turn, the last one for all
    further.
    """

    vendor: Vendor
    every: float
    lives: tuple[str, ...]

    @property
    def target(self) -> str:
        """The vendor's id of the connection or job."""
        return WATCHED[self.vendor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole campaign; times in seconds from its start."""

    seed: int
    seconds: float
    jobs: tuple[PlannedJob, ...]
    troubles: tuple[Trouble, ...]
    blows: tuple[PlannedBlow, ...]
    watches: tuple[PlannedWatch, ...]


def make_plan(seed: int, *, minutes: float, jobs_per_minute: float) -> Plan:
    """Draw a campaign. The first jobs are one of each kind and vendor."""
    random = Random(seed)
    seconds = minutes * 60
    return Plan(
        seed=seed,
        seconds=seconds,
        jobs=tuple(_jobs(random, seconds, round(minutes * jobs_per_minute))),
        troubles=tuple(
            sorted(
                (
                    *(
                        trouble
                        for vendor in VENDORS
                        for trouble in _troubles(random, seconds, vendor)
                    ),
                    *_met_for_certain(seed, seconds),
                ),
                key=lambda trouble: trouble.at,
            )
        ),
        blows=tuple(_blows(random, seconds)),
        watches=tuple(_watches(random)),
    )


def _jobs(random: Random, seconds: float, count: int) -> Iterator[PlannedJob]:
    # Nothing begins in the last part: what began last is to meet trouble as well.
    times = sorted(random.uniform(0, seconds * 0.85) for _ in range(count))
    for number, at in enumerate(times):
        vendor = VENDORS[number % len(VENDORS)]
        kind: Kind = random.choices(
            ("deferred", "worker", "sensor", "timeout", "frail"), (74, 8, 8, 5, 5)
        )[0]
        if vendor == "fivetran" and kind == "timeout":
            # Its syncs cannot be cancelled: the second attempt would meet the first.
            kind = "deferred"
        wish: Wish | None = None
        if kind == "deferred" and random.random() < 0.2:
            wish = random.choice(
                ("mark failed", "mark success", "clear", "clear", "fail the run")
            )
        lives = _lives(random, vendor, kind, wish)
        yield PlannedJob(
            number=number, at=at, vendor=vendor, kind=kind, lives=lives, wish=wish
        )


def _lives(  # noqa: PLR0911 - one for each way to wait
    random: Random, vendor: Vendor, kind: Kind, wish: Wish | None
) -> tuple[str, ...]:
    runs, succeeds, fails, cancelled = _WORDS[vendor]

    def life(end: str, longest: float = 60) -> str:
        return f"{runs}:{random.uniform(3, longest):.1f} {end}"

    if kind == "frail":
        return (life(fails, 12),)
    if wish is not None and vendor == "fivetran":
        # Nobody can stop it: it has to end by itself.
        return (f"{runs}:90 {succeeds}", life(succeeds, 15))
    if wish is not None or kind == "timeout":
        # Ends only if it is cancelled, as it should be.
        return (runs, life(succeeds, 12))
    if kind == "sensor":
        # It may end before the sensor begins: that is an answer too.
        return (life(succeeds, 90),)
    if kind == "worker":
        return (life(succeeds, 25),)
    drawn = random.random()
    if drawn < 0.75:
        return (life(succeeds),)
    if drawn < 0.9:
        return (life(fails, 20), life(succeeds, 20))
    return (life(cancelled, 20), life(succeeds, 20))


_FILTERS: Final[dict[Vendor, tuple[str, ...]]] = {
    "airbyte": ("updatedAtStart", "updatedAtEnd", "status", "createdAtStart"),
    "fivetran": ("limit",),
    "dbt_cloud": ("pk__in", "pk__in[]", "finished_at__range", "status__in"),
}


_REFUSALS: Final = tuple(sorted(PROXY_REFUSALS))


def _troubles(random: Random, seconds: float, vendor: Vendor) -> Iterator[Trouble]:
    """One trouble after another, now and then overlapping, with quiet in between."""
    at = random.uniform(2, 10)
    while at < seconds:
        lasts = random.uniform(5, 30)
        yield _trouble(random, vendor, at, lasts)
        at += lasts * random.uniform(0.7, 1.6) + random.uniform(0, 10)
    # Dead for minutes, once in every five of them.
    for _ in range(max(1, round(seconds / 300))):
        lasts = min(random.uniform(60, 150), seconds / 4)
        yield Trouble(
            at=random.uniform(0.1 * seconds, 0.7 * seconds),
            lasts=lasts,
            vendor=vendor,
            what="dead",
            fault=random.choice(
                (
                    {"kind": "reset", "times": None},
                    {"kind": "status", "status": 503, "times": None},
                    {"kind": "hang", "times": None},
                    {
                        "kind": "proxy",
                        "answer": random.choice(_REFUSALS),
                        "times": None,
                    },
                )
            ),
        )


def _met_for_certain(seed: int, seconds: float) -> Iterator[Trouble]:
    """A proxy for each vendor that stays until it has answered one request.

    Whether a request comes while one of the others answers is up to the machine.
    """
    # Drawn separately: what else a seed stands for stays as it is.
    random = Random(f"{seed}, met for certain")
    # A 429 that names no time would be a pause of minutes.
    answers = [each for each in _REFUSALS if not each.endswith("-429")]
    for vendor in VENDORS:
        answer = random.choice(answers)
        yield Trouble(
            at=seconds / 4,
            lasts=seconds,
            vendor=vendor,
            what=f"proxy all, once at 100% {answer}",
            fault={"kind": "proxy", "answer": answer, "times": 1},
        )


def _trouble(random: Random, vendor: Vendor, at: float, lasts: float) -> Trouble:
    rate = random.choice((0.15, 0.4, 0.8, 1.0))
    plain: dict[str, Any] = random.choice(
        (
            *({"kind": "status", "status": each} for each in (500, 502, 503, 504)),
            {"kind": "status", "status": 429},
            {"kind": "status", "status": 429, "retry_after": random.randint(2, 20)},
            *({"kind": each} for each in ("reset", "close", "hang", "truncate")),
            {"kind": "slow", "seconds": random.uniform(2, 20)},
            {"kind": "delay", "seconds": random.uniform(1, 15)},
            *({"kind": each} for each in ("html", "cut", "empty")),
        )
    )
    lost: dict[str, Any] = random.choice(
        (
            {"kind": "reset"},
            {"kind": "close"},
            {"kind": "hang"},
            {"kind": "status", "status": 500},
            {"kind": "status", "status": 502},
            {"kind": "status", "status": 504},
        )
    )
    quirks: dict[str, Any] = random.choice(
        (
            {"lag": random.uniform(2, 20)},
            {"skip": 0.3},
            {"repeat": 0.3},
            {"skip": 0.2, "repeat": 0.2, "churn": 2},
            {"ignore_filters": list(_FILTERS[vendor])},
        )
    )
    drawn = random.random()
    moment: dict[str, Any] = {"at": at, "lasts": lasts, "vendor": vendor}
    if drawn < 0.35:
        fault = {**plain, "times": None, "rate": rate}
        shown = " ".join(str(value) for value in plain.values())
        return Trouble(what=f"{shown} at {rate:.0%}", fault=fault, **moment)
    if drawn < 0.5:
        # The vendor does what it was asked, and the answer is lost.
        fault = {
            **lost,
            "times": None,
            "rate": rate,
            "method": "POST",
            "takes_effect": True,
        }
        return Trouble(what=f"starts unanswered at {rate:.0%}", fault=fault, **moment)
    if drawn < 0.65:
        shown = " ".join(f"{name} {value}" for name, value in quirks.items())
        return Trouble(what=f"lists: {shown}", quirks=quirks, **moment)
    if drawn < 0.9:
        return _proxy(random, rate, moment)
    if drawn < 0.96 or vendor != "airbyte":
        return _clock(random, rate, moment)
    return Trouble(what="tokens expire", expires=True, **moment)


def _proxy(random: Random, rate: float, moment: dict[str, Any]) -> Trouble:
    """Something in between answers, for one operation or for all of them."""
    answer = random.choice(_REFUSALS)
    operations = [None, "poll", "list", "start", "cancel"]
    if moment["vendor"] == "airbyte":
        operations.append("token")
    operation = random.choice(operations)
    # It may also spoil the answer of a vendor that has done what it was asked.
    acted = operation in {"start", "cancel"} and random.random() < 0.5
    fault = {
        "kind": "proxy",
        "answer": answer,
        "operation": operation,
        "takes_effect": acted,
        "times": None,
        "rate": rate,
    }
    shown = f"proxy {operation or 'all'}{' after it' if acted else ''}"
    return Trouble(
        what=f"{shown} at {rate:.0%} {answer}",
        fault=fault,
        # With good tokens nobody would ask for one.
        expires=operation == "token",
        **moment,
    )


def _clock(random: Random, rate: float, moment: dict[str, Any]) -> Trouble:
    """The server's clock is stepped, or some answers bear a wrong date.

    Not Fivetran's clock: its API says by times alone whether and how a sync has ended, so
    what has ended under a wrong clock cannot be known from it.
    """
    off = random.choice((-3600.0, -90.0, 90.0, 3600.0))
    if moment["vendor"] == "fivetran" or random.random() < 0.5:
        fault = {"kind": "date", "seconds": off, "times": None, "rate": rate}
        return Trouble(what=f"wrong date at {rate:.0%} {off:+g}", fault=fault, **moment)
    fault = {"kind": "clock", "seconds": off, "times": None}
    return Trouble(what=f"clock stepped at {off:+g}", fault=fault, **moment)


def _watches(random: Random) -> Iterator[PlannedWatch]:
    for vendor in VENDORS:
        runs, *ends = _WORDS[vendor]
        if vendor == "fivetran":
            # Its API shows that a sync was cancelled only by later ones.
            ends.pop()
        lives = tuple(
            f"{runs}:{random.uniform(1, 8):.1f} {random.choice(ends)}"
            for _ in range(_WATCHED_LIVES)
        )
        yield PlannedWatch(vendor=vendor, every=random.uniform(12, 25), lives=lives)


def _blows(random: Random, seconds: float) -> Iterator[PlannedBlow]:
    """All kinds in turn, every round in another order."""
    at = min(10.0, seconds / 10)
    # In a short campaign each kind comes once, in a long one there is time to recover.
    longest = min(45.0, seconds / len(BLOWS))
    while True:
        for blow in random.sample(BLOWS, len(BLOWS)):
            if at > seconds * 0.95:
                return
            away = {
                "freeze a triggerer": random.uniform(25, 50),
                "step a triggerer's clock": random.uniform(15, 50),
                "restart PostgreSQL": random.uniform(0.5, 6),
            }.get(blow, random.uniform(0, 8))
            off = random.choice(STEPS) if blow == "step a triggerer's clock" else 0.0
            yield PlannedBlow(at=at, blow=blow, seconds=min(away, seconds / 3), off=off)
            at += random.uniform(longest / 3, longest)
