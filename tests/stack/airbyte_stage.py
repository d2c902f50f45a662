"""What the tests of Airbyte's life cycle share: one Airflow, one simulated Airbyte."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from async_triggers.demo.airflow_api import (
    FINISHED,
    AirflowApiError,
    Run,
    TaskInstance,
)
from async_triggers.simulator import SimulatorThread
from tests.stack.noticed import Noticed
from tests.stack.together import Scenarios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from async_triggers.demo.airflow_api import AirflowApi
    from async_triggers.demo.deployment import Deployment
    from async_triggers.simulator import Simulator
    from async_triggers.simulator.airbyte import AirbyteSimulator

T = TypeVar("T")

RUNNING = "running"
"""The life of a job that ends when the test says so."""
PACE = 1.0
"""Seconds between two questions to Airflow: it has better to do on two cores."""
PATIENCE = 600.0
"""Seconds for anything to happen; dozens of tasks share four workers meanwhile."""


class Glance:
    """Something that Airflow shows of all runs, fetched once for all who ask for it.

    ``path`` is below ``/api/v2``, ``rows`` names the list in its answer, ``key`` what
    tells its rows apart.
    """

    def __init__(
        self, api: AirflowApi, pause: threading.Event, path: str, rows: str, *key: str
    ) -> None:
        self._api = api
        self._pause = pause
        self._path = path
        self._rows = rows
        self._key = key
        self._lock = threading.Lock()
        self._begun = -math.inf
        self._found: dict[tuple[object, ...], dict[str, Any]] = {}

    def now(self) -> dict[tuple[object, ...], dict[str, Any]]:
        """Return the rows as they were at some time after this call."""
        asked = time.monotonic()
        with self._lock:
            if self._begun < asked:
                self._pause.wait(max(0.0, self._begun + PACE - asked))
                self._begun = time.monotonic()
                self._found = {
                    tuple(row[name] for name in self._key): row for row in self._fetch()
                }
            return self._found

    def _fetch(self) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            query = {"limit": 100, "offset": offset, "order_by": "id"}
            answer = self._api.request("GET", self._path, query=query)
            rows = answer[self._rows]
            yield from rows
            offset += len(rows)
            if not rows or offset >= answer["total_entries"]:
                return


class Account:
    """A simulated Airbyte with the Airflow connection that leads to it."""

    def __init__(self, api: AirflowApi, simulator: Simulator, conn_id: str) -> None:
        self.conn_id = conn_id
        self.simulator = simulator
        self.airbyte: AirbyteSimulator = simulator.airbyte
        self._api = api

    @property
    def fields(self) -> dict[str, object]:
        """The fields of the Airflow connection."""
        settings = self.airbyte.settings
        return {
            "conn_type": "airbyte",
            "host": self.simulator.airbyte_url,
            "login": settings.client_id,
            "password": settings.client_secret,
            "schema": "v1/applications/token",
        }

    def store(self, **fields: object) -> None:
        """Store the Airflow connection, with other fields where given."""
        self._api.add_connection(self.conn_id, **{**self.fields, **fields})


class Sync:
    """An Airbyte connection of a test's own, and the DAG run that is about it."""

    def __init__(
        self, stage: AirbyteStage, account: Account, name: str, *lives: str
    ) -> None:
        self._stage = stage
        self._api = stage.api
        self.account = account
        self.airbyte = account.airbyte
        self.name = name
        self.run: Run
        self.airbyte.add_connection(name, lives=lives)

    def begin(self, dag_id: str, **conf: object) -> Sync:
        """Start a run of the DAG that is about this connection."""
        self.run = self._stage.begin(
            dag_id, {"airflow": self.account.conn_id, "airbyte": self.name, **conf}
        )
        return self

    # What Airflow shows

    def wait_for(
        self, *states: str, task: str = "sync", attempt: int | None = None
    ) -> TaskInstance:
        """Wait until a task is in one of the states, finished without any."""
        wanted = frozenset(states) or FINISHED
        key = (self.run.run_id, task, -1)

        def probe() -> bool:
            row = self._stage.tasks.now().get(key)
            if row is None or attempt not in {None, row["try_number"]}:
                return False
            return row["state"] in wanted

        self._stage.wait_until(
            probe,
            f"{self.name}.{task} (attempt {attempt}) to be {sorted(wanted)}",
            instead=self._describe,
        )
        ti = self._api.task_instance(self.run, task)
        if wanted <= {"deferred", "up_for_reschedule"}:
            self._stage.wait_until(
                lambda: self._stage.noticed.has(
                    ti.run.run_id, ti.task_id, ti.try_number
                ),
                f"the scheduler to notice that {self.name}.{task} waits",
            )
        return ti

    def end(self) -> str:
        """Wait until the run has ended; return its state."""
        key = (self.run.run_id,)

        def probe() -> str | None:
            row = self._stage.runs.now().get(key)
            state = None if row is None else str(row["state"])
            return state if state in {"success", "failed"} else None

        return self._stage.wait_until(
            probe, f"the run about {self.name} to end", instead=self._describe
        )

    def _describe(self) -> str:
        return f"{self._api.task_instances(self.run)}, jobs: {self.states}"

    def log(self, *, attempt: int = 1, task: str = "sync") -> str:
        """Return the log of one attempt."""
        return self._api.log(self.run, task, try_number=attempt)

    def returned(self, task: str = "sync") -> Any:
        """Return what the task has returned."""
        return self._api.xcom(self.run, task)

    def statistics(self, task: str = "sync") -> Any:
        """Return what the task has told of its job."""
        return self._api.xcom(self.run, task, "airbyte_job")

    def mark(self, state: str, task: str = "sync") -> None:
        """Do what "mark as …" does in the UI."""
        self._api.set_state(self.run, task, state)

    def wait_until_waited_for(self, *, task: str = "sync", times: int = 1) -> None:
        """Wait until the trigger of a deferred task runs, as often as told.

        Airflow tells a trigger that it is killed only from then on.
        """
        self.wait_for("deferred", task=task)
        self.wait_for_log(") starting", task=task, times=times)

    def wait_for_log(self, text: str, *, task: str = "sync", times: int = 1) -> None:
        """Wait until the log of the first attempt holds a text so many times."""
        self._stage.wait_until(
            lambda: self.log(task=task).count(text) >= times,
            f"{text!r} in the log of {self.name}.{task}, {times} times",
            every=PACE,
            instead=lambda: self.log(task=task),
        )

    def wait_until_held(self) -> TaskInstance:
        """Wait until the task stays on its worker right before it would defer."""
        self._stage.wait_until(
            lambda: "held" in self._api.xcom_keys(self.run, "sync"),
            f"{self.name} to be held",
            every=PACE,
        )
        return self._api.task_instance(self.run, "sync")

    # What the vendor has seen

    @property
    def starts(self) -> int:
        """How many jobs of the connection were started by a request."""
        return self.airbyte.record.starts[self.name]

    @property
    def jobs(self) -> list[int]:
        """The ids of all jobs of the connection, the oldest first."""
        return [
            int(job.job)
            for job in self.airbyte.jobs(finished=True)
            if job.target == self.name
        ]

    @property
    def cancels(self) -> int:
        """How many of the connection's jobs a request has cancelled, or tried to."""
        return sum(self.airbyte.record.cancels[str(job)] for job in self.jobs)

    @property
    def states(self) -> list[str]:
        """The states of all jobs of the connection, the oldest first."""
        return [
            job.state
            for job in self.airbyte.jobs(finished=True)
            if job.target == self.name
        ]

    def wait_for_jobs(self, *states: str) -> None:
        """Wait until the jobs of the connection are in exactly these states."""
        self._stage.wait_until(
            lambda: self.states == list(states),
            f"the jobs of {self.name} to be {states}",
            instead=lambda: str(self.states),
        )

    def finish(self, state: str = "succeeded", *, job: int | None = None) -> None:
        """Let a job be over, the newest by default."""
        self.airbyte.finish(str(self.jobs[-1] if job is None else job), state)


class AirbyteStage:
    """One Airflow and one simulated Airbyte, which many tests use at once."""

    def __init__(self, deployment: Deployment, closing: ExitStack, name: str) -> None:
        self.scenarios = Scenarios()
        self.deployment = deployment
        self.api = deployment.api
        self._closing = closing
        all_runs, pause = "/dags/~/dagRuns", deployment.interrupted
        self.runs = Glance(self.api, pause, all_runs, "dag_runs", "dag_run_id")
        self.tasks = Glance(
            self.api,
            pause,
            f"{all_runs}/~/taskInstances",
            "task_instances",
            *("dag_run_id", "task_id", "map_index"),
        )
        self.noticed = Noticed(deployment.component("scheduler").log.open())
        closing.callback(self.noticed.close)
        self._runs: list[Run] = []
        self._beginning = threading.Lock()
        self.numbers = itertools.count(1)
        self.account = self.open_account(f"{name}_airbyte")
        closing.callback(self._end_all)

    def open_account(self, conn_id: str, **arguments: object) -> Account:
        """Start an Airbyte for one test alone, because it does things to the account."""
        simulator = self._closing.enter_context(SimulatorThread(**arguments))
        account = Account(self.api, simulator, conn_id)
        account.store()
        return account

    def second_way_to(
        self, account: Account, conn_id: str, **fields: object
    ) -> Account:
        """Store one more Airflow connection to an Airbyte, with other fields."""
        second = Account(self.api, account.simulator, conn_id)
        second.store(**fields)
        return second

    def add_pool(self, name: str, slots: int) -> None:
        """Have a pool of this size."""
        with contextlib.suppress(AirflowApiError):
            self.api.request("DELETE", f"/pools/{name}")
        self.api.request("POST", "/pools", {"name": name, "slots": slots})

    def sync(self, *lives: str, account: Account | None = None) -> Sync:
        """Return a new connection in Airbyte; its jobs live as told, one after another."""
        name = f"orders-{next(self.numbers)}"
        return Sync(self, account or self.account, name, *lives)

    def begin(self, dag_id: str, conf: dict[str, object]) -> Run:
        """Start a run that is ended with the stage, if it has not ended by then."""
        with self._beginning:
            run = self.api.trigger_run(dag_id, conf)
            self._runs.append(run)
        return run

    def wait_until(
        self,
        probe: Callable[[], T | None],
        what: str,
        *,
        every: float = 0.25,
        instead: Callable[[], str] | None = None,
    ) -> T:
        """Wait for something; what asks Airflow should do so at a `PACE`."""
        return self.api.wait_until(
            probe, what=what, timeout=PATIENCE, every=every, instead=instead
        )

    def _end_all(self) -> None:
        for run in self._runs:
            if self.api.run_state(run) not in {"success", "failed"}:
                self.api.set_run_state(run, "failed")
