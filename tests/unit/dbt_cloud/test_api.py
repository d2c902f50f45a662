from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_triggers.dbt_cloud.api import addresses, models, replies, requests
from async_triggers.dbt_cloud.api.models import DbtCloudJobRunStatus
from async_triggers.dbt_cloud.api.requests import BRACKETS, FEED, LIVE, REPEATED
from async_triggers.dbt_cloud.api.vendor import DBT_CLOUD
from async_triggers.dbt_cloud.events import DbtCloudRunFinished
from async_triggers.engine.errors import (
    AccountMisconfigured,
    CredentialsRejected,
    EngineError,
    JobNotFound,
    RateLimited,
    RequestRejected,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Reply,
    Request,
    Source,
)
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB, START

RUN = 70_403_194_297_680
REPLIES = Path(__file__).parent / "replies"
DATED = {"date": "Wed, 25 Mar 2026 01:32:00 GMT"}
SINCE = START - 60.0

AN_ACCOUNT = Account(
    vendor="dbt Cloud",
    base_url="https://ab123.us1.dbt.com",
    credentials=Credentials(kind=CredentialKind.BEARER, secret="a-token"),
    account_id=str(ACCOUNT),
    budget=Budget(requests=5000, per=60.0),
)


def reply(
    name: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Reply:
    body = (REPLIES / f"{name}.json").read_bytes()
    return Reply(status, DATED if headers is None else headers, body)


def page(
    rows: list[dict[str, Any]],
    *,
    total: int | None = None,
    filters: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    extra: dict[str, Any] = {"filters": filters or {}}
    if total is not None:
        extra["pagination"] = {"count": len(rows), "total_count": total}

    body = json.dumps({"data": rows, "extra": extra}).encode()
    return Reply(200, DATED if headers is None else headers, body)


def row(run_id: int, status: int = 3, finished_at: str | None = None) -> dict[str, Any]:
    return {"id": run_id, "status": status, "finished_at": finished_at}


def asked(
    source: Source, *, since: float | None = None, ids: tuple[str, ...] = ()
) -> Request:
    return DBT_CLOUD.many(AN_ACCOUNT, source, subjects=ids, since=since)


# Addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "scheme", "base"),
    [
        ("ab123.us1.dbt.com", None, "", "https://ab123.us1.dbt.com"),
        (" ab123.us1.dbt.com/ ", None, "", "https://ab123.us1.dbt.com"),
        ("https://ab123.us1.dbt.com/api/v2/", None, "", "https://ab123.us1.dbt.com"),
        ("https://dbt.corp.test/cloud/api", None, "", "https://dbt.corp.test/cloud"),
        ("localhost", 8002, "http", "http://localhost:8002"),
        ("http://[::1]:8002", None, "", "http://[::1]:8002"),
        ("", None, "", "https://cloud.getdbt.com"),
    ],
)
def test_where_the_api_is(host: str, port: int | None, scheme: str, base: str) -> None:
    assert addresses.base_url(host, port=port, scheme=scheme) == base


@pytest.mark.parametrize("host", ["ftp://x", "https://", "http://a:b", "https://u:p@x"])
def test_a_host_that_is_none(host: str) -> None:
    with pytest.raises(AccountMisconfigured, match="host"):
        addresses.base_url(host, port=None, scheme="")


@pytest.mark.parametrize(
    ("host", "doubtful"),
    [
        ("", True),
        ("cloud.getdbt.com", True),
        ("tenant.getdbt.com", True),
        ("emea.dbt.com", True),
        ("ab123.us1.dbt.com", False),
        ("dbt.corp.test", False),
    ],
)
def test_older_hosts_are_doubted(host: str, *, doubtful: bool) -> None:
    base = addresses.base_url(host, port=None, scheme="")

    assert bool(addresses.doubt_host(host, base)) is doubtful


@pytest.mark.parametrize("value", ["", "abc", "12a", True, "-5", "²"])
def test_an_account_id_that_is_none(value: object) -> None:
    with pytest.raises(AccountMisconfigured, match="login"):
        addresses.account_id(value, "login")


# Requests ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "method", "path", "lane"),
    [
        (
            requests.start_run(AN_ACCOUNT, JOB, {}),
            "POST",
            f"jobs/{JOB}/run/",
            Lane.START,
        ),
        (requests.retry_run(AN_ACCOUNT, RUN), "POST", f"runs/{RUN}/retry/", Lane.START),
        (
            requests.cancel_run(AN_ACCOUNT, RUN),
            "POST",
            f"runs/{RUN}/cancel/",
            Lane.CANCEL,
        ),
        (requests.get_run(AN_ACCOUNT, RUN), "GET", f"runs/{RUN}/", Lane.LOOK),
        (requests.list_runs(AN_ACCOUNT), "GET", "runs/", Lane.LOOK),
        (requests.get_job(AN_ACCOUNT, JOB), "GET", f"jobs/{JOB}/", Lane.LOOK),
        (requests.list_jobs(AN_ACCOUNT), "GET", "jobs/", Lane.LOOK),
        (
            requests.list_artifacts(AN_ACCOUNT, RUN),
            "GET",
            f"runs/{RUN}/artifacts/",
            Lane.LOOK,
        ),
        (
            requests.get_artifact(AN_ACCOUNT, RUN, "compiled/a b.sql"),
            "GET",
            f"runs/{RUN}/artifacts/compiled/a%20b.sql",
            Lane.LOOK,
        ),
    ],
)
def test_what_is_asked(request_: Request, method: str, path: str, lane: Lane) -> None:
    assert request_.method == method
    assert request_.path == f"/api/v2/accounts/{ACCOUNT}/{path}"
    assert request_.lane is lane


def test_an_artifact_cannot_lead_out_of_its_run() -> None:
    with pytest.raises(RequestRejected, match="path"):
        requests.get_artifact(AN_ACCOUNT, RUN, "../../jobs")


def test_a_token_is_a_bearer() -> None:
    assert DBT_CLOUD.token_request(AN_ACCOUNT) is None
    assert DBT_CLOUD.authorize(AN_ACCOUNT, None) == {"Authorization": "Bearer a-token"}
    assert "a-token" not in repr(AN_ACCOUNT)


def test_the_ways_to_ask_for_many() -> None:
    ids = (str(RUN), str(RUN + 1))

    assert dict(asked(BRACKETS, ids=ids).params)["pk__in"] == f"[{RUN},{RUN + 1}]"
    assert asked(REPEATED, ids=ids).params[:2] == (
        ("pk__in", str(RUN)),
        ("pk__in", str(RUN + 1)),
    )
    feed = dict(asked(FEED, since=SINCE + 0.25).params)
    assert feed["finished_at__range"] == (
        '["2026-03-25T01:29:00.250000Z","2100-01-01T00:00:00Z"]'
    )
    assert feed["order_by"] == "finished_at"
    live = dict(asked(LIVE).params)
    assert live["status__in"] == "[1,2,3]"
    assert live["id__gt"] == "0"


def test_by_id_comes_before_the_feed_which_omits_what_was_cancelled() -> None:
    assert DBT_CLOUD.sources == (BRACKETS, REPEATED, FEED, LIVE)
    assert JobState.CANCELLED in FEED.omits


def test_a_marker_tells_attempts_apart_and_a_cause_has_room_for_it() -> None:
    marker = requests.make_marker(("a", "dag"), 1)

    assert marker != requests.make_marker(("adag",), 1)
    assert requests.make_marker(("a", "dag"), 2).split("-")[0] == marker.split("-")[0]
    assert requests.make_cause("short", marker) == f"short{marker}"
    assert requests.make_cause("x" * 255, "") == "x" * 255
    assert len(requests.make_cause("x" * 300, marker)) == requests.LONGEST_CAUSE


# Replies -----------------------------------------------------------------------


def test_a_run_that_was_started() -> None:
    request = requests.start_run(AN_ACCOUNT, JOB, {"cause": "x"})

    job = models.read_run(replies.read_row(request, reply("run_started")))

    assert job.id == str(RUN)
    assert job.state is JobState.PENDING
    assert job.word == "queued"
    assert job.url.endswith(f"/runs/{RUN}/")
    assert job.started_at == "2026-03-25 01:30:00.123456+00:00"
    assert job.ended_at is None
    assert job.statistics["job_definition_id"] == JOB


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (1, JobState.PENDING),
        (2, JobState.PENDING),
        (3, JobState.RUNNING),
        (10, JobState.SUCCEEDED),
        (20, JobState.FAILED),
        (30, JobState.CANCELLED),
    ],
)
def test_the_states_of_a_run(number: int, state: JobState) -> None:
    job = models.read_run(row(RUN, number))

    assert job.state is state
    assert job.word == DbtCloudJobRunStatus(number).name.lower()


def test_a_state_that_nobody_knows_counts_as_running(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_strange_statuses", set())
    caplog.set_level(logging.WARNING)

    jobs = [models.read_run({**row(RUN, 42), "status_humanized": "Odd"}) for _ in "ab"]

    assert {job.state for job in jobs} == {JobState.RUNNING}
    assert [record.getMessage() for record in caplog.records] == [
        "dbt Cloud has a run status 42 (Odd), which counts as running"
    ]


@pytest.mark.parametrize("broken", [{}, {"id": RUN}, {"id": RUN, "status": "3"}])
def test_a_row_that_cannot_be_read(broken: dict[str, Any]) -> None:
    with pytest.raises(UnreadableReply):
        models.read_run(broken)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"data": []}'])
def test_an_answer_that_is_no_envelope_of_a_run(body: bytes) -> None:
    with pytest.raises(UnreadableReply):
        DBT_CLOUD.read(DBT_CLOUD.single(AN_ACCOUNT, str(RUN)), Reply(200, {}, body))


def test_a_run_without_an_address_gets_one() -> None:
    job = DBT_CLOUD.judge(AN_ACCOUNT, str(RUN), {**row(RUN), "project_id": 7}, None)

    assert job.url == (
        f"https://ab123.us1.dbt.com/deploy/{ACCOUNT}/projects/7/runs/{RUN}/"
    )


def test_why_a_run_failed() -> None:
    request = requests.get_run(AN_ACCOUNT, RUN, include_related=("run_steps",))
    found = replies.read_row(request, reply("run_failed_with_steps"))
    results = requests.get_artifact(AN_ACCOUNT, RUN, "run_results.json")

    step = replies.read_failed_step(found)
    nodes = replies.read_failed_nodes(results, reply("run_results"))
    job = models.explain(models.read_run(found), step, nodes)

    assert step is not None
    assert step.index == 3
    assert step.lines[-1] == "01:31:00  Done. PASS=1 WARN=0 ERROR=1 SKIP=1 TOTAL=3"
    assert nodes == [
        "model.shop.orders (Database Error in model orders (models/orders.sql))",
        (
            "test.shop.unique_customers_id.c5af1ff4b1"
            " (Got 3 results, configured to fail if != 0)"
        ),
    ]
    assert job.message == (
        f"step 3, 'Invoke dbt with `dbt build`', failed; not built: {', '.join(nodes)}"
    )


def test_many_failed_nodes_are_counted() -> None:
    job = Job(id="1", state=JobState.FAILED, word="error", message="Told by dbt")

    told = models.explain(
        job, None, [f"model.{number}" for number in range(12)]
    ).message

    assert told.endswith("model.9 and 2 more; Told by dbt")


def test_a_run_without_a_failed_step() -> None:
    assert (
        replies.read_failed_step({"run_steps": [None, {"status": 10, "index": 1}]})
        is None
    )


# Many runs ----------------------------------------------------------------------


def test_a_page_of_the_feed() -> None:
    found = DBT_CLOUD.read(asked(FEED, since=SINCE), reply("runs_page"))

    assert list(found.rows) == [str(RUN), str(RUN + 1000), str(RUN + 2000)]
    assert found.sound
    assert found.next is None
    # By the server's clock, less the overlap.
    assert found.resume == parse_time("2026-03-25T01:31:00Z")


def test_a_feed_without_a_date_resumes_at_its_last_end() -> None:
    found = DBT_CLOUD.read(asked(FEED, since=SINCE), reply("runs_page", headers={}))

    assert found.resume == parse_time("2026-03-25T01:30:07Z")


def test_the_feed_pages_by_key() -> None:
    rows = [row(RUN + n, 10, f"2026-03-25 01:30:00.{n:06}+00:00") for n in range(100)]

    found = DBT_CLOUD.read(asked(FEED, since=SINCE), page(rows, total=250))

    assert found.next is not None
    params = dict(found.next.params)
    assert params["finished_at__range"].startswith('["2026-03-25T01:30:00.000099Z"')
    assert "offset" not in params


def test_within_one_time_the_feed_pages_by_number() -> None:
    rows = [row(RUN + n, 10, "2026-03-25 01:29:00.000000+00:00") for n in range(100)]

    second = DBT_CLOUD.read(asked(FEED, since=SINCE), page(rows, total=250)).next
    assert second is not None
    assert dict(second.params)["offset"] == "100"
    third = DBT_CLOUD.read(second, page(rows, total=250)).next
    assert third is not None
    assert dict(third.params)["offset"] == "200"
    assert DBT_CLOUD.read(third, page(rows[:50], total=250)).next is None


def test_without_a_total_a_full_page_goes_on() -> None:
    rows = [row(RUN + n, 10, f"2026-03-25 01:30:00.{n:06}+00:00") for n in range(100)]

    assert DBT_CLOUD.read(asked(FEED, since=SINCE), page(rows)).next is not None
    assert DBT_CLOUD.read(asked(FEED, since=SINCE), page(rows[:99])).next is None


def test_unfinished_runs_page_by_id() -> None:
    rows = [row(RUN + n) for n in range(100)]

    following = DBT_CLOUD.read(asked(LIVE), page(rows, total=101)).next

    assert following is not None
    assert dict(following.params)["id__gt"] == str(RUN + 99)


def test_unfinished_runs_that_come_again_end_the_walk() -> None:
    rows = [row(RUN + n) for n in range(100)]
    following = DBT_CLOUD.read(asked(LIVE), page(rows, total=101)).next
    assert following is not None

    again = DBT_CLOUD.read(following, page(rows, total=101))

    assert not again.sound
    assert again.next is None


IDS = (str(RUN), str(RUN + 1))


@pytest.mark.parametrize(
    ("source", "rows", "filters", "sound"),
    [
        (BRACKETS, [row(RUN)], {}, True),
        (BRACKETS, [row(RUN)], {"limit": 100}, True),
        (BRACKETS, [row(RUN), row(RUN + 2)], {"pk__in": []}, False),
        (REPEATED, [row(RUN + 2)], {}, False),
        # Where there are no rows the server's word is all there is.
        (BRACKETS, [], {}, True),
        (BRACKETS, [], {"limit": 100}, False),
        (BRACKETS, [], {"limit": 100, "pk__in": "[1]"}, True),
        (FEED, [row(RUN, 10, "2026-03-25T01:30:00Z")], {}, True),
        (FEED, [row(RUN, 10, "2026-03-25T01:20:00Z")], {}, False),
        (FEED, [row(RUN, 3)], {}, False),
        (LIVE, [row(RUN, 3), row(RUN + 1, 1)], {}, True),
        (LIVE, [row(RUN, 3), row(RUN + 1, 10)], {}, False),
    ],
)
def test_whether_the_server_filtered(
    source: Source, rows: list[dict[str, Any]], filters: dict[str, Any], *, sound: bool
) -> None:
    found = DBT_CLOUD.read(
        asked(source, since=SINCE, ids=IDS), page(rows, total=900, filters=filters)
    )

    assert found.sound is sound
    assert sound or found.next is None


# Refusals -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (reply("unauthorized", 401), CredentialsRejected, "Invalid token"),
        (reply("not_found", 404), JobNotFound, "is it in this account"),
        (reply("not_found", 403), RequestRejected, "role"),
        (Reply(404, {}, b"<html>"), JobNotFound, "does not know run"),
        (Reply(429, {}, b""), RateLimited, "too many requests"),
        (Reply(502, {}, b"<html>"), VendorBroken, "502"),
        (Reply(400, {}, b"[]"), RequestRejected, "400"),
    ],
)
def test_refusals(answer: Reply, error: type[EngineError], told: str) -> None:
    found = DBT_CLOUD.refuse(requests.get_run(AN_ACCOUNT, RUN), answer)

    assert type(found) is error
    assert told in str(found)
    assert str(found) == found.message


def test_a_limit_without_a_time_is_left_to_the_budget() -> None:
    found = DBT_CLOUD.refuse(requests.get_run(AN_ACCOUNT, RUN), Reply(429, {}, b""))

    assert isinstance(found, RateLimited)
    assert found.retry_after is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Invoke dbt with `dbt build --select my.model`", [4]),
        ("Invoke dbt with `dbt --warn-error run --full-refresh`", [4]),
        ("Invoke dbt with `dbt seed`", [4]),
        ("Invoke dbt with `dbt deps`", []),
        ("Invoke dbt with `dbt source freshness`", []),
        ("Invoke dbt with `dbt docs generate`", []),
        ("Create profile from connection dbt run", []),
        (None, []),
    ],
)
def test_the_steps_that_run_nodes(name: object, expected: list[int]) -> None:
    steps = [{"index": 4, "name": name}, {"name": "no index"}, "no step"]

    assert replies.read_building_steps({"run_steps": steps}) == expected


def test_a_row_without_steps_has_none_that_run_nodes() -> None:
    assert replies.read_building_steps({"run_steps": None}) == []


LONG = '{"parent":"' + "x" * 229 + '"}'


@pytest.mark.parametrize("reason", ["Because", '{"parent":{}}', LONG])
def test_a_cause_bears_its_own_mark_and_no_other(reason: str) -> None:
    own, other = (requests.make_marker(["a"], attempt) for attempt in (1, 2))

    cause = requests.make_cause(reason, own)

    assert len(cause) <= requests.LONGEST_CAUSE
    assert requests.bears_marker(cause, [other, own])
    assert not requests.bears_marker(cause, [other])
    watcher = DbtCloudRunFinished(job_id=1)
    job = Job(id="1", state=JobState.SUCCEEDED, word="success")
    assert watcher.is_own(replace(job, statistics={"cause": cause}))
    assert not watcher.is_own(replace(job, statistics={"cause": reason}))


def test_what_a_mark_takes_in_json_is_known() -> None:
    mark = requests.make_marker(["a"], 9999)

    cause = requests.make_cause('{"parent":{}}', mark)

    assert len(cause) - len('{"parent":{}}') <= requests.LONGEST_MEMBER
