"""dbt Cloud as the engine sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from async_triggers.dbt_cloud.api.models import read_cause, read_run, row_id, run_url
from async_triggers.dbt_cloud.api.replies import (
    is_more,
    next_walk,
    read_detail,
    read_objects,
    read_resume,
    read_row,
    was_filtered,
)
from async_triggers.dbt_cloud.api.requests import (
    BRACKETS,
    FEED,
    LIVE,
    OVERLAP,
    PAGE,
    REPEATED,
    Walk,
    account_path,
    get_run,
    page_of_runs,
)
from async_triggers.engine.errors import EngineError, JobNotFound, UnreadableReply
from async_triggers.engine.wire import (
    HTTP_FORBIDDEN,
    LONGEST_HEAD,
    Account,
    Page,
    Reply,
    Request,
    Row,
    Source,
    Token,
    Vendor,
    refuse_by_status,
    rows_by_id,
)

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.watch import End, Place

PLACES = ("job_definition_id", "project_id", "environment_id")
"""The fields of a run by which runs are watched."""

_OWN_ANSWER = re.compile(rb'\s*\{.*"(is_success"|status"\s*:\s*\{)', re.DOTALL)
_LONG_ANSWER = re.compile(rb'\s*\{\s*"data"\s*:\s*[\[{]')


class DbtCloud(Vendor):
    """dbt Cloud as the engine sees it."""

    name = "dbt Cloud"
    noun = "run"
    overlap = OVERLAP
    end_fields = ("status", "finished_at")
    sources: Sequence[Source] = (BRACKETS, REPEATED, FEED, LIVE)

    def authorize(self, account: Account, token: Token | None) -> Mapping[str, str]:
        """Prove who we are: https://docs.getdbt.com/docs/dbt-apis/service-tokens."""
        return {"Authorization": f"Bearer {account.credentials.secret}"}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for the envelope of dbt Cloud, with the reply's own status in it.

        https://docs.getdbt.com/dbt-cloud/api-v2
        """
        try:
            body = reply.object("a refusal")
        except UnreadableReply:
            return False

        status = body.get("status")
        return (
            isinstance(status, dict)
            and status.get("code") == reply.status
            and status.get("is_success") is False
            and isinstance(status.get("user_message"), str)
        )

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for an envelope; an artifact of a run has none."""
        if "/artifacts/" in request.path:
            return reply.body[:1] in {b"{", b"["}

        if len(reply.body) > LONGEST_HEAD and _LONG_ANSWER.match(reply.body):
            # What is known by its status may stand behind all the data.
            return True

        return _OWN_ANSWER.match(reply.body, 0, LONGEST_HEAD) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error. The envelope's status explains it."""
        error = refuse_by_status(self.name, request, reply, read_detail(reply))
        if isinstance(error, JobNotFound) or reply.status == HTTP_FORBIDDEN:
            # An account that the token does not belong to is "not found" as well.
            error.message += (
                " (is it in this account, and does the token's role show it?)"
            )
            error.args = (error.message,)

        return error

    def single(self, account: Account, subject: str) -> Request:
        """Request one run, without its steps: their logs are long."""
        return get_run(account, subject)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request runs by id, for those that ended, or for those that did not.

        https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs
        """
        return page_of_runs(
            Walk(
                source=source.name,
                root=account_path(account),
                ids=tuple(subjects),
                since=since or 0.0,
            )
        )

    def read(self, request: Request, reply: Reply) -> Page:
        """Read a page of runs, or one run."""
        walk = request.note
        if not isinstance(walk, Walk):
            row = read_row(request, reply)
            return Page(rows={row_id(row): row}, count=1)

        data = read_objects(request, reply)
        rows = rows_by_id(data, row_id)
        sound = was_filtered(walk, request, reply, rows)
        # Those that a page leaves out are counted from where it began.
        more = is_more(reply, request, data, seen=walk.offset + len(data), limit=PAGE)
        following = next_walk(walk, data, rows) if sound and more else None
        return Page(
            rows=rows,
            count=len(data),
            next=None if following is None else page_of_runs(following),
            resume=read_resume(walk, reply, data),
            sound=sound,
        )

    def judge(
        self,
        account: Account,
        subject: str,
        row: Row,
        mark: str | None,
    ) -> Job:
        """Read the run that a row shows."""
        job = read_run(row)
        return job if job.url else replace(job, url=run_url(account, row))

    def watched(self, request: Request) -> Request:
        """Add whose run it is."""
        return page_of_runs(replace(request.note, related=("trigger",)))

    def places(self, row: Row) -> Sequence[Place]:
        """Return the job, the project and the environment of a run."""
        return [(name, str(row.get(name))) for name in PLACES]

    def ends(self, account: Account, row: Row) -> Sequence[End]:
        """Return the end of a run, with what caused the run."""
        cause = {"cause": read_cause(row)}
        return [
            replace(
                each,
                job=replace(each.job, statistics={**each.job.statistics, **cause}),
            )
            for each in super().ends(account, row)
        ]


DBT_CLOUD = DbtCloud()
