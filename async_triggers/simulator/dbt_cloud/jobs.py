"""Jobs."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.facts import (
    environment_facts,
    job_facts,
    project_facts,
)
from async_triggers.simulator.dbt_cloud.filters import FilterReader
from async_triggers.simulator.dbt_cloud.model import DBT_VERSION, TERMINAL
from async_triggers.simulator.dbt_cloud.replies import (
    named,
    one,
    related_to,
)
from async_triggers.simulator.dbt_cloud.run_rows import run_row

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import DbtCloudJob
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.exchange import SimReply, SimRequest


class Jobs:
    """The operations on jobs, but for those that start runs."""

    def __init__(self, scene: DbtCloudScene) -> None:
        self._scene = scene

    def list_all(self, request: SimRequest, account: str) -> SimReply:
        """Answer with a page of jobs."""
        rows = []
        deleted = request.value("state") in {"deleted", "2"}
        everything = request.value("state") == "all"
        filters: dict[str, Any] = {"account_id": int(account)}
        read = FilterReader(self._scene, request, filters)
        job_id, environment = read.integer("pk"), read.integer("environment_id")
        projects = read.integers("project_id__in", "project_id")
        related = related_to(request)
        for job in self._scene.all_jobs.values():
            if job.account_id != int(account):
                continue
            if not everything and (job.state == 2) != deleted:
                continue
            if job_id not in (None, job.job_id):
                continue
            if projects is not None and job.project_id not in projects:
                continue
            if environment not in (None, job.environment_id):
                continue
            rows.append(self._shown(job, request, related))
        if request.value("order_by") == "-id":
            rows.sort(key=lambda row: -row["id"])
        return named(self._scene.settings, request, rows, **filters)

    def get(self, request: SimRequest, account: str, job: str) -> SimReply:
        """Answer with one job."""
        related = related_to(request)
        return one(self._shown(self._scene.job(account, job), request, related))

    def _shown(
        self, job: DbtCloudJob, request: SimRequest, related: AbstractSet[str]
    ) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Job
        scene = self._scene
        account = scene.accounts[job.account_id]
        project = scene.projects.get(job.project_id)
        environment = scene.environments.get(job.environment_id)
        row: dict[str, Any] = {
            **job_facts(job),
            "raw_dbt_version": DBT_VERSION,
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
            "project": project_facts(scene, project) if project else None,
            "environment": environment_facts(environment) if environment else None,
            "created_at": scene.instant(job.created_at),
            "updated_at": scene.instant(job.created_at),
        }
        if "most_recent_run" in related:
            job.settle(scene.now())
            latest = job.runs[-1] if job.runs else None
            row["most_recent_run"] = (
                run_row(scene, latest, scene.now(), request) if latest else None
            )
        return row

    def _failures(self, job: DbtCloudJob) -> int:
        """Return how many of a job's latest runs have failed in a row."""
        now, count = self._scene.now(), 0
        for run in reversed(job.runs):
            moment = run.timeline.at(now)
            if moment is None or moment.word not in TERMINAL:
                continue
            if moment.word != "error":
                break
            count += 1
        return count
