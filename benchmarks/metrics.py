"""What metrics cost a triggerer that waits for a thousand jobs.

One process waits with its triggers while windows with metrics and windows without take
turns, so that whatever else the machine does meets both alike. Only the processor time of
the loop's own thread counts: the simulated vendor runs in another one. The metrics go to a
StatsD server's socket.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import statsd
from airflow.sdk._shared.observability.metrics.statsd_logger import get_statsd_logger
from airflow.sdk.observability import stats

from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.engine.accounts import SharedAccount, shared_accounts
from async_triggers.engine.reporter import REPORT_EVERY, Reporter
from async_triggers.simulator import SimulatorThread
from async_triggers.simulator.connections import connection_variables
from benchmarks.machine import machine

MOST = 1.0
"""Percent of a processor that metrics may cost."""


class Cost:
    """The processor time of the reports themselves, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.reports = 0
        report = Reporter._ring  # noqa: SLF001 - what is measured

        def measured(reporter: Reporter) -> None:
            began = time.thread_time()
            report(reporter)
            self.seconds += time.thread_time() - began
            self.reports += 1

        Reporter._ring = measured  # type: ignore[method-assign, assignment]  # noqa: SLF001


def _listen() -> socket.socket:
    """Return the socket of a StatsD server, and have Airflow's metrics sent there."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(0)
    logger: Any = get_statsd_logger(
        stats_class=statsd.StatsClient,
        host="127.0.0.1",
        port=server.getsockname()[1],
        prefix="airflow",
        influxdb_tags_enabled=True,
        statsd_influxdb_enabled=True,
    )
    stats.initialize(factory=lambda: logger, export_legacy_names=True)
    return server


def _drain(server: socket.socket) -> int:
    """Read what has come; return how many lines that were."""
    lines = 0
    with suppress(BlockingIOError):
        while True:
            lines += len(server.recv(65_536).splitlines())

    return lines


async def _window(shared: SharedAccount, observer: Any, seconds: float) -> float:
    """Wait for a while; return the processor time of the loop, in percent."""
    shared.transport.tally.observer = observer
    began, cpu = time.perf_counter(), time.thread_time()
    await asyncio.sleep(seconds)
    used = time.thread_time() - cpu
    return 100.0 * used / (time.perf_counter() - began)


async def _all_waiting(wanted: int) -> SharedAccount:
    """Return the account once all wait."""
    async with asyncio.timeout(120.0):
        while True:
            await asyncio.sleep(0.5)
            for shared in shared_accounts():
                if shared.poller.statistics().waiters == wanted:
                    return shared


async def _wait(job: int, interval: float) -> None:
    trigger = AirbyteSyncTrigger(
        conn_id="airbyte_default", job_id=job, end_time=None, poll_interval=interval
    )
    async for event in trigger.run():
        msg = f"Job {job} has ended: {event}"
        raise RuntimeError(msg)


async def _measure(
    jobs: list[int], windows: int, seconds: float, interval: float
) -> dict[str, Any]:
    cost, server = Cost(), _listen()
    waits = [asyncio.create_task(_wait(job, interval)) for job in jobs]
    try:
        account = await _all_waiting(len(jobs))
        observer = account.transport.tally.observer
        await asyncio.sleep(2 * interval)
        cost.seconds, cost.reports = 0.0, 0
        _drain(server)
        lines = 0
        shares: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * windows):
            # Which of the two comes first takes turns, too.
            is_on = number % 4 in {0, 3}
            used = await _window(account, observer if is_on else None, seconds)
            shares[is_on].append(used)
            lines += _drain(server)
    finally:
        for wait in waits:
            wait.cancel()

        await asyncio.gather(*waits, return_exceptions=True)
        server.close()

    with_, without = (statistics.fmean(shares[key]) for key in (True, False))
    reports = max(1.0, windows * seconds / REPORT_EVERY)
    return {
        "jobs": len(jobs),
        "windows": windows,
        "seconds": seconds,
        "interval": interval,
        "cpu_with": with_,
        "cpu_without": without,
        "ratio": with_ / without,
        "cpu_of_reports": 100.0 * cost.seconds / (windows * seconds),
        "lines_a_report": lines / reports,
    }


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    head = (
        "| waiting jobs | CPU with metrics | CPU without | ratio | CPU of the reports alone"
        " | lines a report |\n| --- | --- | --- | --- | --- | --- |\n"
    )
    return head + (
        f"| {found['jobs']:,} | {found['cpu_with']:.2f} % | {found['cpu_without']:.2f} %"
        f" | {found['ratio']:.2f} | {found['cpu_of_reports']:.3f} %"
        f" | {found['lines_a_report']:.0f} |\n"
    )


def main() -> None:
    """Measure, print, and fail where metrics cost too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one window")
    parser.add_argument("--interval", type=float, default=5.0, help="between two polls")
    parser.add_argument("--out", type=Path, help="a folder for metrics.md and .json")
    options = parser.parse_args()
    with SimulatorThread() as simulator:
        simulator.airbyte.configure(life="running")
        jobs = []
        for number in range(options.jobs):
            simulator.airbyte.add_connection(f"c{number}")
            jobs.append(simulator.airbyte.add_job(f"c{number}", "running"))

        os.environ.update(connection_variables(simulator))
        found = asyncio.run(
            _measure(jobs, options.windows, options.seconds, options.interval)
        )

    print(table(found))
    if options.out is not None:
        (options.out / "metrics.md").write_text(table(found))
        text = json.dumps({"machine": machine(), **found}, indent=1)
        (options.out / "metrics.json").write_text(f"{text}\n")

    assert found["lines_a_report"] > 5, "no metrics were sent"
    assert found["cpu_of_reports"] <= MOST, "metrics cost too much"


if __name__ == "__main__":
    main()
