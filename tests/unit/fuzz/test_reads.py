"""Whatever a vendor answers: a value, or a typed error of ours, and never anything else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.airbyte.api import models as airbyte_models
from async_triggers.airbyte.api import replies as airbyte_replies
from async_triggers.airbyte.api import requests as airbyte_requests
from async_triggers.airbyte.api.vendor import AIRBYTE
from async_triggers.dbt_cloud.api import models as dbt_cloud_models
from async_triggers.dbt_cloud.api import replies as dbt_cloud_replies
from async_triggers.dbt_cloud.api import requests as dbt_cloud_requests
from async_triggers.dbt_cloud.api.vendor import DBT_CLOUD
from async_triggers.deferral import events
from async_triggers.engine.errors import EngineError, RequestRejected
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.paths import segment
from async_triggers.engine.times import format_time, parse_time
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Page,
    Reply,
    Request,
    Vendor,
    retry_after,
)
from async_triggers.fivetran.api import history as fivetran_history
from async_triggers.fivetran.api import models as fivetran_models
from async_triggers.fivetran.api import replies as fivetran_replies
from async_triggers.fivetran.api import requests as fivetran_requests
from async_triggers.fivetran.api.models import Run
from async_triggers.fivetran.api.vendor import FIVETRAN
from tests.unit.fuzz.answers import bodies, headers, spoiled_once

NOW = 1_774_402_200.0
DATE = "Wed, 25 Mar 2026 01:30:00 GMT"
MARKS = st.text(max_size=40) | st.sampled_from(
    [
        "~~",
        "2026-03-25T01:30:00Z~~",
        "2026-03-25T01:30:00Z~2026-03-25T01:40:00Z~rbwps~1",
        "\0~~",
    ]
)


def an_account(vendor: Vendor) -> Account:
    return Account(
        vendor=vendor.name,
        base_url="https://vendor.test",
        credentials=Credentials(kind=CredentialKind.NONE),
        account_id="4711",
        budget=Budget(requests=600, per=60.0),
    )


@dataclass(frozen=True, slots=True)
class Case:
    """A vendor, every request whose answers its poller reads, and every other read."""

    name: str
    vendor: Vendor
    subject: str
    others: Callable[[Reply, str], list[Callable[[], Any]]]
    starts: tuple[Request, ...]

    @property
    def account(self) -> Account:
        return an_account(self.vendor)

    @property
    def requests(self) -> list[Request]:
        """All that the poller may ask, further pages included."""
        found = [self.vendor.single(self.account, self.subject)]
        for source in self.vendor.sources:
            scope = "g" if source.scoped else ""
            found.append(
                self.vendor.many(
                    self.account,
                    source,
                    subjects=[self.subject],
                    since=NOW,
                    scope=scope,
                )
            )

        return found


def _airbyte(reply: Reply, mark: str) -> list[Callable[[], Any]]:
    look, latest = (
        airbyte_requests.get_connection("c"),
        airbyte_requests.latest_jobs("c"),
    )
    page = airbyte_requests.list_connections()

    def lists() -> Any:
        rows, following = airbyte_replies.read_page(page, reply)
        for row in rows:
            airbyte_replies.read_replication(row)
            airbyte_replies.read_endpoint(row, "source")

        return following

    return [
        lambda: AIRBYTE.read_token(reply),
        lambda: airbyte_replies.read_connection(look, reply),
        lambda: [
            airbyte_models.read_job(each)
            for each in airbyte_replies.read_jobs(latest, reply)
        ],
        lambda: airbyte_models.read_job(reply.object("a job")),
        lists,
    ]


def _fivetran(reply: Reply, mark: str) -> list[Callable[[], Any]]:
    one = fivetran_requests.get_connection("c")
    history = fivetran_requests.sync_history("c", since=NOW - 60, until=NOW)
    run = Run.from_mark("c", mark)

    def settle() -> Any:
        records, _ = fivetran_replies.read_history(history, reply)
        now = FIVETRAN.read(one, Reply(200, {}, _CONNECTION)).rows["c"]
        connection = fivetran_replies.read_connection(now)
        stop = fivetran_history.find_stop(connection, run, records, now=NOW)
        jobs = [fivetran_models.judge_run(connection, run), *([stop] if stop else [])]
        return [
            fivetran_history.settle_job(replace(job, state=state), run, records)
            for job in jobs
            for state in (JobState.SUCCEEDED, JobState.FAILED)
        ]

    def connection() -> Any:
        row = fivetran_replies.read_data(one, reply)
        found = fivetran_replies.read_connection(row)
        fivetran_history.history_window(found.run(at=NOW), now=NOW)
        return [fivetran_models.judge_run(found, run), found.run(at=NOW).id]

    return [
        connection,
        settle,
        lambda: fivetran_replies.read_destination(
            fivetran_replies.read_data(one, reply)
        ),
        lambda: fivetran_replies.read_tables(fivetran_replies.read_data(one, reply)),
        lambda: fivetran_replies.read_source_tables(
            fivetran_replies.read_data(one, reply)
        ),
        lambda: FIVETRAN.remaining(reply),
    ]


_CONNECTION = json.dumps(
    {
        "data": {
            "id": "c",
            "schedule_type": "manual",
            "status": {"sync_state": "scheduled", "setup_state": "connected"},
        }
    }
).encode()


def _dbt_cloud(reply: Reply, mark: str) -> list[Callable[[], Any]]:
    account = an_account(DBT_CLOUD)
    run, runs = (
        dbt_cloud_requests.get_run(account, 1),
        dbt_cloud_requests.list_runs(account),
    )
    file = dbt_cloud_requests.get_artifact(account, 1, "run_results.json")

    def details() -> Any:
        row = dbt_cloud_replies.read_row(run, reply)
        step = dbt_cloud_replies.read_failed_step(row)
        dbt_cloud_replies.read_building_steps(row)
        dbt_cloud_replies.read_cause(row)
        dbt_cloud_models.run_url(account, row)
        return dbt_cloud_models.explain(
            dbt_cloud_models.read_run(row), step, ["a node"]
        )

    return [
        details,
        lambda: dbt_cloud_replies.read_rows(runs, reply),
        lambda: dbt_cloud_replies.read_paths(run, reply),
        lambda: dbt_cloud_replies.read_failed_nodes(file, reply),
    ]


CASES = [
    Case(
        "airbyte",
        AIRBYTE,
        "1",
        _airbyte,
        (
            airbyte_requests.start_job("c", "sync"),
            airbyte_requests.cancel_job("1"),
            airbyte_requests.get_connection("c"),
            Request(method="POST", path="/t", about="a token", note="token"),
        ),
    ),
    Case(
        "fivetran",
        FIVETRAN,
        "c",
        _fivetran,
        (
            fivetran_requests.start_sync("c"),
            fivetran_requests.start_resync("c"),
            fivetran_requests.modify_connection("c", paused=True),
        ),
    ),
    Case(
        "dbt_cloud",
        DBT_CLOUD,
        "70403103950007",
        _dbt_cloud,
        (
            dbt_cloud_requests.start_run(an_account(DBT_CLOUD), 1, {"cause": "x"}),
            dbt_cloud_requests.retry_run(an_account(DBT_CLOUD), 1),
            dbt_cloud_requests.cancel_run(an_account(DBT_CLOUD), 1),
        ),
    ),
]
every_vendor = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def check_job(job: Job) -> None:
    """A job must survive the event, logs and both of Airflow's databases."""
    written = json.dumps(events.job_to_json(job), allow_nan=False)
    assert events.job_from_json(json.loads(written)) == job
    assert "\\u0000" not in written
    assert len(written) < 30_000
    assert job.ended_at is None or math.isfinite(job.ended_at)
    assert job.url == "" or job.url.startswith(("https://", "http://"))


def check_found(found: object) -> None:
    """Look at the jobs among what was read."""
    if isinstance(found, Job):
        check_job(found)
    elif isinstance(found, list):
        for each in found:
            check_found(each)


def read_all(case: Case, reply: Reply, mark: str) -> int:
    """Read an answer in every way; return how many of them found something in it."""
    found = 0
    for request in case.requests:
        try:
            page = case.vendor.read(request, reply)
        except EngineError:
            continue

        assert isinstance(page, Page)
        if page.resume is not None:
            # The window of the next round can be asked for.
            for source in case.vendor.sources:
                case.vendor.many(case.account, source, since=page.resume, scope="g")

        for subject, row in page.rows.items():
            case.vendor.scope_of(row)
            try:
                job = case.vendor.judge(case.account, subject, row, mark)
            except EngineError:
                continue

            case.vendor.needs_confirmation(job)
            check_job(job)
            found += 1

    for read in case.others(reply, mark):
        try:
            check_found(read())
        except EngineError:
            continue

        found += 1

    return found


@every_vendor
@given(data=st.data())
def test_any_answer_is_a_value_or_a_typed_error(
    case: Case, data: st.DataObject
) -> None:
    reply = Reply(200, data.draw(headers), data.draw(bodies(case.name)))
    read_all(case, reply, data.draw(MARKS))


@every_vendor
def test_an_answer_with_one_odd_value_is_a_value_or_a_typed_error(case: Case) -> None:
    """Every field of every good answer, with every kind of thing in its place."""
    found = [
        read_all(case, Reply(200, {"date": DATE}, body.encode()), "~~")
        for body in spoiled_once(case.name)
    ]

    assert len(found) > 1000
    # Not all that is odd makes an answer useless.
    assert sum(map(bool, found)) > len(found) / 4


@every_vendor
def test_a_refusal_with_one_odd_value_is_a_typed_error(case: Case) -> None:
    for body in spoiled_once(case.name):
        reply = Reply(418, {}, body.encode())
        error = case.vendor.refuse(case.requests[0], reply)

        assert isinstance(error, EngineError)
        assert "\0" not in error.message
        assert len(error.message) < 1500


@every_vendor
@given(data=st.data(), status=st.integers(300, 599))
def test_any_refusal_is_a_typed_error(
    case: Case, data: st.DataObject, status: int
) -> None:
    reply = Reply(status, data.draw(headers), data.draw(bodies(case.name)))
    for request in (*case.requests, *case.starts):
        error = case.vendor.refuse(request, reply)

        assert isinstance(error, EngineError)
        assert len(error.message) < 1500
        assert error.args == (error.message,)

    case.vendor.remaining(reply)
    wait = retry_after(reply)
    assert wait is None or 0.0 <= wait <= 86_400.0


def test_a_mark_that_no_database_would_take_does_not_come_back() -> None:
    run = Run.from_id("c@\0~2026-03-25T01:30:00Z\0~")

    assert run.id == "c@~2026-03-25T01:30:00Z~"


ids = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["..", ".", "a/b", "a\\b", "%2e%2e", "\u202e", "a?b#c", " a ", "\ud800", "\x7f"]
)


@given(value=ids)
def test_an_id_stays_in_its_segment_or_is_refused(value: str) -> None:
    try:
        quoted = segment(value, "id")
    except RequestRejected as error:
        json.dumps(error.message)
        return

    assert quoted
    assert quoted.isascii()
    assert quoted not in {".", ".."}
    assert not set(quoted) & set("/\\?#@: ")


@given(value=ids)
def test_every_address_made_of_an_id_is_quoted_or_refused(value: str) -> None:
    account = an_account(DBT_CLOUD)
    makers: list[Callable[[], Request]] = [
        lambda: airbyte_requests.get_job(value),
        lambda: airbyte_requests.cancel_job(value),
        lambda: airbyte_requests.get_connection(value),
        lambda: fivetran_requests.get_connection(value),
        lambda: fivetran_requests.list_connections(value or "."),
        lambda: fivetran_requests.get_destination(value),
        lambda: fivetran_requests.get_schemas(value),
        lambda: fivetran_requests.start_sync(value),
        lambda: fivetran_requests.start_resync(value),
        lambda: fivetran_requests.modify_connection(value, paused=True),
        lambda: fivetran_requests.sync_history(value, since=NOW, until=NOW),
        lambda: dbt_cloud_requests.get_run(account, value),
        lambda: dbt_cloud_requests.cancel_run(account, value),
        lambda: dbt_cloud_requests.retry_run(account, value),
        lambda: dbt_cloud_requests.get_job(account, value),
        lambda: dbt_cloud_requests.start_run(account, value, {}),
        lambda: dbt_cloud_requests.list_artifacts(account, value),
        lambda: dbt_cloud_requests.get_artifact(account, value, "manifest.json"),
        lambda: dbt_cloud_requests.list_environments(account, value),
    ]
    slashes = []
    for make in makers:
        try:
            path = make().path
        except RequestRejected:
            continue

        assert path.isascii()
        assert not set(path) & set("\\?#@ ")
        assert not {".", ".."} & set(path.split("/"))
        slashes.append(path.count("/"))

    # Refused by all or by none: and the same number of segments whatever the id.
    assert slashes in ([], [2, 2, 2, 3, 4, 3, 4, 4, 4, 3, 4, 7, 8, 8, 7, 8, 8, 8, 8])


@given(value=st.text(max_size=40) | st.integers() | st.none())
def test_any_time_is_read_or_none(value: object) -> None:
    moment = parse_time(value)

    assert moment is None or math.isfinite(moment)


@given(moment=st.datetimes(timezones=st.timezones()))
def test_a_time_that_was_read_can_be_written(moment: Any) -> None:
    seconds = parse_time(moment.isoformat())

    assert seconds is not None
    assert parse_time(format_time(seconds)) == math.floor(seconds) or seconds < 0


def test_every_lane_is_fuzzed() -> None:
    """No way to refuse is left out."""
    lanes = {
        request.lane for case in CASES for request in (*case.requests, *case.starts)
    }

    # The other two are the poller's own.
    assert lanes == set(Lane) - {Lane.SHARED, Lane.POLL}
