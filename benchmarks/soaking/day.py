"""What happens in the day: the jobs, how each ends, and the trouble. Pure."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from benchmarks.sides import VENDORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.sides import Vendor

Ending: TypeAlias = Literal["success", "error", "timeout", "stopped"]
"""How a task ends: as its job does, at its deadline, or because a user stops it."""

INTERVALS: Mapping[str, float] = {"airbyte": 15.0, "fivetran": 30.0, "dbt_cloud": 15.0}
"""Seconds between two polls."""
BUSY = 0.75
"""The part of each hour in which jobs begin. All but the standing ones end before the
hour is full, so what is left then is what stays."""
LONGEST = 8 / 60
"""The life of the longest job, in hours; the shortest takes a twentieth of that."""
ENDS_BADLY = 0.05
STOPPED = 0.01
TOO_LATE = 0.005
"""Parts of the jobs that fail, whose task a user stops, and that miss a deadline.

Fivetran's only cancel pauses the connection and is off by default, so no task of its is
stopped or late.
"""
RECOVERY = 360.0
"""Seconds after some trouble in which ends may still be reported late: dbt Cloud refuses
everything for five minutes after too many requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How much happens. ``hour`` is the length of an hour in seconds.

    ``standing`` is the number of jobs of each vendor that last for the whole day.
    """

    hours: int = 24
    hour: float = 3600.0
    jobs: int = 20_000
    standing: int = 100
    seed: int = 20_261_120

    @property
    def ends(self) -> float:
        """When the day is over, in seconds of the loop."""
        return self.hours * self.hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job that begins at a time of the loop, lasts for some seconds, and ends."""

    at: float
    vendor: Vendor
    lasts: float
    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that goes wrong, or changes, at a time of the loop.

    ``kind`` is ``fault`` for what the simulator can do by itself, with ``fault`` as its
    arguments, ``key`` where a vendor's key is rotated, ``certificate`` where all vendors
    show a new certificate, ``authority`` where another authority has signed it.
    """

    at: float
    vendor: Vendor
    title: str
    lasts: float
    kind: Literal["fault", "tokens", "key", "certificate", "authority"] = "fault"
    fault: Mapping[str, Any] | None = None


def standing(day: Day) -> Iterator[Arrival]:
    """Yield the jobs that last for the whole day."""
    for vendor in VENDORS:
        for number in range(day.standing):
            at = 1.0 + number * 0.5
            rest = day.ends - at + day.hour * 0.02 * (1 + number / day.standing)
            yield Arrival(at=at, vendor=vendor, lasts=rest, ending="success")


def arrivals(day: Day) -> Iterator[Arrival]:
    """Yield the jobs of the day in the order in which they begin."""
    chance = random.Random(day.seed)
    each, more = divmod(day.jobs, day.hours)
    for hour in range(day.hours):
        count = each + (hour < more)
        times = sorted(chance.random() for _ in range(count))
        for number, share in enumerate(times):
            vendor = VENDORS[number % len(VENDORS)]
            longest = LONGEST * day.hour
            yield Arrival(
                at=(hour + 0.01 + share * (BUSY - 0.01)) * day.hour,
                vendor=vendor,
                lasts=math.exp(
                    chance.uniform(math.log(longest / 20), math.log(longest))
                ),
                ending=_ending(chance, vendor),
            )


def _ending(chance: random.Random, vendor: Vendor) -> Ending:
    value = chance.random()
    if value < ENDS_BADLY:
        return "error"

    value -= ENDS_BADLY
    if vendor == "fivetran" or value >= STOPPED + TOO_LATE:
        return "success"

    return "stopped" if value < STOPPED else "timeout"


def troubles(day: Day) -> list[Trouble]:
    """Return what goes wrong in the day, in its order."""
    minute = day.hour / 60
    found: list[Trouble] = []

    def fault(
        hour: int, vendor: Vendor, title: str, minutes: float, **what: Any
    ) -> None:
        found.append(
            Trouble(
                at=(hour + 0.3) * day.hour,
                vendor=vendor,
                title=title,
                lasts=minutes * minute,
                fault={"times": None, "lasts": minutes * minute, **what},
            )
        )

    def change(hour: int, vendor: Vendor, kind: Any, title: str) -> None:
        found.append(
            Trouble(
                at=(hour + 0.3) * day.hour,
                vendor=vendor,
                title=title,
                lasts=0.0,
                kind=kind,
            )
        )

    for first in (1, 15):
        for hour, vendor in enumerate(VENDORS, first):
            asked = {} if vendor == "dbt_cloud" else {"retry_after": 60}
            fault(hour, vendor, "429", 2, kind="status", status=429, **asked)

        for hour, vendor in enumerate(VENDORS, first + 3):
            what = (
                {"kind": "status", "status": 503} if first == 1 else {"kind": "reset"}
            )
            fault(hour, vendor, "outage", 10, **what)

    for vendor in VENDORS:
        fault(7, vendor, "web page in place of answers", 5, kind="html")

    fault(8, "airbyte", "token endpoint 503", 5, kind="status", operation="token")
    for hour, vendor in enumerate(VENDORS, 9):
        change(hour, vendor, "key", "key rotated")

    change(12, "airbyte", "certificate", "certificate renewed")
    change(13, "airbyte", "authority", "authority replaced")
    for hour in range(day.hours):
        change(hour, "airbyte", "tokens", "all tokens revoked")

    within = (each for each in found if each.at < day.ends)
    return sorted(within, key=lambda each: each.at)


SPORADIC: tuple[Mapping[str, Any], ...] = tuple(
    {"kind": kind, "method": "GET", "times": None, "rate": 0.001}
    for kind in ("status", "reset", "cut")
)
"""What goes wrong all day long with one in a thousand requests each."""


def is_troubled(vendor: str, began: float, ended: float, known: list[Trouble]) -> bool:
    """Return whether a vendor was in trouble between two times of the loop."""
    everyone = {"certificate", "authority"}
    return any(
        (each.vendor == vendor or each.kind in everyone)
        and began < each.at + each.lasts + RECOVERY
        and ended > each.at
        for each in known
        if each.kind != "tokens"
    )
