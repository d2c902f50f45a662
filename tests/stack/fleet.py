"""Dozens of jobs of three vendors in flight, on an Airflow whose parts are taken away."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2

from async_triggers.demo.airflow_api import AirflowApiError
from async_triggers.simulator.connections import connection_variables
from tests.stack.dags.high_availability import DBT_JOBS, EACH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from async_triggers.demo.airflow_api import Run
    from async_triggers.demo.deployment import Component, Deployment
    from async_triggers.simulator import Simulator
    from async_triggers.simulator.vendor import VendorSimulator
    from tests.stack.postgres import PostgresServer

T = TypeVar("T")

VENDORS = ("airbyte", "fivetran", "dbt_cloud")
WELL = {"airbyte": "succeeded", "fivetran": "succeeded", "dbt_cloud": "success"}
BADLY = {"airbyte": "failed", "fivetran": "failed", "dbt_cloud": "error"}
PATIENCE = 600.0
PACE = 0.5


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a run, as the database has it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int


@dataclass(frozen=True, slots=True)
class Target:
    """What a vendor starts jobs of: a connection, or a dbt Cloud job."""

    vendor: str
    name: str


def targets(*names: tuple[str, int]) -> list[Target]:
    """Return a target of each vendor for each name; the number is dbt Cloud's."""
    return [
        Target(vendor, str(number) if vendor == "dbt_cloud" else name)
        for name, number in names
        for vendor in VENDORS
    ]


class Fleet:
    """One Airflow, one server of its database, three simulated vendors, many jobs."""

    def __init__(
        self, deployment: Deployment, postgres: PostgresServer, simulator: Simulator
    ) -> None:
        self.deployment = deployment
        self.postgres = postgres
        self.simulator = simulator
        self.many: Run
        self._unused = iter(range(EACH))
        variables = connection_variables(simulator)
        for vendor in VENDORS:
            fields = json.loads(variables[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"])
            deployment.api.add_connection(f"ha_{vendor}", **fields)

    # The vendors

    def add(self, target: Target, life: str = "running") -> None:
        """Have a target whose jobs live as told; by default they never end."""
        if target.vendor == "airbyte":
            self.simulator.airbyte.add_connection(target.name, lives=[life])
        elif target.vendor == "fivetran":
            life = life.replace("running", "syncing")
            self.simulator.fivetran.add_connection(target.name, lives=[life])
        else:
            life = life.replace("succeeded", "success")
            self.simulator.dbt_cloud.add_job(int(target.name), lives=[life])

    def _vendor(self, name: str) -> VendorSimulator[Any]:
        found: VendorSimulator[Any] = getattr(self.simulator, name)
        return found

    def finish(self, target: Target, how: dict[str, str] = WELL) -> None:
        """End the job of a target that runs."""
        vendor = self._vendor(target.vendor)
        for job in vendor.jobs():
            if job.target == target.name:
                vendor.finish(job.job, how[target.vendor])

    def starts(self, chosen: Iterable[Target]) -> dict[str, int]:
        """Tell how often a job of each target was started, where not once."""
        counts = {
            f"{each.vendor} {each.name}": self._vendor(each.vendor).record.starts[
                each.name
            ]
            for each in chosen
        }
        return {name: count for name, count in counts.items() if count != 1}

    @property
    def cancels(self) -> dict[str, int]:
        """Tell how many jobs of each vendor somebody has cancelled, where any."""
        counts = {
            vendor: sum(self._vendor(vendor).record.cancels.values())
            for vendor in VENDORS
        }
        return {name: count for name, count in counts.items() if count}

    # Many jobs

    def begin(self) -> None:
        """Start as many jobs as there are in `ha_many`, until all are waited for."""
        for number in range(EACH):
            for each in self._numbered(number):
                self.add(each)
        self.many = self.deployment.api.trigger_run("ha_many")
        self.wait_until(
            lambda: self.counts(self.many)["deferred"] == len(VENDORS) * EACH,
            "all of ha_many to be deferred",
        )

    def _numbered(self, number: int) -> list[Target]:
        names = (f"many-{number}", f"many_{number}", str(DBT_JOBS + number))
        return [Target(*pair) for pair in zip(VENDORS, names, strict=True)]

    def finish_some(self, count: int) -> list[tuple[int, Target]]:
        """End this many jobs of each vendor; return them with their map indexes."""
        numbers = [next(self._unused) for _ in range(count)]
        chosen = [(n, each) for n in numbers for each in self._numbered(n)]
        for _, each in chosen:
            self.finish(each)
        return chosen

    def expect_success(self, chosen: list[tuple[int, Target]]) -> None:
        """Wait until the tasks of some jobs of `ha_many` have succeeded."""
        wanted = {(each.vendor, number) for number, each in chosen}

        def probe() -> bool:
            tasks = self.tasks(self.many)
            done = {
                (task.task_id, task.map_index)
                for task in tasks
                if task.state == "success"
            }
            lost = [task for task in tasks if task.state in {"failed", "skipped"}]
            assert not lost
            return wanted <= done

        self.wait_until(probe, f"{sorted(wanted)} to succeed")

    def check(self, *others: Target) -> None:
        """See that nothing was started twice, nothing cancelled, nothing left behind."""
        many = [each for n in range(EACH) for each in self._numbered(n)]
        assert self.starts([*many, *others]) == {}
        assert self.cancels == {}
        self.wait_until(
            lambda: not self.left_behind(), "no trigger to be without a task"
        )

    def expect_end_of_all(self) -> None:
        """End the jobs that are left, and see the run of all jobs end."""
        for number in self._unused:
            for each in self._numbered(number):
                self.finish(each)
        assert self.wait_for_end(self.many) == "success"
        assert self.counts(self.many) == {"success": len(VENDORS) * EACH}

    # Workers

    def kill_held(self, count: int) -> Run:
        """Start `ha_held` and kill its tasks when they are held; return the run."""
        api = self.deployment.api
        run = api.trigger_run("ha_held")
        killed: set[str] = set()

        def probe() -> bool:
            for task_id in self._held(run) - killed:
                ti = api.task_instance(run, task_id)
                # It may have died with the scheduler meanwhile.
                if self.deployment.task_process(ti) is not None:
                    self.deployment.kill_task(ti)
                killed.add(task_id)
            # Another blow, such as one to the scheduler, may have come first, and the job
            # may have ended before the next try. One that came before the task was held
            # does not count: the next try is held instead.
            ended = {
                task.task_id for task in self.tasks(run) if task.state == "success"
            }
            return len(killed | ended) == count

        self.wait_until(probe, "all of ha_held to be killed")
        return run

    def _held(self, run: Run) -> set[str]:
        rows = self.rows(
            "SELECT task_id FROM task_state_store"
            " WHERE dag_id = %s AND run_id = %s AND key = 'held'",
            run.dag_id,
            run.run_id,
        )
        return {row[0] for row in rows}

    # Airflow's database

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database of Airflow."""
        return self.postgres.rows(statement, *values)

    def tasks(self, run: Run) -> list[Task]:
        """Return all tasks of a run."""
        found = self.rows(
            "SELECT task_id, map_index, state, try_number FROM task_instance"
            " WHERE dag_id = %s AND run_id = %s",
            run.dag_id,
            run.run_id,
        )
        return [Task(*row) for row in found]

    def counts(self, run: Run) -> Counter[str | None]:
        """Tell how many tasks of a run are in each state."""
        return Counter(task.state for task in self.tasks(run))

    def left_behind(self) -> list[tuple[Any, ...]]:
        """Return the triggers that no task waits for."""
        return self.rows(
            "SELECT id, classpath FROM trigger WHERE NOT EXISTS"
            " (SELECT 1 FROM task_instance WHERE trigger_id = trigger.id)"
        )

    # Waiting

    def wait_until(
        self, probe: Callable[[], T | None], what: str, *, timeout: float = PATIENCE
    ) -> T:
        """Wait for something while Airflow or its database may be away."""

        def patient() -> T | None:
            with suppress(AirflowApiError, OSError, psycopg2.OperationalError):
                return probe()
            return None

        return self.deployment.api.wait_until(
            patient, what=what, timeout=timeout, every=PACE, instead=self._tell
        )

    def wait_for_end(self, run: Run) -> str:
        """Wait until a run has ended; return its state."""

        def probe() -> str | None:
            states = self.rows(
                "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s",
                run.dag_id,
                run.run_id,
            )
            return states[0][0] if states[0][0] in {"success", "failed"} else None

        return self.wait_until(probe, f"the run of {run.dag_id} to end")

    def _tell(self) -> str:
        with suppress(psycopg2.OperationalError):
            rows = self.rows(
                "SELECT dag_id, task_id, state, try_number, count(*)"
                " FROM task_instance GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
            )
            return f"{rows}, holding {self.holdings()}"
        return "no database"

    # Triggerers

    def holdings(self) -> list[int]:
        """Tell how many triggers each triggerer runs, by the logs it has open."""
        return [_open_trigger_logs(each) for each in self.deployment.triggerers]

    def holder(self) -> int:
        """Return which triggerer runs the most triggers."""
        held = self.holdings()
        return held.index(max(held))

    def wait_until_all_waited_for(self, *, by: int | None = None) -> None:
        """Wait until all triggers run, on one triggerer where it is named."""

        def probe() -> bool:
            held = self.holdings()
            return (sum(held) if by is None else held[by]) >= self.deferred()

        self.wait_until(probe, f"all triggers to run, on {by}")

    def restart_triggerers(self) -> None:
        """Kill both, or what has become of them, and start others."""
        for index in range(2):
            self.deployment.kill_triggerer(index)
            self.deployment.restart_triggerer(index)

    def logs_of_triggers(self, text: str) -> list[Path]:
        """Return the logs of triggers that hold a text."""
        logs = self.deployment.home.glob("logs/**/*.log.trigger.*")
        return [log for log in logs if text in log.read_text()]

    def deferred(self) -> int:
        """Tell how many tasks are waited for."""
        ((count,),) = self.rows("SELECT count(*) FROM trigger")
        return int(count)


def _open_trigger_logs(part: Component) -> int:
    found = 0
    for handle in Path(f"/proc/{part.pid}/fd").glob("*"):
        with suppress(OSError):
            found += ".log.trigger." in handle.readlink().name
    return found
