"""Whether a killed trigger or task cancels its job, and how long it tries: pure decisions.

Airflow 3.3 calls ``on_kill`` for a user's action and for a takeover alike, and a cleared
task may have begun its next attempt before. What distinguishes these is the task's state
now, and the token that each attempt pushes before it defers.
"""

from __future__ import annotations

from enum import Enum

from async_triggers.engine import backoff
from async_triggers.engine.doubt import Doubt
from async_triggers.engine.errors import (
    Doubted,
    EngineError,
    PermanentError,
    TransientError,
)
from async_triggers.engine.jobs import Job

CANCEL_PATIENCE = 900.0
"""Seconds for which a cancel is tried while the vendor, or Airflow with what must be known
for it, cannot be reached. What the vendor requires to wait does not count."""
CANCEL_LONGEST = 86_400.0
"""Seconds for which a cancel is pending at most, also where the vendor requires more."""


class Verdict(Enum):
    """What to do with the job; the value says it in words."""

    CANCEL = "cancelled, because the task was stopped"
    ENDED = "had ended already"
    REATTACHED = "not cancelled: a newer attempt of the task is waiting for it"
    REPLACED = (
        "left to the newer attempt of the task, which stops it before it starts its own:"
        " a cancel would stop the job that runs by now"
    )
    TAKEN_OVER = "not cancelled: another triggerer is now waiting for it"
    RETRY = "not cancelled: the retry of the task will attach to it"
    AGAIN = "not cancelled: the task goes on, and its worker finds the job"
    NO_TOKEN = (
        "not cancelled: the task is still deferred without an owner token, so a takeover"  # noqa: S105
        " looks the same as a clear; call claim() before defer()"
    )
    REMOVED = "not cancelled: a parse has removed its task from the DAG, and no user"
    UNKNOWN = "not cancelled: the state of its task could not be read"

    @property
    def is_doubtful(self) -> bool:
        """True when the job may have been left running against the user's wish."""
        return self in {Verdict.NO_TOKEN, Verdict.UNKNOWN}


def judge_kill(  # noqa: PLR0911 - the rows of a table
    *,
    state: str | Exception | None,
    token: tuple[int, str] | Exception | None,
    job: Job | Exception,
    job_id: str,
    attempt: int,
    sought: str | None = None,
    is_found_again: bool = False,
    stops_whatever_runs: bool = False,
) -> Verdict:
    """Decide from what was learnt; an exception stands for what could not be.

    ``state`` is the task's state now (None: the task or its run is gone), ``token`` the
    (attempt, job id) that the task pushed last, ``attempt`` the one that this trigger
    belongs to. ``sought`` stands for the job in the token of an attempt that does not know
    its id yet, and looks for it. ``is_found_again`` says that the task does so whenever it
    is on a worker, resumed by another triggerer or cleared, and knows then what to do.
    ``stops_whatever_runs`` says that the vendor's cancel names no job, and that its jobs
    look alike. The first case that applies wins.
    """
    if isinstance(job, Job) and job.state.is_terminal:
        return Verdict.ENDED

    if isinstance(token, tuple) and token[0] > attempt:
        if token[1] in {job_id, sought}:
            return Verdict.REATTACHED

        replaced = stops_whatever_runs and token[1] != IDLE
        return Verdict.REPLACED if replaced else Verdict.CANCEL

    if isinstance(state, Exception):
        return Verdict.UNKNOWN

    if state == REMOVED_STATE:
        return Verdict.REMOVED

    if state == "deferred":
        if isinstance(token, tuple) and token[0] == attempt:
            return Verdict.TAKEN_OVER

        return Verdict.NO_TOKEN

    if state == "up_for_retry" and isinstance(token, tuple) and token[0] == attempt:
        return Verdict.RETRY

    return Verdict.AGAIN if is_found_again and state in GOES_ON else Verdict.CANCEL


IDLE = ""
"""The job in the owner token of an attempt that waits until it may start one."""

NO_STATUS = "no_status"
"""The state of a task that Airflow has put back and not scheduled again yet."""

REMOVED_STATE = "removed"
"""The state of a task that is no longer in its DAG, say because it was renamed."""

GOES_ON = frozenset(
    {
        NO_STATUS,
        "scheduled",
        "queued",
        "running",
        "deferred",
        "up_for_retry",
        "up_for_reschedule",
    }
)
"""The states of a task that Airflow will run once more, or runs already."""


def judge_stop(state: str | Exception | None) -> Verdict:
    """Decide for a task that must stop on its worker.

    A worker stops its task when a user marked, cleared or failed it, but also when
    Airflow lost sight of the task: a scheduler that was away counts it as orphaned, a
    heartbeat came too late, or none got through. Then the task is started again, maybe
    runs again already, and attaches to the same job. A task that a user has cleared is
    ``restarting`` until its process has ended.

    ``state`` is the task's state now, None if there is no such task any more, an
    exception if it could not be determined.
    """
    if isinstance(state, Exception):
        return Verdict.UNKNOWN

    if state == REMOVED_STATE:
        return Verdict.REMOVED

    return Verdict.AGAIN if state in GOES_ON else Verdict.CANCEL


class Patience:
    """How long a cancel is tried again. Times are those of the event loop, in seconds.

    A refusal is believed like any other of what has worked before: when it has lasted
    ``doubt`` seconds, over at least three checks.
    """

    def __init__(self, now: float, *, doubt: float) -> None:
        self.tries = 0
        self._began = now
        self._asked = 0.0
        self._lasts = doubt
        self._doubt: Doubt | None = None

    def wait_after(self, failure: EngineError | None, now: float) -> float | None:
        """Return the seconds until the next try, None to give up.

        ``failure`` is None where it was not the vendor who did not answer.
        """
        self.tries += 1
        if isinstance(failure, PermanentError):
            if self._is_believed(failure, now):
                return None
        elif self._doubt is not None and not isinstance(failure, Doubted | None):
            self._doubt.missed(now)

        wait, required = backoff.delay(self.tries), 0.0
        if isinstance(failure, TransientError) and failure.retry_after is not None:
            wait = max(wait, failure.retry_after)
            required = 0.0 if isinstance(failure, Doubted) else failure.retry_after

        self._asked += required
        passed = now + wait - self._began
        if passed >= CANCEL_LONGEST or passed - self._asked >= CANCEL_PATIENCE:
            return None

        return wait

    def _is_believed(self, refusal: PermanentError, now: float) -> bool:
        if self._doubt is None:
            self._doubt = Doubt(refusal, now, lasts=self._lasts)
            return False

        return self._doubt.refused(refusal, now)
