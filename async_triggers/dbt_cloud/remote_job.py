"""dbt Cloud's runs as values: what to run, and a run that there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from async_triggers.dbt_cloud.api import replies, requests
from async_triggers.dbt_cloud.gathering import Gathering
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral.record import Intent, Unsettled
from async_triggers.deferral.remote_job import Before, JobRequest, RemoteJob
from async_triggers.engine.errors import JobNotFound, PermanentError, RequestRejected
from async_triggers.engine.wording import aside, sentence

if TYPE_CHECKING:
    from async_triggers.dbt_cloud.explanation import HearSteps
    from async_triggers.deferral.remote_job import Attempt
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.engine.wire import Row
    from async_triggers.lineage.facets import Lineage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DbtCloudRun(RemoteJob):
    """A run of dbt Cloud."""

    account_id: int | None = None
    hook_params: Mapping[str, Any] | None = None
    summarize: bool = False
    """Whether the results of a run that has succeeded are summarized too."""
    log_steps: bool = False
    """Whether its steps are requested while it goes on, and at its end."""

    trigger = "async_triggers.dbt_cloud.triggers.DbtCloudRunJobTrigger"

    def problem(self) -> str | None:
        """Say which argument cannot be used, None where all may be."""
        run_id = self.job_id.strip()
        if not (run_id.isascii() and run_id.isdecimal()):
            return f"run_id is {self.job_id!r}: give the number of the run"

        return None

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the run's connection."""
        return DbtCloudHook.for_task(
            self.conn_id, account_id=self.account_id, hook_params=self.hook_params
        )

    async def look(self, leased: LeasedAccount) -> Seen:
        """Request the run once."""
        return await self.make_hook().get_run(leased, self.job_id)

    async def cancel(self, leased: LeasedAccount) -> Self:
        """Cancel the run."""
        await self.make_hook().cancel_run(leased, self.job_id)
        return self

    async def complete(
        self, leased: LeasedAccount, job: Job, *, now: float | None
    ) -> Job:
        """Say why a run failed, and log its steps."""
        return await self.explain(leased, job)

    async def explain(
        self, leased: LeasedAccount, job: Job, hear_steps: HearSteps | None = None
    ) -> Job:
        """Say why a run failed, and log its steps or give them to ``hear_steps``."""
        return await self.make_hook().complete(
            leased,
            job,
            summarize=self.summarize,
            with_steps=self.log_steps,
            hear_steps=hear_steps,
        )

    async def lineage_of(self, leased: LeasedAccount, job: Job) -> Lineage:
        """Return the run with the artifacts that its steps have left."""
        gathering = Gathering(self.make_hook(), leased, job)
        lineage = await gathering.gather()
        return lineage or await super().lineage_of(leased, job)

    def result(self, job: Job | None) -> int:
        """Return the run's id."""
        return int(self.job_id)


@dataclass(frozen=True, kw_only=True)
class DbtCloudRunRequest(JobRequest):
    """A run of a dbt Cloud job that is to be started.

    The job is ``job_id``, or what the three names stand for. ``overrides`` are further
    fields of the start, in the API's words; ``cause`` is what the task gives as the reason,
    empty for a default. ``retry_of`` is the failed run that is to be retried.
    """

    account_id: int | None = None
    job_id: int | None = None
    project_name: str | None = None
    environment_name: str | None = None
    job_name: str | None = None
    cause: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    reuse_existing_run: bool = False
    retry_from_failure: bool = False
    mark_cause: bool = True
    hook_params: Mapping[str, Any] | None = None
    summarize: bool = False
    log_steps: bool = False
    found_id: int | None = None
    retry_of: str = ""

    start_grace = requests.START_GRACE

    def make_hook(self) -> DbtCloudHook:
        """Return the hook of the request's connection."""
        return DbtCloudHook.for_task(
            self.conn_id, account_id=self.account_id, hook_params=self.hook_params
        )

    def describe(self) -> Mapping[str, Any]:
        """Return what is requested; the reason given for it does not change that."""
        return {
            "account_id": self.account_id,
            "job_id": self.job_id,
            "names": [self.project_name, self.environment_name, self.job_name],
            "overrides": self.overrides,
        }

    def job(self, job_id: str, *, owned: bool, url: str = "") -> DbtCloudRun:
        """Return a run that this request has led to."""
        return DbtCloudRun(
            conn_id=self.conn_id,
            job_id=job_id,
            url=url,
            owned=owned,
            account_id=self.account_id,
            hook_params=self.hook_params,
            summarize=self.summarize,
            log_steps=self.log_steps,
        )

    async def resolved(self, leased: LeasedAccount) -> Self:
        """Return the request with the id of the job, found by its name if need be."""
        if self.job_id is not None or self.found_id is not None:
            return self

        found = await self.make_hook().find_job(
            leased,
            project_name=self.project_name or "",
            environment_name=self.environment_name or "",
            job_name=self.job_name or "",
        )
        return replace(self, found_id=found)

    @property
    def _target(self) -> int:
        """The id of the job, once the request is resolved."""
        found = self.found_id if self.job_id is None else self.job_id
        assert found is not None  # noqa: S101 - see resolved()
        return found

    # The start --------------------------------------------------------------------

    @property
    def remembers_failures(self) -> bool:
        """True where a retry runs what had failed."""
        return self.retry_from_failure

    def after(self, job_id: str) -> Self:
        """Return the request of a retry, given the run that failed before it."""
        return replace(self, retry_of=job_id) if self.retry_from_failure else self

    def resuming(self, intent: Intent) -> Self:
        """Return the request as it was when an intent was written down.

        Should nothing have come of it, it is that run which is still to be retried.
        """
        return replace(self, retry_of=intent.retry_of)

    async def before_start(self, leased: LeasedAccount) -> Before:
        """Read the job, which also shows the server's time."""
        hook = self.make_hook()
        try:
            _, now = await hook.get_job_definition(leased, self._target)
        except JobNotFound as error:
            msg = f"{sentence(error.message)} Check job_id and account_id"
            raise RequestRejected(msg, status=error.status) from None

        marker = ""
        attempt = self.attempt
        if self.mark_cause and attempt is not None:
            marker = _marker(leased, attempt, attempt.max_tries, attempt.try_number)

        intent = Intent(
            at=now,
            # What bears no mark is known by its id, as these only grow.
            baseline="" if marker else await self._newest_id(leased),
            marker=marker,
            retry_of=self.retry_of,
        )
        running = None
        if self.reuse_existing_run and not self.retry_of:
            if self.overrides:
                log.info(
                    "reuse_existing_run is ignored: other runs lack what this task"
                    " overrides"
                )
            else:
                running = await self._newest_unfinished(leased)

        return Before(intent=intent, running=running)

    async def find_unsettled(
        self, leased: LeasedAccount, unsettled: Unsettled
    ) -> Seen | None:
        """Look for a run that bears the mark of a cleared attempt and has not ended."""
        runs = await self._marked(leased, unsettled)
        return next((seen for seen in runs if not seen.job.state.is_terminal), None)

    async def find_retried(
        self, leased: LeasedAccount, unsettled: Unsettled
    ) -> Seen | None:
        """Look for the newest run that bears the mark of a retried attempt."""
        return next(iter(await self._marked(leased, unsettled)), None)

    async def _marked(self, leased: LeasedAccount, unsettled: Unsettled) -> list[Seen]:
        """Return the runs that attempts have started, the newest first.

        The retry of a failed run bears no mark, but names that run.
        """
        attempt = self.attempt
        if not self.mark_cause or attempt is None:
            return []

        marks = tuple(
            _marker(leased, attempt, max_tries, try_number)
            for try_number, max_tries in unsettled.attempts
        )
        return [
            seen
            for seen, row in await self.make_hook().newest_runs(leased, self._target)
            if requests.bears_marker(replies.read_cause(row), marks)
            or _retries(row, self.retry_of)
        ]

    async def start(self, leased: LeasedAccount, before: Before) -> Seen:
        """Start a run; after our own run has failed, of what failed in it."""
        intent = before.intent
        if intent.retry_of:
            seen = await self._retry(leased, intent.retry_of)
            if seen is not None:
                return seen

        return await self.make_hook().start_run(
            leased, self._target, self._cause(intent), self.overrides
        )

    async def _retry(self, leased: LeasedAccount, run_id: str) -> Seen | None:
        """Retry our own failed run; None where dbt Cloud cannot."""
        hook = self.make_hook()
        try:
            row = await hook.get_run_details(leased, run_id)
            if row.get("can_retry") is True:
                seen = await hook.retry_run(leased, run_id)
                log.info("Retrying run %s from where it failed", run_id)
                return seen

            reason = row.get("retry_not_supported_reason") or "it gives no reason"
        except PermanentError as error:
            reason = error.message

        log.warning(
            "dbt Cloud cannot retry run %s %s: starting a run of the whole job",
            run_id,
            aside(str(reason)),
        )
        return None

    def _cause(self, intent: Intent) -> str:
        reason, attempt = self.cause, self.attempt
        if not reason:
            # dag.test() does not show its triggers whose they are, and a cause is needed.
            reason = "Triggered by a task of Airflow"
            if attempt is not None:
                reason = (
                    f"Triggered by the task {attempt.task_id} of the Airflow DAG"
                    f" {attempt.dag_id}"
                )

        cause = requests.make_cause(reason, intent.marker)
        if len(reason) + len(intent.marker) > requests.LONGEST_CAUSE:
            log.warning(
                "trigger_reason is cut: dbt Cloud takes %d letters, the mark %d of them",
                requests.LONGEST_CAUSE,
                len(intent.marker),
            )

        return cause

    async def find_started(self, leased: LeasedAccount, intent: Intent) -> Seen | None:
        """Look for the run by its mark, else for one of its cause made since the intent."""
        own = self._cause(intent)
        newest = await self.make_hook().newest_runs(leased, self._target)
        # The first one is ours where it bears no mark: others may have come after it.
        runs = [(seen, row, replies.read_cause(row)) for seen, row in reversed(newest)]
        for seen, _, cause in runs:
            if intent.marker and requests.bears_marker(cause, [intent.marker]):
                return seen

        for seen, row, cause in runs:
            # A user may have retried the same run, so the mark goes first.
            if _retries(row, intent.retry_of):
                return seen

            is_new = int(seen.job.id) > int(intent.baseline or 0)
            if not intent.marker and cause == own and is_new:
                return seen

        return None

    async def is_own_start(
        self, leased: LeasedAccount, seen: Seen, intent: Intent
    ) -> bool:
        """Decide by the mark: without it, other runs of the DAG start runs like ours."""
        return bool(intent.marker)

    async def find_running(self, leased: LeasedAccount) -> Seen | None:
        """Return None: no run is in the way of another, dbt Cloud queues them."""
        return None

    async def _newest_id(self, leased: LeasedAccount) -> str:
        runs = await self.make_hook().newest_runs(leased, self._target)
        return str(max((int(seen.job.id) for seen, _ in runs), default=0))

    async def _newest_unfinished(self, leased: LeasedAccount) -> Seen | None:
        for seen, _ in await self.make_hook().newest_runs(leased, self._target):
            if not seen.job.state.is_terminal:
                return seen

        return None

    def may_attach(self, job: Job) -> bool:
        """Attach to a run of the job as it is: nothing is overridden."""
        return not self.overrides

    def start_xcoms(self, job: Job, intent: Intent) -> Mapping[str, Any]:
        """Return the run's id and address."""
        return {"job_run_url": job.url, "job_run_id": int(job.id)}


def _retries(row: Row, run_id: str) -> bool:
    """Return whether a run retries what failed in another; False without an id."""
    return bool(run_id) and str(row.get("retrying_run_id")) == run_id


def _marker(
    leased: LeasedAccount, attempt: Attempt, max_tries: int, try_number: int
) -> str:
    """Return the mark of an attempt of the task, by which its run is found."""
    whose = (
        leased.account.account_id,
        attempt.dag_id,
        attempt.run_id,
        attempt.task_id,
        attempt.map_index,
        max_tries,
    )
    return requests.make_marker(whose, try_number)
