"""A worker's process: one task in Airflow's own task runner, its supervisor played.

Reads what to run from its arguments, and writes how the task ended as its last line.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog
from airflow.sdk import DAG
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    OKResponse,
    TaskStatesResult,
    VariableResult,
)

from tests.vendors import VENDORS

CLASSES = {
    cls.__name__: cls
    for vendor in VENDORS
    for cls in (vendor.operator_class, vendor.sensor_class)
}


class Supervisor:
    """The other end of the task's pipe."""

    def __init__(self) -> None:
        self._store: dict[str, Any] = {}

    def send(self, msg: Any) -> Any:
        """Answer as Airflow's supervisor does."""
        if isinstance(msg, GetTaskStates):
            return TaskStatesResult(task_states={})

        return self._remember(msg) or OKResponse(ok=True)

    def _remember(self, msg: Any) -> Any:
        """Keep a task's state, or a Variable where Airflow has no store for it."""
        match type(msg).__name__:
            case "SetTaskStateStore" | "PutVariable":
                self._store[msg.key] = msg.value
            case "DeleteTaskStateStore" | "DeleteVariable":
                self._store.pop(msg.key, None)
            case "GetTaskStateStore":
                if msg.key in self._store:
                    return comms.TaskStateStoreResult(value=self._store[msg.key])

                return ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)
            case "GetVariable":
                if msg.key in self._store:
                    return VariableResult(key=msg.key, value=self._store[msg.key])

                return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)

        return None


class Bundle:
    """The place that the DAG's file came from."""

    name, version, path = "bundle", None, Path()


def run(wanted: dict[str, Any]) -> dict[str, Any]:
    """Run the task, and return how it ended."""
    for vendor in VENDORS:
        type(vendor.vendor).grid_floor = 0.3

    rings_after = wanted["rings_after"]
    with DAG("dag", schedule=None):
        task = CLASSES[wanted["class"]](
            task_id="task",
            execution_timeout=timedelta(seconds=wanted["execution_timeout"]),
            **wanted["arguments"],
        )

    supervisor: Any = Supervisor()
    task_runner.SUPERVISOR_COMMS = supervisor
    ti: Any = task_runner.RuntimeTaskInstance.model_construct(
        id=uuid4(),
        task_id="task",
        dag_id="dag",
        run_id="run",
        try_number=1,
        map_index=-1,
        dag_version_id=uuid4(),
        max_tries=0,
        start_date=datetime.now(tz=UTC),
        task=task,
        bundle_instance=Bundle(),
    )
    context = ti.get_template_context()
    log: Any = structlog.get_logger("task")
    if rings_after is not None:
        ring_when_seen(Path(rings_after))

    began = time.monotonic()
    state, _, error = task_runner.run(ti, context, log)
    return {
        "state": state.value,
        "error": type(error).__name__,
        "message": str(error),
        "took": time.monotonic() - began,
        "timer": signal.getitimer(signal.ITIMER_REAL)[0],
    }


def ring_when_seen(path: Path) -> None:
    """Bring Airflow's alarm forward to the moment when a file is there."""

    def watch() -> None:
        while not path.exists():
            threading.Event().wait(0.02)

        signal.setitimer(signal.ITIMER_REAL, 0.001)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    told = run(json.loads(sys.argv[1]))
    sys.stdout.write(f"\n{json.dumps(told)}\n")
