"""Runs as the API shows them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.artifacts import has_artifacts
from async_triggers.simulator.dbt_cloud.facts import job_facts
from async_triggers.simulator.dbt_cloud.model import (
    DBT_VERSION,
    HUMANIZED,
    TERMINAL,
    DbtCloudRun,
    Times,
    number,
)
from async_triggers.simulator.dbt_cloud.replies import related_to
from async_triggers.simulator.dbt_cloud.spans import clock, words
from async_triggers.simulator.dbt_cloud.steps import run_steps
from async_triggers.simulator.lives import Moment

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.dbt_cloud.settings import DbtCloudSettings
    from async_triggers.simulator.exchange import SimRequest


def run_row(
    scene: DbtCloudScene,
    run: DbtCloudRun,
    at: float,
    request: SimRequest,
    *,
    single: bool = False,
) -> dict[str, Any]:
    """Return a run as it was at a time.

    :param single: Whether it is shown by itself; lists have no steps.
    """
    moment = run.timeline.at(at) or Moment("queued", at)
    account, job = run.job.account_id, run.job
    related = related_to(request)
    refusal = retry_refusal(scene, run)
    base = scene.settings.ui_url or f"http://{request.header('Host', 'localhost')}"
    where = f"{base}/deploy/{account}/projects/{job.project_id}"
    with_steps = single and "run_steps" in related
    return {
        "id": run.run_id,
        "trigger_id": run.run_id,
        "account_id": account,
        "environment_id": job.environment_id,
        "project_id": job.project_id,
        "job_definition_id": job.job_id,
        "job_id": job.job_id,
        **_status(run, moment),
        "dbt_version": DBT_VERSION,
        "git_branch": run.body.get("git_branch", "main"),
        "git_sha": run.body.get("git_sha", "0" * 40),
        **_times(scene, run, moment, at),
        "artifacts_saved": has_artifacts(scene, run, at),
        "blocked_by": _blocking(run) if moment.word == "queued" else [],
        "can_retry": refusal is None,
        "retry_not_supported_reason": refusal,
        "retrying_run_id": run.retrying,
        "href": f"{where}/runs/{run.run_id}/",
        "trigger": _trigger(scene, run) if "trigger" in related else None,
        "job": job_facts(job) if "job" in related else None,
        "run_steps": run_steps(scene, run, at) if with_steps else [],
    }


def _status(run: DbtCloudRun, moment: Moment) -> dict[str, Any]:
    status, word = number(moment.word), moment.word
    failed = f"dbt command failed: {run.steps[-1]}"
    return {
        "status": status,
        "status_humanized": HUMANIZED.get(status, word.title()),
        "status_message": failed if word == "error" else None,
        "in_progress": word not in TERMINAL,
        "is_running": word == "running",
        "is_complete": word in TERMINAL,
        "is_success": word == "success",
        "is_error": word == "error",
        "is_cancelled": word == "cancelled",
    }


def _times(
    scene: DbtCloudScene, run: DbtCloudRun, moment: Moment, at: float
) -> dict[str, Any]:
    times = times_of(scene.settings, run, at)
    stop = times.finished if times.finished is not None else at
    start = times.started
    whole = stop - times.created
    queued = (start if start is not None else stop) - times.created
    ran = stop - start if start is not None else 0
    return {
        "created_at": scene.instant(times.created),
        "updated_at": scene.instant(moment.since),
        "dequeued_at": scene.instant(times.dequeued),
        "started_at": scene.instant(start),
        "finished_at": scene.instant(times.finished),
        "duration": clock(whole),
        "queued_duration": clock(queued),
        "run_duration": clock(ran),
        "duration_humanized": words(whole),
        "queued_duration_humanized": words(queued),
        "run_duration_humanized": words(ran),
    }


def _blocking(run: DbtCloudRun) -> list[int]:
    before = itertools.takewhile(lambda one: one is not run, run.job.queue)
    return [one.run_id for one in before]


def times_of(settings: DbtCloudSettings, run: DbtCloudRun, at: float) -> Times:
    """Return when a run came to its states, as far as it had by then."""
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
        and not settings.cancelled_early_has_end
    ):
        finished = None
    if dequeued is None:
        dequeued = started
    return Times(line.start, dequeued, started, finished)


def _trigger(scene: DbtCloudScene, run: DbtCloudRun) -> dict[str, Any]:
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
        "created_at": scene.instant(run.timeline.start),
        **{name: run.body.get(name) for name in names},
    }


def retry_refusal(scene: DbtCloudScene, run: DbtCloudRun) -> str | None:
    """Return why a run cannot be retried, or None if it can."""
    moment = run.timeline.at(scene.now())
    if moment is None or moment.word != "error":
        return "RETRY_NOT_FAILED_RUN"
    if run.job.runs and run.job.runs[-1] is not run:
        return "RETRY_NOT_LATEST_RUN"
    return run.job.retry_refusal
