"""dbt Cloud's Admin API on paper: requests in, answers out.

Written from the vendor's documentation and API definition, not from any client.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

from async_triggers.simulator.exchange import (
    RefusalError,
    SimReply,
    SimRequest,
    json_reply,
    micro_instant,
    parse_instant,
    text_reply,
)
from async_triggers.simulator.lives import Life, Moment, Timeline, as_life
from async_triggers.simulator.vendor import (
    JobView,
    Route,
    VendorSettings,
    VendorSimulator,
    as_integer_id,
    call_with,
)

# https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs
STATUSES: Final = {
    "queued": 1,
    "starting": 2,
    "running": 3,
    "success": 10,
    "error": 20,
    "cancelled": 30,
}
TERMINAL: Final = frozenset({"success", "error", "cancelled"})
_UNKNOWN_STATUS: Final = 99
_HUMANIZED: Final = {number: word.title() for word, number in STATUSES.items()}
_ORDERS: Final = frozenset({"id", "created_at", "finished_at"})
_MAX_LIMIT: Final = 100
_LONGEST_CAUSE: Final = 255

# https://docs.getdbt.com/docs/dbt-apis/rate-limits
_MINUTE: Final = 60.0

# Ids do not fit into 32 bits: https://github.com/apache/airflow/issues/61979
FIRST_RUN_ID: Final = 70_403_194_297_680
DEFAULT_ACCOUNT: Final = 70_403_103_916_001
DEFAULT_PROJECT: Final = 70_403_103_900_101
DEFAULT_ENVIRONMENT: Final = 70_403_103_900_201

_DBT_VERSION: Final = "1.9.0"
_FOREIGN_SECONDS: Final = 30.0
_FOREIGN_MARK: Final = 500
_MICROSECOND: Final = 1e-6
_PREAMBLE: Final = ("Clone git repository", "Create profile from connection Simulated")

_MESSAGES: Final = {
    400: "Bad request",
    401: "Authentication credentials were not provided.",
    403: "You do not have permission to perform this action.",
    404: "The requested resource was not found",
    429: "Too many requests",
}


@dataclass(slots=True, kw_only=True)
class DbtCloudSettings(VendorSettings):
    """How this dbt Cloud behaves.

    :ivar account_id: The account that is there from the start; ``add_account`` adds
        others.
    :ivar tokens: Tokens to accept, as ``Token`` and as ``Bearer``, for every account.
    :ivar wrong_account_status: Answer for an account that is not there: 404 or 403.
    :ivar life: The life of a run for which nothing else was arranged.
    :ivar array_encoding: Which form of array filters works: ``repeated`` keys, one
        value in JSON ``brackets``, or ``both``.
    :ivar wrong_encoding: What the other form does: ``ignore`` leaves the list
        unfiltered, ``refuse`` answers 400.
    :ivar echo_filters: Whether lists tell the filters that were applied.
    :ivar echo_ignored: Whether they tell those too that were ignored.
    :ivar over_limit: What a page of more than 100 does: ``clamp`` or ``refuse``.
    :ivar minute_limit: Requests a minute, for each account.
    :ivar cooldown: Seconds for which everything is refused after too many requests.
    :ivar cancelled_early_has_end: Whether a run that was cancelled before it began
        has a ``finished_at``.
    :ivar cancel_takes: Seconds until a running run is cancelled; the answer is at once.
    :ivar logs_after: Seconds after a run's end at which logs and artifacts are there.
    :ivar time_style: ``space`` for ``2026-03-25 01:30:00.000000+00:00``, ``iso`` for
        ``2026-03-25T01:30:00.000000Z``.
    :ivar foreign_runs_per_minute: How many runs of others end in every minute.
    :ivar ui_url: Where ``href`` of a run leads; the API's own host where empty.
    """

    account_id: int = DEFAULT_ACCOUNT
    tokens: tuple[str, ...] = ("simulator-token",)
    wrong_account_status: int = 404
    life: str = "queued:1 starting:1 running:5 success"
    array_encoding: str = "both"
    wrong_encoding: str = "ignore"
    echo_filters: bool = True
    echo_ignored: bool = False
    over_limit: str = "clamp"
    minute_limit: int = 5000
    cooldown: float = 300.0
    cancelled_early_has_end: bool = False
    cancel_takes: float = 0.0
    logs_after: float = 0.0
    time_style: str = "space"
    foreign_runs_per_minute: float = 0.0
    ui_url: str = ""


@dataclass(slots=True)
class DbtCloudJob:
    """One job; ``queue`` are its runs that have not ended, the oldest first."""

    account_id: int
    job_id: int
    project_id: int
    environment_id: int
    name: str
    execute_steps: tuple[str, ...]
    models: tuple[str, ...]
    failing: tuple[str, ...]
    artifacts: dict[str, Any]
    lives: list[Life]
    created_at: float = 0.0
    job_type: str = "other"
    state: int = 1
    retry_refusal: str | None = None
    runs: list[DbtCloudRun] = field(default_factory=list)
    queue: deque[DbtCloudRun] = field(default_factory=deque)
    free_at: float = -math.inf


@dataclass(slots=True)
class DbtCloudRun:
    """One run; what comes after its time in the queue is known when it begins."""

    run_id: int
    job: DbtCloudJob
    timeline: Timeline
    life: Life
    body: dict[str, Any]
    cause_category: str = "api"
    retrying: int | None = None
    begun: float | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """The dbt commands of the run."""
        return tuple(self.body.get("steps_override") or self.job.execute_steps)

    @property
    def end(self) -> float:
        """When the run ends, as far as that is known."""
        last = self.timeline.last
        return last.since if last.word in TERMINAL else math.inf


_Value = TypeVar("_Value")


@dataclass(slots=True)
class _Account:
    """One account, with its share of requests and its first project."""

    account_id: int
    name: str
    plan: str
    created_at: float
    project_id: int
    environment_id: int
    requests: deque[float] = field(default_factory=deque)
    refused_until: float = 0.0


class _Project(NamedTuple):
    account_id: int
    project_id: int
    name: str
    created_at: float


class _Environment(NamedTuple):
    account_id: int
    environment_id: int
    project_id: int
    name: str
    created_at: float


class _Row(NamedTuple):
    """One run of a list: its place in the order, and its state."""

    key: tuple[float, ...]
    run: DbtCloudRun
    moment: Moment


class DbtCloudSimulator(VendorSimulator[DbtCloudSettings]):
    """dbt Cloud's Admin API: jobs, runs, steps, artifacts, projects, environments.

    A life's states are ``queued``, ``starting``, ``running`` and at the end
    ``success``, ``error`` or ``cancelled``; a number stands for a status that nobody
    knows. Runs of one job run one after another.

    Paths end with a slash. Without it a GET is redirected, as Django does, and
    anything else is 404.
    """

    name: ClassVar[str] = "dbt_cloud"

    def __init__(
        self,
        settings: DbtCloudSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.accounts: dict[int, _Account] = {}
        self.projects: dict[int, _Project] = {}
        self.environments: dict[int, _Environment] = {}
        self.all_jobs: dict[int, DbtCloudJob] = {}
        self.runs: dict[int, DbtCloudRun] = {}
        self._origin = 0.0
        self._foreign = _foreign_job(DEFAULT_ACCOUNT)
        super().__init__(settings or DbtCloudSettings(), clock=clock, seed=seed)

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        two, three = "/api/v2/accounts/", "/api/v3/accounts/"
        yield Route.to("GET", "/", self._home, public=True)
        yield Route.to("GET", two, self._list_accounts)
        yield Route.to("GET", three, self._list_accounts)
        two, three = f"{two}{{account}}/", f"{three}{{account}}/"
        for root in (two, three):
            yield Route.to("GET", root, self._account)
            yield Route.to("GET", f"{root}projects/", self._list_projects)
            yield Route.to("GET", f"{root}projects/{{project}}/", self._get_project)
        places = f"{three}projects/{{project}}/environments/"
        yield Route.to("GET", places, self._list_environments)
        yield Route.to("GET", f"{places}{{environment}}/", self._get_environment)
        places = f"{two}environments/"
        yield Route.to("GET", places, self._list_account_environments)
        yield Route.to(
            "GET", f"{places}{{environment}}/", self._get_account_environment
        )
        yield Route.to("GET", f"{two}jobs/", self._list_jobs)
        yield Route.to("GET", f"{two}jobs/{{job}}/", self._get_job)
        yield Route.to(
            "POST", f"{two}jobs/{{job}}/run/", self._start, operation="start"
        )
        yield Route.to(
            "POST", f"{two}jobs/{{job}}/rerun/", self._rerun, operation="start"
        )
        yield Route.to("GET", f"{two}runs/", self._list_runs, operation="list")
        one = f"{two}runs/{{run}}/"
        yield Route.to("GET", one, self._get_run, operation="poll")
        yield Route.to("POST", f"{one}cancel/", self._cancel, operation="cancel")
        yield Route.to("GET", f"{one}retry/", self._failure)
        yield Route.to("POST", f"{one}retry/", self._retry, operation="start")
        yield Route.to("GET", f"{one}artifacts/", self._list_artifacts)
        yield Route.to("GET", f"{one}artifacts/{{path+}}", self._artifact)

    def clear(self) -> None:
        """Forget every job and run; one account with one project is left."""
        self.accounts = {}
        self.projects = {}
        self.environments = {}
        self.all_jobs = {}
        self.runs = {}
        self._origin = self.now()
        self._foreign = _foreign_job(self.settings.account_id)
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
        for job in (self._foreign, *self.all_jobs.values()):
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
            if as_integer_id(str(account_id)) is None:
                raise ValueError(f"account_id must be above zero, not {account_id!r}")
            found = self.accounts.get(account_id)
            if found is not None:
                found.name, found.plan = name or found.name, plan
                return
            project_id, environment_id = DEFAULT_PROJECT, DEFAULT_ENVIRONMENT
            while project_id in self.projects or environment_id in self.environments:
                project_id, environment_id = project_id + 1000, environment_id + 1000
            many = f" {len(self.accounts) + 1}" if self.accounts else ""
            self.accounts[account_id] = _Account(
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
        self, project_id: int, *, name: str, account_id: int | None = None
    ) -> None:
        """Add a project to an account, or replace it.

        :param account_id: An account; without it, that of the settings. One that is not
            there yet is added.
        """
        with self.lock:
            if account_id is None:
                account_id = self.settings.account_id
            # Noted before its account, which adds a project of its own.
            self.projects[project_id] = _Project(
                account_id, project_id, name, self.now()
            )
            if account_id not in self.accounts:
                self.add_account(account_id)

    def add_environment(
        self, environment_id: int, *, project_id: int = DEFAULT_PROJECT, name: str
    ) -> None:
        """Add an environment to a project, or replace it."""
        with self.lock:
            project = self.projects.get(project_id)
            account_id = project.account_id if project else self.settings.account_id
            self.environments[environment_id] = _Environment(
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
        """
        with self.lock:
            if job_id is None:
                job_id = FIRST_RUN_ID + 1 + len(self.all_jobs)
            if account_id is None:
                project = None if project_id is None else self.projects.get(project_id)
                account_id = project.account_id if project else self.settings.account_id
            if account_id not in self.accounts:
                self.add_account(account_id)
            account = self.accounts[account_id]
            self.all_jobs[job_id] = _make_job(
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
                lives=[as_life(life) for life in lives],
                created_at=self.now(),
            )
            return job_id

    def add_run(
        self,
        job_id: int,
        life: Life | str | None = None,
        *,
        age: float = 0.0,
        cause: str = "Scheduled",
        run_id: int | None = None,
    ) -> int:
        """Let a run be there that nobody here has asked for, and return its id.

        :param age: How many seconds ago it was created.
        :raises ValueError: There is no such job.
        """
        with self.lock:
            if job_id not in self.all_jobs:
                raise ValueError(f"there is no job {job_id!r}")
            job = self.all_jobs[job_id]
            chosen = self._next_life(job) if life is None else as_life(life)
            run = self._create(
                job,
                {"cause": cause},
                chosen,
                age=age,
                run_id=run_id,
                category="scheduled",
            )
            return run.run_id

    def add(self, kind: str, values: dict[str, Any]) -> None:
        """Arrange an account, project, environment, job or run."""
        known: dict[str, Callable[..., object]] = {
            "accounts": self.add_account,
            "projects": self.add_project,
            "environments": self.add_environment,
            "jobs": self.add_job,
            "runs": self.add_run,
        }
        if kind not in known:
            raise ValueError(
                f"dbt_cloud has no {kind!r} to arrange; it has: settings, quirks, "
                f"faults, {', '.join(known)}"
            )
        call_with(known[kind], kind, values)

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the runs that have not ended; the others too where asked for."""
        with self.lock:
            self._settle_all()
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
            self._settle(run.job)
            self._end(run, self.now(), state)

    # Runs by time

    def _next_life(self, job: DbtCloudJob) -> Life:
        if not job.lives:
            return Life.parse(self.settings.life)
        if len(job.lives) == 1:
            return job.lives[0]
        return job.lives.pop(0)

    def _create(
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
        created = self.now() - age
        if run_id is None:
            run_id = self._id(created)
            while run_id in self.runs:
                run_id += 1
        waiting = Timeline(created, Life((("queued", math.inf),)))
        run = DbtCloudRun(run_id, job, waiting, life, body, category, retrying)
        self.runs[run_id] = run
        job.runs.append(run)
        if job.job_type == "ci":
            self._begin(run, created + _queued_for(life))
        else:
            job.queue.append(run)
        self._settle(job)
        return run

    def _id(self, created: float) -> int:
        """Return an id that grows with the time of creation."""
        return FIRST_RUN_ID + math.floor((created - self._origin) * 1000) * 1000

    @staticmethod
    def _begin(run: DbtCloudRun, at: float) -> None:
        run.begun = at
        if not math.isinf(at):
            skip = 1 if run.life.steps[0][0] == "queued" else 0
            run.timeline.follow(at, run.life.steps[skip:])

    @staticmethod
    def _end(run: DbtCloudRun, at: float, word: str) -> None:
        run.timeline.end(at, word)
        if run.begun is None:
            run.begun = at

    def _settle(self, job: DbtCloudJob) -> None:
        """Let the runs of a job begin whose turn has come by now.

        https://docs.getdbt.com/docs/deploy/job-scheduler: runs of one job are run one
        after another.
        """
        now = self.now()
        while job.queue:
            run = job.queue[0]
            if run.begun is None:
                ready = run.timeline.start + _queued_for(run.life)
                begin = max(ready, job.free_at)
                if begin > now:
                    return
                self._begin(run, begin)
            if run.end > now:
                return
            job.queue.popleft()
            job.free_at = max(job.free_at, run.end)

    def _settle_all(self) -> None:
        for job in self.all_jobs.values():
            if job.queue:
                self._settle(job)

    # Runs of others, made only where somebody looks

    @property
    def _period(self) -> float:
        return _MINUTE / self.settings.foreign_runs_per_minute

    def _foreign_end(self, number: int) -> float:
        return self._origin + number * self._period

    def _first_from(self, low: float) -> int:
        return math.ceil((low - _MICROSECOND - self._origin) / self._period)

    def _last_to(self, high: float) -> int:
        return math.floor((high + _MICROSECOND - self._origin) / self._period)

    def _foreign_run(self, number: int) -> DbtCloudRun:
        created = self._foreign_end(number) - _FOREIGN_SECONDS
        life = Life((("running", _FOREIGN_SECONDS), ("success", math.inf)))
        return DbtCloudRun(
            self._id(created) + _FOREIGN_MARK,
            self._foreign,
            Timeline(created, life),
            life,
            {"cause": "Scheduled"},
            "scheduled",
            begun=created,
        )

    def _foreign_number(self, run_id: int) -> int | None:
        """Return which of the others' runs has an id, if one has."""
        if self.settings.foreign_runs_per_minute <= 0:
            return None
        created = (run_id - FIRST_RUN_ID) / 1_000_000
        near = round((created + _FOREIGN_SECONDS) / self._period)
        for number in range(max(0, near - 1), near + 2):
            if self._foreign_run(number).run_id == run_id:
                return number
        return None

    def _foreign_range(self, filters: _Filters, seen: float) -> range:
        """Return which of the others' runs pass, as their numbers."""
        rate = self.settings.foreign_runs_per_minute
        if rate <= 0 or not filters.pass_job(self._foreign):
            return range(0)
        first = 0
        last = math.floor((seen + _FOREIGN_SECONDS - self._origin) / self._period)
        done = math.floor((seen - self._origin) / self._period)
        if filters.statuses is not None:
            ended, running = 10 in filters.statuses, 3 in filters.statuses
            if not ended:
                first = done + 1
            if not running:
                last = done
            if not ended and not running:
                return range(0)
        if filters.finished is not None:
            low, high = filters.finished
            first = max(first, self._first_from(low))
            high = min(high, seen)
            last = min(last, self._last_to(high))
        if filters.created is not None:
            low, high = (one + _FOREIGN_SECONDS for one in filters.created)
            first = max(first, self._first_from(low))
            last = min(last, self._last_to(high))
        if filters.id_gt is not None:
            after = (filters.id_gt - FIRST_RUN_ID) / 1_000_000 + _FOREIGN_SECONDS
            first = max(first, math.floor(after / self._period))
            while first <= last and self._foreign_run(first).run_id <= filters.id_gt:
                first += 1
        return range(first, last + 1)

    # Errors, credentials, limits

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return an error in dbt Cloud's envelope."""
        return json_reply(
            status,
            {
                "status": {
                    "code": status,
                    "is_success": False,
                    "user_message": detail or _MESSAGES.get(status, "Server error"),
                    "developer_message": "",
                },
                "data": None,
            },
        )

    def _refuse(self, status: int, detail: str = "") -> RefusalError:
        return RefusalError(self.error(status, detail))

    def unrouted(self, request: SimRequest) -> SimReply:
        """Redirect a GET that lacks the slash at its end; anything else is 404."""
        slashed = SimRequest(request.method, f"{request.path}/")
        if request.method == "GET" and self._find(slashed)[0] is not None:
            query = urlencode(request.query)
            location = f"{slashed.path}?{query}" if query else slashed.path
            return SimReply(301, {"Location": location}, b"")
        return self.error(404)

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse an account everything for five minutes after too many requests in one."""
        # https://docs.getdbt.com/docs/dbt-apis/rate-limits: no Retry-After is promised.
        account = self._account_of(request)
        if account is None:
            return None
        now = self.now()
        if now < account.refused_until:
            return self.error(429)
        while account.requests and account.requests[0] <= now - _MINUTE:
            account.requests.popleft()
        if len(account.requests) >= self.settings.minute_limit:
            account.refused_until = now + self.settings.cooldown
            return self.error(429)
        account.requests.append(now)
        return None

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without a known token, or for an account that is not there."""
        scheme, _, token = request.header("Authorization").partition(" ")
        if scheme not in {"Token", "Bearer"}:
            raise self._refuse(401)
        if token not in self.settings.tokens:
            raise self._refuse(401, "Invalid token.")
        if self._account_of(request) is not None:
            return
        account_id = as_integer_id(_account_named(request.path))
        if account_id is None or not self.settings.accept_unknown:
            raise self._refuse(self.settings.wrong_account_status)
        self.add_account(account_id)

    def _account_of(self, request: SimRequest) -> _Account | None:
        """Return the account of a request; the list of accounts counts for the first."""
        text = _account_named(request.path)
        number = as_integer_id(text) if text else self.settings.account_id
        return None if number is None else self.accounts.get(number)

    # Envelopes

    def _one(self, data: object) -> SimReply:
        return json_reply(200, {"data": data, "status": _GOOD})

    def _many(
        self,
        rows: list[dict[str, Any]],
        *,
        total: int,
        filters: Mapping[str, Any],
        order_by: str | None,
    ) -> SimReply:
        extra = {
            "filters": dict(filters) if self.settings.echo_filters else {},
            "order_by": order_by,
            "pagination": {"count": len(rows), "total_count": total},
        }
        return json_reply(200, {"data": rows, "extra": extra, "status": _GOOD})

    def _named(
        self, request: SimRequest, rows: list[dict[str, Any]], **filters: Any
    ) -> SimReply:
        """Answer with a page of rows filtered by their names."""
        wanted = request.value("name__icontains")
        if wanted:
            filters["name__icontains"] = wanted
            rows = [row for row in rows if wanted.lower() in row["name"].lower()]
        limit, offset = self._page(request)
        page = rows[offset : offset + limit]
        filters |= {"limit": limit, "offset": offset}
        return self._many(page, total=len(rows), filters=filters, order_by="id")

    def _page(self, request: SimRequest) -> tuple[int, int]:
        limit = self._integer(request, "limit", _MAX_LIMIT)
        offset = self._integer(request, "offset", 0)
        if limit > _MAX_LIMIT and self.settings.over_limit == "refuse":
            raise self._refuse(400, f"limit must be at most {_MAX_LIMIT}")
        if limit < 1 or offset < 0:
            raise self._refuse(400, "limit and offset must not be negative")
        return min(limit, _MAX_LIMIT), offset

    def _integer(self, request: SimRequest, name: str, default: int) -> int:
        text = request.value(name)
        try:
            return default if text is None else int(text)
        except ValueError as error:
            raise self._refuse(400, f"{name} must be an integer") from error

    def _instant(self, at: float | None) -> str | None:
        if at is None:
            return None
        if self.settings.time_style == "iso":
            return micro_instant(self.shown(at))
        moment = datetime.fromtimestamp(self.shown(at), UTC)
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f+00:00")

    # Accounts, projects, environments, jobs

    def _home(self, request: SimRequest) -> SimReply:
        # The host serves the web application too; the official provider for Airflow
        # tests a connection with this page.
        return text_reply(200, "<html>dbt</html>", content_type="text/html")

    def _list_accounts(self, request: SimRequest) -> SimReply:
        rows = [self._shown_account(one) for one in self.accounts.values()]
        return self._named(request, rows)

    def _account(self, request: SimRequest, account: str) -> SimReply:
        return self._one(self._shown_account(self.accounts[int(account)]))

    def _shown_account(self, account: _Account) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Account
        created = self._instant(account.created_at)
        return {
            "id": account.account_id,
            "name": account.name,
            "state": 1,
            "plan": account.plan,
            "run_slots": 15,
            "developer_seats": 1,
            "it_seats": 0,
            "explorer_seats": 0,
            "analyst_seats": 0,
            "read_only_seats": 0,
            "locked": False,
            "lock_reason": None,
            "lock_cause": None,
            "unlocked_at": None,
            "run_locked_until": None,
            "copilot_locked_until": None,
            "agent_credit_locked": False,
            "pending_cancel": False,
            "trial_end_date": None,
            "billing_email_address": None,
            "pod_memory_request_mebibytes": 600,
            "develop_pod_memory_request_mebibytes": 0,
            "run_duration_limit_seconds": 86400,
            "queue_limit": 50,
            "enterprise_login_slug": None,
            "business_critical": False,
            "starter_repo_url": None,
            "git_auth_level": "team",
            "identifier": f"account-{account.account_id}",
            "static_subdomain": None,
            "vanity_subdomain": None,
            "docs_job_id": None,
            "freshness_job_id": None,
            "account_migration_events": [],
            "groups": [],
            "created_at": created,
            "updated_at": created,
        }

    def _list_projects(self, request: SimRequest, account: str) -> SimReply:
        rows = [
            self._shown_project(one)
            for one in self.projects.values()
            if one.account_id == int(account)
        ]
        return self._named(request, rows)

    def _get_project(self, request: SimRequest, account: str, project: str) -> SimReply:
        return self._one(self._shown_project(self._project(account, project)))

    def _project(self, account: str, project: str) -> _Project:
        found = self.projects.get(self._path_id(project))
        if found is None or found.account_id != int(account):
            raise self._refuse(404)
        return found

    def _project_facts(self, project: _Project) -> dict[str, Any]:
        """Return what a project is wherever it is shown, such as within a job."""
        return {
            "id": project.project_id,
            "account_id": project.account_id,
            "name": project.name,
            "state": 1,
            "type": 0,
            "created_at": self._instant(project.created_at),
            "updated_at": self._instant(project.created_at),
        }

    def _shown_project(self, project: _Project) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Project
        return {
            **self._project_facts(project),
            "description": None,
            "connection_id": None,
            "repository_id": None,
            "semantic_layer_config_id": None,
            "dbt_project_subdirectory": None,
            "docs_job_id": None,
            "freshness_job_id": None,
            "connection": None,
            "environments": [
                self._environment_facts(one)
                for one in self.environments.values()
                if one.project_id == project.project_id
            ],
            "repository": None,
            "group_permissions": [],
            "docs_job": None,
            "freshness_job": None,
            "fusion_readiness": None,
            "default_version": _DBT_VERSION,
        }

    def _list_environments(
        self, request: SimRequest, account: str, project: str
    ) -> SimReply:
        wanted = self._project(account, project).project_id
        rows = [
            self._shown_environment(one)
            for one in self.environments.values()
            if one.project_id == wanted
        ]
        return self._named(request, rows, project_id=wanted)

    def _get_environment(
        self, request: SimRequest, account: str, project: str, environment: str
    ) -> SimReply:
        wanted = self._project(account, project).project_id
        found = self.environments.get(self._path_id(environment))
        if found is None or found.project_id != wanted:
            raise self._refuse(404)
        return self._one(self._shown_environment(found))

    def _list_account_environments(self, request: SimRequest, account: str) -> SimReply:
        filters: dict[str, Any] = {"account_id": int(account)}
        if request.value("project_id") is not None:
            filters["project_id"] = self._integer(request, "project_id", 0)
        rows = [
            self._shown_environment(one)
            for one in self.environments.values()
            if one.account_id == int(account)
            and filters.get("project_id") in (None, one.project_id)
        ]
        return self._named(request, rows, **filters)

    def _get_account_environment(
        self, request: SimRequest, account: str, environment: str
    ) -> SimReply:
        found = self.environments.get(self._path_id(environment))
        if found is None or found.account_id != int(account):
            raise self._refuse(404)
        return self._one(self._shown_environment(found))

    def _environment_facts(self, environment: _Environment) -> dict[str, Any]:
        """Return what an environment is wherever it is shown, such as within a job."""
        return {
            "id": environment.environment_id,
            "account_id": environment.account_id,
            "project_id": environment.project_id,
            "name": environment.name,
            "type": "deployment",
            "deployment_type": "production",
            "state": 1,
            "dbt_version": _DBT_VERSION,
            "use_custom_branch": False,
            "supports_docs": True,
        }

    def _shown_environment(self, environment: _Environment) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Environment
        return {
            **self._environment_facts(environment),
            "raw_dbt_version": _DBT_VERSION,
            "custom_branch": None,
            "dbt_project_subdirectory": None,
            "connection_id": None,
            "credentials_id": None,
            "repository_id": None,
            "extended_attributes_id": None,
            "created_by_id": None,
            "created_at": self._instant(environment.created_at),
            "updated_at": self._instant(environment.created_at),
            "repository": None,
            "connection": None,
            "jobs": [
                self._job_facts(job)
                for job in self.all_jobs.values()
                if job.environment_id == environment.environment_id and job.state != 2
            ],
            "custom_environment_variables": [],
        }

    def _list_jobs(self, request: SimRequest, account: str) -> SimReply:
        rows = []
        deleted = request.value("state") in {"deleted", "2"}
        everything = request.value("state") == "all"
        filters: dict[str, Any] = {"account_id": int(account)}
        for name in ("project_id", "environment_id"):
            if request.value(name) is not None:
                filters[name] = self._integer(request, name, 0)
        related = _related(request)
        for job in self.all_jobs.values():
            if job.account_id != int(account):
                continue
            if not everything and (job.state == 2) != deleted:
                continue
            if filters.get("project_id") not in (None, job.project_id):
                continue
            if filters.get("environment_id") not in (None, job.environment_id):
                continue
            rows.append(self._shown_job(job, request, related))
        if request.value("order_by") == "-id":
            rows.sort(key=lambda row: -row["id"])
        return self._named(request, rows, **filters)

    def _get_job(self, request: SimRequest, account: str, job: str) -> SimReply:
        related = _related(request)
        return self._one(self._shown_job(self._job(account, job), request, related))

    def _job_facts(self, job: DbtCloudJob) -> dict[str, Any]:
        """Return what a job is wherever it is shown, such as within a run."""
        return {
            "id": job.job_id,
            "account_id": job.account_id,
            "project_id": job.project_id,
            "environment_id": job.environment_id,
            "name": job.name,
            "description": "",
            "state": job.state,
            "job_type": job.job_type,
            "dbt_version": None,
            "execute_steps": list(job.execute_steps),
            "execution": {"timeout_seconds": 0},
            "generate_docs": False,
            "generate_sources": False,
            "run_generate_sources": False,
            "run_lint": False,
            "errors_on_lint_failure": True,
            "run_compare_changes": False,
            "compare_changes_flags": "--select state:modified",
            "cost_optimization_features": [],
            "lifecycle_webhooks": False,
            "deferring_environment_id": None,
            "deferring_job_definition_id": None,
            "settings": {"threads": 4, "target_name": "default"},
            "triggers_on_draft_pr": False,
            "triggers": {
                "github_webhook": False,
                "schedule": False,
                "git_provider_webhook": False,
                "on_merge": False,
                "custom_branch_only": False,
            },
        }

    def _shown_job(
        self, job: DbtCloudJob, request: SimRequest, related: AbstractSet[str]
    ) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Job
        account = self.accounts[job.account_id]
        project = self.projects.get(job.project_id)
        environment = self.environments.get(job.environment_id)
        row: dict[str, Any] = {
            **self._job_facts(job),
            "raw_dbt_version": _DBT_VERSION,
            "is_deferrable": False,
            "job_completion_trigger_condition": None,
            "lifecycle_webhooks_url": None,
            "run_failure_count": self._failures(job),
            "fusion_readiness": None,
            "schedule": {
                "cron": "0 0 * * *",
                "date": {"type": "every_day"},
                "time": {"type": "at_exact_hours", "hours": [0]},
            },
            "account": {"name": account.name, "state": 1},
            "project": self._project_facts(project) if project else None,
            "environment": self._environment_facts(environment)
            if environment
            else None,
            "created_at": self._instant(job.created_at),
            "updated_at": self._instant(job.created_at),
        }
        if "most_recent_run" in related:
            self._settle(job)
            latest = job.runs[-1] if job.runs else None
            row["most_recent_run"] = (
                self._shown_run(latest, self.now(), request) if latest else None
            )
        return row

    def _failures(self, job: DbtCloudJob) -> int:
        """Return how many of a job's latest runs have failed in a row."""
        now, count = self.now(), 0
        for run in reversed(job.runs):
            moment = run.timeline.at(now)
            if moment is None or moment.word not in TERMINAL:
                continue
            if moment.word != "error":
                break
            count += 1
        return count

    def _path_id(self, text: str) -> int:
        number = as_integer_id(text)
        if number is None:
            raise self._refuse(404)
        return number

    def _job(self, account: str, job: str) -> DbtCloudJob:
        job_id = self._path_id(job)
        found = self.all_jobs.get(job_id)
        if found is None and self.settings.accept_unknown:
            self.add_job(job_id, account_id=int(account))
            found = self.all_jobs[job_id]
        if found is None or found.state == 2 or found.account_id != int(account):
            raise self._refuse(404)
        return found

    # Starting, cancelling, retrying

    def _start(self, request: SimRequest, account: str, job: str) -> SimReply:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Trigger%20Job%20Run
        found = self._job(account, job)
        try:
            body = request.json_object()
        except ValueError as error:
            raise self._refuse(400, str(error)) from error
        cause = body.get("cause")
        if not isinstance(cause, str) or not cause:
            raise self._refuse(400, "cause: This field is required.")
        if len(cause) > _LONGEST_CAUSE:
            raise self._refuse(400, "cause: at most 255 characters")
        steps = body.get("steps_override")
        if steps is not None and not (
            isinstance(steps, list) and steps and all(map(_is_text, steps))
        ):
            raise self._refuse(400, "steps_override: Not a valid list of commands.")
        return self._started(request, found, body)

    def _started(
        self,
        request: SimRequest,
        job: DbtCloudJob,
        body: dict[str, Any],
        retrying: int | None = None,
    ) -> SimReply:
        run = self._create(job, body, self._next_life(job), retrying=retrying)
        details = dict(body) if retrying is None else {"retrying_run_id": retrying}
        at = self.noted()
        self.record.note_start(at, str(job.job_id), run.run_id, details)
        return self._one(self._shown_run(run, self.now(), request))

    def _rerun(self, request: SimRequest, account: str, job: str) -> SimReply:
        # https://docs.getdbt.com/docs/deploy/retry-jobs: from the point of failure
        # where the latest run has failed, else everything; there is no body.
        found = self._job(account, job)
        self._settle(found)
        latest = found.runs[-1] if found.runs else None
        if latest is not None and self._retry_refusal(latest) is None:
            return self._started(request, found, latest.body, latest.run_id)
        return self._started(request, found, {"cause": "Triggered via API"})

    def _cancel(self, request: SimRequest, account: str, run: str) -> SimReply:
        found = self._run(account, run)
        now = self.now()
        moment = found.timeline.at(now)
        if moment is not None and moment.word not in TERMINAL:
            begun = moment.word != "queued"
            takes = self.settings.cancel_takes if begun else 0.0
            if found.end > now + takes:
                self.record.cancels[str(found.run_id)] += 1
                self._end(found, now + takes, "cancelled")
        return self._one(self._shown_run(found, now, request))

    def _retry_refusal(self, run: DbtCloudRun) -> str | None:
        moment = run.timeline.at(self.now())
        if moment is None or moment.word != "error":
            return "RETRY_NOT_FAILED_RUN"
        if run.job.runs and run.job.runs[-1] is not run:
            return "RETRY_NOT_LATEST_RUN"
        return run.job.retry_refusal

    def _retry(self, request: SimRequest, account: str, run: str) -> SimReply:
        found = self._run(account, run)
        refusal = self._retry_refusal(found)
        if refusal is not None:
            self.record.refused_starts[str(found.job.job_id)] += 1
            raise self._refuse(400, refusal)
        return self._started(request, found.job, found.body, found.run_id)

    def _failure(self, request: SimRequest, account: str, run: str) -> SimReply:
        found = self._run(account, run)
        steps = self._run_steps(found, self.now())
        failed = [step for step in steps if step["status"] == 20]
        return self._one(
            {
                "failed_step": failed[0]["name"] if failed else None,
                "skipped_steps": [],
            }
        )

    # Looking at runs

    def _run(self, account: str, run: str) -> DbtCloudRun:
        run_id = self._path_id(run)
        found = self.runs.get(run_id)
        if found is None:
            number = self._foreign_number(run_id)
            found = None if number is None else self._foreign_run(number)
        if (
            found is None
            or found.job.account_id != int(account)
            or found.timeline.at(self.now()) is None
        ):
            raise self._refuse(404)
        self._settle(found.job)
        return found

    def _get_run(self, request: SimRequest, account: str, run: str) -> SimReply:
        return self._one(
            self._shown_run(self._run(account, run), self.now(), request, single=True)
        )

    def _shown_run(
        self,
        run: DbtCloudRun,
        at: float,
        request: SimRequest,
        *,
        single: bool = False,
    ) -> dict[str, Any]:
        times = self._times(run, at)
        moment = run.timeline.at(at) or Moment("queued", at)
        status = _number(moment.word)
        stop = times.finished if times.finished is not None else at
        start = times.started
        queued = (start if start is not None else stop) - times.created
        account, job = run.job.account_id, run.job
        related = _related(request)
        refusal = self._retry_refusal(run)
        base = self.settings.ui_url or f"http://{request.header('Host', 'localhost')}"
        where = f"{base}/deploy/{account}/projects/{job.project_id}"
        row: dict[str, Any] = {
            "id": run.run_id,
            "trigger_id": run.run_id,
            "account_id": account,
            "environment_id": job.environment_id,
            "project_id": job.project_id,
            "job_definition_id": job.job_id,
            "job_id": job.job_id,
            "status": status,
            "status_humanized": _HUMANIZED.get(status, moment.word.title()),
            "status_message": None,
            "in_progress": moment.word not in TERMINAL,
            "is_running": moment.word == "running",
            "is_complete": moment.word in TERMINAL,
            "is_success": moment.word == "success",
            "is_error": moment.word == "error",
            "is_cancelled": moment.word == "cancelled",
            "dbt_version": _DBT_VERSION,
            "git_branch": run.body.get("git_branch", "main"),
            "git_sha": run.body.get("git_sha", "0" * 40),
            "created_at": self._instant(times.created),
            "updated_at": self._instant(moment.since),
            "dequeued_at": self._instant(times.dequeued),
            "started_at": self._instant(start),
            "finished_at": self._instant(times.finished),
            "duration": _clock(stop - times.created),
            "queued_duration": _clock(queued),
            "run_duration": _clock(stop - start if start is not None else 0),
            "duration_humanized": _words(stop - times.created),
            "queued_duration_humanized": _words(queued),
            "run_duration_humanized": _words(stop - start if start is not None else 0),
            "artifacts_saved": self._has_artifacts(run, at),
            "blocked_by": [
                one.run_id
                for one in itertools.takewhile(lambda one: one is not run, job.queue)
            ]
            if moment.word == "queued"
            else [],
            "can_retry": refusal is None,
            "retry_not_supported_reason": refusal,
            "retrying_run_id": run.retrying,
            "href": f"{where}/runs/{run.run_id}/",
            "trigger": self._trigger(run) if "trigger" in related else None,
            "job": (self._job_facts(job) if "job" in related else None),
            "run_steps": [],
        }
        if moment.word == "error":
            row["status_message"] = f"dbt command failed: {run.steps[-1]}"
        if single and "run_steps" in related:
            row["run_steps"] = self._run_steps(run, at)
        return row

    def _times(self, run: DbtCloudRun, at: float) -> _Times:
        line = run.timeline
        dequeued = line.first("starting", until=at)
        started = line.first("running", until=at)
        moment = line.at(at)
        finished = moment.since if moment and moment.word in TERMINAL else None
        begun = started if started is not None else dequeued
        if (
            begun is None
            and moment is not None
            and moment.word == "cancelled"
            and not self.settings.cancelled_early_has_end
        ):
            finished = None
        if dequeued is None:
            dequeued = started
        return _Times(line.start, dequeued, started, finished)

    def _trigger(self, run: DbtCloudRun) -> dict[str, Any]:
        names = (
            "cause",
            "git_sha",
            "git_branch",
            "schema_override",
            "dbt_version_override",
            "threads_override",
            "target_name_override",
            "generate_docs_override",
            "timeout_seconds_override",
            "steps_override",
        )
        return {
            "id": run.run_id,
            "job_definition_id": run.job.job_id,
            "cause_category": run.cause_category,
            "created_at": self._instant(run.timeline.start),
            **{name: run.body.get(name) for name in names},
        }

    def _run_steps(self, run: DbtCloudRun, at: float) -> list[dict[str, Any]]:
        started = run.timeline.first("running", until=at)
        if started is None:
            return []
        names = [*_PREAMBLE, *(f"Invoke dbt with `{step}`" for step in run.steps)]
        stop = run.timeline.last.since
        moment = run.timeline.at(at)
        word = moment.word if moment else "queued"
        over = word in TERMINAL
        length = (stop - started) / len(run.steps) if stop > started else math.inf
        rows = []
        for index, name in enumerate(names, start=1):
            place = index - len(_PREAMBLE)
            begin = started if place <= 1 else started + (place - 1) * length
            end = started if place <= 0 else started + place * length
            if begin > at:
                break
            last = index == len(names)
            if over and last:
                status, end = _number(word), stop
            elif end <= at:
                status = STATUSES["success"]
            else:
                status = STATUSES["running"]
            done = status != STATUSES["running"]
            rows.append(
                self._step(run, index, name, status, begin, end if done else None)
            )
            if status == STATUSES["cancelled"]:
                break
        return rows

    def _step(
        self,
        run: DbtCloudRun,
        index: int,
        name: str,
        status: int,
        begin: float,
        end: float | None,
    ) -> dict[str, Any]:
        logs = ""
        if end is not None and self.now() >= end + self.settings.logs_after:
            logs = self._logs(run, name, status)
        until = self.now() if end is None else end
        return {
            "id": run.run_id * 10 + index,
            "run_id": run.run_id,
            "account_id": run.job.account_id,
            "index": index,
            "name": name,
            "status": status,
            "status_humanized": _HUMANIZED.get(status, str(status)),
            "status_color": "",
            "started_at": self._instant(begin),
            "finished_at": self._instant(end),
            "duration": _clock(until - begin),
            "duration_humanized": _words(until - begin),
            "logs": logs,
            "debug_logs": "",
            "truncated_debug_logs": logs,
        }

    @staticmethod
    def _logs(run: DbtCloudRun, name: str, status: int) -> str:
        lines = [f"Running {name}"]
        if not name.startswith("Invoke"):
            return "\n".join([*lines, "Done."])
        for place, model in enumerate(run.job.models, start=1):
            bad = status == STATUSES["error"] and model in run.job.failing
            word = "ERROR creating" if bad else "OK created"
            lines.append(f"{place} of {len(run.job.models)} {word} {model}")
        if status == STATUSES["error"]:
            for model in run.job.failing:
                lines.append(f"Database Error in {model}")
                lines.append('  column "amount" does not exist')
        lines.append("Done.")
        return "\n".join(lines)

    # The list of runs

    def _list_runs(self, request: SimRequest, account: str) -> SimReply:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs
        self._settle_all()
        limit, offset = self._page(request)
        order_by = request.value("order_by") or "id"
        name, down = order_by.removeprefix("-"), order_by.startswith("-")
        if name not in _ORDERS:
            raise self._refuse(400, f"order_by {order_by!r} is unknown")
        filters = self._filters(request, int(account))
        seen = self.now() - self.quirks.lag
        own = [
            self._placed(run, moment, name, seen)
            for run in self._asked_for(filters)
            if (moment := run.timeline.at(seen)) is not None
            and filters.pass_job(run.job)
            and filters.pass_run(run, moment, self._times(run, seen))
        ]
        own.sort(key=lambda row: row.key, reverse=down)
        numbers = self._foreign_numbers(filters, seen)
        if down:
            numbers = numbers[::-1]
        others = self._foreign_rows(numbers, name, seen)
        merged = heapq.merge(own, others, key=lambda row: row.key, reverse=down)
        page = list(itertools.islice(merged, offset, offset + limit))
        rows = [self._shown_run(row.run, seen, request) for row in page]
        self._churn(page)
        echo = {**filters.echo, "limit": limit, "offset": offset}
        return self._many(
            self.quirks.spoil(rows, self.random),
            total=len(own) + len(numbers),
            filters=echo,
            order_by=order_by,
        )

    def _asked_for(self, filters: _Filters) -> Iterable[DbtCloudRun]:
        """Return the runs that can pass, without a look at all of them for a few."""
        if filters.ids is None:
            return self.runs.values()
        return [self.runs[run_id] for run_id in filters.ids if run_id in self.runs]

    def _foreign_numbers(self, filters: _Filters, seen: float) -> Sequence[int]:
        found = self._foreign_range(filters, seen)
        if filters.ids is None:
            return found
        asked = (self._foreign_number(run_id) for run_id in filters.ids)
        return sorted(one for one in asked if one is not None and one in found)

    def _foreign_rows(
        self, numbers: Sequence[int], name: str, seen: float
    ) -> Iterator[_Row]:
        for number in numbers:
            run = self._foreign_run(number)
            yield self._placed(
                run, run.timeline.at(seen) or run.timeline.last, name, seen
            )

    def _placed(self, run: DbtCloudRun, moment: Moment, name: str, seen: float) -> _Row:
        if name == "id":
            return _Row((run.run_id,), run, moment)
        if name == "created_at":
            return _Row((run.timeline.start, run.run_id), run, moment)
        finished = self._times(run, seen).finished
        # As PostgreSQL sorts: what has no end comes after everything that has one.
        return _Row(
            (math.inf if finished is None else finished, run.run_id), run, moment
        )

    def _churn(self, page: list[_Row]) -> None:
        now = self.now()
        running = [row.run for row in page if row.run.run_id in self.runs]
        running = [run for run in running if run.begun is not None and run.end > now]
        for run in running[: self.quirks.churn]:
            self._end(run, now, "success")

    def _filters(self, request: SimRequest, account: int) -> _Filters:
        echo: dict[str, Any] = {"account_id": account}
        read = _Reader(self, request, echo)
        return _Filters(
            account=account,
            ids=read.integers("pk__in", "pk"),
            statuses=read.integers("status__in", "status"),
            projects=read.integers("project_id__in", "project_id"),
            environment=read.integer("environment_id"),
            job=read.integer("job_definition_id"),
            id_gt=read.integer("id__gt"),
            finished=read.instants("finished_at__range"),
            created=read.instants("created_at__range"),
            echo=echo,
        )

    # Artifacts

    def _has_artifacts(self, run: DbtCloudRun, at: float) -> bool:
        moment = run.timeline.at(at)
        return (
            moment is not None
            and moment.word in {"success", "error"}
            and at >= moment.since + self.settings.logs_after
        )

    def _artifacts(self, run: DbtCloudRun) -> dict[str, Any]:
        if not self._has_artifacts(run, self.now()):
            return {}
        moment = run.timeline.last
        failed = moment.word == "error"
        failing = set(run.job.failing) if failed else set()
        results: list[dict[str, Any]] = [
            {
                "unique_id": model,
                "status": "error" if model in failing else "success",
                "message": (
                    f'Database Error in {model}\n  column "amount" does not exist'
                    if model in failing
                    else "SUCCESS 1"
                ),
                "execution_time": 1.5,
                "failures": None,
                "adapter_response": {},
                "thread_id": "Thread-1",
                "timing": [],
            }
            for model in run.job.models
        ]
        metadata = {
            "dbt_version": _DBT_VERSION,
            "generated_at": self._instant(moment.since),
            "invocation_id": str(run.run_id),
        }
        nodes = {
            model: {"unique_id": model, "resource_type": model.partition(".")[0]}
            for model in run.job.models
        }
        return {
            "manifest.json": {"metadata": metadata, "nodes": nodes, "sources": {}},
            "run_results.json": {
                "metadata": metadata,
                "results": results,
                "elapsed_time": 1.5 * len(results),
                "args": {},
            },
            **run.job.artifacts,
        }

    def _list_artifacts(self, request: SimRequest, account: str, run: str) -> SimReply:
        return self._one(sorted(self._artifacts(self._run(account, run))))

    def _artifact(
        self, request: SimRequest, account: str, run: str, path: str
    ) -> SimReply:
        found = self._run(account, run)
        artifacts = self._artifacts(found)
        step = self._integer(request, "step", 1)
        steps = len(_PREAMBLE) + len(found.steps)
        if path not in artifacts or not 1 <= step <= steps:
            raise self._refuse(404)
        content = artifacts[path]
        return (
            text_reply(200, content) if _is_text(content) else json_reply(200, content)
        )


class _Times(NamedTuple):
    created: float
    dequeued: float | None
    started: float | None
    finished: float | None


class _Filters(NamedTuple):
    """The filters of one list request; None lets everything pass."""

    account: int
    ids: frozenset[int] | None
    statuses: frozenset[int] | None
    projects: frozenset[int] | None
    environment: int | None
    job: int | None
    id_gt: int | None
    finished: tuple[float, float] | None
    created: tuple[float, float] | None
    echo: dict[str, Any]

    def pass_job(self, job: DbtCloudJob) -> bool:
        return (
            self.account == job.account_id
            and self.job in (None, job.job_id)
            and self.environment in (None, job.environment_id)
            and (self.projects is None or job.project_id in self.projects)
        )

    def pass_run(self, run: DbtCloudRun, moment: Moment, times: _Times) -> bool:
        return (
            (self.ids is None or run.run_id in self.ids)
            and (self.statuses is None or _number(moment.word) in self.statuses)
            and (self.id_gt is None or run.run_id > self.id_gt)
            and _within(times.finished, self.finished)
            and _within(times.created, self.created)
        )


class _Reader:
    """Reads filters, in the forms and with the faults of the settings."""

    def __init__(
        self, simulator: DbtCloudSimulator, request: SimRequest, echo: dict[str, Any]
    ) -> None:
        self._simulator = simulator
        self._request = request
        self._echo = echo

    def integer(self, name: str) -> int | None:
        text = self._request.value(name)
        if text is None:
            return None
        return self._kept(name, self._int(name, text))

    def integers(self, name: str, single: str) -> frozenset[int] | None:
        one = self.integer(single)
        if one is not None:
            return frozenset({one})
        texts = self._array(name)
        if texts is None:
            return None
        found = self._kept(name, [self._int(name, text) for text in texts])
        return None if found is None else frozenset(found)

    def instants(self, name: str) -> tuple[float, float] | None:
        texts = self._array(name)
        if texts is None:
            return None
        try:
            times = [self._simulator.meant(parse_instant(str(one))) for one in texts]
        except ValueError as error:
            raise self._refuse(f"{name}: {error}") from error
        if len(times) != 2:
            raise self._refuse(f"{name}: two instants are needed")
        if self._kept(name, texts) is None:
            return None
        return times[0], times[1]

    def _array(self, name: str) -> list[Any] | None:
        values = self._request.values(name)
        if not values:
            return None
        brackets = len(values) == 1 and values[0].lstrip().startswith("[")
        settings = self._simulator.settings
        form = "brackets" if brackets else "repeated"
        if settings.array_encoding not in ("both", form):
            if settings.wrong_encoding == "refuse":
                raise self._refuse(f"{name}: Enter a valid list.")
            if settings.echo_ignored:
                self._echo[name] = values
            return None
        if not brackets:
            return list(values)
        try:
            found = json.loads(values[0])
        except ValueError as error:
            raise self._refuse(f"{name}: {error}") from error
        return list(found)

    def _kept(self, name: str, value: _Value) -> _Value | None:
        """Return the value of a filter, or None where this server ignores it."""
        simulator = self._simulator
        ignored = name in simulator.quirks.ignore_filters
        if not ignored or simulator.settings.echo_ignored:
            self._echo[name] = value
        return None if ignored else value

    def _int(self, name: str, value: Any) -> int:
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise self._refuse(f"{name}: Enter a number.") from error

    def _refuse(self, detail: str) -> RefusalError:
        return RefusalError(self._simulator.error(400, detail))


_GOOD: Final = {
    "code": 200,
    "is_success": True,
    "user_message": "Success!",
    "developer_message": "",
}


def _account_named(path: str) -> str:
    """Return the account id in a path such as ``/api/v2/accounts/5/jobs/``."""
    return path.split("/")[4] if path.count("/") > 4 else ""


def _related(request: SimRequest) -> frozenset[str]:
    """Return what ``include_related`` names, in any form that clients send.

    One value with commas, as the documentation shows it; repeated keys, as the
    official provider for Airflow sends them; a JSON list, as other clients do.
    """
    return frozenset(
        word.strip(" []\"'")
        for value in request.values("include_related")
        for word in value.split(",")
    )


def _foreign_job(account_id: int) -> DbtCloudJob:
    """Return the job whose runs others start."""
    return _make_job(account_id, 0, 1, 1, "Another job")


def _make_job(
    account_id: int,
    job_id: int,
    project_id: int,
    environment_id: int,
    name: str,
    *,
    execute_steps: tuple[str, ...] = ("dbt build",),
    models: tuple[str, ...] = (),
    failing: tuple[str, ...] = (),
    artifacts: dict[str, Any] | None = None,
    job_type: str = "other",
    state: int = 1,
    retry_refusal: str | None = None,
    lives: list[Life] | None = None,
    created_at: float = 0.0,
) -> DbtCloudJob:
    return DbtCloudJob(
        account_id,
        job_id,
        project_id,
        environment_id,
        name,
        execute_steps,
        models,
        failing,
        artifacts or {},
        lives or [],
        created_at,
        job_type,
        state,
        retry_refusal,
    )


def _queued_for(life: Life) -> float:
    word, seconds = life.steps[0]
    return seconds if word == "queued" else 0.0


def _number(word: str) -> int:
    if word.isdigit():
        return int(word)
    return STATUSES.get(word, _UNKNOWN_STATUS)


def _within(value: float | None, bounds: tuple[float, float] | None) -> bool:
    if bounds is None:
        return True
    if value is None:
        return False
    # The server keeps microseconds: the time that it has shown is within its bounds.
    low, high = (round(bound, 6) for bound in bounds)
    return low <= round(value, 6) <= high


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest:02d}"


def _words(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} seconds"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} minutes, {rest} seconds"
