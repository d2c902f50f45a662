"""Airbyte as the engine sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from async_triggers.airbyte.api.addresses import token_url
from async_triggers.airbyte.api.models import read_job, row_id
from async_triggers.airbyte.api.replies import (
    read_jobs,
    read_problem,
    read_resume,
    read_row,
    was_filtered,
)
from async_triggers.airbyte.api.requests import (
    ENDED,
    FEED,
    OVERLAP,
    RUNNING,
    Walk,
    get_job,
    page_of_jobs,
)
from async_triggers.engine.errors import (
    AccountMisconfigured,
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    JobNotFound,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import (
    HTTP_BAD_REQUEST,
    HTTP_CONFLICT,
    HTTP_FORBIDDEN,
    HTTP_UNPROCESSABLE,
    LONGEST_HEAD,
    Account,
    CredentialKind,
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    Token,
    Vendor,
    refuse_by_status,
    rows_by_id,
    short_text,
)

if TYPE_CHECKING:
    from async_triggers.engine.watch import End, Place

# https://reference.airbyte.com/reference/createaccesstoken: older servers say nothing of
# the lifetime, and theirs is three minutes.
SHORTEST_TOKEN_LIFE = 180.0

EVERYTHING: Place = ("account", "")
"""The place of all jobs that the credentials show."""

_OWN_PROBLEM = re.compile(
    r"https://reference\.airbyte\.com/reference/errors(#|$)"
    r"|https://docs\.airbyte\.com/"
    r"|error:[a-z-]+(/[a-z-]+)*$"
)
_OWN_ANSWER = re.compile(
    rb'\s*\{.*"(jobId"\s*:\s*"?\d|data"\s*:\s*\[|'
    rb'(connection|workspace|source|destination)Id"\s*:\s*"[^"])',
    re.DOTALL,
)
_OAUTH_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


class Airbyte(Vendor):
    """Airbyte as the engine sees it."""

    name = "Airbyte"
    overlap = OVERLAP
    end_fields = ("status", "lastUpdatedAt")
    sources: Sequence[Source] = (FEED, ENDED, RUNNING)

    def token_request(self, account: Account) -> Request | None:
        """Request a token: https://reference.airbyte.com/reference/createaccesstoken.

        Both spellings of the grant's key are sent: the schema and the list of required
        keys of the API's own description differ in it.
        """
        credentials = account.credentials
        if credentials.kind is not CredentialKind.CLIENT_CREDENTIALS:
            return None

        is_typed = credentials.token_url != token_url("", account.base_url)
        return Request(
            method="POST",
            path=credentials.token_url,
            about="an access token",
            json={
                "client_id": credentials.login,
                "client_secret": credentials.secret,
                "grant-type": "client_credentials",
                "grant_type": "client_credentials",
            },
            authorized=False,
            typed_in="schema" if is_typed else "host",
            note="token",
        )

    def read_token(self, reply: Reply) -> Token:
        """Read a token and its life."""
        body = reply.object("an access token")
        value = body.get("access_token")
        if not isinstance(value, str) or not value:
            msg = "The response for an access token holds no access_token"
            raise UnreadableReply(msg, status=reply.status)

        lifetime = body.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float):
            lifetime = SHORTEST_TOKEN_LIFE

        return Token(value, max(1.0, float(lifetime)))

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for a problem object with a type of Airbyte's.

        The types: https://reference.airbyte.com/reference/errors. The token endpoint may
        be that of the identity server, which answers with the errors of OAuth
        (https://www.rfc-editor.org/rfc/rfc6749#section-5.2).
        """
        try:
            body = reply.object("a problem")
        except UnreadableReply:
            return False

        kind = body.get("type")
        if isinstance(kind, str) and _OWN_PROBLEM.match(kind):
            return True

        return (
            request.note == "token"
            and body.get("error") in (*_OAUTH_ERRORS,)
            and isinstance(body.get("error_description"), str)
        )

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for an object with one of the fields that all of Airbyte's have."""
        return _OWN_ANSWER.match(reply.body, 0, LONGEST_HEAD) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error.

        The bodies are problem objects (RFC 9457) whose ``type`` names the case:
        https://reference.airbyte.com/reference/errors
        """
        kind, detail = read_problem(reply)
        status = reply.status
        if request.note == "token":
            return _refuse_token(request, reply, detail)

        if status == HTTP_CONFLICT and request.lane is Lane.START:
            if kind == "try-again-later":
                return AlreadyRunning(
                    f"Airbyte did not make {request.about}: {detail}", status=status
                )

            # The same body stands for "took longer than a minute" and for others.
            return VendorBroken(
                f"Airbyte did not confirm {request.about}: {detail}",
                status=status,
                ambiguous=True,
            )

        if (
            status in {HTTP_FORBIDDEN, HTTP_CONFLICT}
            and request.method == "GET"
            and request.path.startswith("/jobs/")
        ):
            # The check of the role comes first, so an unknown job is forbidden for most
            # callers and "not currently running" for administrators.
            return JobNotFound(
                f"Airbyte does not know {request.about}, or does not show it to these"
                f" credentials: {detail}",
                status=status,
            )

        return refuse_by_status(self.name, request, reply, detail)

    def single(self, account: Account, subject: str) -> Request:
        """Request one job."""
        return get_job(subject)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request what changed since a server time, or for what is running.

        https://reference.airbyte.com/reference/listjobs. Newest first: a row that changes
        while we page can then only repeat, never be shifted past us. ``workspaceIds`` is
        left out, which means all that the caller may see.
        """
        return page_of_jobs(
            Walk(source=source.name, limit=source.page, since=since, status=scope)
        )

    def read(self, request: Request, reply: Reply) -> Page:
        """Read a page of jobs, or one job."""
        walk = request.note
        if not isinstance(walk, Walk):
            row = read_row(request, reply)
            return Page(rows={row_id(row): row}, count=1)

        data = read_jobs(request, reply)
        rows = rows_by_id(data, row_id)
        # The server's own link to the next page forgets the filters.
        full = len(data) >= walk.limit
        following = replace(walk, offset=walk.offset + walk.limit)
        return Page(
            rows=rows,
            count=len(data),
            next=page_of_jobs(following) if full else None,
            resume=read_resume(walk, reply, data),
            sound=was_filtered(walk, data),
        )

    def judge(
        self,
        account: Account,
        subject: str,
        row: Row,
        mark: str | None,
    ) -> Job:
        """Read the job that a row shows."""
        return read_job(row)

    def needs_confirmation(self, job: Job) -> bool:
        """Request singly what lists may leave out: how much was synced."""
        return job.state is JobState.SUCCEEDED and job.statistics["rows_synced"] is None

    def places(self, row: Row) -> Sequence[Place]:
        """Return the connection, and the place that all jobs have in common."""
        return (
            ("connection_id", short_text(row.get("connectionId")) or ""),
            EVERYTHING,
        )

    def ends(self, account: Account, row: Row) -> Sequence[End]:
        """Return the end of a job that has one."""
        if row.get("lastUpdatedAt") is None:
            # Shown of ended jobs alone.
            return ()

        return super().ends(account, row)

    def rest_of(
        self, account: Account, ends: Sequence[End], *, since: float, now: float | None
    ) -> Request | None:
        """Request singly what lists may leave out: how much was synced."""
        job = ends[-1].job
        return get_job(job.id) if self.needs_confirmation(job) else None

    def read_rest(
        self, account: Account, reply: Reply, request: Request, ends: Sequence[End]
    ) -> Sequence[End]:
        """Read the job again."""
        return self.ends(account, reply.object(request.about)) or ends


AIRBYTE = Airbyte()


def _refuse_token(request: Request, reply: Reply, detail: str) -> EngineError:
    error = refuse_by_status(Airbyte.name, request, reply, detail)
    if isinstance(error, JobNotFound):
        return AccountMisconfigured(
            "Airbyte has no token endpoint where it was requested: set Token URL (schema)"
            " to v1/applications/token or to the endpoint's URL, and check Server URL"
            " (host)",
            status=reply.status,
        )

    if reply.status in {HTTP_BAD_REQUEST, HTTP_FORBIDDEN, HTTP_UNPROCESSABLE}:
        return CredentialsRejected(
            "Airbyte gives no access token for this Client ID (login) and Client Secret"
            f" (password): {detail}",
            status=reply.status,
        )

    return error
