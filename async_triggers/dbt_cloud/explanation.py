"""Why a run failed, its steps, and what its results were: what its row does not say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
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


HearSteps = Callable[[Sequence[models.EndedStep]], None]
"""What takes the steps of a run that have ended."""


class Explanation:
    """What can be learnt of a run that has ended, with ``send`` for its requests.

    ``hear_steps`` is given the run's steps instead of the log.
    """

    def __init__(
        self,
        job: Job,
        send: Callable[[Request], Awaitable[Reply]],
        log: Logger,
        *,
        hear_steps: HearSteps | None = None,
    ) -> None:
        self._job = job
        self._send = send
        self._log = log
        self._hear_steps = hear_steps or self._log_steps
        self._with_steps = False
        self._with_results = False
        self._steps: list[models.EndedStep] = []
        self._step: models.Step | None = None
        self._nodes: list[str] = []
        self._results: dict[str, Any] | None = None

    async def of(self, account: Account, *, summarize: bool, with_steps: bool) -> Job:
        """Return the run with what was learnt; as it is where there is nothing.

        The steps of a failed run show why it failed, so they are learnt in any case.
        """
        job = self._job
        is_failed = job.state is JobState.FAILED
        self._with_steps = is_failed or with_steps
        self._with_results = is_failed or (
            summarize and job.state is JobState.SUCCEEDED
        )
        if not self._with_steps and not self._with_results:
            return job

        try:
            async with asyncio.timeout(EXPLAIN):
                await self._learn(account)
                if not self._is_complete:
                    await asyncio.sleep(EXPLAIN_AGAIN)
                    await self._learn(account)

        except EngineError as error:
            self._log.warning(
                "%s could not be determined: %s", self._what, error.message
            )
        except TimeoutError:
            self._log.warning(
                "%s could not be determined within %d s", self._what, EXPLAIN
            )

        if self._steps:
            self._hear_steps(self._steps)

        if job.state is JobState.FAILED:
            self._log_lines()
            job = models.explain(job, self._step, self._nodes)

        return models.with_results(job, self._results)

    @property
    def _what(self) -> str:
        if self._job.state is JobState.FAILED:
            return f"Why run {self._job.id} failed"

        if not self._with_results:
            return f"The steps of run {self._job.id}"

        return f"The results of run {self._job.id}"

    @property
    def _is_complete(self) -> bool:
        if self._job.state is not JobState.FAILED:
            return self._results is not None or not self._with_results

        step = self._step
        return step is not None and bool(step.lines) and bool(self._nodes)

    async def _learn(self, account: Account) -> None:
        if self._with_steps:
            request = requests.get_run(
                account, self._job.id, include_related=("run_steps",)
            )
            row = replies.read_row(request, await self._send(request))
            self._step = replies.read_failed_step(row) or self._step
            self._steps = replies.read_ended_steps(row)

        if not self._with_results:
            return

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

    def _log_steps(self, steps: Sequence[models.EndedStep]) -> None:
        self._log.info("%s", models.describe_steps(self._job.id, steps))

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
