"""Fivetran as the engine sees it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from async_triggers.engine.errors import AlreadyRunning, EngineError, UnreadableReply
from async_triggers.engine.wire import (
    HTTP_CONFLICT,
    LONGEST_HEAD,
    Account,
    CredentialKind,
    Page,
    Reply,
    Request,
    Row,
    Source,
    Token,
    Vendor,
    basic_auth,
    refuse_by_status,
    rows_by_id,
    text_of,
)
from async_triggers.fivetran.api.ends import ends_in, last_ends
from async_triggers.fivetran.api.history import history_window, settle_job, window_of
from async_triggers.fivetran.api.models import SYNCING, Run, judge_run, row_id
from async_triggers.fivetran.api.replies import (
    read_connection,
    read_explanation,
    read_history,
    read_items,
    read_row,
)
from async_triggers.fivetran.api.requests import (
    ACCOUNT_LIST,
    CONFIRMATION_TIMEOUT,
    GROUP_LISTS,
    Walk,
    get_connection,
    list_connections,
    sync_history,
)

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.watch import End, Place

# The code names the kind of refusal, and may name the kind of thing behind it, as in
# "NotFound_Connector".
_OWN_CODE = re.compile(
    r"(AuthFailed|Forbidden|NotFound|InvalidInput|IllegalState|Conflict|MethodNotAllowed"
    r"|NotAcceptable|UnsupportedMediaType|UnsupportedOperation|OperationNotPermitted"
    r"|TooManyRequests)(_[A-Za-z]+)*$"
)
_OWN_ANSWER = re.compile(rb'\s*\{.*"code"\s*:\s*"Success', re.DOTALL)


class Fivetran(Vendor):
    """Fivetran as the engine sees it."""

    name = "Fivetran"
    noun = "sync"
    grid_floor = 15.0
    end_fields = ("succeeded_at", "failed_at")
    sources: Sequence[Source] = (ACCOUNT_LIST, GROUP_LISTS)

    def name_of(self, job_id: str) -> str:
        """Name a run within a sentence, by its id or that of its connection."""
        label = Run.from_id(job_id).label
        return f"the {label[0].lower()}{label[1:]}"

    def authorize(
        self,
        account: Account,
        token: Token | None,
    ) -> Mapping[str, str]:
        """Prove who we are: https://fivetran.com/docs/rest-api/getting-started."""
        credentials = account.credentials
        if credentials.kind is CredentialKind.BEARER:
            # The dashboard also shows key and secret as one text in Base64.
            return {"Authorization": f"Basic {credentials.secret}"}

        return {"Authorization": basic_auth(credentials.login, credentials.secret)}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with one of Fivetran's codes and a message.

        https://fivetran.com/docs/rest-api/api-reference/api-response-codes
        """
        try:
            body = reply.object("a refusal")
        except UnreadableReply:
            return False

        code = body.get("code")
        return (
            isinstance(code, str)
            and _OWN_CODE.match(code) is not None
            and isinstance(body.get("message"), str)
        )

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with the code of a success."""
        return _OWN_ANSWER.match(reply.body, 0, LONGEST_HEAD) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error.

        https://fivetran.com/docs/rest-api/api-reference/api-response-codes
        """
        detail = read_explanation(reply)
        if reply.status == HTTP_CONFLICT and request.method == "POST":
            return AlreadyRunning(
                f"Fivetran did not make {request.about}: {detail}", status=reply.status
            )

        return refuse_by_status(self.name, request, reply, detail)

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        """Read what is left of the account's hour.

        https://fivetran.com/docs/rest-api/getting-started/rate-limiting
        """
        try:
            left = float(reply.headers["x-rate-limit-remaining"])
            allowed = float(reply.headers["x-rate-limit"])
        except (KeyError, ValueError):
            return None

        sane = 0.0 <= left < math.inf and 0.0 < allowed < math.inf
        return (left, allowed) if sane else None

    def single(self, account: Account, subject: str) -> Request:
        """Request one connection."""
        return get_connection(subject)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request the connections of the account, or of one group."""
        return list_connections(scope)

    def read(self, request: Request, reply: Reply) -> Page:
        """Read a page of connections, or one connection."""
        if not isinstance(request.note, Walk):
            row = read_row(request, reply)
            return Page(rows={row_id(row): row}, count=1)

        items, following = read_items(request, reply)
        return Page(rows=rows_by_id(items, row_id), count=len(items), next=following)

    def judge(
        self,
        account: Account,
        subject: str,
        row: Row,
        mark: str | None,
    ) -> Job:
        """Return how the run is doing that a waiter waits for."""
        return judge_run(read_connection(row), Run.from_mark(subject, mark))

    def digest(self, row: Row) -> int | None:
        """Hash what a sync that goes on is judged by; lists show all that has not changed.

        Only while it is syncing: in any other state time alone may matter.
        """
        status = row.get("status")
        if not isinstance(status, dict) or status.get("sync_state") != SYNCING:
            return None

        judged = (
            row.get("schema"),
            row.get("succeeded_at"),
            row.get("failed_at"),
            status.get("is_historical_sync"),
            row.get("paused"),
            status.get("setup_state"),
        )
        # Anything else there is read as if nothing were.
        return hash(
            tuple(each if isinstance(each, str | bool) else None for each in judged)
        )

    def scope_of(self, row: Row) -> str:
        """Name the group, so that only its list need be read."""
        return text_of(row.get("group_id")) or ""

    def needs_confirmation(self, job: Job) -> bool:
        """Always: how far lists lag behind is not documented."""
        return True

    def confirmation(self, job: Job, *, now: float | None) -> Request | None:
        """Request the sync history, which would be requested for the rest anyway.

        Only about an end that has a time. A re-sync is over when the connection says so,
        and a task that waits while anything is syncing must see that nothing is.
        """
        run = Run.from_id(job.id)
        if job.ended_at is None or run.behind or run.resync or run.patient:
            return None

        since, until = history_window(run, now=max(now or 0.0, job.ended_at))
        request = sync_history(run.connection_id, since=since, until=until)
        return replace(request, timeout=CONFIRMATION_TIMEOUT)

    def confirmed(self, request: Request, reply: Reply, job: Job) -> Job | None:
        """Find the record of the run; it confirms an end like the one that was shown."""
        records, _ = read_history(request, reply)
        settled = settle_job(job, Run.from_id(job.id), records)
        return settled if "sync_id" in settled.statistics else None

    def places(self, row: Row) -> Sequence[Place]:
        """Return the connection and its group."""
        return (
            ("connection_id", text_of(row.get("id")) or ""),
            ("group_id", text_of(row.get("group_id")) or ""),
        )

    def ends(self, account: Account, row: Row) -> Sequence[End]:
        """Return the last success and the last failure of a connection."""
        if row.get("succeeded_at") is None and row.get("failed_at") is None:
            return ()

        return last_ends(read_connection(row))

    def rest_of(
        self, account: Account, ends: Sequence[End], *, since: float, now: float | None
    ) -> Request | None:
        """Request the history, which shows what has ended in between as well."""
        now = max(now or 0.0, ends[-1].at)
        begin, until = window_of(since, now=now)
        request = sync_history(ends[-1].key, since=begin, until=until)
        return replace(request, timeout=CONFIRMATION_TIMEOUT, note=since)

    def read_rest(
        self, account: Account, reply: Reply, request: Request, ends: Sequence[End]
    ) -> Sequence[End]:
        """Read the syncs that have ended since the last that is known."""
        records, _ = read_history(request, reply)
        return ends_in(records, ends[-1], since=request.note)


FIVETRAN = Fivetran()
