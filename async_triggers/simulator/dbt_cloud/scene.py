"""The state of a simulated dbt Cloud, and how it is arranged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from async_triggers.simulator.dbt_cloud.foreign import ForeignRuns
from async_triggers.simulator.dbt_cloud.model import (
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    FIRST_RUN_ID,
    TERMINAL,
    Account,
    DbtCloudJob,
    DbtCloudRun,
    Environment,
    Project,
    queued_for,
    run_id_at,
)
from async_triggers.simulator.dbt_cloud.replies import path_id, refuse
from async_triggers.simulator.dbt_cloud.settings import DbtCloudSettings
from async_triggers.simulator.exchange import micro_instant
from async_triggers.simulator.lives import Life, Timeline, as_life, as_lives, next_life
from async_triggers.simulator.vendor import (
    JobView,
    VendorSimulator,
    as_integer_id,
    check_integer_id,
)


class DbtCloudScene(VendorSimulator[DbtCloudSettings]):
    """The accounts, jobs and runs that a dbt Cloud has, and how to arrange them."""

    name: ClassVar[str] = "dbt_cloud"

    def __init__(
        self,
        settings: DbtCloudSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.accounts: dict[int, Account] = {}
        self.projects: dict[int, Project] = {}
        self.environments: dict[int, Environment] = {}
        self.all_jobs: dict[int, DbtCloudJob] = {}
        self.runs: dict[int, DbtCloudRun] = {}
        self.foreign = ForeignRuns(self)
        super().__init__(settings or DbtCloudSettings(), clock=clock, seed=seed)

    def clear(self) -> None:
        """Forget every job and run; one account with one project is left."""
        self.accounts = {}
        self.projects = {}
        self.environments = {}
        self.all_jobs = {}
        self.runs = {}
        self.foreign.clear()
        self.add_account(self.settings.account_id)

    def configure(self, **settings: object) -> None:
        """Change settings; a new ``account_id`` takes over all that there is."""
        with self.lock:
            before = self.settings.account_id
            super().configure(**settings)
            if self.settings.account_id != before:
                self._rename_account(before, self.settings.account_id)

    def _rename_account(self, before: int, after: int) -> None:
        account = self.accounts.pop(before)
        account.account_id = after
        self.accounts = {after: account, **self.accounts}
        self.projects = {
            one.project_id: one._replace(account_id=after)
            if one.account_id == before
            else one
            for one in self.projects.values()
        }
        self.environments = {
            one.environment_id: one._replace(account_id=after)
            if one.account_id == before
            else one
            for one in self.environments.values()
        }
        for job in (self.foreign.job, *self.all_jobs.values()):
            if job.account_id == before:
                job.account_id = after

    # Arranging

    def add_account(
        self, account_id: int, *, name: str | None = None, plan: str = "enterprise"
    ) -> None:
        """Add an account with one project and one environment, or rename it.

        :raises ValueError: The id is no integer above zero.
        """
        with self.lock:
            check_integer_id("account_id", account_id)
            found = self.accounts.get(account_id)
            if found is not None:
                found.name, found.plan = name or found.name, plan
                return
            project_id, environment_id = DEFAULT_PROJECT, DEFAULT_ENVIRONMENT
            while project_id in self.projects or environment_id in self.environments:
                project_id, environment_id = project_id + 1000, environment_id + 1000
            many = f" {len(self.accounts) + 1}" if self.accounts else ""
            self.accounts[account_id] = Account(
                account_id,
                name or f"Simulated account{many}",
                plan,
                self.now(),
                project_id,
                environment_id,
            )
            self.add_project(
                project_id, name="Simulated project", account_id=account_id
            )
            self.add_environment(
                environment_id, project_id=project_id, name="Production"
            )

    def add_project(
        self,
        project_id: int,
        *,
        name: str,
        account_id: int | None = None,
        connection: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a project to an account, or replace it.

        :param account_id: An account; without it, that of the settings. One that is not
            there yet is added.
        :param connection: The connection to its warehouse, with ``name``, ``type`` and
            ``details``.
        :raises ValueError: An id is no integer above zero.
        """
        with self.lock:
            if account_id is None:
                account_id = self.settings.account_id
            check_integer_id("project_id", project_id)
            check_integer_id("account_id", account_id)
            # Noted before its account, which adds another project.
            self.projects[project_id] = Project(
                account_id, project_id, name, self.now(), connection
            )
            if account_id not in self.accounts:
                self.add_account(account_id)

    def add_environment(
        self, environment_id: int, *, project_id: int = DEFAULT_PROJECT, name: str
    ) -> None:
        """Add an environment to a project, or replace it.

        :raises ValueError: The id is no integer above zero.
        """
        with self.lock:
            check_integer_id("environment_id", environment_id)
            project = self.projects.get(project_id)
            account_id = project.account_id if project else self.settings.account_id
            self.environments[environment_id] = Environment(
                account_id, environment_id, project_id, name, self.now()
            )

    def add_job(
        self,
        job_id: int | None = None,
        *,
        name: str | None = None,
        account_id: int | None = None,
        project_id: int | None = None,
        environment_id: int | None = None,
        execute_steps: Sequence[str] = ("dbt build",),
        models: Sequence[str] = ("model.shop.customers", "model.shop.orders"),
        failing: Sequence[str] = ("model.shop.orders",),
        artifacts: Mapping[str, Any] | None = None,
        job_type: str = "other",
        state: int = 1,
        retry_refusal: str | None = None,
        lives: Iterable[Life | str] = (),
    ) -> int:
        """Add a job, or replace it, and return its id.

        :param account_id: Its account; without it, that of its project, or else that of
            the settings. One that is not there yet is added.
        :param project_id: Its project; without it, the first one of its account.
        :param environment_id: Its environment, likewise.
        :param models: The nodes of ``run_results.json``.
        :param failing: Those that fail in a run that ends with ``error``.
        :param artifacts: More artifacts by path: text, or JSON values.
        :param job_type: ``ci`` for runs that do not wait for one another.
        :param state: 1 for active, 2 for deleted.
        :param retry_refusal: Why failed runs cannot be retried, such as
            ``RETRY_UNSUPPORTED_CMD``.
        :param lives: The lives of its next runs, in order; the last one is used again
            and again. Without any, runs have the life of the settings.
        :raises ValueError: An id is no integer above zero.
        """
        with self.lock:
            job_id = self._new_id(job_id)
            if account_id is None:
                project = None if project_id is None else self.projects.get(project_id)
                account_id = project.account_id if project else self.settings.account_id
            if account_id not in self.accounts:
                self.add_account(account_id)
            account = self.accounts[account_id]
            self.all_jobs[job_id] = DbtCloudJob(
                account_id,
                job_id,
                account.project_id if project_id is None else project_id,
                account.environment_id if environment_id is None else environment_id,
                name or f"Job {job_id}",
                execute_steps=tuple(execute_steps),
                models=tuple(models),
                failing=tuple(failing),
                artifacts=dict(artifacts or {}),
                job_type=job_type,
                state=state,
                retry_refusal=retry_refusal,
                lives=as_lives(lives),
                created_at=self.now(),
            )
            return job_id

    def _new_id(self, job_id: int | None) -> int:
        if job_id is None:
            return FIRST_RUN_ID + 1 + len(self.all_jobs)
        check_integer_id("job_id", job_id)
        return job_id

    def can_start(self, target: Any) -> bool:
        """Whether there is such a job."""
        return target in self.all_jobs

    def start_by_itself(self, target: Any, at: float) -> None:
        """Let a job run."""
        job = self.all_jobs[target]
        self.create(
            job,
            {"cause": "Scheduled"},
            self.next_life(job),
            age=self.now() - at,
            category="scheduled",
        )

    def add_run(
        self,
        job_id: int,
        life: Life | str | None = None,
        *,
        age: float = 0.0,
        cause: str = "Scheduled",
        run_id: int | None = None,
    ) -> int:
        """Let a run be there that no client here has started, and return its id.

        :param age: How many seconds ago it was created.
        :raises ValueError: There is no such job.
        """
        with self.lock:
            if job_id not in self.all_jobs:
                raise ValueError(f"there is no job {job_id!r}")
            job = self.all_jobs[job_id]
            chosen = self.next_life(job) if life is None else as_life(life)
            run = self.create(
                job,
                {"cause": cause},
                chosen,
                age=age,
                run_id=run_id,
                category="scheduled",
            )
            return run.run_id

    def arrangeable(self) -> Mapping[str, Callable[..., object]]:
        """Return what can be arranged: accounts, what they hold, and runs."""
        return {
            "accounts": self.add_account,
            "projects": self.add_project,
            "environments": self.add_environment,
            "jobs": self.add_job,
            "runs": self.add_run,
        }

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the runs that have not ended; the others too where requested."""
        with self.lock:
            self.run_schedules()
            self.settle_all()
            now = self.now()
            return [
                JobView(
                    str(run.run_id),
                    str(run.job.job_id),
                    moment.word,
                    moment.since,
                    run.timeline.start,
                )
                for run in self.runs.values()
                if (moment := run.timeline.at(now)) is not None
                and (finished or moment.word not in TERMINAL)
            ]

    def finish(self, job: str, state: str) -> None:
        """Let a run be in a state from now on."""
        with self.lock:
            number = as_integer_id(job)
            run = None if number is None else self.runs.get(number)
            if run is None:
                raise ValueError(f"there is no run {job!r}")
            run.job.settle(self.now())
            run.finish(self.now(), state)

    # What requests name

    def job(self, account: str, job: str) -> DbtCloudJob:
        """Return a job that a request names.

        :raises RefusalError: There is none.
        """
        job_id = path_id(job)
        found = self.all_jobs.get(job_id)
        if found is None and self.settings.accept_unknown:
            self.add_job(job_id, account_id=int(account))
            found = self.all_jobs[job_id]
        if found is None or found.state == 2 or found.account_id != int(account):
            raise refuse(404)
        return found

    def run(self, account: str, run: str) -> DbtCloudRun:
        """Return a run that a request names, one of others too.

        :raises RefusalError: There is none.
        """
        run_id = path_id(run)
        found = self.runs.get(run_id)
        if found is None:
            number = self.foreign.number(run_id)
            found = None if number is None else self.foreign.run(number)
        if (
            found is None
            or found.job.account_id != int(account)
            or found.timeline.at(self.now()) is None
        ):
            raise refuse(404)
        found.job.settle(self.now())
        return found

    def instant(self, at: float | None) -> str | None:
        """Return a time as the API shows it."""
        if at is None:
            return None
        if self.settings.time_style == "iso":
            return micro_instant(self.shown(at))
        moment = datetime.fromtimestamp(self.shown(at), UTC)
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f+00:00")

    # Runs by time

    def next_life(self, job: DbtCloudJob) -> Life:
        """Return the life of the next run of a job."""
        return next_life(job.lives, self.settings.life)

    def create(
        self,
        job: DbtCloudJob,
        body: dict[str, Any],
        life: Life,
        *,
        age: float = 0.0,
        run_id: int | None = None,
        category: str = "api",
        retrying: int | None = None,
    ) -> DbtCloudRun:
        """Add a run, which waits for those before it."""
        created = self.now() - age
        if run_id is None:
            run_id = run_id_at(self.foreign.origin, created)
            while run_id in self.runs:
                run_id += 1
        waiting = Timeline(created, Life((("queued", math.inf),)))
        run = DbtCloudRun(run_id, job, waiting, life, body, category, retrying)
        self.runs[run_id] = run
        job.runs.append(run)
        if job.job_type == "ci":
            run.begin(created + queued_for(life))
        else:
            job.queue.append(run)
        job.settle(self.now())
        return run

    def settle_all(self) -> None:
        """Let the runs of every job begin whose turn has come by now."""
        for job in self.all_jobs.values():
            if job.queue:
                job.settle(self.now())
