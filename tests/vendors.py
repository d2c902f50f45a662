"""The registry of vendors: what the suites need to try a vendor, in one entry each.

The contract, every kill, every situation and Airflow's own runners are parametrized from
here: one more vendor is one more :class:`Entry` in :data:`VENDORS`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from ferry_provider.api import FERRY as FERRY_API
from ferry_provider.events import CrossingEnded
from ferry_provider.hooks import FerryHook
from ferry_provider.operators import FerryOperator
from ferry_provider.sensors import FerrySensor
from ferry_provider.simulator import FerrySimulator
from ferry_provider.triggers import FerryTrigger

from async_triggers.airbyte.api.vendor import AIRBYTE as AIRBYTE_API
from async_triggers.airbyte.events import AirbyteSyncFinished
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.dbt_cloud.api.vendor import DBT_CLOUD as DBT_CLOUD_API
from async_triggers.dbt_cloud.events import DbtCloudRunFinished
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.dbt_cloud.operators import DbtCloudRunJobOperator
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.fivetran.api.models import Run
from async_triggers.fivetran.api.vendor import FIVETRAN as FIVETRAN_API
from async_triggers.fivetran.events import FivetranSyncFinished
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.fivetran.triggers import FivetranTrigger
from async_triggers.simulator import (
    AirbyteSimulator,
    DbtCloudSimulator,
    FivetranSimulator,
)
from async_triggers.simulator.dbt_cloud import DEFAULT_ACCOUNT
from async_triggers.simulator.fivetran.rows import connection_row

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.operator import JobOperator
    from async_triggers.deferral.sensor import JobSensor
    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.deferral.watching import EndWatcher
    from async_triggers.engine.wire import Vendor
    from async_triggers.simulator import Simulator


class Entry(ABC):
    """One vendor, by the simulator as it is without settings.

    A *target* is what jobs are started of, such as a connection; a *job* is what a
    sensor waits for.

    :cvar noun: The vendor's name in messages.
    :cvar connection: The fields of an Airflow connection that the simulator accepts.
    :cvar static: Likewise, without a token to be issued first.
    :cvar target: A target; ``target_key`` is the operator's argument for it.
    :cvar job_key: The sensor's argument for a job.
    :cvar conn_key: The argument for the name of the Airflow connection.
    :cvar interval_key: The operator's argument for seconds between polls.
    :cvar running: The vendor's word for a job that runs.
    :cvar ends: Its words for jobs that have ended.
    :cvar statistics_key: The XCom with the statistics.
    :cvar permits: Arguments that let an operator cancel.
    :cvar attaches: Arguments that attach an operator to the job of another.
    :cvar unscheduled: Arguments that leave the schedule of a target as it is.
    :cvar anonymous: Arguments with which its jobs do not show whose they are.
    :cvar changed: Arguments with which an operator requests another job.
    :cvar rendered: Arguments that templates may render for a task that comes back.
    :cvar recent: Arguments with which a sensor takes a job that has ended before it began.
    :cvar sensor_returns: Whether a sensor returns its job.
    :cvar start_path: How the path ends by which a job is started.
    :cvar before_start: The path that is polled before a start.
    :cvar polls: What requests the state of jobs: method and path.
    :cvar cancel: Method and path of the request that stops a job.
    :cvar slow_cancel: Settings with which stopping takes ten seconds.
    :cvar has_schedule: Whether the vendor may start jobs of a target by itself.
    :cvar has_other_jobs: Whether a job of another stands in the way of a start.
    :cvar has_target_sensor: Whether a sensor waits for what a target runs next.
    :cvar has_wide_watchers: Whether an event trigger watches several targets.
    :cvar job_is_target: Whether a job has no id but that of its target.
    :cvar cancels_target: Whether a cancel stops what the target runs, whichever job it is.
    :cvar new_secret: Settings with ``new`` as the only valid secret.
    :cvar unknown: An id that no job has.
    :cvar strange: A running job's status in an answer, and one that nobody knows.
    :cvar only_https: Whether a connection that says http is read as https.
    :cvar labels: How users know the fields of a connection that are asked for.
    :cvar wrong_words: Words that the vendor's own users would not say of a job.
    :cvar knows_url: Whether a trigger by itself knows the address of its job.
    :cvar lists_running: Whether the list that many triggers share shows jobs that run.
    :cvar short_lists: Settings with which a list leaves out some of a job's row.
    :cvar confirmations: Requests that each ended job costs beside that list.
    :cvar url_part: A part of a job's address.
    :cvar row_field: A field that each row of a job has, and nothing else in an answer.
    :cvar a_mark: A mark with which a trigger by itself waits for a job.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    vendor: ClassVar[Vendor]
    simulator: ClassVar[Callable[..., Any]]
    hook_class: ClassVar[type[VendorHook]]
    operator_class: ClassVar[type[JobOperator]]
    sensor_class: ClassVar[type[JobSensor]]
    connection: ClassVar[dict[str, str]]
    static: ClassVar[dict[str, str]]
    target: ClassVar[Any]
    target_key: ClassVar[str]
    job_key: ClassVar[str]
    conn_key: ClassVar[str]
    interval_key: ClassVar[str]
    running: ClassVar[str] = "running"
    ends: ClassVar[dict[str, str]]
    statistics_key: ClassVar[str]
    permits: ClassVar[dict[str, Any]] = {}
    attaches: ClassVar[dict[str, Any]]
    unscheduled: ClassVar[dict[str, Any]] = {}
    anonymous: ClassVar[dict[str, Any]] = {}
    changed: ClassVar[dict[str, Any]]
    rendered: ClassVar[dict[str, Any]]
    recent: ClassVar[dict[str, Any]] = {}
    sensor_returns: ClassVar[bool] = True
    start_path: ClassVar[str]
    before_start: ClassVar[str]
    polls: ClassVar[re.Pattern[str]]
    cancel: ClassVar[tuple[str, str]]
    slow_cancel: ClassVar[dict[str, float]]
    row_field: ClassVar[str]
    a_mark: ClassVar[str | None] = None
    has_schedule: ClassVar[bool] = False
    has_other_jobs: ClassVar[bool] = True
    has_target_sensor: ClassVar[bool] = True
    has_wide_watchers: ClassVar[bool] = True
    job_is_target: ClassVar[bool] = False
    cancels_target: ClassVar[bool] = False
    new_secret: ClassVar[dict[str, Any]]
    unknown: ClassVar[str]
    strange: ClassVar[tuple[bytes, bytes]]
    only_https: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]]
    wrong_words: ClassVar[str]
    knows_url: ClassVar[bool] = True
    lists_running: ClassVar[bool] = True
    short_lists: ClassVar[dict[str, Any]] = {}
    confirmations: ClassVar[int] = 0
    url_part: ClassVar[str]

    @property
    def start(self) -> dict[str, Any]:
        """The method and path of a start, as a fault takes them."""
        return {"method": "POST", "path": f"*{self.start_path}"}

    def part(self, simulator: Simulator) -> Any:
        """Return the vendor's part of a simulator of all."""
        return simulator.vendor(self.name)

    def life(self, end: str = "", *, lasts: float = 60) -> str:
        """Return the life of a job that ends after some seconds, or never."""
        return f"{self.running}:{lasts:g} {self.ends[end]}" if end else self.running

    def sync(self, **arguments: Any) -> Callable[[], BaseOperator]:
        """Return a maker of one and the same operator."""
        given = {
            "task_id": "sync",
            "deferrable": True,
            self.target_key: self.target,
            **self.permits,
            **arguments,
        }
        return lambda: self.operator_class(**given)

    def sensor(self, job: object, **arguments: Any) -> Callable[[], BaseOperator]:
        """Return a maker of one and the same sensor."""
        given = {"task_id": "sync", "deferrable": True, self.job_key: job, **arguments}
        return lambda: self.sensor_class(**given)

    def other_target(self, number: int) -> Any:
        """Return one more target."""
        return f"c{number}"

    @abstractmethod
    def job_path(self, job: object) -> str:
        """Return the path by which a job is polled, from any root."""

    @abstractmethod
    def add_target(self, simulator: Any, target: Any, *lives: str) -> None:
        """Add a target, whose next jobs take the lives."""

    def add_new_target(self, simulator: Any, target: Any) -> None:
        """Add a target of which no job has ever been started."""
        self.add_target(simulator, target)

    @abstractmethod
    def add_job(self, simulator: Any, target: Any, life: str) -> Any:
        """Begin a job that no task has started; return what a sensor calls it."""

    def add_alike(self, simulator: Any, target: Any, life: str) -> Any:
        """Begin a job of others that looks as one of an anonymous operator does."""
        return self.add_job(simulator, target, life)

    def watch(self, simulator: Any, life: str) -> tuple[str, str | None]:
        """Begin a job of a new target; return what a poller requests, and its mark."""
        target = self.other_target(len(simulator.jobs(finished=True)))
        self.add_target(simulator, target)
        return str(self.add_job(simulator, target, life)), None

    def schedule(  # noqa: B027 - most have no schedule of their own
        self, simulator: Any, target: Any
    ) -> None:
        """Let the vendor start jobs of a target by itself."""

    def unpause(self, simulator: Any, target: Any) -> None:  # noqa: B027 - as above
        """Let a target that a cancel has paused run again."""

    def expire_tokens(self, simulator: Any) -> None:  # noqa: B027 - most issue none
        """Let every token that the vendor has issued be expired."""

    @abstractmethod
    def accepts(self, client: str, secret: str, token: str) -> dict[str, Any]:
        """Return the settings with which the simulator accepts nothing but these."""

    @abstractmethod
    def proofs(self, client: str, secret: str, token: str) -> dict[str, dict[str, Any]]:
        """Return the fields of a connection for each way to prove who calls."""

    @abstractmethod
    def trigger(
        self,
        job: Any,
        conn_id: str,
        *,
        mark: str | None = None,
        interval: float = 30.0,
        end_time: float | None = None,
        seen_at: float | None = None,
        **given: Any,
    ) -> JobTrigger:
        """Return a trigger that waits for a job."""

    def watcher(self, target: Any, **given: Any) -> EndWatcher:
        """Return a watcher of all that a target runs."""
        raise NotImplementedError

    def wide_watcher(self, simulator: Any, target: Any, **given: Any) -> EndWatcher:
        """Return a watcher of all that runs beside a target."""
        raise NotImplementedError

    def remove_target(self, simulator: Any, target: Any) -> None:
        """Let a target be deleted at the vendor."""
        raise NotImplementedError

    @abstractmethod
    def make_strange(self, row: dict[str, Any]) -> None:
        """Change the status in a row to one that nobody knows."""

    @abstractmethod
    def forbidden(self, words: str) -> dict[str, Any]:
        """Return the body with which the vendor answers 403."""


class _Airbyte(Entry):
    row_field = "jobId"
    name = "airbyte"
    noun = "Airbyte"
    vendor = AIRBYTE_API
    simulator = AirbyteSimulator
    hook_class = AirbyteHook
    operator_class = AirbyteTriggerSyncOperator
    sensor_class = AirbyteJobSensor
    connection: ClassVar = {"login": "simulator-client", "password": "simulator-secret"}
    static: ClassVar = {"password": "simulator-token"}
    target = "connection-uuid-123"
    target_key = "connection_id"
    job_key = "airbyte_job_id"
    conn_key = "airbyte_conn_id"
    interval_key = "wait_seconds"
    ends: ClassVar = {
        "success": "succeeded",
        "error": "failed",
        "cancelled": "cancelled",
    }
    statistics_key = "airbyte_job"
    attaches: ClassVar = {"if_running": "attach"}
    changed: ClassVar = {"job_type": "reset", "if_running": "fail"}
    rendered: ClassVar = {"connection_id": "other"}
    sensor_returns = False
    start_path = "/jobs"
    before_start = "*/connections/*"
    polls = re.compile(r"GET .*/jobs(/\d+)?$")
    cancel = ("DELETE", "*/jobs/*")
    slow_cancel: ClassVar = {"cancel_blocks": 10.0}
    has_schedule = True
    new_secret: ClassVar = {"client_secret": "new"}
    cancels_target = True
    unknown = "987654321"
    strange = (b'"running"', b'"hibernating"')
    only_https = False
    labels = ("Server URL (host)", "Client ID (login)", "Client Secret (password)")
    wrong_words = r"\b(run|sync) \d"
    knows_url = False
    short_lists: ClassVar = {"hydrate_lists": False}
    url_part = "jobId=1"

    def job_path(self, job: object) -> str:
        return f"*/jobs/{job}"

    def add_target(self, simulator: Any, target: Any, *lives: str) -> None:
        simulator.add_connection(target, lives=list(lives))

    def add_job(self, simulator: Any, target: Any, life: str) -> Any:
        return simulator.add_job(target, life)

    def schedule(self, simulator: Any, target: Any) -> None:
        simulator.connections[target].schedule_type = "cron"

    def expire_tokens(self, simulator: Any) -> None:
        simulator.expire_tokens()

    def accepts(self, client: str, secret: str, token: str) -> dict[str, Any]:
        return {
            "client_id": client,
            "client_secret": secret,
            "bearer_tokens": [token],
            "username": client,
            "password": secret,
        }

    def proofs(self, client: str, secret: str, token: str) -> dict[str, dict[str, Any]]:
        pair = {"login": client, "password": secret}
        return {
            "airbyte-client": pair,
            "airbyte-bearer": {"password": token},
            "airbyte-basic": {**pair, "extra": {"auth": "basic"}},
        }

    def trigger(
        self,
        job: Any,
        conn_id: str,
        *,
        mark: str | None = None,
        interval: float = 30.0,
        end_time: float | None = None,
        seen_at: float | None = None,
        **given: Any,
    ) -> JobTrigger:
        return AirbyteSyncTrigger(
            int(job), conn_id, end_time, interval, seen_at=seen_at, **given
        )

    def watcher(self, target: Any, **given: Any) -> EndWatcher:
        return AirbyteSyncFinished(target, **given)

    def wide_watcher(self, simulator: Any, target: Any, **given: Any) -> EndWatcher:
        workspace = simulator.connections[target].workspace_id
        return AirbyteSyncFinished(workspace_id=workspace, **given)

    def remove_target(self, simulator: Any, target: Any) -> None:
        simulator.set_connection_status(target, "deprecated")

    def make_strange(self, row: dict[str, Any]) -> None:
        row["status"] = "hibernating"

    def forbidden(self, words: str) -> dict[str, Any]:
        return {"type": "error:forbidden", "title": "x", "detail": words}


class _Fivetran(Entry):
    row_field = "schedule_type"
    a_mark = "2026-03-25T01:00:00Z~~"
    name = "fivetran"
    noun = "Fivetran"
    vendor = FIVETRAN_API
    simulator = FivetranSimulator
    hook_class = FivetranHook
    operator_class = FivetranOperator
    sensor_class = FivetranSensor
    connection: ClassVar = {"login": "simulator-key", "password": "simulator-secret"}
    static = connection
    target = "orders"
    target_key = "connector_id"
    job_key = "connector_id"
    conn_key = "fivetran_conn_id"
    interval_key = "poll_frequency"
    running = "syncing"
    ends: ClassVar = {"success": "succeeded", "error": "failed"}
    statistics_key = "fivetran_sync"
    permits: ClassVar = {"cancel_on_kill": True, "cancel_on_timeout": True}
    attaches: ClassVar = {"if_running": "attach"}
    unscheduled: ClassVar = {"schedule_type": None}
    changed: ClassVar = {"connector_id": "other"}
    rendered: ClassVar = {"connector_id": "other"}
    recent: ClassVar = {"completed_after_time": "2026-03-25T01:00:00Z"}
    start_path = "/sync"
    before_start = "*/connections/*"
    polls = re.compile(r"GET .*/connections(/orders)?$")
    cancel = ("PATCH", "*/connections/*")
    slow_cancel: ClassVar = {"stop_blocks": 10.0}
    has_schedule = True
    job_is_target = True
    cancels_target = True
    new_secret: ClassVar = {"api_secret": "new"}
    unknown = "nobody_knows"
    strange = (b'"syncing"', b'"hibernating"')
    labels = ("host", "API Key (login)", "API Secret (password)")
    wrong_words = r"\b[Jj]obs?\b|\brun \d"
    # The end is confirmed, and settled by the history.
    confirmations = 2
    url_part = "/connections/orders"

    def job_path(self, job: object) -> str:
        return f"*/connections/{job}"

    def add_target(self, simulator: Any, target: Any, *lives: str) -> None:
        simulator.add_connection(target, lives=list(lives), succeeded_ago=3600)

    def add_new_target(self, simulator: Any, target: Any) -> None:
        simulator.add_connection(target)

    def add_job(self, simulator: Any, target: Any, life: str) -> Any:
        simulator.start_sync(target, life)
        return target

    def watch(self, simulator: Any, life: str) -> tuple[str, str | None]:
        target = self.other_target(len(simulator.connections))
        self.add_target(simulator, target)
        connection = simulator.connections[target]
        shown = connection_row(simulator, connection, connection.state)
        before = Run(
            connection_id=target,
            succeeded_at=shown["succeeded_at"],
            failed_at=shown["failed_at"],
        )
        self.add_job(simulator, target, life)
        return target, before.mark

    def schedule(self, simulator: Any, target: Any) -> None:
        simulator.change(target, schedule_type="auto")

    def unpause(self, simulator: Any, target: Any) -> None:
        simulator.change(target, paused=False)

    def accepts(self, client: str, secret: str, token: str) -> dict[str, Any]:
        return {"api_key": client, "api_secret": secret}

    def proofs(self, client: str, secret: str, token: str) -> dict[str, dict[str, Any]]:
        return {"fivetran": {"login": client, "password": secret}}

    def trigger(
        self,
        job: Any,
        conn_id: str,
        *,
        mark: str | None = None,
        interval: float = 30.0,
        end_time: float | None = None,
        seen_at: float | None = None,
        **given: Any,
    ) -> JobTrigger:
        return FivetranTrigger(
            "sync",
            str(job),
            conn_id,
            poke_interval=interval,
            baseline=mark,
            end_time=end_time,
            **given,
        )

    def watcher(self, target: Any, **given: Any) -> EndWatcher:
        return FivetranSyncFinished(target, **given)

    def wide_watcher(self, simulator: Any, target: Any, **given: Any) -> EndWatcher:
        group = simulator.connections[target].group_id
        return FivetranSyncFinished(group_id=group, **given)

    def remove_target(self, simulator: Any, target: Any) -> None:
        simulator.settings.accept_unknown = False
        del simulator.connections[target]

    def make_strange(self, row: dict[str, Any]) -> None:
        row["status"]["sync_state"] = "hibernating"

    def forbidden(self, words: str) -> dict[str, Any]:
        return {"code": "Forbidden", "message": words}


class _DbtCloud(Entry):
    row_field = "job_definition_id"
    name = "dbt_cloud"
    noun = "dbt Cloud"
    vendor = DBT_CLOUD_API
    simulator = DbtCloudSimulator
    hook_class = DbtCloudHook
    operator_class = DbtCloudRunJobOperator
    sensor_class = DbtCloudJobRunSensor
    connection: ClassVar = {
        "login": str(DEFAULT_ACCOUNT),
        "password": "simulator-token",
    }
    static = connection
    target = 3001
    target_key = "job_id"
    job_key = "run_id"
    conn_key = "dbt_cloud_conn_id"
    interval_key = "check_interval"
    ends: ClassVar = {"success": "success", "error": "error", "cancelled": "cancelled"}
    statistics_key = "dbt_cloud_run"
    attaches: ClassVar = {"reuse_existing_run": True}
    anonymous: ClassVar = {"mark_cause": False, "trigger_reason": "nightly"}
    changed: ClassVar = {"schema_override": "other"}
    rendered: ClassVar = {"steps_override": ["dbt run --vars 'now: 01:31'"]}
    start_path = "/run/"
    before_start = "*/jobs/*"
    polls = re.compile(r"GET .*/runs/(\d+/)?$")
    cancel = ("POST", "*/cancel/")
    slow_cancel: ClassVar = {"cancel_takes": 10.0}
    has_other_jobs = False
    new_secret: ClassVar = {"tokens": ("new",)}
    unknown = "70403199999999"
    strange = (b'"status":3', b'"status":77')
    labels = ("Tenant (host)", "Account ID (login)", "API Token (password)")
    # A job is what is run: it has a number of its own, by which it is started.
    wrong_words = r"\b[Jj]obs?\b(?! 3001\b)|\bsync\b"
    # The list of what has ended is shorter.
    lists_running = False
    url_part = "/runs/"

    def other_target(self, number: int) -> Any:
        return 4712 + number

    def job_path(self, job: object) -> str:
        return f"*/runs/{job}/"

    def add_target(self, simulator: Any, target: Any, *lives: str) -> None:
        simulator.add_job(target, lives=list(lives))

    def add_job(self, simulator: Any, target: Any, life: str) -> Any:
        return simulator.add_run(target, life)

    def add_alike(self, simulator: Any, target: Any, life: str) -> Any:
        cause = self.anonymous["trigger_reason"]
        return simulator.add_run(target, life, cause=cause)

    def accepts(self, client: str, secret: str, token: str) -> dict[str, Any]:
        return {"tokens": [token]}

    def proofs(self, client: str, secret: str, token: str) -> dict[str, dict[str, Any]]:
        return {"dbt_cloud": {"login": str(DEFAULT_ACCOUNT), "password": token}}

    def trigger(
        self,
        job: Any,
        conn_id: str,
        *,
        mark: str | None = None,
        interval: float = 30.0,
        end_time: float | None = None,
        seen_at: float | None = None,
        **given: Any,
    ) -> JobTrigger:
        return DbtCloudRunJobTrigger(
            conn_id,
            int(job),
            end_time,
            interval,
            DEFAULT_ACCOUNT,
            seen_at=seen_at,
            **given,
        )

    def watcher(self, target: Any, **given: Any) -> EndWatcher:
        return DbtCloudRunFinished(target, **given)

    def wide_watcher(self, simulator: Any, target: Any, **given: Any) -> EndWatcher:
        project = simulator.all_jobs[target].project_id
        return DbtCloudRunFinished(project_id=project, **given)

    def remove_target(self, simulator: Any, target: Any) -> None:
        simulator.settings.accept_unknown = False
        simulator.all_jobs.pop(target)

    def make_strange(self, row: dict[str, Any]) -> None:
        row["status"] = 4711

    def forbidden(self, words: str) -> dict[str, Any]:
        return {"status": {"code": 403, "is_success": False, "user_message": words}}


class _Ferry(Entry):
    """A vendor of somebody else's package, see ``tests/outside_vendor``."""

    row_field = "route"
    name = "ferry"
    noun = "Ferry"
    vendor = FERRY_API
    simulator = FerrySimulator
    hook_class = FerryHook
    operator_class = FerryOperator
    sensor_class = FerrySensor
    connection: ClassVar = {"password": "simulator-pass"}
    static = connection
    has_target_sensor = False
    has_wide_watchers = False
    target = "dover-calais"
    target_key = "route"
    job_key = "job_id"
    conn_key = "conn_id"
    interval_key = "poll_interval"
    running = "sailing"
    ends: ClassVar = {
        "success": "arrived",
        "error": "stranded",
        "cancelled": "cancelled",
    }
    statistics_key = "ferry_crossing"
    attaches: ClassVar = {"if_running": "attach"}
    changed: ClassVar = {"route": "other"}
    rendered: ClassVar = {"route": "other"}
    sensor_returns = False
    start_path = "/crossings"
    lists_running = False
    before_start = "*/crossings"
    polls = re.compile(r"GET .*/crossings(/\d+)?$")
    cancel = ("POST", "*/cancel")
    slow_cancel: ClassVar = {"cancel_takes": 10.0}
    new_secret: ClassVar = {"passes": ("new",)}
    unknown = "987654321"
    strange = (b'"sailing"', b'"hibernating"')
    labels = ("Harbour (host)", "Boarding pass (password)")
    wrong_words = r"\b[Jj]obs?\b|\b(run|sync) \d"
    url_part = "/crossings/"

    def job_path(self, job: object) -> str:
        return f"*/crossings/{job}"

    def add_target(self, simulator: Any, target: Any, *lives: str) -> None:
        simulator.add_route(target, lives=lives)

    def add_job(self, simulator: Any, target: Any, life: str) -> Any:
        return simulator.add_crossing(target, life)

    def accepts(self, client: str, secret: str, token: str) -> dict[str, Any]:
        return {"passes": (token,)}

    def proofs(self, client: str, secret: str, token: str) -> dict[str, dict[str, Any]]:
        return {"ferry": {"login": "", "password": token}}

    def trigger(
        self,
        job: Any,
        conn_id: str,
        *,
        mark: str | None = None,
        interval: float = 30.0,
        end_time: float | None = None,
        seen_at: float | None = None,
        **given: Any,
    ) -> JobTrigger:
        return FerryTrigger(
            str(job),
            conn_id,
            poll_interval=interval,
            end_time=end_time,
            seen_at=seen_at,
            **given,
        )

    def watcher(self, target: Any, **given: Any) -> EndWatcher:
        return CrossingEnded(target, **given)

    def remove_target(self, simulator: Any, target: Any) -> None:
        simulator.settings.accept_unknown = False
        simulator.remove_route(target)

    def make_strange(self, row: dict[str, Any]) -> None:
        row["state"] = "hibernating"

    def forbidden(self, words: str) -> dict[str, Any]:
        return {"error": {"code": "forbidden", "message": words}}


AIRBYTE, FIVETRAN, DBT_CLOUD, FERRY = _Airbyte(), _Fivetran(), _DbtCloud(), _Ferry()
VENDORS: tuple[Entry, ...] = (AIRBYTE, FIVETRAN, DBT_CLOUD, FERRY)
OTHERS = (FerrySimulator,)
"""The simulators of vendors that are not the package's own."""
every_vendor = pytest.mark.parametrize("case", VENDORS, ids=lambda case: case.name)
widely_watched = pytest.mark.parametrize(
    "case",
    [case for case in VENDORS if case.has_wide_watchers],
    ids=lambda case: case.name,
)
every_watch = pytest.mark.parametrize(
    ("case", "wide"),
    [
        pytest.param(case, wide, id=f"{case.name}-{'all' if wide else 'one'}")
        for case in VENDORS
        for wide in (False, True)
        if case.has_wide_watchers or not wide
    ],
)
every_target_awaited = pytest.mark.parametrize(
    "case",
    [case for case in VENDORS if case.has_target_sensor],
    ids=lambda case: case.name,
)
in_each_others_way = pytest.mark.parametrize(
    "case",
    [case for case in VENDORS if case.has_other_jobs],
    ids=lambda case: case.name,
)
has_a_schedule = pytest.mark.parametrize(
    "case",
    [case for case in VENDORS if case.has_schedule],
    ids=lambda case: case.name,
)
every_end = pytest.mark.parametrize(
    ("case", "end"),
    [
        pytest.param(case, end, id=f"{case.name}-{end}")
        for case in VENDORS
        for end in case.ends
    ],
)
