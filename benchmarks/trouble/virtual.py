"""Cells on a virtual clock: hours in seconds, for this package's triggers alone.

Simulator, network and trigger share one event loop, and time passes only when all of them
wait. The sockets are real: on loopback, what one side has sent is there for the other at
once.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trustme

from async_triggers.engine.accounts import LINGER
from async_triggers.simulator.faults import Fault
from async_triggers.simulator.server import Simulator
from benchmarks.cells import Fare
from benchmarks.lookups import HOST, unresolved
from benchmarks.sides import INTERVALS, Ticket, make_trigger
from benchmarks.trouble.cases import (
    CONNECTION,
    GATHER,
    PATIENCE,
    POLLS,
    SLACK,
    Case,
    Cell,
    Result,
    Timing,
    arrange,
)
from benchmarks.trouble.ends import Ended
from benchmarks.trouble.relay import Relay
from tests.clock import ThreadlessClockLoop

if TYPE_CHECKING:
    from async_triggers.simulator.vendor import VendorSimulator
    from benchmarks.cells import Ending
    from benchmarks.sides import Vendor
    from benchmarks.trouble.ends import End

IN_FLIGHT = 0.0005
"""Seconds of real time that what was sent may take to be there, on a busy machine."""


class NetworkedClockLoop(ThreadlessClockLoop):
    """A virtual clock with a network: it gives the kernel a moment before it jumps."""

    def __init__(self) -> None:
        super().__init__()
        jump = self._virtual.select
        wait = super(type(self._virtual), self._virtual).select

        def select(timeout: float | None = None) -> Any:
            if timeout is None or timeout > 0:
                ready = wait(IN_FLIGHT)
                if ready:
                    return ready

            return jump(timeout)

        self._virtual.select = select  # type: ignore[method-assign]


@dataclass(frozen=True, slots=True)
class Keys:
    """The certificate that servers here show, and the authority that clients trust."""

    authority: Path
    served: Path


@contextmanager
def open_keys() -> Iterator[Keys]:
    """Make an authority for the length of the block."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Keys(Path(folder) / "authority.pem", Path(folder) / "served.pem")
        maker = trustme.CA()
        maker.cert_pem.write_to_path(str(keys.authority))
        served = maker.issue_cert("127.0.0.1", HOST)
        served.private_key_and_cert_chain_pem.write_to_path(str(keys.served))
        yield keys


@dataclass(slots=True)
class World:
    """A simulated vendor behind a relay, on the virtual clock of the running loop."""

    simulator: Simulator
    vendor: VendorSimulator[Any]
    relay: Relay
    epoch: float

    def now(self) -> float:
        """Return the time of the day."""
        return self.epoch + asyncio.get_running_loop().time()

    def fare(self, ending: Ending, status: str = "", message: str = "") -> Fare:
        """Return how a trigger has fared that ended now."""
        return Fare(
            ending=ending, status=status, message=message, at=self.now(), blocked=0.0
        )


async def _open_world(stack: AsyncExitStack, vendor: Vendor, keys: Keys) -> World:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys.served)
    loop, epoch = asyncio.get_running_loop(), time.time()
    simulator = await stack.enter_async_context(
        Simulator(clock=lambda: epoch + loop.time(), ssl_context=context)
    )
    port = urlsplit(simulator.urls[vendor]).port
    assert port is not None
    relay = await stack.enter_async_context(Relay(port))
    _connect(vendor, relay.port, keys)
    # Left first: until nobody keeps a connection of the account any more.
    stack.push_async_callback(asyncio.sleep, 2 * LINGER)
    return World(simulator, getattr(simulator, vendor), relay, epoch)


def _connect(vendor: Vendor, port: int, keys: Keys) -> None:
    """Set this process's Airflow connection to the relay."""
    login, password = {
        "airbyte": ("simulator-client", "simulator-secret"),
        "fivetran": ("simulator-key", "simulator-secret"),
        "dbt_cloud": ("70403103916001", "simulator-token"),
    }[vendor]
    os.environ[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"] = json.dumps(
        {
            "conn_type": vendor,
            "host": f"https://{HOST}:{port}",
            "login": login,
            "password": password,
            "extra": {"ca_bundle": str(keys.authority)},
        }
    )


async def _wait(world: World, ticket: Ticket, *, interval: float, until: float) -> Fare:
    """Run the trigger that waits for a job, until its event or some virtual time."""
    trigger = make_trigger("ours", ticket, interval=interval)
    try:
        async with asyncio.timeout_at(until):
            async for event in trigger.run():
                payload: Any = event.payload
                status, message = payload.get("status"), payload.get("message")
                return world.fare("event", str(status), str(message))

            return world.fare("silent")
    except TimeoutError:
        return world.fare("none")
    except Exception as error:  # noqa: BLE001 - whatever a trigger raises is its result
        return world.fare("raised", type(error).__name__, str(error))


# What stands in between -----------------------------------------------------------------


def survive(cell: Cell, keys: Keys) -> Result:
    """Run one cell in virtual time."""
    with asyncio.Runner(loop_factory=NetworkedClockLoop) as runner:
        return runner.run(_survive(cell, keys))


async def _survive(cell: Cell, keys: Keys) -> Result:
    case, loop = cell.case, asyncio.get_running_loop()
    interval = INTERVALS[cell.vendor]
    timing = Timing(interval=interval, first=min(GATHER, interval))
    due = timing.hit - timing.lead

    async with AsyncExitStack() as stack:
        world = await _open_world(stack, cell.vendor, keys)
        job = arrange(world.vendor, cell, timing)
        if case.fault:
            once = {"method": "GET", "path": POLLS[cell.vendor], "skip": 1}
            lasting = {"times": None, "start_in": due, "lasts": case.lasts}
            fault = {**case.fault, **(lasting if case.lasts else once)}
            world.vendor.faults.add(Fault.from_dict(fault))

        def is_unresolved() -> bool:
            is_it = case.way == "unresolved"
            return is_it and due <= loop.time() < due + case.lasts

        stack.enter_context(unresolved(is_unresolved))
        making = asyncio.create_task(_make(world, case, due))
        until = max(timing.end, timing.hit + case.lasts) + PATIENCE + case.patience
        ticket = Ticket(vendor=cell.vendor, job=job, seen_at=world.epoch)
        fare = await _wait(world, ticket, interval=interval, until=until)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        hits = sum(world.vendor.record.faults.values())
        too_early = case.way is not None and loop.time() < due + case.lasts - SLACK
        if (case.fault and not hits) or (fare.status == "success" and too_early):
            raise RuntimeError(f"{cell.name}: the fault hit nothing: {fare}")

        late = fare.at - world.epoch - timing.end if fare.ending == "event" else None
        return Result(cell=cell, fare=fare, late=late, hits=hits)


async def _make(world: World, case: Case, due: float) -> None:
    """Do what is done when the fault is due, and undo it."""
    await asyncio.sleep(due)
    world.vendor.arrange(**case.arrange)
    if case.way is not None:
        await world.relay.fail(case.way)
        await asyncio.sleep(case.lasts)
        await world.relay.heal()


# What must end --------------------------------------------------------------------------


def end(case: End, vendor: Vendor, keys: Keys) -> Ended:
    """Wait in vain, in virtual time."""
    with asyncio.Runner(loop_factory=NetworkedClockLoop) as runner:
        return runner.run(_end(case, vendor, keys))


async def _end(case: End, vendor: Vendor, keys: Keys) -> Ended:
    async with AsyncExitStack() as stack:
        world = await _open_world(stack, vendor, keys)
        # Long enough that nothing ends by itself.
        timing = Timing(interval=10 * case.limit, first=0.0)
        job = arrange(
            world.vendor, Cell(Case(name="", title=""), vendor, "ours"), timing
        )
        spent: list[int] = []

        async def act() -> None:
            await asyncio.sleep(case.at)
            case.act(world.vendor, CONNECTION if vendor == "fivetran" else job)
            spent.append(world.vendor.record.total)

        acting = asyncio.create_task(act())
        ticket = Ticket(vendor=vendor, job=job, seen_at=world.epoch)
        fare = await _wait(
            world, ticket, interval=case.interval, until=case.at + case.limit
        )
        await acting
        over = fare.ending in {"event", "raised"} and fare.status != "success"
        return Ended(
            name=case.name,
            title=case.title,
            vendor=vendor,
            after=fare.at - world.epoch - case.at if over else None,
            message=fare.message if over else "",
            requests=world.vendor.record.total - spent[0],
        )
