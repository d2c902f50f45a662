"""Cells in real time: each trigger in a process of its own, over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.cells import Fare
from benchmarks.lookups import HOST
from benchmarks.sides import INTERVALS
from benchmarks.stage import ROOT, open_stage
from benchmarks.trouble.cases import (
    AT_ONCE,
    GATHER,
    PATIENCE,
    POLLS,
    RESCHEDULED,
    SLACK,
    Cell,
    Result,
    Timing,
    arrange,
)
from benchmarks.trouble.relay import Relay
from benchmarks.trouble.tables import tell

if TYPE_CHECKING:
    from benchmarks.sides import Side
    from benchmarks.stage import Stage


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
                    future = self._waiting.pop(told.pop("cell"))
                    if "broken" in told:
                        future.set_exception(RuntimeError(told["broken"]))
                    else:
                        future.set_result(Fare(**told))
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


TRIES = 3
"""How often a cell is played at most until its fault has hit a request."""


class Missed(RuntimeError):
    """No request came while the fault was there, as on a machine that is too busy."""


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
            "path": POLLS[cell.vendor],
            "skip": 1,
        }
        if case.lasts:
            start = due - time.time()
            fault = {"times": None, "start_in": start, "lasts": case.lasts}

        await asyncio.to_thread(lambda: control.fault(**case.fault, **fault))

    ends = began + timing.end
    clear = began + timing.hit + case.lasts
    urls = dict(stage.urls[number])
    async with AsyncExitStack() as stack:
        order: dict[str, Any] = {
            "cell": cell.name,
            "urls": urls,
            "ticket": {"vendor": cell.vendor, "job": job, "seen_at": began},
            "interval": timing.interval,
            "floor": timing.floor,
            "due": due,
            "until": max(ends, clear) + PATIENCE + case.patience,
        }
        relay = None
        if case.way is not None:
            port = urlsplit(urls[cell.vendor]).port
            assert port is not None
            relay = await stack.enter_async_context(Relay(port))
            urls[cell.vendor] = f"https://{HOST}:{relay.port}"
            if case.way == "unresolved":
                order["unresolved"] = [due, due + case.lasts]

        ordered = asyncio.create_task(worker.run(order))
        if relay is not None and case.way is not None:
            await asyncio.sleep(due - time.time())
            await relay.fail(case.way)
            await asyncio.sleep(case.lasts)
            await relay.heal()

        if case.arrange:
            await asyncio.sleep(due - time.time())
            await asyncio.to_thread(lambda: control.arrange(**case.arrange))

        fare = await ordered

    record = await asyncio.to_thread(control.record)
    hits = sum(record["faults"].values())
    too_early = case.way is not None and fare.at < due + case.lasts - SLACK
    # Where something is arranged besides, that alone may have been the end of it.
    missed = case.fault and not hits and not case.arrange
    if missed or (fare.status == "success" and too_early):
        raise Missed(f"{cell.name}: the fault hit nothing: {fare}: {worker.said()}")

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
                    for tries_left in reversed(range(TRIES)):
                        try:
                            result = await play(
                                cell,
                                stage=stage,
                                number=number,
                                worker=workers[cell.side],
                                timing=timing,
                            )
                            break
                        except Missed as missed:
                            if not tries_left:
                                raise

                            print(f"Again: {missed}"[:200], flush=True)

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
