"""Runs: starting, polling, cancelling and retrying them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from async_triggers.simulator.dbt_cloud.model import TERMINAL
from async_triggers.simulator.dbt_cloud.overrides import check_overrides
from async_triggers.simulator.dbt_cloud.replies import one, refuse
from async_triggers.simulator.dbt_cloud.run_rows import retry_refusal, run_row
from async_triggers.simulator.dbt_cloud.steps import run_steps

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import DbtCloudJob
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.exchange import SimReply, SimRequest

_LONGEST_CAUSE: Final = 255


class Runs:
    """The operations on single runs."""

    def __init__(self, scene: DbtCloudScene) -> None:
        self._scene = scene

    def start(self, request: SimRequest, account: str, job: str) -> SimReply:
        """Start a run of a job."""
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Trigger%20Job%20Run
        found = self._scene.job(account, job)
        body = self._scene.body(request)
        cause = body.get("cause")
        if not isinstance(cause, str) or not cause:
            raise refuse(400, "cause: This field is required.")
        if len(cause) > _LONGEST_CAUSE:
            raise refuse(400, "cause: at most 255 characters")
        check_overrides(body)
        return self._started(request, found, body)

    def _started(
        self,
        request: SimRequest,
        job: DbtCloudJob,
        body: dict[str, Any],
        retrying: int | None = None,
    ) -> SimReply:
        scene = self._scene
        run = scene.create(job, body, scene.next_life(job), retrying=retrying)
        details = dict(body) if retrying is None else {"retrying_run_id": retrying}
        at = scene.noted()
        scene.record.note_start(at, str(job.job_id), run.run_id, details)
        return one(run_row(scene, run, scene.now(), request))

    def rerun(self, request: SimRequest, account: str, job: str) -> SimReply:
        """Start a run of a job, from the failure of the latest one if that has failed."""
        scene = self._scene
        # https://docs.getdbt.com/docs/deploy/retry-jobs: from the point of failure
        # where the latest run has failed, else everything; there is no body.
        found = scene.job(account, job)
        found.settle(scene.now())
        latest = found.runs[-1] if found.runs else None
        if latest is not None and retry_refusal(scene, latest) is None:
            return self._started(request, found, latest.body, latest.run_id)
        return self._started(request, found, {"cause": "Triggered via API"})

    def cancel(self, request: SimRequest, account: str, run: str) -> SimReply:
        """Cancel a run."""
        scene = self._scene
        found = scene.run(account, run)
        now = scene.now()
        moment = found.timeline.at(now)
        if moment is not None and moment.word not in TERMINAL:
            begun = moment.word != "queued"
            takes = scene.settings.cancel_takes if begun else 0.0
            if found.end > now + takes:
                scene.record.cancels[str(found.run_id)] += 1
                found.finish(now + takes, "cancelled")
        return one(run_row(scene, found, now, request))

    def retry(self, request: SimRequest, account: str, run: str) -> SimReply:
        """Retry a failed run from its failure."""
        scene = self._scene
        found = scene.run(account, run)
        refusal = retry_refusal(scene, found)
        if refusal is not None:
            scene.record.refused_starts[str(found.job.job_id)] += 1
            raise refuse(400, refusal)
        return self._started(request, found.job, found.body, found.run_id)

    def failure(self, request: SimRequest, account: str, run: str) -> SimReply:
        """Answer with the step that has failed."""
        scene = self._scene
        found = scene.run(account, run)
        steps = run_steps(scene, found, scene.now())
        failed = [step for step in steps if step["status"] == 20]
        return one(
            {
                "failed_step": failed[0]["name"] if failed else None,
                "skipped_steps": [],
            }
        )

    def get(self, request: SimRequest, account: str, run: str) -> SimReply:
        """Answer with one run."""
        scene = self._scene
        return one(
            run_row(
                scene,
                scene.run(account, run),
                scene.now(),
                request,
                single=True,
            )
        )
