"""What a task on its worker writes down: for later attempts, and for a kill meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from async_triggers.deferral import compat
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.record import (
    KEY,
    UNSETTLED_KEY,
    Record,
    Unsettled,
    read_record,
    read_unsettled,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

    from async_triggers.engine.jobs import Job


class Notes:
    """The notes of one segment of a task.

    The record of its job lies in Airflow's task state store, or where that is missing in a
    Variable; a task without either knows only what the deferral has carried. The owner
    token, an XCom, says for which job the task waits and at which address the vendor has
    answered. ``noun`` names the vendor's jobs.

    Airflow gives none of these while an event loop runs.
    """

    def __init__(
        self,
        context: Context,
        log: Logger,
        noun: Callable[[], str],
        *,
        record: Record | None = None,
        address: str = "",
    ) -> None:
        self.context = context
        self.record = record
        """The record as it was read or written last."""
        self.address = address
        """Where the vendor has answered this task, in this run or in an earlier one."""
        self.log = log
        self._noun = noun
        self._store = compat.store_of(context, log)
        self._is_all_known = False

    # The record ---------------------------------------------------------------------

    def begin(self) -> None:
        """Begin the first segment of an attempt.

        Airflow raises the number of a try whenever a task starts over, also after a clear
        and after a worker was lost, and its store goes with the run. So there is no
        record before the first try, and it is not requested. A Variable outlives a run.
        """
        self.report_store()
        self._is_all_known = self.context["ti"].try_number == 1 and not isinstance(
            self._store, compat.VariableStore
        )

    def read(self) -> Record | None:
        """Return the record, of this attempt or of an earlier one."""
        return self.record if self._is_all_known else self.read_again()

    def read_again(self) -> Record | None:
        """Return the record as it is now: a later attempt may have replaced it."""
        if self._store is not None:
            self.record = read_record(self._store.get(KEY))

        return self.record

    def write(self, record: Record) -> None:
        """Replace the record."""
        self.record = record
        if self._store is not None:
            self._store.set(KEY, record.to_json())

    def forget(self) -> None:
        """Delete the record."""
        self.record = None
        if self._store is not None:
            self._store.delete(KEY)

    def start_over(self) -> None:
        """Forget what earlier attempts have written down."""
        if self._is_all_known:
            return

        self.forget()
        if self._store is not None:
            self._store.delete(UNSETTLED_KEY)

    def mark_killed(self) -> None:
        """Write down that a user stopped the task: the next attempt is no retry.

        Airflow's own store shows nothing to a worker whose task was cleared, and takes
        nothing from it. There ``max_tries`` says so, see :func:`.record.decide`.
        """
        try:
            record = self.read_again()
            if record is not None:
                self.write(replace(record, killed=True))
        except Exception:
            self.log.warning(
                "The stop of the task could not be noted: the next attempt may take it for"
                " a retry",
                exc_info=True,
            )

    def mark_ended(self, job_id: str | None, job: Job) -> None:
        """Write down how a job has ended: the next attempt need not check it."""
        try:
            record = self.read_again()
            if record is not None and record.job_id == job_id:
                self.write(replace(record, ended=job.word))
        except Exception:
            # The next attempt checks the job, then.
            self.log.warning(
                "The end of the %s could not be noted", self._noun(), exc_info=True
            )

    def report_store(self) -> None:
        """Log what the task remembers where it has no task state store."""
        reason = compat.why_forgetful(self.context)
        if reason is not None:
            self.log.info("%s", reason)

    def end_well(self) -> None:
        """Delete what is kept in a Variable: the task has succeeded.

        Airflow's own store is kept: a worker may be killed before its success is known.
        """
        if isinstance(self._store, compat.VariableStore):
            self._store.clear()

    # A start that is left to a trigger ------------------------------------------------

    def mark_unsettled(self, fingerprint: str) -> Unsettled | None:
        """Write down that a trigger starts from here on; return what there was before.

        ``fingerprint`` is that of the request.
        """
        if self._store is None:
            return None

        ti = self.context["ti"]
        before = None
        if not self._is_all_known:
            before = read_unsettled(self._store.get(UNSETTLED_KEY))

        now = wall_clock()
        known = before or Unsettled(at=now, attempts=())
        marked = known.and_then(
            ti.try_number, ti.max_tries, at=now, fingerprint=fingerprint
        )
        self._store.set(UNSETTLED_KEY, marked.to_json())
        return before

    def settle(self, record: Record | None) -> None:
        """Write down what became of a start that was left to a trigger."""
        if record is not None:
            self.write(record)

        if self._store is None:
            return

        # Where nothing came of this start, those before it may still be unknown.
        left = None if record else read_unsettled(self._store.get(UNSETTLED_KEY))
        if left is None or len(left.attempts) == 1:
            self._store.delete(UNSETTLED_KEY)

    def settle_claim(self) -> None:
        """Write down what a trigger claimed that did not live to send its event."""
        try:
            record = read_record(compat.claim_left_behind(self.context))
        except Exception:
            self.log.warning(
                "The claim of the trigger could not be read: a %s may be running that"
                " the retry does not know",
                self._noun(),
                exc_info=True,
            )
        else:
            if record is not None:
                self.settle(record)

    # The owner token ------------------------------------------------------------------

    def claim(self, job_id: str, moment: float | None = None) -> None:
        """Say in the owner token for which job the task waits."""
        try:
            compat.push_owner_token(self.context, job_id, moment, address=self.address)
        except Exception:
            self.log.warning(
                "The owner token could not be pushed: a kill of the deferred task will"
                " leave its %s running",
                self._noun(),
                exc_info=True,
            )

    def earlier_address(self) -> str | None:
        """Return the address that worked for an earlier run; None if that is not known."""
        try:
            return compat.earlier_address(self.context)
        except Exception:
            self.log.warning(
                "Could not read from Airflow whether the connection has worked before",
                exc_info=True,
            )
            return None

    def known_address(self) -> str | None:
        """Return the address that has worked for this task, or for an earlier run of it."""
        record = self.read()
        known = "" if record is None else record.address
        return known or self.earlier_address()
