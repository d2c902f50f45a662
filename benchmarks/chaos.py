"""A campaign of kills, restarts and outages against a whole Airflow.

``python -m benchmarks.chaos --minutes 10 --seed 1`` starts an Airflow on PostgreSQL with
two triggerers beside the simulator, runs jobs of all vendors with random durations and
ends, has users stop some of them, and meanwhile hits Airflow's processes and spoils the
vendors' answers. It ends with a table of what must be zero, and fails if it is not.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import SimulatorThread
from benchmarks.campaign.events import (
    EVENT_SINS,
    EventFinding,
    EventRow,
    event_table,
    judge_events,
)
from benchmarks.campaign.plan import VENDORS, Plan, make_plan
from benchmarks.campaign.play import DAGS, TRIGGERERS, Campaign, clock_env, config
from benchmarks.campaign.report import markdown
from benchmarks.campaign.verdict import SINS, Finding, Told, delays, judge, table
from benchmarks.elapsed import start_saying
from benchmarks.machine import machine
from tests.stack.postgres import PostgresServer

MEASURED = Path(__file__).parents[1] / "docs" / "measured"
SETTLE = 600.0
"""Seconds after which a task that has not ended is lost.

A vendor that answers 429 at last and does not say for how long is left alone for 300, and a
sync of Fivetran that has stopped without an end is watched for 120 before it counts as
cancelled; then tasks that failed by that may run again.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign; return 0 if nothing that must not be has been."""
    options = _parse(arguments)
    plan = make_plan(
        options.seed, minutes=options.minutes, jobs_per_minute=options.jobs_per_minute
    )
    say = start_saying()
    home = options.home or Path(tempfile.mkdtemp(prefix="async-triggers-chaos-"))
    say(
        f"seed {plan.seed}: {len(plan.jobs)} jobs in {plan.seconds:.0f} s; logs: {home}"
    )
    with (
        PostgresServer() as postgres,
        SimulatorThread(seed=options.seed) as simulator,
        Deployment(
            home,
            dags=[DAGS],
            database=postgres.create_database("airflow"),
            config=config(),
            part_env=clock_env(home),
            parallelism=options.parallelism,
            triggerers=TRIGGERERS,
            respawn=True,
            say=say,
        ) as deployment,
    ):
        campaign = Campaign(
            plan,
            deployment,
            postgres,
            simulator,
            say,
        )
        campaign.prepare()
        say("the campaign begins")
        told = campaign.run(settle=options.settle)
        left = campaign.triggers_left()
        watched = campaign.watching.watched()
        faults = {
            vendor.name: dict(vendor.record.faults) for vendor in simulator.vendors
        }
        requests = sum(vendor.record.total for vendor in simulator.vendors)
    findings: list[Finding | EventFinding] = [
        *(finding for each in told for finding in judge(each)),
        *(finding for each in watched for finding in judge_events(each)),
    ]
    missing = len(plan.jobs) - len(told)
    events = event_table(watched) if watched else []
    _show(plan, told, events, findings, campaign, left, faults)
    seen = _raw(plan, told, findings, campaign, left, faults, requests)
    seen["events"] = [asdict(row) for row in events]
    everything = seen | {
        "told": [asdict(each) for each in told],
        "watched": [asdict(each) for each in watched],
    }
    (home / "campaign.json").write_text(json.dumps(everything, indent=1) + "\n")
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / f"chaos-{plan.seed}.json"
    target.write_text(json.dumps(seen, indent=1) + "\n")
    campaigns = [
        json.loads(each.read_text()) for each in options.out.glob("chaos-*.json")
    ]
    (options.out / "chaos.md").write_text(markdown(campaigns))
    if missing:
        print(f"{missing} jobs were never begun")
    return 1 if findings or left or missing else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--seed", type=int, default=1, help="what follows from it: all")
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument(
        "--jobs-per-minute", type=float, default=15, help="how many (15)"
    )
    parser.add_argument("--parallelism", type=int, default=8, help="worker slots (8)")
    parser.add_argument(
        "--settle",
        type=float,
        default=SETTLE,
        help="seconds without the end of a task, once all troubles are over, after which"
        " the campaign ends (600)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=MEASURED,
        help="folder for chaos-<seed>.json and for the table of all seeds in it"
        " (docs/measured)",
    )
    parser.add_argument("--home", type=Path, help="folder for Airflow and its logs")
    return parser.parse_args(arguments)


def _show(
    plan: Plan,
    told: list[Told],
    events: list[EventRow],
    findings: list[Finding | EventFinding],
    campaign: Campaign,
    left: int,
    faults: dict[str, dict[str, int]],
) -> None:
    console = Console(width=120)
    done = Table("done to Airflow and by its users", "times", title=f"seed {plan.seed}")
    spoilt = Table("done by the vendors", *VENDORS, title="answers spoilt")
    for name, count in sorted(campaign.hits.items()):
        if not name.startswith(VENDORS):
            done.add_row(name, str(count))
    for kind in sorted({kind for each in faults.values() for kind in each}):
        spoilt.add_row(kind, *(str(faults[name].get(kind, 0)) for name in VENDORS))
    console.print(done, spoilt)
    verdict = Table("", "jobs", "starts", *SINS, "job's end to task's end: median, max")
    for row in table(told):
        waits = "-"
        if row.median is not None and row.slowest is not None:
            waits = f"{row.median:.0f} s, {row.slowest:.0f} s"
        counts = (str(row.sins[sin]) for sin in SINS)
        verdict.add_row(row.name, str(row.jobs), str(row.starts), *counts, waits)
    console.print(verdict, _events_shown(events))
    attempts = Counter(each.attempts for each in told)
    console.print(
        f"attempts of tasks: {dict(sorted(attempts.items()))};"
        f" triggers left behind: {left}"
    )
    for finding in findings:
        console.print(str(finding), markup=False)
    for note in campaign.notes:
        console.print(f"note: {note}", markup=False)


def _events_shown(events: list[EventRow]) -> Table:
    shown = Table("watched", "ends", "events", *EVENT_SINS, "explained", "hidden")
    for row in events:
        counts = (
            row.ends,
            row.events,
            *(row.sins[sin] for sin in EVENT_SINS),
            row.repeats,
            row.hidden,
        )
        shown.add_row(row.name, *map(str, counts))
    return shown


def _raw(
    plan: Plan,
    told: list[Told],
    findings: list[Finding | EventFinding],
    campaign: Campaign,
    left: int,
    faults: dict[str, dict[str, int]],
    requests: int,
) -> dict[str, Any]:
    return {
        "seed": plan.seed,
        "seconds": plan.seconds,
        "machine": machine(),
        "table": [asdict(row) for row in table(told)],
        "delays": [round(each, 1) for each in delays(told)],
        "findings": [str(finding) for finding in findings],
        "notes": campaign.notes,
        "hits": dict(campaign.hits),
        "faults": faults,
        "requests": requests,
        "triggers_left": left,
    }


if __name__ == "__main__":
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    sys.exit(main())
