"""Runs triggers one by one, each in a process of its own: the worker of the fault table.

Lines of JSON come in on standard input, each a trigger to run; lines of JSON go out on
the descriptor ``--results``, each how one fared. A cell is a fork of this process, which
has imported everything beforehand, so that a loop that freezes harms no other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from benchmarks.lag import TICK, LoopWatch
from benchmarks.lookups import unresolved
from benchmarks.sides import VENDORS, Ticket, connect, make_trigger, trigger_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.triggers.base import BaseTrigger

    from benchmarks.sides import Side

Ending: TypeAlias = Literal["event", "raised", "silent", "none"]

_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Fare:
    """How one trigger fared.

    ``ending`` is ``event`` where it yielded one, ``raised`` where it raised, ``silent``
    where it ended without a word and ``none`` where it had not ended in time.
    ``status`` and ``message`` are those of the event or of the exception, ``at`` the time
    of the end in epoch seconds, and ``blocked`` the longest time in seconds for which
    the loop did not run once the fault was due.
    """

    ending: Ending
    status: str
    message: str
    at: float
    blocked: float


async def run_trigger(
    trigger: BaseTrigger, loop_watch: LoopWatch, *, quiet: float
) -> Fare:
    """Run a trigger until its event, and watch the loop after ``quiet`` seconds."""
    ticker = asyncio.create_task(loop_watch.run())
    asyncio.get_running_loop().call_later(quiet, loop_watch.late.clear)
    ending: Ending = "silent"
    status = message = ""
    events = trigger.run()
    try:
        async for event in events:
            payload: Any = event.payload
            ending, status = "event", str(payload.get("status"))
            message = str(payload.get("message"))
            break
    except Exception as error:  # noqa: BLE001 - whatever a trigger raises is its result
        ending, status, message = "raised", type(error).__name__, str(error)

    at = time.time()
    # A stretch that the loop did not run is noted once it runs again.
    await asyncio.sleep(0.05)
    ticker.cancel()
    return Fare(
        ending=ending,
        status=status,
        message=message[:_LONGEST_MESSAGE],
        at=at,
        blocked=loop_watch.longest,
    )


def hurry(floor: float) -> None:
    """Shorten the waits of this package's own triggers, to try the machinery out.

    What is measured then is no measurement: the vendors set those floors.
    """
    # Neither may be imported in the peers' environment.
    from async_triggers.airbyte.api.vendor import Airbyte  # noqa: PLC0415
    from async_triggers.dbt_cloud.api.vendor import DbtCloud  # noqa: PLC0415
    from async_triggers.fivetran.api.vendor import Fivetran  # noqa: PLC0415

    for vendor in (Airbyte, DbtCloud, Fivetran):
        vendor.grid_floor = floor

    # An event waits for so long and two and a half seconds.
    os.environ["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] = "0"


def _run_cell(order: Mapping[str, Any], side: Side, results: int) -> None:
    loop_watch = LoopWatch()

    def tell(fare: Fare) -> None:
        line = json.dumps({"cell": order["cell"], **asdict(fare)})
        os.write(results, f"{line}\n".encode())

    def give_up() -> None:
        silent = time.perf_counter() - loop_watch.last - TICK
        try:
            tell(
                Fare(
                    ending="none",
                    status="",
                    message="",
                    at=time.time(),
                    blocked=max(loop_watch.longest, silent),
                )
            )
        finally:
            os._exit(0)

    # In a thread: a loop that is blocked cannot keep its own time.
    guard = threading.Timer(order["until"] - time.time(), give_up)
    guard.daemon = True
    guard.start()
    if order["floor"] and side == "ours":
        hurry(order["floor"])

    connect(side, order["urls"])
    trigger = make_trigger(side, Ticket(**order["ticket"]), interval=order["interval"])
    begins, ends = order.get("unresolved", (0.0, 0.0))
    with unresolved(lambda: begins <= time.time() < ends):
        fare = asyncio.run(
            run_trigger(trigger, loop_watch, quiet=order["due"] - time.time())
        )

    guard.cancel()
    tell(fare)


def main() -> None:
    """Fork a cell for each line that comes in, until there are no more."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells")
    parser.add_argument("--side", choices=("ours", "peer"), required=True)
    parser.add_argument("--results", type=int, required=True)
    chosen = parser.parse_args()
    for vendor in VENDORS:
        trigger_class(chosen.side, vendor)

    # Nobody waits for the forks: what they have to say, they write.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # With a group of its own, all that is left at the end can be ended at once.
    os.setpgid(0, 0)
    os.write(chosen.results, b'{"ready": true}\n')
    for line in sys.stdin:
        if os.fork() == 0:
            order = json.loads(line)
            try:
                _run_cell(order, chosen.side, chosen.results)
            except Exception:  # noqa: BLE001 - it is told, and the process must end here
                traceback.print_exc()
                told = {"cell": order["cell"], "broken": traceback.format_exc()[-3000:]}
                os.write(chosen.results, f"{json.dumps(told)}\n".encode())
            finally:
                sys.stderr.flush()
                os._exit(0)

    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
