"""The table of campaigns that the documentation shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.campaign.events import EVENT_SINS
from benchmarks.campaign.plan import BLOWS
from benchmarks.campaign.verdict import SINS


def markdown(campaigns: Iterable[Mapping[str, Any]]) -> str:
    """Return the tables of what was done and of what came of it, by seed."""
    known = sorted(campaigns, key=lambda each: int(each["seed"]))
    lines = [
        *_table(
            (
                "seed",
                "Airflow",
                "minutes",
                "tasks",
                "jobs started",
                *(f"{sin}s" for sin in SINS),
            ),
            (
                (
                    each["seed"],
                    each["machine"]["airflow"],
                    f"{each['seconds'] / 60:g}",
                    _all(each)["jobs"],
                    _all(each)["starts"],
                    *(_all(each)["sins"][sin] for sin in SINS),
                )
                for each in known
            ),
        ),
        "",
        *_table(
            (
                "seed",
                "triggers left behind",
                "requests",
                "answers spoilt",
                *("job's end to task's end, median", "longest"),
            ),
            (
                (
                    each["seed"],
                    each["triggers_left"],
                    each["requests"],
                    sum(sum(kinds.values()) for kinds in each["faults"].values()),
                    _seconds(_all(each)["median"]),
                    _seconds(_all(each)["slowest"]),
                )
                for each in known
            ),
        ),
        "",
        *_table(
            (
                "seed",
                "ends watched",
                *(sin.replace(" ", "s ") for sin in EVENT_SINS),
                "repeated after a blow",
                "ends that clocks hid",
            ),
            (
                (
                    each["seed"],
                    row["ends"],
                    *(row["sins"][sin] for sin in EVENT_SINS),
                    row["repeats"],
                    row["hidden"],
                )
                for each in known
                for row in each.get("events", ())[-1:]
            ),
        ),
        "",
        *_table(
            ("done to Airflow", *(f"seed {each['seed']}" for each in known)),
            (
                (name, *(each["hits"].get(name, 0) for each in known))
                for name in (*BLOWS, *_other_hits(known))
            ),
        ),
    ]
    return "\n".join(lines) + "\n"


def _all(campaign: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = campaign["table"][-1]
    return found


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"


def _other_hits(campaigns: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted(
        {
            name
            for each in campaigns
            for name in each["hits"]
            if name.startswith(("user: ", "revived: "))
        }
    )


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    names = [str(each) for each in head]
    return [
        f"| {' | '.join(names)} |",
        f"| {' | '.join('---' for _ in names)} |",
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]
