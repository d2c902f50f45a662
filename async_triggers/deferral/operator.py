"""Starting a job, or finding it again, and waiting for it.

:class:`JobOperator` is all of an operator but the vendor. One attempt of a task goes::

    execute ── what did the last attempt write down? (record.decide)
       │   ├─ its job is still there ─────────────── attach to it
       │   ├─ its start was not answered ─────────── look for it, by the intent
       │   └─ it was cleared ─────────────────────── cancel its job, confirm it
       ├─ check what runs already ────────────────── if_running
       ├─ write the intent, start, write the id
       └─ wait: on the worker, or defer ──────────── execute_complete

What to start, and how to reach the vendor, stands in a
:class:`~async_triggers.deferral.remote_job.JobRequest`. With ``start_in_trigger`` all but
the last step happens on the triggerer, which gets that request, see
:mod:`async_triggers.deferral.start_trigger`.

A DAG file imports this module, so what only a running task needs is loaded by the task:
all of the above stands in ``deferral/segment.py``.

Calls to the vendor run on an event loop that lives for the length of one method; calls to
Airflow are made outside of it, where Airflow allows them.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from async_triggers.deferral import compat
from async_triggers.deferral.arguments import ArgumentUnusable, make_plain
from async_triggers.deferral.end_from_trigger import EndFromTrigger
from async_triggers.deferral.ids import TakesIds
from async_triggers.deferral.lineage import ShowsLineage
from async_triggers.deferral.written_once import (
    drop_links,
    hide_rendered,
    show_rendered,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from async_triggers.deferral.attempt import Attempt
    from async_triggers.deferral.remote_job import JobRequest
    from async_triggers.deferral.segment import Segment
    from async_triggers.engine.wire import Vendor


class JobOperator(BaseOperator, TakesIds, ShowsLineage):
    """Starts one job at a vendor and waits until it has ended."""

    statistics_key: ClassVar[str]
    """XCom key of the job's statistics."""

    # Set by the vendor's operator.
    deferrable: bool
    timeout: float | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    start_in_trigger: bool
    durable: bool = True

    end_from_trigger = EndFromTrigger()

    # The state of one segment on a worker; never templated, never serialized.
    _attempt: Attempt | None = None
    _killed: bool = False
    _waiting: Mapping[str, Any] = {}
    """What the deferral carried that this segment resumes from."""

    # What a vendor adds -----------------------------------------------------------

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        self.settle_ids()

    def warn_of_arguments(self) -> None:
        """Log what of the arguments has no effect; called once in an attempt."""

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.job_request.vendor

    @abstractmethod
    def make_request(self) -> JobRequest:
        """Return what the rendered arguments request, once they are checked."""

    @property
    def job_request(self) -> JobRequest:
        """What the rendered arguments request; what starts a job has checked them."""
        attempt = self._attempt
        return self.make_request() if attempt is None else attempt.request

    @property
    def job_url(self) -> str:
        """Where the vendor shows the job, once it is known; for operator links."""
        return "" if self._attempt is None else self._attempt.job_url

    @property
    def _job_id(self) -> str | None:
        return None if self._attempt is None else self._attempt.job_id

    def _attempt_of(self, context: Context) -> Attempt:
        """Return the attempt as it is in one segment, with what the last one knew."""
        known = self._attempt
        if known is not None and known.context is context:
            return known

        from async_triggers.deferral.attempt import Attempt

        attempt = self._attempt = Attempt(self, context)
        if known is not None:
            attempt.notes.record = known.notes.record
            attempt.notes.address = known.notes.address

        if self._killed:
            attempt.kill()

        return attempt

    # The attempt ------------------------------------------------------------------

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the templates, which Airflow stores in the first segment alone."""
        super().render_template_fields(context, jinja_env)
        hide_rendered(self, context)

    def execute(self, context: Context) -> Any:
        """Start the job, or find it again, and wait for it as the mode says."""
        make_plain(self, JobOperator)
        drop_links(self, written=False)
        self._attempt_of(context).notes.begin()
        self.check_arguments()
        self.warn_of_arguments()
        return self._segment_of(context).start()

    def execute_start(
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """Come back to a start that had to wait, for a time or for another job."""
        return self._segment_of(context).start_again(event)

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the job's result, or fail as the job did, without a request."""
        return self._segment_of(context).complete(event)

    def _segment_of(self, context: Context) -> Segment:
        from async_triggers.deferral.segment import Segment

        return Segment(self, self._attempt_of(context), self._waiting, JobOperator)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Resume; when Airflow's own timeout came first, cancel what is ours."""
        from async_triggers.deferral.carried import take_out

        show_rendered(self)
        self._waiting, others = take_out(next_kwargs)
        make_plain(self, JobOperator)
        # What starts a job checks them. The end of one fails for no argument that has come
        # to nothing since, say because the task upstream was cleared.
        with contextlib.suppress(ArgumentUnusable):
            self.settle_ids()

        try:
            return super().resume_execution(next_method, others, context)
        except compat.TaskDeferralError as error:
            from async_triggers.deferral.stored import failure_of_trigger

            self._settle_claim(context)
            raise failure_of_trigger(next_kwargs) or error from None
        except compat.TaskDeferralTimeout:
            self._settle_claim(context)
            self._attempt_of(context).expire()
            raise

    def _settle_claim(self, context: Context) -> None:
        if self.start_in_trigger:
            self._attempt_of(context).notes.settle_claim()

    # Killing ----------------------------------------------------------------------

    def on_kill(self) -> None:
        """Cancel the job that this attempt waits for on the worker.

        Called on top of the running ``execute``, in a signal handler: the cancel runs on
        another loop in a thread, and is given up after four seconds, since Airflow
        kills the process then. Users and accidents stop a task alike, so the thread first
        requests the task's state from Airflow. ``execute`` ends by itself afterwards.
        """
        self._killed = True
        if self._attempt is not None:
            self._attempt.kill()
