"""Airbyte's wire: what is asked, and what is made of the answers. No I/O."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.airbyte.api import addresses, models, replies, requests
from async_triggers.airbyte.api.requests import ENDED, FEED, RUNNING
from async_triggers.airbyte.api.vendor import AIRBYTE
from async_triggers.engine.errors import (
    AccountMisconfigured,
    AlreadyRunning,
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
    Page,
    Reply,
    Request,
)

REPLIES = Path(__file__).with_name("replies")
CONNECTION = "e735894a-e773-4938-969f-45f53957b75b"
DATE = "Wed, 25 Mar 2026 01:40:00 GMT"
NOW = 1_774_402_800.0
JSON = {"content-type": "application/json", "date": DATE}

ACCOUNT = Account(
    vendor="Airbyte",
    base_url="http://localhost:8000/api/public/v1",
    credentials=Credentials(
        kind=CredentialKind.CLIENT_CREDENTIALS,
        login="id",
        secret="psst",
        token_url="http://localhost:8000/api/public/v1/applications/token",
    ),
    budget=Budget(requests=600, per=60.0),
)


def reply(name: str, **headers: str) -> Reply:
    """Return a stored reply; its name ends with its status."""
    body = (REPLIES / f"{name}.json").read_bytes()
    return Reply(int(name[-3:]), {**JSON, **headers}, body)


def row(name: str, **changes: Any) -> dict[str, Any]:
    """Return the object of a stored reply, with other values in it."""
    return {**json.loads(reply(name).body), **changes}


def a_list(rows: list[dict[str, Any]], **headers: str) -> Reply:
    body = json.dumps({"data": rows, "next": "", "previous": ""}).encode()
    return Reply(200, {**JSON, **headers}, body)


def feed(since: float = NOW - 600) -> Request:
    return AIRBYTE.many(ACCOUNT, FEED, since=since)


# Addresses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("https://api.airbyte.com", "https://api.airbyte.com/v1"),
        ("https://api.airbyte.com/", "https://api.airbyte.com/v1"),
        ("https://api.airbyte.com/v1", "https://api.airbyte.com/v1"),
        ("https://api.airbyte.com/v1/", "https://api.airbyte.com/v1"),
        ("http://localhost:8000", "http://localhost:8000/api/public/v1"),
        ("http://localhost:8000/", "http://localhost:8000/api/public/v1"),
        ("http://localhost:8000/api", "http://localhost:8000/api/public/v1"),
        ("http://localhost:8000/api/", "http://localhost:8000/api/public/v1"),
        ("http://localhost:8000/api/public", "http://localhost:8000/api/public/v1"),
        ("http://localhost:8000/api/public/v1", "http://localhost:8000/api/public/v1"),
        ("http://localhost:8000/api/public/v1/", "http://localhost:8000/api/public/v1"),
        ("https://data.example/airbyte", "https://data.example/airbyte/api/public/v1"),
        (" https://data.example ", "https://data.example/api/public/v1"),
        ("localhost:8000", "http://localhost:8000/api/public/v1"),
        ("airbyte-server", "http://airbyte-server/api/public/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/api/public/v1"),
    ],
)
def test_the_base_url_of_every_host(host: str, base: str) -> None:
    assert addresses.base_url(host, port=None, scheme="", api_version="v1") == base


@pytest.mark.parametrize(
    ("host", "port", "scheme", "base"),
    [
        ("localhost", 8000, "", "http://localhost:8000/api/public/v1"),
        ("localhost", 8000, "http", "http://localhost:8000/api/public/v1"),
        ("data.example", None, "https", "https://data.example/api/public/v1"),
        ("data.example", 8443, "https", "https://data.example:8443/api/public/v1"),
        (
            "https://data.example",
            8443,
            "http",
            "https://data.example:8443/api/public/v1",
        ),
        ("http://localhost:8000", 9000, "", "http://localhost:8000/api/public/v1"),
        ("api.airbyte.com", None, "https", "https://api.airbyte.com/v1"),
    ],
)
def test_the_base_url_of_an_http_connection(
    host: str, port: int | None, scheme: str, base: str
) -> None:
    assert addresses.base_url(host, port=port, scheme=scheme, api_version="v1") == base


def test_the_version_is_filled_in_where_the_host_has_none() -> None:
    for host in ("http://localhost:8000", "http://localhost:8000/api/public/v2"):
        base = addresses.base_url(host, port=None, scheme="", api_version="v2")
        assert base == "http://localhost:8000/api/public/v2"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("", "host is empty: set it to the server's URL"),
        ("   ", "host is empty"),
        ("ftp://data.example", "not an http or https URL: write it as https://host"),
        ("https://", "not an http or https URL"),
        (
            "http://localhost:port",
            "is not an http or https URL: write it as https://host",
        ),
        ("http://me:psst@localhost", "put them into login and password"),
    ],
)
def test_a_host_that_cannot_be_used_is_named_with_the_next_step(
    host: str, words: str
) -> None:
    with pytest.raises(AccountMisconfigured, match=words) as caught:
        addresses.base_url(host, port=None, scheme="", api_version="v1")

    assert "psst" not in str(caught.value)


@given(st.text(), st.none() | st.integers(1, 65535), st.sampled_from(["", "https"]))
def test_whatever_a_host_holds_it_is_a_url_or_a_clear_error(
    host: str, port: int | None, scheme: str
) -> None:
    try:
        base = addresses.base_url(host, port=port, scheme=scheme, api_version="v1")
    except AccountMisconfigured:
        return

    assert base.startswith(("http://", "https://"))
    assert base.endswith("/v1")


SELF = "http://localhost:8000/api/public/v1"
CLOUD = "https://api.airbyte.com/v1"


@pytest.mark.parametrize(
    ("value", "base", "url"),
    [
        ("", SELF, f"{SELF}/applications/token"),
        ("v1/applications/token", SELF, f"{SELF}/applications/token"),
        ("/v1/applications/token", SELF, "http://localhost:8000/v1/applications/token"),
        ("/v1/applications/token", CLOUD, f"{CLOUD}/applications/token"),
        ("applications/token", SELF, f"{SELF}/applications/token"),
        ("applications/token/", SELF, f"{SELF}/applications/token"),
        ("/oauth/token/", SELF, "http://localhost:8000/oauth/token"),
        (" v1/applications/token ", CLOUD, f"{CLOUD}/applications/token"),
        ("applications/token", CLOUD, f"{CLOUD}/applications/token"),
        (
            "api/v1/applications/token",
            SELF,
            "http://localhost:8000/api/v1/applications/token",
        ),
        (
            "/api/public/v1/applications/token",
            SELF,
            "http://localhost:8000/api/public/v1/applications/token",
        ),
        ("https://login.example/token", SELF, "https://login.example/token"),
        ("my token/é", SELF, f"{SELF}/my%20token/%C3%A9"),
        ("https://login.example/a b", SELF, "https://login.example/a%20b"),
    ],
)
def test_the_token_endpoint_of_every_spelling(value: str, base: str, url: str) -> None:
    assert addresses.token_url(value, base) == url


@pytest.mark.parametrize(
    ("base", "given", "url"),
    [
        (SELF, "", "http://localhost:8000"),
        (CLOUD, "", "https://cloud.airbyte.com"),
        (SELF, "https://ui.example/", "https://ui.example"),
        (SELF, "https://ui.example/our é", "https://ui.example/our%20%C3%A9"),
    ],
)
def test_the_address_of_the_interface(base: str, given: str, url: str) -> None:
    assert addresses.ui_url(base, given) == url


def test_the_address_of_a_job() -> None:
    assert addresses.job_url("https://ui", "w", "c", "7") == (
        "https://ui/workspaces/w/connections/c/timeline?openLogs=true&jobId=7"
    )
    assert addresses.job_url("https://ui", "", "c", "7") == ""


# Requests ---------------------------------------------------------------------------


def test_a_start_says_which_job_and_waits_for_more_than_a_minute() -> None:
    request = requests.start_job(CONNECTION, "sync")

    assert (request.method, request.path) == ("POST", "/jobs")
    assert request.json == {"connectionId": CONNECTION, "jobType": "sync"}
    assert request.lane is Lane.START
    assert request.timeout is not None
    assert request.timeout > 60


def test_a_cancel_has_a_lane_of_its_own() -> None:
    request = requests.cancel_job("7")

    assert (request.method, request.path) == ("DELETE", "/jobs/7")
    assert request.lane is Lane.CANCEL


def test_the_latest_jobs_are_asked_for_newest_first() -> None:
    # Without orderBy the oldest come first.
    assert dict(requests.latest_jobs("c", 3).params) == {
        "connectionId": "c",
        "orderBy": "createdAt|DESC",
        "limit": "3",
    }


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("connection-uuid-123", "/connections/connection-uuid-123"),
        (CONNECTION, f"/connections/{CONNECTION}"),
        ("a b", "/connections/a%20b"),
        ("a?b=1#c", "/connections/a%3Fb%3D1%23c"),
        ("ä", "/connections/%C3%A4"),
    ],
)
def test_an_id_is_one_segment_of_the_path(value: str, path: str) -> None:
    assert requests.get_connection(value).path == path


@pytest.mark.parametrize("value", ["", " ", ".", "..", "a/b", "../x", "a\\b", "a\nb"])
def test_an_id_that_would_leave_its_segment_is_refused(value: str) -> None:
    for make in (requests.get_connection, requests.get_job, requests.cancel_job):
        with pytest.raises(RequestRejected, match="id"):
            make(value)


# Tokens -----------------------------------------------------------------------------


def test_a_token_is_asked_for_with_both_spellings_of_the_grant() -> None:
    request = AIRBYTE.token_request(ACCOUNT)

    assert request is not None
    assert request.path == ACCOUNT.credentials.token_url
    assert request.json == {
        "client_id": "id",
        "client_secret": "psst",
        "grant-type": "client_credentials",
        "grant_type": "client_credentials",
    }
    assert request.authorized is False


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        (CredentialKind.BEARER, {"Authorization": "Bearer psst"}),
        (CredentialKind.BASIC, {"Authorization": "Basic aWQ6cHNzdA=="}),
        (CredentialKind.NONE, {}),
    ],
)
def test_other_credentials_need_no_token(
    kind: CredentialKind, headers: dict[str, str]
) -> None:
    account = replace(ACCOUNT, credentials=replace(ACCOUNT.credentials, kind=kind))

    assert AIRBYTE.token_request(account) is None
    assert AIRBYTE.authorize(account, None) == headers


def test_a_token_lives_as_long_as_the_server_says() -> None:
    token = AIRBYTE.read_token(reply("token_200"))

    assert (token.value, token.lifetime) == ("eyJ.made.up", 900.0)
    assert AIRBYTE.authorize(ACCOUNT, token) == {"Authorization": "Bearer eyJ.made.up"}


def test_an_older_server_says_nothing_of_its_three_minutes() -> None:
    assert AIRBYTE.read_token(reply("token_old_200")).lifetime == 180.0


@pytest.mark.parametrize("body", ["{}", '{"access_token": ""}', "[]", "<html>", ""])
def test_an_answer_without_a_token_is_unreadable(body: str) -> None:
    with pytest.raises(UnreadableReply):
        AIRBYTE.read_token(Reply(200, JSON, body.encode()))


# Refusals ---------------------------------------------------------------------------

START = requests.start_job(CONNECTION, "sync")
GET = requests.get_job("7")
CANCEL = requests.cancel_job("7")
LATEST = requests.latest_jobs(CONNECTION)
LOOK = requests.get_connection(CONNECTION)
TOKEN = AIRBYTE.token_request(ACCOUNT) or GET


@pytest.mark.parametrize(
    ("request_", "name", "error"),
    [
        pytest.param(START, "already_running_409", AlreadyRunning, id="running"),
        pytest.param(START, "state_conflict_409", VendorBroken, id="start conflict"),
        pytest.param(START, "connection_locked_409", VendorBroken, id="start locked"),
        pytest.param(START, "refresh_422", RequestRejected, id="start refresh"),
        pytest.param(START, "forbidden_403", RequestRejected, id="start forbidden"),
        pytest.param(START, "rate_limited_429", RateLimited, id="start shed"),
        pytest.param(GET, "forbidden_403", JobNotFound, id="unknown job"),
        pytest.param(GET, "job_not_running_409", JobNotFound, id="unknown, admin"),
        pytest.param(GET, "resource_not_found_404", JobNotFound, id="unknown, 404"),
        pytest.param(GET, "invalid_api_key_401", CredentialsRejected, id="401"),
        pytest.param(GET, "rate_limited_429", RateLimited, id="429"),
        pytest.param(GET, "unexpected_500", VendorBroken, id="500"),
        pytest.param(GET, "unavailable_503", VendorBroken, id="503"),
        pytest.param(CANCEL, "job_not_running_409", RequestRejected, id="not running"),
        pytest.param(LATEST, "bad_request_400", RequestRejected, id="bad orderBy"),
        pytest.param(LATEST, "forbidden_403", RequestRejected, id="list forbidden"),
        pytest.param(LOOK, "resource_not_found_404", JobNotFound, id="no connection"),
        pytest.param(TOKEN, "invalid_api_key_401", CredentialsRejected, id="token 401"),
        pytest.param(TOKEN, "bad_request_400", CredentialsRejected, id="token 400"),
        pytest.param(TOKEN, "forbidden_403", CredentialsRejected, id="token 403"),
        pytest.param(
            TOKEN, "resource_not_found_404", AccountMisconfigured, id="token 404"
        ),
        pytest.param(TOKEN, "unexpected_500", VendorBroken, id="token 500"),
        pytest.param(TOKEN, "rate_limited_429", RateLimited, id="token 429"),
    ],
)
def test_every_refusal_has_its_class(
    request_: Request, name: str, error: type[EngineError]
) -> None:
    refused = AIRBYTE.refuse(request_, reply(name))

    assert type(refused) is error
    assert refused.status == int(name[-3:])
    assert "psst" not in refused.message


def test_a_refusal_tells_what_the_vendor_says() -> None:
    error = AIRBYTE.refuse(START, reply("already_running_409"))

    assert "A sync is already running for" in error.message
    assert CONNECTION in error.message


def test_a_conflict_that_explains_nothing_may_have_started_a_job() -> None:
    error = AIRBYTE.refuse(START, reply("state_conflict_409"))

    assert isinstance(error, VendorBroken)
    assert error.ambiguous


def test_a_429_names_no_time_unless_it_does() -> None:
    shed = AIRBYTE.refuse(GET, reply("rate_limited_429"))
    told = AIRBYTE.refuse(GET, reply("rate_limited_429", **{"retry-after": "30"}))

    assert isinstance(shed, RateLimited)
    assert shed.retry_after is None
    assert isinstance(told, RateLimited)
    assert told.retry_after == 30.0


def test_a_missing_token_endpoint_says_what_to_set() -> None:
    error = AIRBYTE.refuse(TOKEN, reply("resource_not_found_404"))

    assert "set Token URL (schema) to v1/applications/token" in error.message


def test_a_gateways_page_is_a_refusal_by_its_status() -> None:
    html = Reply(502, {"content-type": "text/html"}, b"<html>Bad Gateway</html>")

    assert type(AIRBYTE.refuse(GET, html)) is VendorBroken


@given(
    st.sampled_from([START, GET, CANCEL, LATEST, LOOK, TOKEN, feed()]),
    st.integers(300, 599),
    st.binary() | st.sampled_from([b"[]", b"null", b'{"data": [1]}', b'{"type": 7}']),
)
def test_any_refusal_is_a_typed_error(
    request: Request, status: int, body: bytes
) -> None:
    assert isinstance(AIRBYTE.refuse(request, Reply(status, JSON, body)), EngineError)


# Jobs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "word"),
    [
        ("job_pending_200", JobState.PENDING, "pending"),
        ("job_queued_200", JobState.PENDING, "queued"),
        ("job_running_200", JobState.RUNNING, "running"),
        ("job_incomplete_200", JobState.RUNNING, "incomplete"),
        ("job_succeeded_200", JobState.SUCCEEDED, "succeeded"),
        ("job_failed_200", JobState.FAILED, "failed"),
        ("job_cancelled_200", JobState.CANCELLED, "cancelled"),
        ("job_unknown_word_200", JobState.RUNNING, "hibernating"),
    ],
)
def test_the_state_of_a_job(name: str, state: JobState, word: str) -> None:
    job = models.read_job(row(name))

    assert (job.id, job.state, job.word) == ("9922", state, word)


def test_all_that_a_job_tells() -> None:
    assert models.read_job(row("job_succeeded_200")) == Job(
        id="9922",
        state=JobState.SUCCEEDED,
        word="succeeded",
        started_at="2026-03-25T01:30:50Z",
        ended_at=parse_time("2026-03-25T09:37:02Z"),
        statistics={
            "connection_id": CONNECTION,
            "job_type": "sync",
            "rows_synced": 1000,
            "bytes_synced": 1048576,
            "duration": "PT8H6M12S",
        },
    )


def test_a_failure_says_that_the_api_gives_no_reason() -> None:
    assert "gives no reason" in models.read_job(row("job_failed_200")).message
    assert models.read_job(row("job_succeeded_200")).message == ""


def test_seconds_are_left_out_of_times_where_they_are_0() -> None:
    assert models.read_job(row("job_failed_200")).ended_at == 1_774_402_260.0


def test_a_job_may_hold_the_required_fields_alone() -> None:
    job = models.read_job(row("job_required_fields_only_200"))

    assert job.state is JobState.SUCCEEDED
    assert job.ended_at is None
    assert job.statistics["rows_synced"] is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("job_without_id_200", "no jobId"),
        ("job_as_the_specification_shows_it_200", "no jobId"),
        ("job_without_status_200", "Job 9922 has no status"),
    ],
)
def test_a_job_that_lacks_a_field_is_unreadable(name: str, words: str) -> None:
    with pytest.raises(UnreadableReply, match=words):
        models.read_job(row(name))


def test_a_word_nobody_knows_is_warned_about_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        models.read_job(row("job_unknown_word_200", status="dozing"))

    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert [each.getMessage() for each in warnings] == [
        "Airbyte has a job status 'dozing', which counts as running"
    ]


def test_a_success_whose_row_holds_no_count_is_asked_for_singly() -> None:
    counted = models.read_job(row("job_succeeded_200"))
    uncounted = models.read_job(row("job_succeeded_200", rowsSynced=None))

    assert not AIRBYTE.needs_confirmation(counted)
    assert AIRBYTE.needs_confirmation(uncounted)
    assert not AIRBYTE.needs_confirmation(models.read_job(row("job_failed_200")))


def test_one_job_is_a_page_of_one() -> None:
    request = AIRBYTE.single(ACCOUNT, "9922")
    page = AIRBYTE.read(request, reply("job_running_200"))

    assert list(page.rows) == ["9922"]
    assert page.next is None
    assert page.resume is None


def test_a_connection_tells_its_status_workspace_and_schedule() -> None:
    assert replies.read_connection(LOOK, reply("connection_200")) == models.Connection(
        id=CONNECTION,
        name="Orders",
        status="active",
        workspace_id="871d9b60-11d1-44cb-8c92-c246d53bf87e",
        schedule_type="cron",
    )


# The change feed ---------------------------------------------------------------------


def test_the_feed_asks_for_what_changed_newest_first() -> None:
    assert dict(feed(NOW).params) == {
        "updatedAtStart": "2026-03-25T01:40:00Z",
        "orderBy": "updatedAt|DESC",
        "limit": "100",
        "offset": "0",
    }


def test_ends_are_asked_for_by_the_way_they_took() -> None:
    asked = AIRBYTE.many(ACCOUNT, ENDED, since=NOW, scope="failed")

    assert dict(asked.params) == {**dict(feed(NOW).params), "status": "failed"}
    assert set(ENDED.parts) == {"succeeded", "failed", "cancelled"}
    page = AIRBYTE.read(asked, a_list([row("job_failed_200")]))
    assert page.resume == NOW - 60.0


@pytest.mark.parametrize(("name", "sound"), [("failed", True), ("succeeded", False)])
def test_a_filter_by_status_that_the_server_ignored_is_noticed(
    name: str, *, sound: bool
) -> None:
    asked = AIRBYTE.many(ACCOUNT, ENDED, since=NOW - 600, scope="failed")
    shown = row(f"job_{name}_200", lastUpdatedAt="2026-03-25T01:39Z")

    assert AIRBYTE.read(asked, a_list([shown])).sound is sound


def test_the_sweep_asks_for_what_is_running() -> None:
    assert dict(AIRBYTE.many(ACCOUNT, RUNNING).params) == {
        "status": "running",
        "orderBy": "createdAt|DESC",
        "limit": "100",
        "offset": "0",
    }


def test_a_page_holds_the_rows_by_job() -> None:
    page = AIRBYTE.read(feed(), reply("jobs_200"))

    assert set(page.rows) == {"9922", "9921"}
    assert page.count == 2
    assert page.sound


def test_a_full_page_is_followed_by_offset_and_never_by_the_servers_link() -> None:
    rows = [row("job_running_200", jobId=number) for number in range(1, 101)]
    page = AIRBYTE.read(feed(), a_list(rows))

    assert page.next is not None
    assert page.next.path == "/jobs"
    assert dict(page.next.params) == {**dict(feed().params), "offset": "100"}
    after = AIRBYTE.read(page.next, a_list(rows[:1]))
    assert after.next is None


def test_rows_that_repeat_are_counted_and_shown_once() -> None:
    page = AIRBYTE.read(feed(), a_list([row("job_running_200")] * 3))

    assert page.count == 3
    assert len(page.rows) == 1


def test_the_next_window_begins_by_the_servers_clock_less_the_overlap() -> None:
    assert AIRBYTE.read(feed(), reply("jobs_200")).resume == NOW - 60.0


def test_without_a_date_the_next_window_begins_at_the_newest_end() -> None:
    rows = [
        row("job_failed_200", jobId=1, lastUpdatedAt="2026-03-25T01:38Z"),
        row("job_failed_200", jobId=2, lastUpdatedAt="2026-03-25T01:39Z"),
        row("job_running_200", jobId=3),
    ]

    page = AIRBYTE.read(feed(), a_list(rows, date=""))

    assert page.resume == NOW - 60.0 - 60.0


def test_without_a_date_and_an_end_there_is_no_next_window() -> None:
    page = AIRBYTE.read(feed(), a_list([row("job_running_200")], date=""))

    assert page.resume is None


def test_later_pages_do_not_move_the_window() -> None:
    rows = [row("job_running_200", jobId=number) for number in range(1, 101)]
    first = AIRBYTE.read(feed(), a_list(rows))

    assert first.next is not None
    assert AIRBYTE.read(first.next, a_list(rows)).resume is None


def test_a_filter_that_the_server_ignored_is_noticed() -> None:
    old = row("job_failed_200", lastUpdatedAt="2026-03-25T01:00Z")

    assert AIRBYTE.read(feed(NOW - 600), a_list([old])).sound is False
    assert AIRBYTE.read(AIRBYTE.many(ACCOUNT, RUNNING), a_list([old])).sound is True


@pytest.mark.parametrize(
    "body", ["{}", '{"data": null}', '{"data": [1]}', "[]", "<html>", '{"data": [{}]}']
)
def test_a_list_that_cannot_be_read_is_unreadable(body: str) -> None:
    with pytest.raises(UnreadableReply):
        AIRBYTE.read(feed(), Reply(200, JSON, body.encode()))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
rows = st.dictionaries(st.sampled_from(sorted(row("job_succeeded_200"))), values)
bodies = (
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | rows.map(lambda value: json.dumps(value).encode())
    | st.lists(rows).map(lambda value: json.dumps({"data": value}).encode())
)


@given(
    st.sampled_from([GET, feed(), AIRBYTE.many(ACCOUNT, RUNNING), LATEST]),
    bodies,
    st.text(),
)
def test_any_bytes_give_a_page_or_a_typed_error(
    request: Request, body: bytes, date: str
) -> None:
    try:
        page = AIRBYTE.read(request, Reply(200, {"date": date}, body))
        for subject, found in page.rows.items():
            AIRBYTE.needs_confirmation(AIRBYTE.judge(ACCOUNT, subject, found, None))
    except EngineError:
        return

    assert isinstance(page, Page)


@given(bodies)
def test_any_bytes_give_a_token_or_a_connection_or_a_typed_error(body: bytes) -> None:
    answer = Reply(200, JSON, body)
    for read in (
        AIRBYTE.read_token,
        lambda given: replies.read_connection(LOOK, given),
    ):
        try:
            read(answer)
        except EngineError:
            continue
