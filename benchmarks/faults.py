"""One fault at a time against this package's triggers and the official ones.

Each cell of the table is one trigger that waits for one job, in a process of its own,
against a simulator of its own: the first look goes well, the fault hits at the second
one, the job goes on at the vendor as if nothing had happened, and succeeds. What became
of the task?
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cells import Fare
from benchmarks.machine import machine
from benchmarks.peers import python_of_peers
from benchmarks.sides import INTERVALS, PACKAGES, TITLES, VENDORS
from benchmarks.stage import ROOT, open_stage

if TYPE_CHECKING:
    from async_triggers.simulator.client import SimulatorControl
    from benchmarks.sides import Side, Vendor
    from benchmarks.stage import Stage

MEASURED = ROOT / "docs" / "measured"
PATIENCE = 60.0
"""Seconds after the end of the job, and of the fault, in which an answer counts."""
LATENCY = 0.05
"""Seconds that every answer takes."""
GATHER = 5.0
"""Seconds until the first look of this package's triggers, at most."""
LONG_BLOCK = 0.5
"""Seconds. Airflow warns from 0.2 s on, which a busy machine makes of nothing."""
SLACK = 0.1
"""Seconds by which a job may seem to have been told before its end."""
RESCHEDULED = "rescheduled"
PUT_OFF = 20.0
"""Seconds by which a sync is put off."""
HURRY = 1.0
AT_ONCE = 12
"""Cells that run at the same time. They mostly wait."""

_POLLS: Mapping[str, str] = {
    "airbyte": "*/jobs*",
    "fivetran": "/v1/connect*",
    "dbt_cloud": "*/runs/*",
}
"""The paths by which a vendor is asked how a job is doing."""
_LIVES: Mapping[str, tuple[str, str]] = {
    "airbyte": ("running", "succeeded"),
    "fivetran": ("syncing", "succeeded"),
    "dbt_cloud": ("running", "success"),
}
_SHORTEST = 60
_CONNECTION = "c1"
_JOB = 7001
_DBT_JOB = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of trouble.

    ``fault`` are the fields of a :class:`~async_triggers.simulator.faults.Fault`; with
    ``lasts`` it hits everything for so many seconds, else one answer to a poll. ``word``
    by vendor is a status that the job has for a while, and ``arrange`` what is arranged
    when the fault is due. ``patience`` is added where the vendor asks for it.
    """

    name: str
    title: str
    fault: Mapping[str, Any] = field(default_factory=dict)
    lasts: float = 0.0
    word: Mapping[str, str] = field(default_factory=dict)
    arrange: Mapping[str, Any] = field(default_factory=dict)
    vendors: Sequence[str] = VENDORS
    patience: float = 0.0


CASES: tuple[Case, ...] = (
    Case(name="none", title="none, for comparison"),
    *(
        Case(
            name=str(status),
            title=f"one answer {status}",
            fault={"kind": "status", "status": status},
        )
        for status in (500, 502, 503, 504)
    ),
    Case(
        name="429",
        title="one answer 429 that does not say for how long",
        fault={"kind": "status", "status": 429},
        # dbt Cloud documents a cooldown of five minutes, which ours waits for.
        patience=300.0,
    ),
    Case(
        name="429-retry-after",
        title="one answer 429 with `Retry-After: 10`",
        fault={"kind": "status", "status": 429, "retry_after": 10},
    ),
    Case(name="reset", title="one connection reset", fault={"kind": "reset"}),
    Case(
        name="close",
        title="one connection closed without an answer",
        fault={"kind": "close"},
    ),
    Case(name="hang", title="one answer that never comes", fault={"kind": "hang"}),
    Case(
        name="slow",
        title="one answer that takes 20 s to arrive",
        fault={"kind": "slow", "seconds": 20.0},
    ),
    Case(
        name="truncate",
        title="one answer broken off in its middle",
        fault={"kind": "truncate"},
    ),
    Case(name="html", title="one web page in place of JSON", fault={"kind": "html"}),
    Case(name="cut", title="one answer with half its JSON", fault={"kind": "cut"}),
    Case(name="empty", title="one empty answer", fault={"kind": "empty"}),
    Case(
        name="token",
        title="access token revoked before its time",
        arrange={"expire_tokens": [{}]},
        vendors=("airbyte",),
    ),
    Case(
        name="queued",
        title="the job is queued again for a while",
        word={"airbyte": "queued", "fivetran": "scheduled", "dbt_cloud": "queued"},
    ),
    Case(
        name="unknown",
        title="a status that nobody knows, for a while",
        word={"airbyte": "suspended", "fivetran": "archiving", "dbt_cloud": "99"},
    ),
    Case(
        name="rescheduled",
        title="the vendor puts the sync off by 20 s (manual schedule)",
        word={"fivetran": RESCHEDULED},
        vendors=("fivetran",),
        patience=60.0,
    ),
    Case(
        name="outage-3",
        title="all connections reset for 3 s",
        fault={"kind": "reset"},
        lasts=3.0,
    ),
    Case(
        name="outage-30",
        title="all connections reset for 30 s",
        fault={"kind": "reset"},
        lasts=30.0,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When what happens in a cell, in seconds from its start."""

    interval: float
    first: float
    """When the first look is due."""
    floor: float = 0.0
    """A shorter floor for this package's triggers, 0 for the vendor's own."""

    @property
    def hit(self) -> float:
        """When the second look is due: the fault is there by then."""
        return self.first + self.interval

    @property
    def lead(self) -> float:
        """How long before the second look a fault that lasts begins."""
        return min(1.5, self.interval / 4)

    @property
    def end(self) -> float:
        """When the job ends."""
        return self.hit + min(2.0, self.interval / 2)


@dataclass(frozen=True, slots=True)
class Cell:
    """One trigger and one kind of trouble."""

    case: Case
    vendor: Vendor
    side: Side

    @property
    def name(self) -> str:
        """What tells the cell from all others."""
        return f"{self.case.name}/{self.vendor}/{self.side}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of the task of one cell.

    ``late`` is how many seconds after the job's end it was told, and ``hits`` how many
    requests the fault hit.
    """

    cell: Cell
    fare: Fare
    late: float | None
    hits: int

    @property
    def survived(self) -> bool:
        """Whether the job's success was told as such, and not too early."""
        told = self.fare.ending == "event" and self.fare.status == "success"
        return told and (self.late is None or self.late >= -SLACK)

    @property
    def answered(self) -> bool:
        """Whether there was any end at all."""
        return self.fare.ending != "none"

    @property
    def blocked(self) -> bool:
        """Whether the loop stood still for long."""
        return self.fare.blocked > LONG_BLOCK

    @property
    def verdict(self) -> str:
        """Say in a word or two what became of it."""
        if self.survived:
            return "survived"

        return "failed the task" if self.answered else "never answered"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "fault": self.cell.case.name,
            "vendor": self.cell.vendor,
            "side": self.cell.side,
            "verdict": self.verdict,
            "late_s": None if self.late is None else round(self.late, 3),
            "longest_block_s": round(self.fare.blocked, 3),
            "blocked_loop": self.blocked,
            "status": self.fare.status,
            "message": self.fare.message,
            "requests_hit": self.hits,
        }


class Worker:
    """The process that runs the cells of one side."""

    def __init__(self, side: Side, python: str, stage: Stage) -> None:
        self._side = side
        self._waiting: dict[str, asyncio.Future[Fare]] = {}
        source, sink = os.pipe()
        self._results = os.fdopen(source, "rb", buffering=0)
        self._log = (stage.folder / f"{side}.log").open("wb")
        self._process = subprocess.Popen(  # noqa: S603 - a module of ours
            [
                python,
                "-m",
                "benchmarks.cells",
                f"--side={side}",
                f"--results={sink}",
            ],
            cwd=ROOT,
            env=dict(stage.environment),
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[sink],
        )
        os.close(sink)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._results
        )
        try:
            async for line in reader:
                told = json.loads(line)
                if "ready" in told:
                    self._ready.set_result(None)
                else:
                    name = told.pop("cell")
                    self._waiting.pop(name).set_result(Fare(**told))
        finally:
            transport.close()
            self._log.flush()
            gone = RuntimeError(
                f"the worker of {self._side!r} has ended: {self.said()}"
            )
            futures: list[asyncio.Future[Any]] = [
                self._ready,
                *self._waiting.values(),
            ]
            for future in futures:
                if not future.done():
                    future.set_exception(gone)
                    # Whoever still waits is told; nobody has to.
                    future.exception()

    def said(self) -> str:
        """Return the end of what the process has written."""
        return Path(self._log.name).read_text(errors="replace")[-2000:]

    async def ready(self) -> None:
        """Wait until everything is imported."""
        await self._ready

    async def run(self, order: Mapping[str, Any]) -> Fare:
        """Run a cell."""
        future: asyncio.Future[Fare] = asyncio.get_running_loop().create_future()
        self._waiting[order["cell"]] = future
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        self._process.stdin.flush()
        return await future

    async def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.to_thread(self._process.wait)
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._log.close()


def arrange(control: SimulatorControl, cell: Cell, timing: Timing) -> str:
    """Set the scene of a cell, and return what its trigger is to wait for."""
    running, done = _LIVES[cell.vendor]
    life = f"{running}:{timing.end:g} {done}"
    word = cell.case.word.get(cell.vendor)
    if word is not None:
        before, rest = timing.hit - timing.lead, (timing.end - timing.hit) / 2
        shown = PUT_OFF if word == RESCHEDULED else timing.lead + rest
        life = f"{running}:{before:g} {word}:{shown:g} {running}:{rest:g} {done}"

    control.reset()
    control.arrange(settings={"latency": LATENCY})
    match cell.vendor:
        case "airbyte":
            control.arrange(
                connections=[{"connection_id": _CONNECTION}],
                jobs=[
                    {"connection_id": _CONNECTION, "life": life, "job_id": _JOB},
                ],
            )
            return str(_JOB)
        case "dbt_cloud":
            control.arrange(
                jobs=[{"job_id": _DBT_JOB, "job_type": "ci"}],
                runs=[{"job_id": _DBT_JOB, "life": life, "run_id": _JOB}],
            )
            return str(_JOB)
        case "fivetran":
            control.arrange(
                connections=[
                    {
                        "connection_id": _CONNECTION,
                        "lives": [life],
                        "succeeded_ago": 3600.0,
                        "failed_ago": 86400.0,
                    }
                ],
                syncs=[{"connection_id": _CONNECTION}],
            )
            return _CONNECTION


async def play(
    cell: Cell, *, stage: Stage, number: int, worker: Worker, timing: Timing
) -> Result:
    """Run one cell on one simulator of the stage."""
    control = stage.control(cell.vendor, number=number)
    case = cell.case
    began = time.time()
    job = await asyncio.to_thread(arrange, control, cell, timing)
    due = began + timing.hit - timing.lead
    if case.fault:
        fault: dict[str, Any] = {
            "method": "GET",
            "path": _POLLS[cell.vendor],
            "skip": 1,
        }
        if case.lasts:
            start = due - time.time()
            fault = {"times": None, "start_in": start, "lasts": case.lasts}

        await asyncio.to_thread(lambda: control.fault(**case.fault, **fault))

    ends = began + timing.end
    clear = began + timing.hit + case.lasts
    ordered = asyncio.create_task(
        worker.run(
            {
                "cell": cell.name,
                "urls": stage.urls[number],
                "ticket": {"vendor": cell.vendor, "job": job, "seen_at": began},
                "interval": timing.interval,
                "floor": timing.floor,
                "due": due,
                "until": max(ends, clear) + PATIENCE + case.patience,
            }
        )
    )
    if case.arrange:
        await asyncio.sleep(due - time.time())
        await asyncio.to_thread(lambda: control.arrange(**case.arrange))

    fare = await ordered
    record = await asyncio.to_thread(control.record)
    hits = sum(record["faults"].values())
    if case.fault and not hits:
        raise RuntimeError(
            f"{cell.name}: the fault hit nothing: {fare}: {worker.said()}"
        )

    put_off = cell.case.word.get(cell.vendor) == RESCHEDULED
    return Result(
        cell=cell,
        fare=fare,
        # Where the vendor put the end off, nobody knows when it was to be.
        late=None if put_off or fare.ending != "event" else fare.at - ends,
        hits=hits,
    )


async def play_all(
    cells: Sequence[Cell], *, pythons: Mapping[Side, str], floor: float = 0.0
) -> list[Result]:
    """Run cells, several at once, and return how they fared in their order."""
    with open_stage(min(AT_ONCE, len(cells))) as stage:
        workers = {
            side: Worker(side, python, stage) for side, python in pythons.items()
        }
        try:
            await asyncio.gather(*(worker.ready() for worker in workers.values()))
            free: asyncio.Queue[int] = asyncio.Queue()
            for number in range(len(stage.urls)):
                free.put_nowait(number)

            done = 0

            async def one(cell: Cell) -> Result:
                nonlocal done
                number = await free.get()
                try:
                    interval = floor or INTERVALS[cell.vendor]
                    # Ours waits for company; a peer looks at once.
                    first = min(GATHER, interval) if cell.side == "ours" else 0.0
                    timing = Timing(interval=interval, first=first, floor=floor)
                    result = await play(
                        cell,
                        stage=stage,
                        number=number,
                        worker=workers[cell.side],
                        timing=timing,
                    )
                finally:
                    free.put_nowait(number)

                done += 1
                print(f"[{done}/{len(cells)}] {cell.name}: {tell(result)}", flush=True)
                return result

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(cell)) for cell in cells]

            return [task.result() for task in tasks]
        finally:
            await asyncio.gather(*(worker.stop() for worker in workers.values()))


# What is told of it -----------------------------------------------------------------


def tell(result: Result) -> str:
    """Say in a line what became of a cell."""
    words = [result.verdict]
    if result.survived and result.late is not None:
        words[0] += f", {result.late:.1f} s late"

    if not result.survived and result.answered:
        words[0] += f": {_short(result.fare)}"

    if result.blocked:
        words.append(f"loop blocked for {result.fare.blocked:.1f} s")

    return "; ".join(words)


def _short(fare: Fare) -> str:
    text = " ".join(fare.message.split()) or fare.status
    return text if len(text) <= _SHORTEST else f"{text[:_SHORTEST]}…"


def table(results: Sequence[Result], sides: Sequence[Side]) -> str:
    """Write the results as a table in Markdown, and what they come to before it."""
    found = {result.cell.name: result for result in results}
    vendors = [
        vendor
        for vendor in VENDORS
        if any(result.cell.vendor == vendor for result in results)
    ]
    columns = [(vendor, side) for vendor in vendors for side in sides]
    sums = [
        "| trigger | survived | failed the task | never answered | blocked the loop |"
    ]
    sums.append("| --- | --- | --- | --- | --- |")
    for vendor, side in columns:
        own = [
            each
            for each in results
            if (each.cell.vendor, each.cell.side) == (vendor, side)
            and each.cell.case.name != "none"
        ]
        counts = (
            sum(each.survived for each in own),
            sum(each.verdict == "failed the task" for each in own),
            sum(not each.answered for each in own),
            sum(each.blocked for each in own),
        )
        shown = " | ".join(f"{count} of {len(own)}" for count in counts)
        sums.append(f"| {_title(vendor, side)} | {shown} |")

    head = " | ".join(_title(vendor, side) for vendor, side in columns)
    lines = [f"| trouble | {head} |", "| --- |" + " --- |" * len(columns)]
    for case in CASES:
        row = [found.get(f"{case.name}/{vendor}/{side}") for vendor, side in columns]
        if any(row):
            shown = " | ".join("n/a" if each is None else _entry(each) for each in row)
            lines.append(f"| {case.title} | {shown} |")

    return "\n".join([*sums, "", *lines, ""])


def _title(vendor: str, side: Side) -> str:
    return f"{TITLES[vendor]}, {'ours' if side == 'ours' else 'official'}"


def _entry(result: Result) -> str:
    words = [result.verdict if result.survived else f"**{result.verdict}**"]
    if result.survived and result.late is not None:
        words.append(f"{result.late:.1f} s late")

    if not result.survived and result.answered:
        text = _short(result.fare).replace("|", "\\|").replace("`", "'")
        words.append(f"`{text}`")

    if result.blocked:
        words.append(f"**blocked the loop** for {result.fare.blocked:.1f} s")

    return ", ".join(words)


def write(results: Sequence[Result], sides: Sequence[Side], folder: Path) -> None:
    """Write the table and the raw results to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.md").write_text(table(results, sides))
    raw = {
        "machine": machine(),
        "patience_s": PATIENCE,
        "latency_s": LATENCY,
        "intervals_s": dict(INTERVALS),
        "peers": list(PACKAGES.values()),
        "results": [result.as_dict() for result in results],
    }
    (folder / "faults.json").write_text(f"{json.dumps(raw, indent=1)}\n")


def chosen_cells(
    *, only: Sequence[str], vendors: Sequence[Vendor], sides: Sequence[Side]
) -> list[Cell]:
    """Return the cells to run, the slow ones first.

    Raise :class:`ValueError` for a fault that nobody knows.
    """
    known = {case.name: case for case in CASES}
    for name in only:
        if name not in known:
            raise ValueError(
                f"there is no fault {name!r}; these there are: {', '.join(known)}"
            )

    cells = [
        Cell(case, vendor, side)
        for case in (CASES if not only else [known[name] for name in only])
        for vendor in vendors
        if vendor in case.vendors
        for side in sides
    ]
    return sorted(
        cells,
        key=lambda cell: (
            cell.case.name != "429",
            cell.case.name not in {"hang", "outage-30", "rescheduled", "slow"},
            cell.vendor != "fivetran",
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where this package did not survive."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="One fault at a time against our triggers and the official ones.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FAULT",
        help=f"just this one, may be given again: {', '.join(c.name for c in CASES)}",
    )
    parser.add_argument(
        "--vendor", action="append", choices=VENDORS, help="may be given again"
    )
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where to write faults.md and faults.json ({MEASURED.relative_to(ROOT)})",
    )
    parser.add_argument(
        "--hurry",
        action="store_true",
        help="poll every second: to try the machinery out, not to measure",
    )
    chosen = parser.parse_args(arguments)
    sides: list[Side] = ["ours"] if chosen.ours else ["ours", "peer"]
    try:
        cells = chosen_cells(
            only=chosen.only, vendors=chosen.vendor or VENDORS, sides=sides
        )
        pythons: dict[Side, str] = {"ours": sys.executable}
        if "peer" in sides:
            pythons["peer"] = str(python_of_peers())
    except (ValueError, RuntimeError) as error:
        print(f"python -m benchmarks.faults: {error}", file=sys.stderr)
        return 2

    began = time.monotonic()
    results = asyncio.run(
        play_all(cells, pythons=pythons, floor=HURRY if chosen.hurry else 0.0)
    )
    print(f"\n{table(results, sides)}")
    print(f"{len(results)} cells in {time.monotonic() - began:.0f} s")
    whole = not (chosen.only or chosen.vendor or chosen.ours or chosen.hurry)
    if chosen.out is not None or whole:
        write(results, sides, chosen.out or MEASURED)

    ours = [result for result in results if result.cell.side == "ours"]
    return int(not all(result.survived for result in ours))


if __name__ == "__main__":
    sys.exit(main())
