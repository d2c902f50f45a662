"""The other end of the runner's pipe: Airflow's database and its users, as one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.jobs.triggerer_job_runner import messages
from airflow.sdk.execution_time.comms import (
    GetTaskStates,
    GetXCom,
    TaskStatesResult,
    XComResult,
)

from benchmarks.triggerer import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.workloads import RunTrigger


class Desk(Supervisor):
    """Hands triggers over, stops them, and answers what is asked of their tasks.

    ``note`` is called with the number of a trigger and its event's payload, ``gone`` with
    the number of one that is no longer there.
    """

    def __init__(
        self, note: Callable[[int, Any], None], gone: Callable[[int], None]
    ) -> None:
        super().__init__(note)
        self._gone = gone
        self._new: list[RunTrigger] = []
        self._to_cancel: set[int] = set()

    def add(self, workload: RunTrigger) -> None:
        """Hand a trigger over at the runner's next turn."""
        self._new.append(workload)

    def stop(self, number: int) -> None:
        """Mark the task of a trigger as failed, as a user does."""
        self._to_cancel.add(number + 1)

    async def asend(self, message: Any) -> Any:
        """Answer as Airflow's supervisor does."""
        if isinstance(message, GetTaskStates):
            # A trigger wants to know only when it is stopped.
            run, task = (message.run_ids or [""])[0], (message.task_ids or [""])[0]
            return TaskStatesResult(task_states={run: {task: "failed"}})

        if isinstance(message, GetXCom):
            job = message.task_id.rpartition(".")[2]
            return XComResult(key=message.key, value={"try": 1, "job_id": job})

        reply = await super().asend(message)
        if isinstance(reply, messages.TriggerStateSync):
            for trigger_id in message.finished or ():
                self._to_cancel.discard(trigger_id)
                self._gone(trigger_id - 1)

            reply.to_create, self._new = self._new, []
            # Repeated until the trigger has ended.
            reply.to_cancel = set(self._to_cancel)

        return reply
