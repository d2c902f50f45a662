"""Why a run failed, and what its results were: what its row does not say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from async_triggers.dbt_cloud.api import models, replies, requests
from async_triggers.dbt_cloud.api.run_results import summarize
from async_triggers.engine.errors import EngineError, PermanentError
from async_triggers.engine.jobs import JobState

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Account, Reply, Request

# Seconds in which it is found out why a run failed: the task must not wait for it longer.
EXPLAIN = 10.0
# The log of a step and the artifacts of a run appear a moment after its end.
EXPLAIN_AGAIN = 2.0


class Explanation:
    """What can be learnt of a run that has ended, with ``send`` for its requests."""

    def __init__(
        self, job: Job, send: Callable[[Request], Awaitable[Reply]], log: Logger
    ) -> None:
        self._job = job
        self._send = send
        self._log = log
        self._step: models.Step | None = None
        self._nodes: list[str] = []
        self._results: dict[str, Any] | None = None

    async def of(self, account: Account, *, summarize: bool) -> Job:
        """Return the run with what was learnt; as it is where there is nothing."""
        job = self._job
        is_wanted = summarize and job.state is JobState.SUCCEEDED
        if not is_wanted and job.state is not JobState.FAILED:
            return job

        try:
            async with asyncio.timeout(EXPLAIN):
                await self._learn(account)
                if not self._is_complete:
                    await asyncio.sleep(EXPLAIN_AGAIN)
                    await self._learn(account)

        except EngineError as error:
            self._log.warning("%s could not be learnt: %s", self._what, error.message)
        except TimeoutError:
            self._log.warning("%s could not be learnt within %d s", self._what, EXPLAIN)

        if job.state is JobState.FAILED:
            self._log_lines()
            job = models.explain(job, self._step, self._nodes)

        return models.with_results(job, self._results)

    @property
    def _what(self) -> str:
        if self._job.state is JobState.FAILED:
            return f"Why run {self._job.id} failed"

        return f"The results of run {self._job.id}"

    @property
    def _is_complete(self) -> bool:
        if self._job.state is not JobState.FAILED:
            return self._results is not None

        step = self._step
        return step is not None and bool(step.lines) and bool(self._nodes)

    async def _learn(self, account: Account) -> None:
        if self._job.state is JobState.FAILED:
            request = requests.get_run(
                account, self._job.id, include_related=("run_steps",)
            )
            row = replies.read_row(request, await self._send(request))
            self._step = replies.read_failed_step(row) or self._step

        step = self._step
        request = requests.get_artifact(
            account,
            self._job.id,
            "run_results.json",
            step=None if step is None else step.index,
        )
        try:
            reply = await self._send(request)
        except PermanentError:
            # A step that failed before dbt ran has none.
            return

        self._results = summarize(reply.object(request.about))
        self._nodes = replies.read_failed_nodes(request, reply) or self._nodes

    def _log_lines(self) -> None:
        step = self._step
        if step is not None and step.lines:
            self._log.error(
                "The last lines of step %d, %s, of run %s:\n%s",
                step.index,
                step.name,
                self._job.id,
                "\n".join(step.lines),
            )
