from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import pytest

from async_triggers.simulator import (
    AirbyteSettings,
    AirbyteSimulator,
    Fault,
    ListQuirks,
    SimReply,
    SimRequest,
)
from async_triggers.simulator.airbyte import (
    DEFAULT_WORKSPACE,
    java_duration,
    java_instant,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    class Clock(Protocol):
        time: float

        def __call__(self) -> float: ...

        def advance(self, seconds: float) -> None: ...


BASE = "/api/public/v1"
BEARER = {"Authorization": "Bearer simulator-token"}
A, B = "connection-a", "connection-b"


@pytest.fixture
def airbyte(clock: Clock) -> AirbyteSimulator:
    simulator = AirbyteSimulator(clock=clock)
    simulator.add_connection(A)
    simulator.add_connection(B)
    return simulator


def ask(
    airbyte: AirbyteSimulator,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] = BEARER,
) -> SimReply:
    request = SimRequest.to(method, path, headers=headers, json_body=body)
    return airbyte.respond(request)


def start(
    airbyte: AirbyteSimulator, connection: str = A, job_type: str = "sync"
) -> SimReply:
    body = {"connectionId": connection, "jobType": job_type}
    return ask(airbyte, "POST", f"{BASE}/jobs", body)


def get(airbyte: AirbyteSimulator, path: str) -> Any:
    reply = ask(airbyte, "GET", BASE + path)
    assert reply.status == 200, reply.body
    return reply.json()


def ids(airbyte: AirbyteSimulator, query: str = "") -> list[int]:
    return [row["jobId"] for row in get(airbyte, f"/jobs{query}")["data"]]


# Tokens


def token(airbyte: AirbyteSimulator, secret: str = "simulator-secret") -> SimReply:
    body = {"client_id": "simulator-client", "client_secret": secret}
    return ask(airbyte, "POST", f"{BASE}/applications/token", body, {})


@pytest.mark.parametrize(
    "path",
    [
        "/api/public/v1/applications/token",
        "/v1/applications/token",
        "/api/v1/applications/token",
    ],
)
def test_token_endpoint_answers_at_every_place(
    airbyte: AirbyteSimulator, path: str
) -> None:
    body = {"client_id": "simulator-client", "client_secret": "simulator-secret"}
    reply = ask(airbyte, "POST", path, body, {})
    assert reply.status == 200
    answer = reply.json()
    assert answer["token_type"] == "Bearer"
    assert answer["expires_in"] == 900
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    assert ask(airbyte, "GET", f"{BASE}/jobs", headers=headers).status == 200
    assert airbyte.record.tokens_issued == 1


def test_token_request_may_be_a_form(airbyte: AirbyteSimulator) -> None:
    reply = airbyte.respond(
        SimRequest(
            "POST",
            f"{BASE}/applications/token",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=b"client_id=simulator-client&client_secret=simulator-secret",
        )
    )
    assert reply.status == 200


def test_token_expires_when_its_lifetime_is_over(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.configure(token_lifetime=30)
    answer = token(airbyte).json()
    assert answer["expires_in"] == 30
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    clock.advance(29.9)
    assert ask(airbyte, "GET", f"{BASE}/jobs", headers=headers).status == 200
    clock.advance(0.1)
    assert ask(airbyte, "GET", f"{BASE}/jobs", headers=headers).status == 401
    assert airbyte.record.unauthorized == 1


def test_tokens_can_be_expired_on_demand(airbyte: AirbyteSimulator) -> None:
    headers = {"Authorization": f"Bearer {token(airbyte).json()['access_token']}"}
    airbyte.arrange(expire_tokens=[{}])
    assert ask(airbyte, "GET", f"{BASE}/jobs", headers=headers).status == 401


def test_reported_lifetime_can_differ_from_the_real_one(
    airbyte: AirbyteSimulator,
) -> None:
    airbyte.configure(reported_lifetime=180)
    assert token(airbyte).json()["expires_in"] == 180


def test_wrong_client_credentials_are_401(airbyte: AirbyteSimulator) -> None:
    reply = token(airbyte, "wrong")
    assert reply.status == 401
    assert reply.json()["title"] == "invalid-api-key"
    assert airbyte.record.tokens_issued == 0


def test_missing_client_credentials_are_400(airbyte: AirbyteSimulator) -> None:
    assert (
        ask(airbyte, "POST", f"{BASE}/applications/token", {"grant_type": "x"}).status
        == 400
    )


@pytest.mark.parametrize(
    ("auth", "headers", "status"),
    [
        (("bearer",), BEARER, 200),
        (("token",), BEARER, 401),
        (("basic",), {"Authorization": "Basic YWlyYnl0ZTpwYXNzd29yZA=="}, 200),
        (("bearer",), {"Authorization": "Basic YWlyYnl0ZTpwYXNzd29yZA=="}, 401),
        (("basic",), {"Authorization": "Basic YWlyYnl0ZTp3cm9uZw=="}, 401),
        (("basic",), {"Authorization": "Basic ?"}, 401),
        (("none",), {}, 200),
        (("token", "bearer", "basic"), {}, 401),
    ],
)
def test_only_the_credentials_of_the_settings_are_taken(
    airbyte: AirbyteSimulator,
    auth: tuple[str, ...],
    headers: dict[str, str],
    status: int,
) -> None:
    airbyte.configure(auth=auth)
    assert ask(airbyte, "GET", f"{BASE}/jobs", headers=headers).status == status


def test_health_needs_no_credentials(airbyte: AirbyteSimulator) -> None:
    assert ask(airbyte, "GET", f"{BASE}/health", headers={}).status == 200


# Jobs


def test_start_makes_a_job_and_get_follows_its_life(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.configure(
        life="pending:2 running:10 incomplete:3 running:10 succeeded",
        bytes_synced=1000,
        rows_synced=10,
    )
    reply = start(airbyte)
    assert reply.status == 200
    assert reply.json() == {
        "jobId": 1,
        "status": "pending",
        "jobType": "sync",
        "startTime": "2026-03-25T01:30Z",
        "connectionId": A,
        "lastUpdatedAt": None,
        "duration": None,
        "bytesSynced": None,
        "rowsSynced": None,
    }
    seen = []
    for seconds in (2, 10, 3, 10):
        clock.advance(seconds)
        row = get(airbyte, "/jobs/1")
        seen.append((row["status"], row["duration"], row["lastUpdatedAt"]))
    assert seen == [
        ("running", "PT2S", None),
        ("incomplete", "PT12S", None),
        ("running", "PT15S", None),
        ("succeeded", "PT25S", "2026-03-25T01:30:25Z"),
    ]
    assert row["bytesSynced"] == 1000
    assert row["rowsSynced"] == 10
    assert airbyte.record.starts == {A: 1}
    assert airbyte.record.requests == {"POST /jobs": 1, "GET /jobs/{job_id}": 4}


def test_duration_is_the_age_at_the_last_change_not_the_time_elapsed(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    start(airbyte)
    clock.advance(4)
    assert get(airbyte, "/jobs/1")["duration"] == "PT1S"


def test_nulls_can_be_left_out(airbyte: AirbyteSimulator) -> None:
    airbyte.configure(show_nulls=False)
    assert set(start(airbyte).json()) == {
        "jobId",
        "status",
        "jobType",
        "startTime",
        "connectionId",
    }


def test_a_status_nobody_knows_is_shown_as_it_is(airbyte: AirbyteSimulator) -> None:
    job = airbyte.add_job(A, "hibernating:5 succeeded")
    assert get(airbyte, f"/jobs/{job}")["status"] == "hibernating"


def test_date_and_times_are_the_servers(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.configure(skew=3600)
    reply = start(airbyte)
    assert reply.headers["Date"] == "Wed, 25 Mar 2026 02:30:00 GMT"
    assert reply.json()["startTime"] == "2026-03-25T02:30Z"
    clock.advance(10)
    assert ids(airbyte, "?updatedAtStart=2026-03-25T02:30:05Z") == [1]
    assert ids(airbyte, "?updatedAtStart=2026-03-25T02:30:07Z") == []


def test_lives_of_a_connection_are_used_in_order(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    connection = airbyte.add_connection(lives=["failed", "running:1 succeeded"])
    first = start(airbyte, connection).json()
    second = start(airbyte, connection).json()
    clock.advance(1)
    third = start(airbyte, connection).json()
    assert [first["status"], second["status"], third["status"]] == [
        "failed",
        "running",
        "running",
    ]


def test_start_of_a_running_connection_is_409(airbyte: AirbyteSimulator) -> None:
    start(airbyte)
    reply = start(airbyte)
    assert reply.status == 409
    assert reply.json() == {
        "status": 409,
        "type": "https://reference.airbyte.com/reference/errors#try-again-later",
        "title": "try-again-later",
        "detail": "Please try again later.",
        "documentationUrl": None,
        "data": {"message": f"A sync is already running for: {A}"},
    }
    assert airbyte.record.starts == {A: 1}
    assert airbyte.record.refused_starts == {A: 1}


def test_start_of_a_queued_connection_gives_the_job_that_is_there(
    airbyte: AirbyteSimulator,
) -> None:
    job = airbyte.add_job(A, "queued:60 running:5 succeeded")
    reply = start(airbyte)
    assert reply.status == 200
    assert (reply.json()["jobId"], reply.json()["status"]) == (job, "queued")
    assert airbyte.record.starts == {}


def test_a_job_queued_for_eight_hours_is_cancelled(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    job = airbyte.add_job(A, "queued:99999 succeeded")
    clock.advance(8 * 3600)
    assert get(airbyte, f"/jobs/{job}")["status"] == "cancelled"


@pytest.mark.parametrize(
    ("status", "title"),
    [
        ("inactive", "state-conflict"),
        ("deprecated", "try-again-later"),
        ("locked", "Connection is locked"),
    ],
)
def test_start_of_an_inactive_connection_is_409(
    airbyte: AirbyteSimulator, status: str, title: str
) -> None:
    airbyte.set_connection_status(A, status)
    reply = start(airbyte)
    assert reply.status == 409
    assert reply.json()["title"] == title
    assert get(airbyte, f"/connections/{A}")["status"] == status


@pytest.mark.parametrize(
    ("job_type", "status"),
    [("reset", 200), ("clear", 200), ("refresh", 422), ("x", 400)],
)
def test_job_types(airbyte: AirbyteSimulator, job_type: str, status: int) -> None:
    reply = start(airbyte, job_type=job_type)
    assert reply.status == status
    if status == 200:
        assert reply.json()["jobType"] == job_type


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"jobType":"sync"}', b""])
def test_a_malformed_start_is_400(airbyte: AirbyteSimulator, body: bytes) -> None:
    reply = airbyte.respond(SimRequest("POST", f"{BASE}/jobs", [], BEARER, body))
    assert reply.status == 400


def test_start_of_an_unknown_connection_is_404_unless_all_are_accepted(
    airbyte: AirbyteSimulator,
) -> None:
    assert start(airbyte, "nobody").status == 404
    airbyte.configure(accept_unknown=True)
    assert start(airbyte, "nobody").status == 200


def test_start_blocks_and_holds_a_thread(airbyte: AirbyteSimulator) -> None:
    airbyte.configure(start_blocks=20, threads=2, life="pending:5 running:60 failed")
    first, second = start(airbyte), start(airbyte, B)
    assert (first.delay, second.delay) == (20, 20)
    assert first.json()["status"] == "running"
    assert first.headers["Date"] == "Wed, 25 Mar 2026 01:30:20 GMT"
    assert ask(airbyte, "GET", f"{BASE}/jobs/1").delay == 20
    airbyte.configure(threads=0)
    assert ask(airbyte, "GET", f"{BASE}/jobs/1").delay == 0


def test_a_start_that_blocks_a_minute_is_a_conflict_although_the_job_runs(
    airbyte: AirbyteSimulator,
) -> None:
    airbyte.configure(start_blocks=60)
    reply = start(airbyte)
    assert (reply.status, reply.delay) == (409, 60)
    assert reply.json()["data"] == {"message": "Could not fulfill request"}
    assert ids(airbyte, f"?connectionId={A}") == [1]


def test_a_job_can_appear_late(airbyte: AirbyteSimulator, clock: Clock) -> None:
    airbyte.configure(job_appears_after=10, start_blocks=60)
    assert start(airbyte).status == 409
    assert ids(airbyte) == []
    assert start(airbyte).status == 409
    clock.advance(10)
    assert ids(airbyte) == [1]
    assert airbyte.record.starts == {A: 1}


@pytest.mark.parametrize("status", [403, 409])
def test_unknown_job(airbyte: AirbyteSimulator, status: int) -> None:
    airbyte.configure(unknown_job_status=status)
    assert ask(airbyte, "GET", f"{BASE}/jobs/77").status == status
    assert ask(airbyte, "DELETE", f"{BASE}/jobs/77").status == status


def test_a_job_id_that_is_no_number_is_400(airbyte: AirbyteSimulator) -> None:
    assert ask(airbyte, "GET", f"{BASE}/jobs/x").status == 400


# Cancelling


def test_cancel_blocks_until_the_job_is_cancelled(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.configure(cancel_blocks=8, life="running:100 succeeded")
    start(airbyte)
    reply = ask(airbyte, "DELETE", f"{BASE}/jobs/1")
    assert (reply.status, reply.delay) == (200, 8)
    assert reply.json()["status"] == "cancelled"
    assert get(airbyte, "/jobs/1")["status"] == "running"
    clock.advance(8)
    assert get(airbyte, "/jobs/1")["status"] == "cancelled"
    assert airbyte.record.cancels == {"1": 1}


def test_a_cancel_can_come_too_late(airbyte: AirbyteSimulator) -> None:
    airbyte.configure(cancel_blocks=8, life="running:5 succeeded")
    start(airbyte)
    reply = ask(airbyte, "DELETE", f"{BASE}/jobs/1")
    assert reply.json()["status"] == "succeeded"
    assert airbyte.record.cancels == {}


def test_cancelling_an_old_job_kills_what_the_connection_runs_now(
    airbyte: AirbyteSimulator,
) -> None:
    old = airbyte.add_job(A, "succeeded")
    new = airbyte.add_job(A, "running:100 succeeded")
    reply = ask(airbyte, "DELETE", f"{BASE}/jobs/{old}")
    assert reply.json()["status"] == "succeeded"
    assert get(airbyte, f"/jobs/{new}")["status"] == "cancelled"
    assert airbyte.record.cancels == {str(new): 1}


@pytest.mark.parametrize(("idle", "status"), [("unchanged", 200), ("conflict", 409)])
def test_cancel_with_nothing_running(
    airbyte: AirbyteSimulator, idle: str, status: int
) -> None:
    airbyte.configure(cancel_idle=idle)
    job = airbyte.add_job(A, "succeeded")
    assert ask(airbyte, "DELETE", f"{BASE}/jobs/{job}").status == status
    assert get(airbyte, f"/jobs/{job}")["status"] == "succeeded"
    assert airbyte.record.cancels == {}


def test_cancel_of_a_queued_job_is_only_flagged(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    job = airbyte.add_job(A, "queued:60 running:5 succeeded")
    reply = ask(airbyte, "DELETE", f"{BASE}/jobs/{job}")
    assert reply.json()["status"] == "queued"
    clock.advance(2)
    assert get(airbyte, f"/jobs/{job}")["status"] == "cancelled"


def test_a_cancel_that_answers_with_an_error_first(airbyte: AirbyteSimulator) -> None:
    job = airbyte.add_job(A, "running:100 succeeded")
    airbyte.faults.add(Fault(kind="status", status=500, method="DELETE"))
    path = f"{BASE}/jobs/{job}"
    assert ask(airbyte, "DELETE", path).status == 500
    assert get(airbyte, f"/jobs/{job}")["status"] == "running"
    assert ask(airbyte, "DELETE", path).status == 200
    assert airbyte.record.cancels == {str(job): 1}


def test_a_start_whose_answer_is_lost_has_started_a_job(
    airbyte: AirbyteSimulator,
) -> None:
    for kind, status in (("reset", 200), ("hang", 200), ("status", 504)):
        airbyte.reset()
        airbyte.add_connection(A)
        airbyte.arrange(
            faults=[
                {"kind": kind, "status": 504, "method": "POST", "takes_effect": True}
            ]
        )
        reply = start(airbyte)
        assert reply.status == status
        assert reply.fault == (None if kind == "status" else kind)
        assert airbyte.record.starts == {A: 1}
        assert ids(airbyte, "?orderBy=createdAt|DESC&limit=1") == [1]


def test_faults_without_effect_start_nothing(airbyte: AirbyteSimulator) -> None:
    airbyte.faults.add(Fault(kind="reset", method="POST"))
    assert start(airbyte).fault == "reset"
    assert airbyte.record.starts == {}
    assert airbyte.record.statuses == {0: 1}


# The list


def test_list_is_oldest_first_and_twenty_long_by_default(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    for _ in range(25):
        airbyte.add_job(A, "running")
        clock.advance(1)
    assert ids(airbyte) == list(range(1, 21))
    assert ids(airbyte, "?offset=20") == list(range(21, 26))
    assert ids(airbyte, "?orderBy=createdAt|DESC&limit=2") == [25, 24]


@pytest.mark.parametrize(
    "query",
    [
        "orderBy=status|ASC",
        "orderBy=createdAt",
        "orderBy=createdAt|down",
        "limit=101",
        "limit=0",
        "limit=x",
        "offset=-1",
        "status=hibernating",
        "jobType=x",
        "updatedAtStart=yesterday",
        "updatedAtStart=2026-03-25T01:30:00",
    ],
)
def test_bad_list_parameters_are_400(airbyte: AirbyteSimulator, query: str) -> None:
    assert ask(airbyte, "GET", f"{BASE}/jobs?{query}").status == 400


def test_list_filters(airbyte: AirbyteSimulator, clock: Clock) -> None:
    done = airbyte.add_job(A, "running:5 succeeded")
    clock.advance(10)
    running = airbyte.add_job(B, "running:60 failed", job_type="clear")
    clock.advance(10)
    assert ids(airbyte, f"?connectionId={A}") == [done]
    assert ids(airbyte, "?status=running") == [running]
    assert ids(airbyte, "?status=succeeded") == [done]
    assert ids(airbyte, "?jobType=clear") == [running]
    assert ids(airbyte, "?createdAtStart=2026-03-25T01:30:10Z") == [running]
    assert ids(airbyte, "?createdAtEnd=2026-03-25T01:30:09Z") == [done]
    assert ids(airbyte, "?updatedAtEnd=2026-03-25T01:30:05Z") == [done]
    assert ids(airbyte, "?updatedAtStart=2026-03-25T01:30:05Z") == [done, running]
    assert ids(airbyte, "?updatedAtStart=2026-03-25T01:30:06Z") == [running]
    assert ids(airbyte, "?orderBy=updatedAt|DESC") == [running, done]


def test_filters_go_by_the_times_that_a_wrong_clock_has_kept(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.faults.add(Fault(kind="clock", seconds=-3600, times=None, lasts=20))
    job = airbyte.add_job(A, "running:5 succeeded")
    ids(airbyte)
    clock.advance(10)
    ids(airbyte)
    clock.advance(60)

    assert ids(airbyte, "?updatedAtStart=2026-03-25T01:30:00Z") == []
    assert ids(airbyte, "?updatedAtStart=2026-03-25T00:30:05Z") == [job]
    assert ids(airbyte, "?createdAtEnd=2026-03-25T00:30:00Z") == [job]


def test_an_offset_with_a_raw_plus_is_no_instant(airbyte: AirbyteSimulator) -> None:
    raw = f"{BASE}/jobs?updatedAtStart=2026-03-25T01:30:00+00:00"
    assert ask(airbyte, "GET", raw).status == 400
    assert ask(airbyte, "GET", raw.replace("+", "%2B")).status == 200


def test_workspaces_may_be_repeated_or_separated_by_commas(
    airbyte: AirbyteSimulator,
) -> None:
    airbyte.add_connection("c", workspace_id="w")
    airbyte.add_connection("d", workspace_id="v")
    here, there = airbyte.add_job(A), airbyte.add_job("c")
    airbyte.add_job("d")
    assert ids(airbyte, "?workspaceIds=w") == [there]
    both = [here, there]
    assert ids(airbyte, f"?workspaceIds=w&workspaceIds={DEFAULT_WORKSPACE}") == both
    assert ids(airbyte, f"?workspaceIds=w,{DEFAULT_WORKSPACE}") == both


def test_a_workspace_without_the_role_refuses_the_whole_list(
    airbyte: AirbyteSimulator,
) -> None:
    path = f"{BASE}/jobs?workspaceIds={DEFAULT_WORKSPACE}&workspaceIds=other"
    assert ask(airbyte, "GET", path).status == 403
    assert ids(airbyte, f"?connectionId={A}&workspaceIds=other") == []


def test_next_is_there_whenever_the_page_is_not_empty_and_drops_filters(
    airbyte: AirbyteSimulator,
) -> None:
    airbyte.add_job(A, "running")
    query = f"?status=running&orderBy=updatedAt|DESC&workspaceIds={DEFAULT_WORKSPACE}"
    first = get(airbyte, f"/jobs{query}")
    assert first["previous"] == ""
    assert first["next"] == (
        f"http://localhost{BASE}/jobs?limit=20&offset=20&workspaceIds={DEFAULT_WORKSPACE}"
    )
    second = get(airbyte, f"/jobs{query}&offset=20")
    assert second["data"] == []
    assert second["next"] == ""
    assert "offset=0" in second["previous"]


def test_list_rows_may_come_without_statistics(airbyte: AirbyteSimulator) -> None:
    airbyte.configure(hydrate_lists=False)
    job = airbyte.add_job(A, "succeeded")
    assert get(airbyte, "/jobs")["data"][0]["bytesSynced"] is None
    assert get(airbyte, f"/jobs/{job}")["bytesSynced"] == 1_048_576


def test_a_list_that_lags_shows_the_past(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.quirks = ListQuirks(lag=60)
    airbyte.add_job(A, "running:5 succeeded")
    clock.advance(30)
    assert ids(airbyte) == []
    clock.advance(31)
    assert get(airbyte, "/jobs")["data"][0]["status"] == "running"
    assert get(airbyte, "/jobs/1")["status"] == "succeeded"


def test_a_list_can_skip_and_repeat_rows(airbyte: AirbyteSimulator) -> None:
    for _ in range(5):
        airbyte.add_job(A, "running")
    airbyte.quirks = ListQuirks(skip=1.0)
    assert ids(airbyte) == []
    airbyte.quirks = ListQuirks(repeat=1.0)
    assert ids(airbyte) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_list_can_ignore_filters(airbyte: AirbyteSimulator) -> None:
    airbyte.add_job(A, "running")
    airbyte.arrange(quirks={"ignore_filters": ["status"]})
    assert ids(airbyte, "?status=failed") == [1]


def test_rows_can_change_between_pages(airbyte: AirbyteSimulator, clock: Clock) -> None:
    """Oldest change first, a row that changes shifts an unread one off the page."""
    for _ in range(4):
        airbyte.add_job(A, "running")
        clock.advance(1)
    airbyte.quirks = ListQuirks(churn=1)
    query = "?orderBy=updatedAt|ASC&limit=2"
    assert ids(airbyte, query) == [1, 2]
    assert ids(airbyte, f"{query}&offset=2") == [4, 1]
    assert get(airbyte, "/jobs/1")["status"] == "incomplete"


# Connections, workspaces, the rest


def test_connections_are_listed_without_the_deleted_ones(
    airbyte: AirbyteSimulator,
) -> None:
    airbyte.set_connection_status(B, "deprecated")

    def listed(query: str) -> list[str]:
        return [
            row["connectionId"] for row in get(airbyte, f"/connections{query}")["data"]
        ]

    assert listed("") == [A]
    assert listed("?includeDeleted=true") == [A, B]
    assert listed("?limit=1&offset=1&includeDeleted=true") == [B]


def test_a_connection_tells_workspace_and_schedule(airbyte: AirbyteSimulator) -> None:
    airbyte.add_connection("cron", schedule_type="cron", name="Orders")
    found = get(airbyte, "/connections/cron")
    assert found["workspaceId"] == DEFAULT_WORKSPACE
    assert found["name"] == "Orders"
    assert found["schedule"]["scheduleType"] == "cron"
    assert get(airbyte, f"/connections/{A}")["schedule"] == {"scheduleType": "manual"}
    assert ask(airbyte, "GET", f"{BASE}/connections/x").status == 404


def test_workspaces(airbyte: AirbyteSimulator) -> None:
    rows = get(airbyte, "/workspaces")["data"]
    assert [row["workspaceId"] for row in rows] == [DEFAULT_WORKSPACE]
    assert get(airbyte, f"/workspaces/{DEFAULT_WORKSPACE}")["dataResidency"] == "auto"
    assert ask(airbyte, "GET", f"{BASE}/workspaces/x").status == 403


def test_load_shedding_is_429_without_retry_after(
    airbyte: AirbyteSimulator, clock: Clock
) -> None:
    airbyte.shed(60)
    reply = ask(airbyte, "GET", f"{BASE}/jobs")
    assert reply.status == 429
    assert reply.json() == {"message": "You are being rate limited."}
    assert "Retry-After" not in reply.headers
    clock.advance(60)
    assert ask(airbyte, "GET", f"{BASE}/jobs").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/jobs"),
        ("PUT", f"{BASE}/jobs"),
        ("GET", "/api/v1/jobs"),
    ],
)
def test_unknown_operations_are_404(
    airbyte: AirbyteSimulator, method: str, path: str
) -> None:
    assert ask(airbyte, method, path).status == 404


def test_cloud_layout_is_served_too(airbyte: AirbyteSimulator) -> None:
    assert ask(airbyte, "GET", "/v1/jobs").status == 200


def test_latency_comes_on_top_of_everything(airbyte: AirbyteSimulator) -> None:
    airbyte.configure(latency=0.5, start_blocks=2)
    assert start(airbyte).delay == 2.5
    assert ask(airbyte, "GET", f"{BASE}/jobs/1").delay == 0.5


def test_credentials_never_show_in_the_record(airbyte: AirbyteSimulator) -> None:
    answer = token(airbyte).json()["access_token"]
    ask(airbyte, "GET", f"{BASE}/jobs?access_token={answer}")
    shown = str(airbyte.record.as_dict(exchanges=True))
    assert answer not in shown
    assert "simulator-secret" not in shown
    assert base64.b64encode(b"airbyte:password").decode() not in shown


def test_reset_returns_to_the_first_settings(clock: Clock) -> None:
    airbyte = AirbyteSimulator(AirbyteSettings(latency=0.1), clock=clock)
    airbyte.add_connection(A)
    start(airbyte)
    airbyte.configure(latency=5, life="failed")
    airbyte.reset()
    assert airbyte.settings == AirbyteSettings(latency=0.1)
    assert airbyte.record.total == 0
    assert airbyte.connections == {}
    assert airbyte.jobs(finished=True) == []


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (1_774_402_200, "2026-03-25T01:30Z"),
        (1_774_402_205.9, "2026-03-25T01:30:05Z"),
    ],
)
def test_java_instant(epoch: float, text: str) -> None:
    assert java_instant(epoch) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "PT0S"), (59.9, "PT59S"), (3600, "PT1H"), (29_172, "PT8H6M12S"), (60, "PT1M")],
)
def test_java_duration(seconds: float, text: str) -> None:
    assert java_duration(seconds) == text


# What connections join


def test_a_connection_shows_what_it_replicates_and_where(
    airbyte: AirbyteSimulator,
) -> None:
    airbyte.add_source("s", name="Orders", configuration={"schema": "public"})
    airbyte.add_destination(
        "d", name="Warehouse", configuration={"database": "RAW", "schema": "shop"}
    )
    airbyte.add_connection(
        A,
        source_id="s",
        destination_id="d",
        prefix="pg_",
        namespace_definition="custom_format",
        namespace_format="raw_${SOURCE_NAMESPACE}",
        streams=["orders", {"name": "old", "selected": False}],
    )

    shown = get(airbyte, f"/connections/{A}")

    assert (shown["sourceId"], shown["destinationId"]) == ("s", "d")
    assert shown["prefix"] == "pg_"
    assert shown["namespaceDefinition"] == "custom_format"
    assert shown["namespaceFormat"] == "raw_${SOURCE_NAMESPACE}"
    assert [one["name"] for one in shown["configurations"]["streams"]] == ["orders"]
    assert get(airbyte, "/sources/s")["configuration"] == {"schema": "public"}
    assert get(airbyte, "/destinations/d")["destinationType"] == "snowflake"
    assert ask(airbyte, "GET", f"{BASE}/sources/nowhere").status == 404


@pytest.mark.parametrize("word", ["source", "destination"])
def test_sources_and_destinations_come_in_pages(
    airbyte: AirbyteSimulator, word: str
) -> None:
    for number in range(3):
        airbyte.arrange(
            **{f"{word}s": [{f"{word}_id": f"{number}", "name": f"N{number}"}]}
        )

    first = get(airbyte, f"/{word}s?limit=2")
    second = get(airbyte, f"/{word}s?limit=2&offset=2")

    assert [one[f"{word}Id"] for one in first["data"]] == ["0", "1"]
    assert [one[f"{word}Id"] for one in second["data"]] == ["2"]
    assert "offset=2" in first["next"]


# Slashes and ids


@pytest.mark.parametrize(
    "path",
    [
        "/jobs",
        "/connections",
        f"/connections/{A}",
        "/workspaces",
        "/sources",
        "/health",
    ],
)
def test_a_slash_at_the_end_makes_no_difference(
    airbyte: AirbyteSimulator, path: str
) -> None:
    plain, slashed = (
        ask(airbyte, "GET", BASE + one).status for one in (path, path + "/")
    )
    assert plain == slashed == 200


def accepting(clock: Clock) -> AirbyteSimulator:
    return AirbyteSimulator(AirbyteSettings(accept_unknown=True), clock=clock)


def test_what_a_connection_names_is_known_once_it_has_sprung_into_being(
    clock: Clock,
) -> None:
    airbyte = accepting(clock)
    start(airbyte, "c3b6b8a0-5d3f-4a39-9f2c-0f1f8f6c6f11")
    [connection] = get(airbyte, "/connections")["data"]
    for word in ("source", "destination"):
        found = get(airbyte, f"/{word}s/{connection[f'{word}Id']}")
        assert found["workspaceId"] == connection["workspaceId"]
        assert found["definitionId"]
        assert [one["name"] for one in get(airbyte, f"/{word}s")["data"]] == [
            found["name"]
        ]
    assert get(airbyte, f"/workspaces/{connection['workspaceId']}")


@pytest.mark.parametrize("word", ["source", "destination"])
def test_what_an_arranged_connection_names_without_saying_so_is_known(
    airbyte: AirbyteSimulator, word: str
) -> None:
    named = get(airbyte, f"/connections/{A}")[f"{word}Id"]
    assert get(airbyte, f"/{word}s/{named}")[f"{word}Id"] == named
    assert ask(airbyte, "GET", f"{BASE}/{word}s/{A}").status == 404


@pytest.mark.parametrize("word", ["source", "destination"])
def test_an_endpoint_that_a_test_names_and_does_not_add_stays_unknown(
    airbyte: AirbyteSimulator, word: str
) -> None:
    airbyte.add_connection("odd", source_id="elsewhere", destination_id="elsewhere")
    assert ask(airbyte, "GET", f"{BASE}/{word}s/elsewhere").status == 404


@pytest.mark.parametrize(
    "text",
    ["None", "none", "null", "undefined", "nan", "False", " ", "{{ var.value.id }}",
     "['a']", "<Connection 5>", "None-orders", "a b", "é", "--"],
)  # fmt: skip
def test_what_is_no_id_is_refused_even_where_all_are_accepted(
    clock: Clock, text: str
) -> None:
    airbyte = accepting(clock)
    started = start(airbyte, text)
    read = ask(airbyte, "GET", f"{BASE}/connections/{quote(text)}")
    listed = ask(airbyte, "GET", f"{BASE}/jobs?connectionId={quote(text)}")
    for reply in (started, read, listed):
        assert reply.status == 404
        assert "is no id" in reply.json()["data"]["message"]
    assert not airbyte.connections


def test_an_empty_id_is_refused_even_where_all_are_accepted(clock: Clock) -> None:
    airbyte = accepting(clock)
    assert start(airbyte, "").status == 400
    assert ask(airbyte, "GET", f"{BASE}/jobs?connectionId=").status == 404
    assert not airbyte.connections


@pytest.mark.parametrize("text", ["None", "abc", "²", "0", "-1", "1.0", "1" * 5000])
def test_a_job_id_is_an_integer_above_zero(
    airbyte: AirbyteSimulator, text: str
) -> None:
    assert ask(airbyte, "GET", f"{BASE}/jobs/{quote(text)}").status == 400
    with pytest.raises(ValueError, match="no job"):
        airbyte.finish(text, "failed")
