"""Airflow's own TriggerRunner, with its supervisor and database played."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.models.trigger import Trigger
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    GetTaskStates,
    GetXCom,
    SetXCom,
    TaskStatesResult,
    XComResult,
)

from async_triggers.deferral.compat import OWNER_KEY
from async_triggers.engine.accounts import shared_accounts
from tests.airflow_versions import (
    HAS_ASSET_STORE,
    RunTrigger,
    TaskInstanceDTO,
    answer_of_asset_store,
    end_with_the_loop,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow.triggers.base import BaseTrigger

    from async_triggers.simulator import Simulator

BEAT = 0.1
"""Seconds between two cycles of the runner, which in earnest are one second apart."""


class Supervisor:
    """The other end of the runner's pipe."""

    def __init__(self) -> None:
        self.to_cancel: set[int] = set()
        self.states: dict[str, str] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.xcoms: dict[str, Any] = {}
        self.marks: dict[str, Any] = {}
        """What is stored for each asset, by its name."""
        self.events: dict[int, list[Any]] = {}
        self.failures: dict[int, Any] = {}
        self.finished: set[int] = set()
        self.asked: list[str] = []

    async def asend(self, message: Any) -> Any:
        """Answer as Airflow's supervisor does."""
        if isinstance(message, messages.TriggerStateChanges):
            return self._sync(message)

        self.asked.append(type(message).__name__)
        # The real one takes some milliseconds, over a socket.
        await asyncio.sleep(0.02)
        if isinstance(message, GetTaskStates):
            (run,) = message.run_ids or [""]
            (task,) = message.task_ids or [""]
            state = self.states.get(task)
            found = {} if state is None else {task: state}
            return TaskStatesResult(task_states={run: found} if found else {})

        if isinstance(message, GetXCom):
            return XComResult(key=message.key, value=self.tokens.get(message.task_id))

        if isinstance(message, SetXCom):
            self.xcoms[message.key] = message.value
            if message.key == OWNER_KEY and isinstance(message.value, dict):
                self.tokens[message.task_id] = message.value

            return None

        return answer_of_asset_store(message, self.marks)

    def _sync(self, message: Any) -> Any:
        for entry in message.events or ():
            # A mere pair until Airflow 3.2.
            trigger_id, event = entry[:2]
            self.events.setdefault(trigger_id, []).append(event.payload)

        for trigger_id, traceback in message.failures or ():
            self.failures[trigger_id] = traceback

        for trigger_id in message.finished or ():
            self.finished.add(trigger_id)
            self.to_cancel.discard(trigger_id)

        # What is to be cancelled is said again and again until it has ended.
        return messages.TriggerStateSync(to_create=[], to_cancel=set(self.to_cancel))


class Triggerer:
    """A runner in the loop of the test."""

    def __init__(self) -> None:
        self.supervisor = Supervisor()
        runner: Any = TriggerRunner()
        runner.comms_decoder = self.supervisor
        self.runner = runner
        self._next = 0

    def add(
        self, trigger: BaseTrigger, *, task_id: str = "sync", attempt: int = 1
    ) -> int:
        """Hand a trigger over as it is stored in the database."""
        classpath, arguments = trigger.serialize()
        return self.add_row(classpath, arguments, task_id=task_id, attempt=attempt)

    def add_row(
        self,
        classpath: str,
        arguments: dict[str, Any],
        *,
        task_id: str = "sync",
        attempt: int = 1,
    ) -> int:
        """Hand over what the database holds of a trigger."""
        self._next += 1
        ti = TaskInstanceDTO.model_validate(
            {
                "id": uuid4(),
                "task_id": task_id,
                "dag_id": "dag",
                "run_id": "run",
                "try_number": attempt,
                "map_index": -1,
                "pool_slots": 1,
                "queue": "default",
                "priority_weight": 1,
                "dag_version_id": uuid4(),
            }
        )
        self.runner.to_create.append(
            RunTrigger(
                id=self._next,
                classpath=classpath,
                encrypted_kwargs=Trigger.encrypt_kwargs(arguments),
                ti=ti,
            )
        )
        return self._next

    def watch(self, trigger: BaseTrigger, *assets: str) -> int:
        """Hand a watcher of some assets over as it is stored in the database."""
        self._next += 1
        classpath, arguments = trigger.serialize()
        row: dict[str, Any] = {
            "id": self._next,
            "classpath": classpath,
            "encrypted_kwargs": Trigger.encrypt_kwargs(arguments),
            "ti": None,
        }
        if HAS_ASSET_STORE:
            row["watched_assets"] = {name: f"x-test://{name}" for name in assets}

        self.runner.to_create.append(RunTrigger(**row))
        return self._next

    async def beat(self) -> None:
        """Run one cycle, as the runner's own loop does."""
        finished = await self.runner.cleanup_finished_triggers()
        await self.runner.sync_state_to_supervisor(finished)
        await self.runner.create_triggers()
        await self.runner.cancel_triggers()
        await asyncio.sleep(BEAT)

    async def until(self, what: Callable[[], object], *, within: float = 15.0) -> None:
        """Run until something holds."""
        async with asyncio.timeout(within):
            while not what():
                await self.beat()

    async def event(self, trigger_id: int) -> Any:
        """Run until a trigger has ended, and return its one event."""
        await self.until(lambda: trigger_id in self.supervisor.finished)
        (payload,) = self.supervisor.events[trigger_id]
        return payload

    async def kill(self, trigger_id: int) -> None:
        """Do what happens when a trigger is no longer this triggerer's."""
        self.supervisor.to_cancel.add(trigger_id)
        await self.until(lambda: trigger_id not in self.runner.triggers)

    async def settled(self) -> None:
        """Run until nothing is done on an account's own behalf any more."""
        await self.until(
            lambda: (
                not any(
                    leased.errands
                    for shared in shared_accounts()
                    for leased in shared.leases
                )
            )
        )

    async def stop(self) -> None:
        """Cancel all triggers, as a triggerer does that is told to stop."""
        await end_with_the_loop(
            details["task"] for details in self.runner.triggers.values()
        )


@asynccontextmanager
async def a_triggerer(monkeypatch: Any) -> AsyncIterator[Triggerer]:
    """Run a triggerer for the length of the block, with its watchdog."""
    triggerer = Triggerer()
    monkeypatch.setattr(
        task_runner, "SUPERVISOR_COMMS", triggerer.supervisor, raising=False
    )
    watchdog = asyncio.create_task(triggerer.runner.block_watchdog())
    try:
        yield triggerer
    finally:
        await triggerer.stop()
        triggerer.runner.stop = True
        await watchdog


def are_closed(simulator: Simulator, *, within: float = 15.0) -> None:
    """Wait until no vendor has an open connection.

    The simulator serves in another thread, which sees that a client has closed its
    connection when it next runs.

    :raises AssertionError: A connection stayed open.
    """
    ends, pause = time.monotonic() + within, threading.Event()
    while still := {
        vendor.name: vendor.record.open_connections
        for vendor in simulator.vendors
        if vendor.record.open_connections
    }:
        assert time.monotonic() < ends, f"connections stay open: {still}"
        pause.wait(0.01)
