"""The artifacts that a run leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.model import DBT_VERSION, PREAMBLE
from async_triggers.simulator.dbt_cloud.replies import integer, one, refuse
from async_triggers.simulator.exchange import (
    SimReply,
    SimRequest,
    json_reply,
    text_reply,
)

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import DbtCloudRun
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene


def has_artifacts(scene: DbtCloudScene, run: DbtCloudRun, at: float) -> bool:
    """Whether the artifacts of a run are there at a time."""
    moment = run.timeline.at(at)
    return (
        moment is not None
        and moment.word in {"success", "error"}
        and at >= moment.since + scene.settings.logs_after
    )


class Artifacts:
    """The operations on artifacts."""

    def __init__(self, scene: DbtCloudScene) -> None:
        self._scene = scene

    def list_all(self, request: SimRequest, account: str, run: str) -> SimReply:
        """Answer with the paths of the artifacts of a run."""
        return one(sorted(self._of(self._scene.run(account, run))))

    def get(self, request: SimRequest, account: str, run: str, path: str) -> SimReply:
        """Answer with one artifact."""
        found = self._scene.run(account, run)
        artifacts = self._of(found)
        step = integer(request, "step", 1)
        steps = len(PREAMBLE) + len(found.steps)
        if path not in artifacts or not 1 <= step <= steps:
            raise refuse(404)
        content = artifacts[path]
        if isinstance(content, str):
            return text_reply(200, content)
        return json_reply(200, content)

    def _of(self, run: DbtCloudRun) -> dict[str, Any]:
        scene = self._scene
        if not has_artifacts(scene, run, scene.now()):
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
            "dbt_version": DBT_VERSION,
            "generated_at": scene.instant(moment.since),
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
