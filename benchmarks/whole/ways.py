"""The ways in which the tasks of a run wait, and what the vendors do meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from benchmarks.sides import VENDORS, Vendor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from async_triggers.simulator.client import SimulatorControl

COMMON = 5.0
"""The interval, in seconds, of both sides where the peer's can be set to it."""
PEER_INTERVALS: Mapping[str, float] = {
    "airbyte": 60.0,
    "fivetran": 15.0,
    "dbt_cloud": 60.0,
}
"""Seconds between two polls of the official operators, unless they are set."""
OUR_INTERVALS: Mapping[str, float] = {
    "airbyte": COMMON,
    "fivetran": 15.0,
    "dbt_cloud": 60.0,
}
"""The same of our operators."""
_LIVES: Mapping[str, tuple[str, str]] = {
    "airbyte": ("running", "succeeded"),
    "fivetran": ("syncing", "succeeded"),
    "dbt_cloud": ("running", "success"),
}
FIRST_JOB = 10_001
"""The id of the first job at dbt Cloud, and of the first run of sensors."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way of waiting.

    ``is_peer`` is for the official operators, ``waits_only`` for jobs that run before
    their tasks begin, ``against`` for the way that it is compared with, and ``is_common``
    for one that polls at the common interval. ``options`` are those of this package in
    Airflow's configuration.
    """

    name: str
    title: str
    is_peer: bool = False
    waits_only: bool = False
    is_common: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    against: str = ""

    def interval(self, vendor: str) -> float:
        """Return the seconds between two polls."""
        if self.is_common:
            return COMMON

        return (PEER_INTERVALS if self.is_peer else OUR_INTERVALS)[vendor]

    def fits(self, vendor: str) -> bool:
        """Return whether the way differs from all others at a vendor.

        The official Airbyte operator cannot be set; at Fivetran both sides have the same
        interval in any case. Airbyte documents no limit that could be spared.
        """
        if "spare_share" in self.options:
            return vendor != "airbyte"

        return not self.is_common or vendor == "dbt_cloud"


FLOOR = Way("floor", "floor: defers until a time, and returns")
WAYS = (
    FLOOR,
    Way("peer", "official provider", is_peer=True),
    Way("ours", "this package", against="peer"),
    Way(
        "ours_fresh",
        "… with `preload = False`",
        options={"preload": "False"},
        against="peer",
    ),
    Way(
        "ours_spare",
        "… with `spare_share = 0.1`",
        options={"spare_share": "0.1"},
        against="peer",
    ),
    Way("ours_ended", "… with `end_from_trigger`", against="peer"),
    Way(
        "ours_sensors",
        "… a sensor with `start_from_trigger` and `end_from_trigger`",
        waits_only=True,
        against="peer",
    ),
    Way("peer_common", "official provider, every 5 s", is_peer=True, is_common=True),
    Way(
        "ours_common", "this package, every 5 s", is_common=True, against="peer_common"
    ),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: whose jobs, in which way, how long each lasts."""

    vendor: Vendor
    way: Way
    lengths: Sequence[float]

    @property
    def name(self) -> str:
        """What its DAG and its database are called."""
        return self.way.name if self.way is FLOOR else f"{self.vendor}_{self.way.name}"

    @property
    def targets(self) -> list[str]:
        """The connections, or jobs, whose jobs are waited for."""
        if self.vendor == "dbt_cloud":
            return [str(FIRST_JOB + number) for number in range(len(self.lengths))]

        return [f"c{number}" for number in range(len(self.lengths))]

    @property
    def lives(self) -> list[str]:
        """What the jobs go through."""
        running, done = _LIVES[self.vendor]
        return [f"{running}:{length:.3f} {done}" for length in self.lengths]


def lengths_of(
    tasks: int, *, shortest: float, longest: float, seed: int
) -> list[float]:
    """Draw how long the jobs last, evenly between two bounds."""
    dice = Random(seed)
    return [dice.uniform(shortest, longest) for _ in range(tasks)]


def plans_of(
    vendors: Sequence[Vendor], ways: Sequence[str], lengths: Sequence[float]
) -> list[Plan]:
    """Return the runs of one round: the floor is run once, whoever the vendor is."""
    chosen = [way for way in WAYS if way.name in ways]
    plans = [Plan(VENDORS[0], way, lengths) for way in chosen if way is FLOOR]
    plans += [
        Plan(vendor, way, lengths)
        for vendor in vendors
        for way in chosen
        if way is not FLOOR and way.fits(vendor)
    ]
    return plans


def arrange(plan: Plan, control: SimulatorControl) -> None:
    """Have the vendor know the connections or jobs."""
    match plan.vendor:
        case "airbyte":
            key, name = "connections", "connection_id"
        case "fivetran":
            key, name = "connections", "connection_id"
            control.arrange(settings={"hourly_limit": 10**9})
        case "dbt_cloud":
            key, name = "jobs", "job_id"
            control.arrange(settings={"minute_limit": 10**9})

    more = {"succeeded_ago": 3600.0} if plan.vendor == "fivetran" else {}
    named: list[dict[str, Any]] = [
        {name: int(target) if key == "jobs" else target, "lives": [life], **more}
        for target, life in zip(plan.targets, plan.lives, strict=True)
    ]
    control.arrange(**{key: named})


def begin_jobs(plan: Plan, control: SimulatorControl) -> None:
    """Start the jobs for tasks that only wait."""
    numbered = [*enumerate(plan.targets, FIRST_JOB)]
    match plan.vendor:
        case "airbyte":
            control.arrange(
                jobs=[{"connection_id": each, "job_id": job} for job, each in numbered]
            )
        case "fivetran":
            control.arrange(syncs=[{"connection_id": each} for each in plan.targets])
        case "dbt_cloud":
            control.arrange(
                runs=[{"job_id": int(each), "run_id": job} for job, each in numbered]
            )
