"""Carrying out a plan against a whole Airflow and the simulator."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg2

from async_triggers.demo.airflow_api import AirflowApiError, DeadlinePassedError, Run
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.faults import Fault, ListQuirks
from benchmarks.campaign.seen import jobs_seen
from benchmarks.campaign.verdict import Told
from benchmarks.campaign.watch import Watching

if TYPE_CHECKING:
    from async_triggers.demo.deployment import Deployment
    from async_triggers.simulator import Simulator
    from benchmarks.campaign.plan import Plan, PlannedBlow, PlannedJob, Trouble
    from tests.stack.postgres import PostgresServer

DAGS: Final = Path(__file__).parents[1] / "dags" / "chaos"
HOOKS: Final = Path(__file__).parents[1] / "hooks"
TRIGGERERS: Final = 2
_HEALTH_THRESHOLD: Final = 20
"""Seconds without a heartbeat after which a triggerer's work goes to another."""
_LOOK: Final = 1.0
"""Seconds between two looks at Airflow's tables."""
_TELL: Final = 20.0
"""Seconds between two lines on how far it is."""
_DRAIN: Final = 10.0
"""Seconds for which a triggerer that was told to end may still show signs of life."""
_SETTLED: Final = 120.0
"""Seconds in which Airflow tells a triggerer of what a user did, and it acts on it."""
_UNSEEN: Final = 10.0
"""Seconds allowed for that where nothing comes of it that could be seen."""
_STEPPED: Final = 60.0
"""Seconds in which a clock that is set right may be delayed, by users or blows."""
_PAUSES: Final = {"airbyte": 120.0, "fivetran": 300.0, "dbt_cloud": 300.0}
"""Seconds for which a 429 without a time pauses an account, as each vendor documents."""
_FINAL: Final = frozenset({"success", "failed", "skipped", "upstream_failed"})

_LOOK_AT_TASKS: Final = """
    SELECT ti.run_id, ti.state, ti.try_number, EXTRACT(EPOCH FROM ti.end_date),
           ti.trigger_id,
           EXTRACT(EPOCH FROM job.latest_heartbeat)
    FROM task_instance ti
         LEFT JOIN trigger ON trigger.id = ti.trigger_id
         LEFT JOIN job ON job.id = trigger.triggerer_id
    WHERE ti.dag_id LIKE 'chaos\\_%'
"""


_COUNT_TRIGGERS: Final = """
    SELECT COUNT(*) FROM trigger
    WHERE id NOT IN (SELECT trigger_id FROM asset_watcher)
"""


@dataclass(slots=True)
class Task:
    """One task as Airflow's tables show it, with what was seen of it before."""

    begun: float
    state: str | None = None
    attempts: int = 0
    ended: float | None = None
    trigger: int | None = None
    triggerer_lived: float = 0.0
    wished_at: float | None = None


def _keeps_from_cancelling(fault: Mapping[str, Any]) -> bool:
    """Whether a fault that hits most requests lasts for longer than a cancel is tried.

    A proxy that answers cancels alone is there to be met by them.
    """
    kind, operation = fault["kind"], fault.get("operation")
    return kind not in {"date", "clock"} and operation in {None, "token"}


def clock_env(home: Path) -> dict[str, dict[str, str]]:
    """Return what each triggerer needs so that the clock of its triggers can be stepped.

    Raises `RuntimeError` where that is not possible.
    """
    if find_spec("time_machine") is None:
        raise RuntimeError("time-machine is missing; install the group 'test'")
    path = os.pathsep.join([str(HOOKS), os.environ.get("PYTHONPATH", "")])
    return {
        f"triggerer-{index}": {
            "PYTHONPATH": path,
            "ASYNC_TRIGGERS_BENCHMARK_CLOCK": str(clock_file(home, index)),
        }
        for index in range(TRIGGERERS)
    }


def clock_file(home: Path, index: int) -> Path:
    """Return the file that says by how much a triggerer's clock is off."""
    return home.resolve() / f"clock-{index}"


def config() -> dict[str, dict[str, str]]:
    """Return Airflow's settings of a campaign, beyond those of any deployment."""
    return {
        "triggerer": {"triggerer_health_check_threshold": str(_HEALTH_THRESHOLD)},
    }


@dataclass
class Campaign:
    """One plan, one Airflow on PostgreSQL, one simulator.

    ``say`` hears what happens. ``hits`` counts what was done, ``notes`` keep what went
    another way than planned.
    """

    plan: Plan
    deployment: Deployment
    postgres: PostgresServer
    simulator: Simulator
    say: Callable[[str], None]
    tasks: dict[str, Task] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    watching: Watching = field(init=False)
    _frozen: set[int] = field(default_factory=set)
    _struck_at: float = 0.0
    _away_until: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _settling: dict[str, float] = field(default_factory=dict)
    # Set while no user waits for what he did; held while a process is being hit.
    _calm: threading.Event = field(default_factory=threading.Event)
    _striking: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    # When clocks of triggers were ahead and by how much: beginning, end, seconds.
    _ahead: list[tuple[float, float, float]] = field(default_factory=list)
    _began: float = 0.0
    _told_at: float = -math.inf

    def __post_init__(self) -> None:
        """Know what is to be watched."""
        self.watching = Watching(self.plan.watches, self.simulator, self._query)

    def prepare(self) -> None:
        """Give Airflow its connections and the vendors what the tasks will start."""
        variables = connection_variables(self.simulator)
        for name, value in variables.items():
            conn_id = name.removeprefix("AIRFLOW_CONN_").lower()
            self.deployment.api.add_connection(conn_id, **json.loads(value))
        self.simulator.dbt_cloud.configure(minute_limit=3000)
        for job in self.plan.jobs:
            # A sensor's job is nobody's request; it begins with the sensor.
            lives = () if job.kind == "sensor" else job.lives
            if job.vendor == "airbyte":
                self.simulator.airbyte.add_connection(job.target, lives=lives)
            elif job.vendor == "fivetran":
                self.simulator.fivetran.add_connection(job.target, lives=lives)
            else:
                self.simulator.dbt_cloud.add_job(int(job.target), lives=lives)
        self.watching.prepare()
        for dag_id in sorted({job.dag_id for job in self.plan.jobs}):
            self.deployment.api.wait_for_dag(dag_id)
            self.deployment.api.request(
                "PATCH", f"/dags/{dag_id}", {"is_paused": False}
            )
        self.watching.begin(self.deployment.api)

    def run(self, *, settle: float) -> list[Told]:
        """Play the plan, then wait for the tasks to end.

        Until none of them has ended for ``settle`` seconds: a busy machine takes its time.
        """
        self._began = time.monotonic()
        blows = threading.Thread(target=self._strike, name="blows", daemon=True)
        blows.start()
        try:
            self._play()
            while blows.is_alive():
                self._look()
                self._grant_wishes()
                self._sleep(_LOOK)
            self._heal()
            self._settle(settle)
        finally:
            self._stop.set()
            blows.join()
        return self.told()

    # The campaign's clock ---------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the campaign began."""
        return time.monotonic() - self._began

    def _sleep(self, seconds: float) -> None:
        if self.deployment.interrupted.wait(max(0.0, seconds)):
            raise KeyboardInterrupt

    def _play(self) -> None:
        jobs, troubles = list(self.plan.jobs), list(self.plan.troubles)
        quirks: list[tuple[float, str]] = []
        while self.now < self.plan.seconds:
            while jobs and jobs[0].at <= self.now:
                self._begin(jobs.pop(0))
            while troubles and troubles[0].at <= self.now:
                trouble = troubles.pop(0)
                self._make(trouble)
                if trouble.quirks is not None:
                    quirks.append((trouble.at + trouble.lasts, trouble.vendor))
            for end, vendor in [each for each in quirks if each[0] <= self.now]:
                quirks.remove((end, vendor))
                self._vendor(vendor).quirks = ListQuirks()
            self._look()
            self._grant_wishes()
            self._tell()
            self._sleep(_LOOK)

    def _settle(self, seconds: float) -> None:
        ends, fewest = self.now + seconds, math.inf
        self.say(
            "all troubles are over: waiting for the tasks, until none has ended for"
            f" {seconds:.0f} s"
        )
        while self.now < ends:
            self._look()
            self._grant_wishes()
            self._tell()
            open_tasks = [
                each for each in self.tasks.values() if each.state not in _FINAL
            ]
            if len(open_tasks) < fewest:
                ends, fewest = self.now + seconds, len(open_tasks)

            is_done = not open_tasks and len(self.tasks) == len(self.plan.jobs)
            if is_done and not self.watching.is_behind():
                break
            self._sleep(_LOOK)
        # What was killed last is still being cancelled, and triggers are tidied up.
        until = self.now + _SETTLED
        while self.now < until and (self.triggers_left() or self._still_to_cancel()):
            self._sleep(_LOOK)
        self._look()

    def _still_to_cancel(self) -> bool:
        return any(
            job.state == "running"
            for told in self.told()
            if told.plan.vendor != "fivetran" and told.wished_at is not None
            for job in told.jobs
        )

    def _tell(self) -> None:
        if self.now < self._told_at + _TELL:
            return
        self._told_at = self.now
        states = Counter(str(task.state) for task in self.tasks.values())
        shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        asked = sum(each.record.total for each in self.simulator.vendors)
        self.say(f"{shown or 'no task yet'}; {asked} requests to the vendors")

    # Jobs and users ---------------------------------------------------------------

    def _begin(self, job: PlannedJob) -> None:
        conf = {"target": job.target}
        if job.kind == "sensor":
            conf |= self._begin_foreign(job)
        body = {"dag_run_id": job.run_id, "logical_date": None, "conf": conf}
        self.tasks[job.run_id] = Task(begun=time.time())
        # Asking twice is harmless: the second time the run is there already.
        self._ask(f"/dags/{job.dag_id}/dagRuns", body, method="POST", done=409)

    def _begin_foreign(self, job: PlannedJob) -> dict[str, str]:
        (life,) = job.lives
        if job.vendor == "airbyte":
            return {"job": str(self.simulator.airbyte.add_job(job.target, life))}
        if job.vendor == "dbt_cloud":
            return {"job": str(self.simulator.dbt_cloud.add_run(int(job.target), life))}
        self.simulator.fivetran.start_sync(job.target, life)
        return {"after": datetime.now(UTC).isoformat()}

    def _ask(
        self, path: str, body: object, *, method: str, done: int | None = None
    ) -> None:
        """Ask Airflow's API until it answers: its database may be away."""
        ends = time.monotonic() + 90
        while True:
            try:
                self.deployment.api.request(method, path, body)
            except AirflowApiError as error:
                if error.status == done:
                    return
                if error.status < 500 or time.monotonic() > ends:
                    raise
            except OSError:
                if time.monotonic() > ends:
                    raise
            else:
                return
            self._sleep(1.0)

    def _grant_wishes(self) -> None:
        """Do what users want done to tasks that are deferred, all that are due at once.

        Airflow tells a trigger that it is killed only while it runs on a triggerer that
        lives, and what that triggerer has begun ends with it. So no process is hit from
        here until the jobs have been stopped.
        """
        self._settling = {
            run_id: ends
            for run_id, ends in self._settling.items()
            if time.monotonic() < ends and not self._is_settled(run_id)
        }
        if self._settling:
            return
        self._calm.set()
        with self._striking:
            due = [job for job in self.plan.jobs if self._is_due(job)]
            due = [job for job in due if self._is_waited_for(job)]
            if due:
                self._calm.clear()
        for job in due:
            self._grant(job)
            self._settling[job.run_id] = time.monotonic() + _SETTLED

    def _is_settled(self, run_id: str) -> bool:
        """Tell whether what a user did to a task has reached its job as well."""
        (job,) = (each for each in self.plan.jobs if each.run_id == run_id)
        wished = self.tasks[run_id].wished_at
        if job.vendor == "fivetran" or wished is None:
            # Nothing is to be seen there.
            return wished is None or time.time() > wished + _UNSEEN
        return not any(
            view.target == job.target and view.created < wished
            for view in self._vendor(job.vendor).jobs()
        )

    def _is_due(self, job: PlannedJob) -> bool:
        task = self.tasks.get(job.run_id)
        if job.wish is None or task is None or task.wished_at is not None:
            return False
        # Its triggerer has shown a sign of life since something was hit last, it waits
        # for a job that is there, and the vendor can be asked to stop it.
        return (
            task.state == "deferred"
            and task.triggerer_lived > self._struck_at + _DRAIN
            and not self._frozen
            and time.monotonic() > self._away_until[job.vendor]
            and any(
                view.target == job.target for view in self._vendor(job.vendor).jobs()
            )
        )

    def _is_waited_for(self, job: PlannedJob) -> bool:
        """Tell whether the newest trigger of the task has said that it runs."""
        task = self.tasks[job.run_id]
        try:
            log = self.deployment.api.log(
                Run(job.dag_id, job.run_id), "job", try_number=task.attempts
            )
        except (AirflowApiError, OSError):
            return False
        return f"(ID {task.trigger}) starting" in log

    def _grant(self, job: PlannedJob) -> None:
        wish, path = job.wish, f"/dags/{job.dag_id}/dagRuns/{job.run_id}"
        # Where the answer comes late, it has happened at some time after this one.
        self.tasks[job.run_id].wished_at = time.time()
        self.hits[f"user: {wish}"] += 1
        if wish == "clear":
            body: dict[str, object] = {
                "dry_run": False,
                "only_failed": False,
                "dag_run_id": job.run_id,
                "task_ids": ["job"],
                "reset_dag_runs": True,
            }
            self._ask(f"/dags/{job.dag_id}/clearTaskInstances", body, method="POST")
        elif wish == "fail the run":
            self._ask(path, {"state": "failed"}, method="PATCH")
        else:
            state = "failed" if wish == "mark failed" else "success"
            self._ask(f"{path}/taskInstances/job", {"new_state": state}, method="PATCH")

    # Troubles ---------------------------------------------------------------------

    def _vendor(self, name: str) -> Any:
        return getattr(self.simulator, name)

    def _make(self, trouble: Trouble) -> None:
        vendor = self._vendor(trouble.vendor)
        self.hits[f"{trouble.vendor}: {trouble.what.partition(' at ')[0]}"] += 1
        self.say(f"{trouble.vendor}: {trouble.what}, {trouble.lasts:.0f} s")
        if trouble.fault is not None:
            with vendor.lock:
                vendor.faults.add(Fault(**trouble.fault, lasts=trouble.lasts))
            self._note_absence(trouble)
        elif trouble.quirks is not None:
            vendor.quirks = ListQuirks(**trouble.quirks)
        if trouble.expires:
            vendor.expire_tokens()

    def _note_absence(self, trouble: Trouble) -> None:
        """Note until when the vendor cannot be asked to stop a job."""
        fault = trouble.fault or {}
        if fault.get("times") is not None:
            return
        after = trouble.lasts
        if fault.get("status") == 429 or str(fault.get("answer")).endswith("-429"):
            after += fault.get("retry_after") or _PAUSES[trouble.vendor]
        elif fault.get("rate", 1.0) < 0.5 or not _keeps_from_cancelling(fault):
            return
        until = time.monotonic() + after
        self._away_until[trouble.vendor] = max(until, self._away_until[trouble.vendor])

    def _heal(self) -> None:
        for vendor in self.simulator.vendors:
            with vendor.lock:
                vendor.faults.clear()
            vendor.quirks = ListQuirks()
        self.watching.until = time.time()
        for index in sorted(self._frozen):
            self._thaw(index)
        for index in range(TRIGGERERS):
            clock_file(self.deployment.home, index).write_text("0")

    # Blows ------------------------------------------------------------------------

    def _strike(self) -> None:
        """Hit what is to be hit, and undo what does not last, each at its moment."""
        blows = list(self.plan.blows)
        undo: list[tuple[float, Callable[[], None]]] = []
        while blows or undo:
            first_undo = min((at for at, _ in undo), default=math.inf)
            first_blow = blows[0].at if blows else math.inf
            if self._stop.wait(max(0.0, min(first_undo, first_blow) - self.now)):
                return
            # Not while users wait for what they did to be noticed.
            while not self._calm.wait(0.5):
                if self._stop.is_set():
                    return
            with self._striking:
                if not self._calm.is_set():
                    continue
                try:
                    if first_undo <= first_blow:
                        each = min(undo, key=lambda pair: pair[0])
                        undo.remove(each)
                        each[1]()
                    else:
                        blow = blows.pop(0)
                        if "triggerer" in blow.blow and not self._triggerers_there():
                            # Those that were hit last are not back yet.
                            blows.insert(0, replace(blow, at=self.now + _LOOK))
                            continue
                        after = self._hit(blow)
                        if after is not None:
                            undo.append((self.now + blow.seconds, after))
                except (DeadlinePassedError, AirflowApiError, OSError) as error:
                    self.notes.append(f"at {self.now:.0f} s: {error}")

    def _hit(self, blow: PlannedBlow) -> Callable[[], None] | None:
        self.say(f"{blow.blow} ({blow.seconds:.0f} s)")
        self.hits[blow.blow] += 1
        self._struck_at = time.time()
        if "triggerer" in blow.blow or "PostgreSQL" in blow.blow:
            away = (self._struck_at, self._struck_at + blow.seconds)
            self.watching.interruptions.append(away)
        match blow.blow:
            case "kill -9 a triggerer":
                self.deployment.kill_triggerer(self._a_triggerer())
            case "drain a triggerer":
                self.deployment.kill_triggerer(self._a_triggerer(), signal.SIGTERM)
            case "freeze a triggerer":
                index = self._a_triggerer()
                self._frozen.add(index)
                self.deployment.kill_triggerer(index, signal.SIGSTOP)
                return lambda: self._thaw(index)
            case "step a triggerer's clock":
                index = self._a_triggerer()
                self._step(index, blow)
                return lambda: self._right(index)
            case "kill -9 the scheduler":
                self.deployment.kill_scheduler()
            case "kill -9 a worker":
                self._kill_a_worker(blow)
            case "restart PostgreSQL":
                self.postgres.restart(down=blow.seconds)
        return None

    def _triggerers_there(self) -> list[int]:
        """Return those that run."""
        return [
            index
            for index, each in enumerate(self.deployment.triggerers)
            if each.alive and index not in self._frozen
        ]

    def _a_triggerer(self) -> int:
        """Return one that runs, each in its turn."""
        running = self._triggerers_there()
        return running[sum(self.hits.values()) % len(running)]

    def _step(self, index: int, blow: PlannedBlow) -> None:
        clock_file(self.deployment.home, index).write_text(str(blow.off))
        self.say(f"the clock of triggerer {index} is off by {blow.off:+g} s")
        if blow.off > 0:
            now = time.time()
            self._ahead.append((now, now + blow.seconds + _STEPPED, blow.off))

    def _right(self, index: int) -> None:
        clock_file(self.deployment.home, index).write_text("0")
        self.say(f"the clock of triggerer {index} is right again")

    def _most_ahead(self, begun: float) -> float:
        """Return by how much a clock was ahead at most, from some time on."""
        return max((off for _, end, off in self._ahead if end >= begun), default=0.0)

    def _thaw(self, index: int) -> None:
        self._frozen.discard(index)
        self.deployment.kill_triggerer(index, signal.SIGCONT)
        self._struck_at = time.time()
        self.watching.interruptions.append((self._struck_at, self._struck_at))
        self.say(f"triggerer {index} wakes up")

    def _kill_a_worker(self, blow: PlannedBlow) -> None:
        """Kill the task that came to a worker last: it starts, or takes an event in."""
        ends = time.monotonic() + 15
        while time.monotonic() < ends:
            rows = self._query(
                "SELECT dag_id, run_id FROM task_instance WHERE state = 'running'"
                " ORDER BY start_date DESC NULLS LAST LIMIT 1"
            )
            for dag_id, run_id in rows or []:
                ti = self.deployment.api.task_instance(Run(dag_id, run_id), "job")
                # Somewhere in the second or two that such a process lives.
                self._stop.wait((blow.seconds / 8) ** 2)
                if self.deployment.task_process(ti) is not None:
                    self.deployment.kill_task(ti, timeout=1)
                    return
            self._stop.wait(0.1)
        self.hits[blow.blow] -= 1
        self.notes.append(f"no task ran on a worker at {blow.at:.0f} s")

    # What Airflow and the vendors know ----------------------------------------------

    def _query(self, statement: str) -> list[tuple[Any, ...]] | None:
        """Return rows of Airflow's database, None while it is away."""
        try:
            return self.postgres.rows(statement)
        except psycopg2.Error:
            return None

    def _look(self) -> None:
        """See how the tasks are; start again what has ended of Airflow."""
        for name in self.deployment.revive():
            self.hits[f"revived: {name}"] += 1
        self.watching.look()
        for run_id, state, attempts, ended, trigger, lived in (
            self._query(_LOOK_AT_TASKS) or []
        ):
            task = self.tasks[run_id]
            task.state, task.attempts, task.trigger = state, attempts, trigger
            task.ended = None if ended is None else float(ended)
            task.triggerer_lived = float(lived or 0)

    def triggers_left(self) -> int:
        """Return how many triggers Airflow's database holds beside those of watchers."""
        rows = self._query(_COUNT_TRIGGERS)
        return int(rows[0][0]) if rows else 0

    def told(self) -> list[Told]:
        """Put every planned job that has begun beside what the vendor has seen."""
        seen = jobs_seen(self.simulator)
        return [
            Told(
                plan=job,
                begun=task.begun,
                state=task.state,
                attempts=task.attempts,
                ended=task.ended,
                wished_at=task.wished_at,
                ahead=self._most_ahead(task.begun),
                jobs=tuple(seen[job.vendor].get(job.target, ())),
            )
            for job in self.plan.jobs
            if (task := self.tasks.get(job.run_id)) is not None
        ]
