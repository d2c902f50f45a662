"""Waiting for a job from the first, without a worker.

Airflow's scheduler defers a sensor with ``start_from_trigger`` by itself. What the trigger
gets is the sensor's query as it stands in the DAG, so :class:`SensorTrigger` renders it
and then waits with the vendor's own trigger.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from async_triggers.deferral import compat, events
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.contact import FirstContact, address_of
from async_triggers.deferral.deadlines import BACKSTOP
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    explain,
    translate,
    with_request,
)
from async_triggers.deferral.events import Kind, Outcome, Status
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.job_query import JobQuery
from async_triggers.deferral.one_event import OneEventTrigger, insist
from async_triggers.deferral.thread import in_thread
from async_triggers.deferral.trigger import UNDER_WAY, trigger_class
from async_triggers.engine.errors import (
    Doubted,
    EngineError,
    PermanentError,
    Scope,
    TransientError,
)
from async_triggers.engine.wording import aside

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from async_triggers.deferral.trigger import JobTrigger
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen

RENDERING = 60.0
"""Seconds in which templates are rendered: Airflow may leave a question unanswered."""
LOOK_AGAIN = 15.0
"""Seconds until the next try of a first look that the vendor did not answer."""


@dataclass(slots=True)
class _Gate:
    """The first check of an account, which all triggers share that need no other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    is_open: bool = False
    """True once the account has answered."""
    failures: int = 0
    failure: TransientError | None = None


_gates: WeakKeyDictionary[LeasedAccount, _Gate] = WeakKeyDictionary()


class SensorTrigger(OneEventTrigger):
    """Waits as a sensor does, and yields the event of the vendor's trigger.

    :param query: which job to wait for, as it stands in the DAG, see
        :class:`~async_triggers.deferral.job_query.JobQuery`
    :param lasts: the sensor's ``timeout`` in seconds
    :param execution_timeout: the task's in seconds, None for none
    :param ending: how the trigger ends its task; None to resume it
    :param why_resumed: why the trigger resumes a task that it was to end, else empty
    """

    def __init__(
        self,
        query: Mapping[str, Any],
        lasts: float,
        execution_timeout: float | None = None,
        *,
        ending: Mapping[str, Any] | None = None,
        why_resumed: str = "",
    ) -> None:
        super().__init__()
        self.query = query
        self.lasts = lasts
        self.execution_timeout = execution_timeout
        self.ending = ending
        self.why_resumed = why_resumed
        self._context: Context | None = None
        self._environment: jinja2.Environment | None = None
        self._inner: JobTrigger | None = None
        self._address = ""
        self._has_answered = False
        self._contact = FirstContact()
        self._trouble = ""
        self._deferred_at = math.inf

    def earliest_event(self) -> float:
        """Return zero: there is no worker that must have ended before."""
        return 0.0

    # Rendering --------------------------------------------------------------------

    def render_template_fields(
        self, context: Context, jinja_env: jinja2.Environment | None = None
    ) -> None:
        """Keep what is needed to render the arguments.

        Airflow calls this on the event loop, where an XCom that a template pulls would
        keep all other triggers waiting.
        """
        self._context, self._environment = context, jinja_env

    def _rendered(self, query: JobQuery) -> dict[str, Any]:
        """Return the fields that may hold templates, as they are rendered."""
        context = self._context
        if context is None:
            return {}

        environment = self._environment or self.get_template_env()
        rendered: dict[str, Any] = {}
        known: dict[str, Any] = {**context}
        for name in ("ti", "task_instance"):
            if name in known:
                known[name] = _Puller(known[name])

        for name in query.template_fields:
            try:
                rendered[name] = self.render_template(
                    getattr(query, name), cast("Context", known), environment
                )
            except Exception as error:  # noqa: BLE001 - a template may raise anything
                msg = (
                    f"{name} cannot be rendered on the triggerer"
                    f" {aside(f'{type(error).__name__}: {error}')}. A DAG's own macros and"
                    " filters are not known there: set start_from_trigger=False to use them"
                )
                raise ArgumentUnusable(msg) from None

        return rendered

    async def _make_query(self) -> JobQuery:
        """Return which job is waited for, with the task's ending narrowed to it."""
        query = JobQuery.from_json(self.query)
        try:
            async with asyncio.timeout(RENDERING):
                # In a thread: a template may pull an XCom, which is a blocking call.
                rendered = await in_thread(partial(self._rendered, query))
        except TimeoutError:
            msg = (
                f"The templates of {', '.join(query.template_fields)} could not be"
                " rendered on the triggerer in time, where Airflow leaves some questions"
                " without an answer: set start_from_trigger=False to use them"
            )
            raise ArgumentUnusable(msg) from None

        query = query.rendered(rendered)
        query.warn_of_arguments(self.log)
        ending = self._how_to_end()
        if ending is not None:
            self.ending = query.narrowed(ending).to_json()

        return query

    # Waiting ----------------------------------------------------------------------

    async def _outcome(self) -> Outcome:
        if self.why_resumed:
            self.log.info("end_from_trigger is ignored: %s", self.why_resumed)

        end_time, execution_deadline = self._deadlines()
        ends = min(end_time, execution_deadline or end_time)
        self._deferred_at = end_time - self.lasts
        conn_id = conn_type = ""
        try:
            query = await self._make_query()
            hook = query.make_hook()
            conn_id, conn_type = hook.conn_id, hook.conn_type
            left = max(0.0, ends - wall_clock())
            account = await hook.known_account(patience=left)
            self._address = address_of(account)
            async with hook.lease(account=account) as leased:
                async with asyncio.timeout(max(0.0, ends - wall_clock())):
                    query, seen = await self._first_look(query, leased, ends)
                    inner = self._inner = trigger_of(
                        query,
                        seen,
                        end_time=end_time,
                        execution_deadline=execution_deadline,
                    )
                    inner.task_instance = self.task_instance
                    inner.is_known = self._is_under_way
                    found = query.found if query.keeps_found else ""
                    await self._own(inner.remote_job.job_id, found)

                if seen is not None and seen.job.state.is_terminal:
                    return events.ended(seen.job)

                inner.report_interval()
                return await inner.wait_on(leased)
        except TimeoutError:
            return self._too_late()
        except EngineError as error:
            return events.not_started(translate(error, conn_id, conn_type))
        except Exception as error:  # noqa: BLE001 - a template renders to anything
            return events.not_started(error)

    def _too_late(self) -> Outcome:
        """Return how it ends that nothing was known of the job before the timeout.

        A field of the connection that looks wrong until then is no timeout.
        """
        late = "No poll succeeded before the sensor's timeout"
        contact = self._contact
        if contact.evidence_since is not None and contact.known != self._address:
            return events.not_started(ConnectionUnusable(f"{late}: {self._trouble}"))

        return Outcome(
            status=Status.TIMEOUT, kind=Kind.DEADLINE, job_id="", message=late
        )

    def _deadlines(self) -> tuple[float, float | None]:
        """Return when the sensor gives up, and when ``execution_timeout`` ends.

        Counted from the moment at which the scheduler deferred the task, whichever
        triggerer it is on by now: Airflow stores when its own timeout comes.
        """
        limit = self.execution_timeout
        backstop = getattr(self, "timeout_after", None)
        if backstop is None:
            began = wall_clock()
        else:
            own = self.lasts + BACKSTOP.total_seconds()
            moment = backstop if backstop.tzinfo else backstop.replace(tzinfo=UTC)
            began = moment.timestamp() - min(own, math.inf if limit is None else limit)

        return began + self.lasts, None if limit is None else began + limit

    async def _first_look(
        self, query: JobQuery, leased: LeasedAccount, ends: float
    ) -> tuple[JobQuery, Seen | None]:
        """Look for what must be known before the wait; see nothing where nothing must.

        It must be known that the connection works, which one look shows to all.
        """
        ti = self.task_instance
        claim = None
        # Each question costs a triggerer with thousands of these: they wait in a line.
        if query.keeps_found and ti is not None:
            claim = await insist(lambda: compat.read_claim(ti), self.log)

        if claim is not None and isinstance(claim[1], str):
            query = query.recalling(claim[1])

        while True:
            began = wall_clock()
            try:
                if query.waits_unseen:
                    looked = await self._shared_look(query, leased)
                else:
                    looked = await query.look(leased)

                self._has_answered = True
                return looked
            except Doubted as error:
                failure: EngineError = error
            except PermanentError as error:
                await self._doubt(error, leased, since=began)
                failure = error
            except TransientError as error:
                failure = error
                self._contact = self._contact.failed(
                    error, leased.account, since=began, now=wall_clock()
                )

            contact = await self._judge_trouble(
                query, leased, self._contact, failure, ends
            )
            self._contact = contact
            if (
                query.waits_unseen
                and isinstance(failure, TransientError)
                and not isinstance(failure, Doubted)
                and contact.wrong_at(leased.account) is None
            ):
                # An outage, which the shared poller waits out.
                return query, None

            await leased.sleep(
                contact.wait(LOOK_AGAIN, leased.account, now=wall_clock())
            )

    @property
    def _is_under_way(self) -> bool:
        return wall_clock() - self._deferred_at > UNDER_WAY

    async def _doubt(
        self, refusal: PermanentError, leased: LeasedAccount, *, since: float
    ) -> None:
        """Take in the vendor's refusal of a look; raise it where it is to be believed.

        A fresh task believes it at once. One that has worked before is in doubt, about the
        account in the engine and about the job here.
        """
        trust, contact = leased.transport.trust, self._contact
        is_of_account = refusal.scope is Scope.ACCOUNT
        if refusal.status is None or (is_of_account and trust.has_worked):
            raise refusal

        if not self._is_under_way:
            contact = await self._recalled(contact)
            if not contact.is_known(leased.account):
                raise refusal

        if is_of_account:
            trust.vouch()

        self._contact = contact.refused(since=since, is_of_account=is_of_account)
        if self._contact.believes(leased.account, now=wall_clock()):
            raise refusal

    async def _recalled(self, contact: FirstContact) -> FirstContact:
        """Add the address that an earlier run of the task has worked with."""
        ti = self.task_instance
        if contact.known is not None:
            return contact

        known = ""
        if ti is not None:
            known = await insist(lambda: compat.earlier_address_of(ti), self.log)

        return replace(contact, known=known)

    async def _shared_look(
        self, query: JobQuery, leased: LeasedAccount
    ) -> tuple[JobQuery, Seen | None]:
        """Look if no other sensor of the account has; raise what another has met."""
        gate = _gates.setdefault(leased, _Gate())
        failures = gate.failures
        async with gate.lock:
            if gate.is_open:
                return query, None

            if gate.failure is not None and gate.failures > failures:
                raise gate.failure.again()

            try:
                looked = await query.look(leased)
            except TransientError as error:
                gate.failures += 1
                gate.failure = cast("TransientError", error.again())
                raise
            except PermanentError:
                # About this job, or for all: the vendor has spoken.
                gate.is_open = True
                raise

            gate.is_open = True
            return looked

    async def _judge_trouble(
        self,
        query: JobQuery,
        leased: LeasedAccount,
        contact: FirstContact,
        error: EngineError,
        ends: float,
    ) -> FirstContact:
        """Log what was met; raise where it is of no use to go on."""
        now = wall_clock()
        if contact.evidence_since is not None:
            contact = await self._recalled(contact)

        if contact.is_known(leased.account):
            leased.transport.trust.vouch()

        endpoint = query.make_hook().endpoint(leased.account)
        failure = endpoint.verdict(contact, error, now=now)
        if failure is not None:
            raise failure

        trouble = explain(error, endpoint.conn_id, endpoint.conn_type)
        self._trouble = with_request(trouble, error)
        words = endpoint.report(contact, error, wait=LOOK_AGAIN, ends=ends)
        noun = query.vendor.noun
        if contact.must_report(error, now=now):
            self.log.warning("The %s cannot be checked now: %s", noun, words)
            return contact.reported(error, now=now)

        self.log.debug("The %s cannot be checked now: %s", noun, words)
        return contact

    async def _own(self, job_id: str, found: str) -> None:
        """Write down what this attempt waits for, for each triggerer that runs it next."""
        ti = self.task_instance
        if ti is not None and (found or self.ending is not None):
            await insist(
                lambda: compat.write_claim(
                    ti,
                    "sensor",
                    job_id,
                    found,
                    address=self._address if self._has_answered else "",
                ),
                self.log,
            )

    # The event --------------------------------------------------------------------

    def result(self, job: Job) -> Any:
        """Return what the sensor returns."""
        return None if self._inner is None else self._inner.result(job)

    def payload(self, outcome: Outcome) -> dict[str, Any]:
        """Write the payload of the vendor's event."""
        inner = self._inner
        payload = super().payload(outcome) if inner is None else inner.payload(outcome)
        return {**payload, "address": self._address}


def trigger_of(
    query: JobQuery,
    seen: Seen | None,
    *,
    end_time: float | None,
    execution_deadline: float | None,
) -> JobTrigger:
    """Return the vendor's trigger that waits for what a sensor waits for."""
    job = query.job(None if seen is None else seen.job)
    return trigger_class(job).of(
        job,
        poll_interval=query.poke_interval,
        end_time=end_time,
        execution_deadline=execution_deadline,
        # The job is not the sensor's.
        cancel_on_kill=False,
        cancel_on_timeout=False,
        seen_at=None if seen is None else seen.at,
    )


class _Puller:
    """A task instance whose XComs can be pulled on the triggerer.

    Unless a pull names map indexes, Airflow requests all there are, which a triggerer's
    supervisor does not understand and never answers (3.3.2).
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, *arguments: Any, **more: Any) -> Any:
        """Pull what a task that is not mapped has pushed."""
        return self._ti.xcom_pull(*arguments, **{"map_indexes": -1, **more})
