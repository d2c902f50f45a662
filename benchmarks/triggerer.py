"""Airflow's own TriggerRunner, its supervisor and its database played."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.models.trigger import Trigger
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse

from benchmarks.workloads import RunTrigger, TaskInstanceDTO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow.triggers.base import BaseTrigger


class Supervisor:
    """The other end of the runner's pipe: takes events, and knows nothing.

    ``note`` is called with the number of a trigger and its event's payload when the
    runner passes it on.
    """

    def __init__(self, note: Callable[[int, Any], None]) -> None:
        self._note = note
        # The runner looks whether anybody still reads its pipe.
        self._reader_task: asyncio.Future[None] = (
            asyncio.get_running_loop().create_future()
        )

    async def asend(self, message: Any) -> Any:
        """Answer as Airflow's supervisor does."""
        if not isinstance(message, messages.TriggerStateChanges):
            return ErrorResponse()

        for entry in message.events or ():
            # A mere pair until Airflow 3.2.
            trigger_id, event = entry[:2]
            self._note(trigger_id - 1, event.payload)

        for trigger_id, traceback in message.failures or ():
            self._note(trigger_id - 1, f"failed: {(traceback or ['?'])[-1]}")

        return messages.TriggerStateSync(to_create=[], to_cancel=set())


class PlayedRunner(TriggerRunner):
    """The runner with a supervisor that is an object."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow's is not typed
        self._supervisor: Any = supervisor

    async def init_comms(self) -> None:
        """Take the supervisor as it is."""
        self.comms_decoder = self._supervisor
        task_runner.SUPERVISOR_COMMS = self._supervisor


def workload(
    number: int, trigger: BaseTrigger, *, task_id: str | None = None
) -> RunTrigger:
    """Write a trigger as it is stored in the database."""
    classpath, arguments = trigger.serialize()
    ti = TaskInstanceDTO.model_validate(
        {
            "id": uuid4(),
            "task_id": task_id or f"wait_{number}",
            "dag_id": "benchmark",
            "run_id": "run",
            "try_number": 1,
            "map_index": -1,
            "pool_slots": 1,
            "queue": "default",
            "priority_weight": 1,
            "dag_version_id": uuid4(),
        }
    )
    return RunTrigger(
        # Ids begin at one.
        id=number + 1,
        classpath=classpath,
        encrypted_kwargs=Trigger.encrypt_kwargs(arguments),
        ti=ti,
    )


@asynccontextmanager
async def a_runner(
    supervisor: Supervisor,
) -> AsyncIterator[Callable[[RunTrigger], None]]:
    """Run a runner for the length of the block, and give what hands it a workload."""
    runner: Any = PlayedRunner(supervisor)
    work = asyncio.create_task(runner.arun())

    try:
        yield runner.to_create.append
    finally:
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
