"""How a task ends that had a job: its result or its failure, and what it publishes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from async_triggers.deferral import events
from async_triggers.deferral.ending import statistics_of
from async_triggers.deferral.errors import (
    EventUnusable,
    JobCancelled,
    JobFailed,
    JobTimedOut,
)
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status
from async_triggers.engine.jobs import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.types import Logger

    from async_triggers.deferral.notes import Notes
    from async_triggers.deferral.remote_job import JobRequest
    from async_triggers.engine.jobs import Job

_ENDED_BADLY = {JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The end of a task that had a job, or was to have one: then ``job_id`` is empty.

    ``owned`` says that the task has started it. ``cancel_late`` cancels the job where it
    was not seen to stop at a deadline, None where nothing is to be cancelled.
    ``statistics_key`` is the XCom of the job's statistics, empty for none; ``outlets`` are
    the task's.
    """

    notes: Notes
    log: Logger
    request: JobRequest
    job_id: str
    owned: bool
    cancel_late: Callable[[], None] | None
    statistics_key: str
    outlets: list[Any]

    def end(self, outcome: Outcome) -> Any:
        """Return the result of a wait, or raise what the task fails with."""
        job = outcome.job
        if outcome.kind is Kind.ENDED and job is None:
            noun = self.request.vendor.noun
            msg = f"The trigger's event is that of an end without its {noun}"
            raise EventUnusable(msg)

        self._note(job)
        match outcome.status:
            case Status.SUCCESS if outcome.kind is Kind.STARTED:
                return self._result(None)
            case Status.SUCCESS:
                assert job is not None  # noqa: S101 - it was checked above
                self.log.info("%s", outcome.message)
                return self._succeed(job)
            case Status.TIMEOUT:
                if outcome.cancel is Cancel.UNCONFIRMED and self.cancel_late:
                    self.cancel_late()

                raise JobTimedOut(outcome.message, job=job)
            case Status.CANCELLED:
                self._publish(job)
                raise JobCancelled(outcome.message, job=job)
            case Status.SKIPPED:
                raise events.refusal(outcome)
            case Status.ERROR if outcome.kind is not Kind.ENDED:
                raise events.refusal(outcome)
            case Status.ERROR:
                self._publish(job)
                raise JobFailed(outcome.message, job=job)

    def _succeed(self, job: Job) -> Any:
        self._publish(job)
        result = self._result(job)
        self.notes.end_well()
        return result

    def _result(self, job: Job | None) -> Any:
        remote = self.request.job(self.job_id, owned=self.owned)
        return remote.result(job if self.request.waits else None)

    def _note(self, job: Job | None) -> None:
        """Write down that the job has failed: the next attempt need not check it."""
        if job is not None and job.state in _ENDED_BADLY and self.request.is_over(job):
            self.notes.mark_ended(self.job_id, job)

    def _publish(self, job: Job | None) -> None:
        """Push the job's statistics, and add them to the events of asset outlets."""
        if job is None:
            return

        context = self.notes.context
        statistics = statistics_of(job, attached=not self.owned)
        if self.statistics_key:
            context["ti"].xcom_push(key=self.statistics_key, value=statistics)

        if job.state is JobState.SUCCEEDED and self.outlets:
            outlet_events = context["outlet_events"]
            for outlet in self.outlets:
                with contextlib.suppress(KeyError, TypeError):
                    outlet_events[outlet].extra.update(statistics)
