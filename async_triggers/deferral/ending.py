"""Ending a task from its trigger, without a worker.

Airflow lets a trigger end its task. It then runs nothing of what a worker does at the end
of a task, so a task may do this only if nothing of that is wanted: :func:`why_on_worker`
looks, on the worker and before the deferral. What it allows travels with the trigger as
an :class:`Ending`, by which :func:`end_task` writes the XComs that ``execute_complete``
would give and returns the event that ends the task. What an ending cannot express
resumes the task on a worker after all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from async_triggers.deferral import compat
from async_triggers.deferral.end_from_trigger import wants_end
from async_triggers.deferral.events import Cancel, Kind, Outcome, Status

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job

log = logging.getLogger(__name__)


class Then(StrEnum):
    """What a trigger does about an outcome that is no success."""

    FAIL = "fail"
    SKIP = "skip"
    RESUME = "resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a trigger ends its task.

    ``statistics_key`` is the XCom of the job's statistics, empty for none; ``returns``
    says whether the task returns anything, ``push`` is its ``do_xcom_push``, ``attached``
    says that the job is not its own.
    ``failure`` says what a failed or cancelled job does to the task, ``timeout`` what a
    deadline does, ``refusal`` what happens when the vendor would not answer.
    """

    statistics_key: str = ""
    returns: bool = True
    push: bool = True
    attached: bool = False
    failure: Then = Then.FAIL
    timeout: Then = Then.FAIL
    refusal: Then = Then.FAIL

    def to_json(self) -> dict[str, Any]:
        """Write the ending as plain JSON."""
        return {
            "statistics_key": self.statistics_key,
            "returns": self.returns,
            "push": self.push,
            "attached": self.attached,
            "failure": self.failure.value,
            "timeout": self.timeout.value,
            "refusal": self.refusal.value,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ending:
        """Read what :meth:`to_json` wrote; raise TypeError, KeyError or ValueError."""
        return cls(
            statistics_key=str(value["statistics_key"]),
            returns=bool(value["returns"]),
            push=bool(value["push"]),
            attached=bool(value["attached"]),
            failure=Then(value["failure"]),
            timeout=Then(value["timeout"]),
            refusal=Then(value["refusal"]),
        )

    def of_a_start(self, *, remembers: bool) -> Ending:
        """Return how a trigger ends a task whose job it has started itself.

        Only a worker can write down a job that runs on. Where a retry ``remembers`` the
        job that has failed before it, only a worker can write down that one as well.
        """
        return replace(
            self,
            failure=Then.RESUME if remembers else self.failure,
            timeout=Then.RESUME,
            refusal=Then.RESUME,
        )


_RESUMING = ("execute_complete", "resume_execution")


def why_on_worker(task: Any, base: type) -> str | None:
    """Say why a task must end on a worker; None when its trigger may end it.

    ``base`` is the class of this package that says how such a task resumes.
    """
    cls = type(task)
    hooked = task._post_execute_hook is not None  # noqa: SLF001 - its only name
    overridden = [
        name for name in _RESUMING if getattr(cls, name) is not getattr(base, name)
    ]
    reasons = {
        "sends the events of outlets": task.outlets,
        "calls on_success_callback": task.on_success_callback,
        "calls on_skipped_callback": task.on_skipped_callback,
        "calls post_execute": hooked
        or cls.post_execute is not BaseOperator.post_execute,
        f"calls what {cls.__name__} overrides: {', '.join(overridden)}": overridden,
        "unpacks multiple_outputs": task.multiple_outputs,
        "marks the result of a DAG": compat.returns_dag_result(task),
        "measures what a mapped task downstream expands over": (
            compat.has_mapped_downstream(task)
        ),
        "writes to a custom XCom backend": compat.has_own_xcom_backend(),
        "clears the task state store": compat.clears_state_on_success(),
        "calls the listeners of plugins": compat.has_listeners(),
    }
    return next(
        (f"only a worker {why}" for why, holds in reasons.items() if holds), None
    )


def may_end(task: Any, base: type) -> bool:
    """Return whether a task's trigger ends it; log why not where it was to.

    ``base`` is as in :func:`why_on_worker`.
    """
    if not wants_end(task):
        return False

    reason = why_on_worker(task, base)
    if reason is not None:
        task.log.info("end_from_trigger is ignored: %s", reason)

    return reason is None


def failure_of(task: Any) -> Then:
    """Return what a trigger does about a failure of its task, which may be ended there.

    Airflow sends a task's e-mail, stops the rest of a DAG with ``fail_fast``, and calls a
    retry policy, which decides on the exception, only where a worker has failed.
    """
    mails = task.email and (task.email_on_failure or task.email_on_retry)
    stops = task.has_dag() and task.get_dag().fail_fast
    needs_worker = mails or stops or compat.has_retry_policy(task)
    return Then.RESUME if needs_worker else Then.FAIL


def statistics_of(job: Job, *, attached: bool) -> dict[str, Any]:
    """Return what is written about a job in its XCom and to the events of assets."""
    return {
        "job_id": job.id,
        "status": job.word,
        "url": job.url,
        "attached": attached,
        "job_started_at": job.started_at,
        **job.statistics,
        **job.summary,
    }


async def end_task(
    ending: Ending, outcome: Outcome, *, ti: Any, result: Any
) -> TriggerEvent | None:
    """Write the XComs and return the event that ends the task; None to resume it.

    ``result`` is what the task returns if the job has succeeded. Nothing is written for an
    attempt that is no longer the task's: the next one has wiped the owner token.
    """
    event = _event_for(ending, outcome)
    if event is None:
        return None

    token = await compat.owner_token(ti)
    if token is None or token[0] != ti.try_number:
        return None

    if outcome.status is Status.SUCCESS:
        await compat.forget_from_trigger(ti, log)

    job = outcome.job
    if not ending.push or outcome.kind is not Kind.ENDED or job is None:
        return event

    if ending.statistics_key:
        statistics = statistics_of(job, attached=ending.attached)
        await compat.push_from_trigger(ti, ending.statistics_key, statistics)

    if outcome.status is Status.SUCCESS and ending.returns and result is not None:
        await compat.push_from_trigger(ti, compat.RETURN_KEY, result)

    return event


def _event_for(ending: Ending, outcome: Outcome) -> TriggerEvent | None:
    if outcome.kind is Kind.ENDED and outcome.job is None:
        return None

    if outcome.status is Status.SUCCESS:
        return TaskSuccessEvent() if outcome.kind is Kind.ENDED else None

    if outcome.cancel is Cancel.UNCONFIRMED:
        # The worker has another try at cancelling.
        return None

    then = {
        Kind.ENDED: ending.failure,
        Kind.DEADLINE: ending.timeout,
        Kind.REFUSED: ending.refusal,
    }.get(outcome.kind, Then.RESUME)
    match then:
        case Then.FAIL:
            return TaskFailedEvent()
        case Then.SKIP:
            return TaskSkippedEvent()
        case Then.RESUME:
            return None
