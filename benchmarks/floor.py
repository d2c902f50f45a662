"""The floor: what no poller can do with less.

A trigger that only waits, as often as there are jobs, and one request a round.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import TYPE_CHECKING, Any

import aiohttp
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_ended: dict[int, asyncio.Event] = {}


class OnlyWaits(BaseTrigger):
    """Yields its event when it is told to."""

    def __init__(self, number: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is not typed
        self.number = number

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the classpath and the arguments."""
        return f"{__name__}.OnlyWaits", {"number": self.number}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        await _ended.setdefault(self.number, asyncio.Event()).wait()
        yield TriggerEvent({"status": "success"})


async def ask_and_tell(order: Mapping[str, Any]) -> None:
    """Ask once an interval for all jobs, and tell the triggers whose job has ended.

    What ends when is known beforehand: to learn it from one answer takes a miracle.
    """
    url, headers = _a_list(order["vendor"], order["urls"])
    left = sorted((end, number) for number, end in enumerate(order["ends"]) if end)
    left.reverse()
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        while True:
            async with session.get(url, headers=headers) as reply:
                json.loads(await reply.read())

            while left and left[-1][0] <= time.time():
                # On a busy machine its trigger may not have come to wait yet.
                _ended.setdefault(left.pop()[1], asyncio.Event()).set()

            await asyncio.sleep(order["interval"])


def waiters() -> int:
    """Count those who wait, or have waited."""
    return len(_ended)


def _a_list(vendor: str, urls: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the address of a vendor's list, and the headers to ask for it with."""
    match vendor:
        case "airbyte":
            path, proof = "/api/public/v1/jobs?limit=100", "Bearer simulator-token"
        case "fivetran":
            path = "/v1/connections?limit=1000"
            proof = aiohttp.BasicAuth("simulator-key", "simulator-secret").encode()
        case _:
            path = "/api/v2/accounts/70403103916001/runs/?limit=100"
            proof = "Token simulator-token"

    return f"{urls[vendor]}{path}", {"Authorization": proof}
