from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from async_triggers.simulator import (
    FivetranSettings,
    FivetranSimulator,
    ListQuirks,
    SimReply,
    SimRequest,
)
from async_triggers.simulator.fivetran import DEFAULT_GROUP

if TYPE_CHECKING:

    class Clock(Protocol):
        time: float

        def __call__(self) -> float: ...

        def advance(self, seconds: float) -> None: ...


KEY = base64.b64encode(b"simulator-key:simulator-secret").decode()
BASIC = {
    "Authorization": f"Basic {KEY}",
    "Accept": "application/json;version=2",
    "Content-Type": "application/json",
}
UNTYPED = {"Authorization": f"Basic {KEY}"}
C = "connection_id"


@pytest.fixture
def fivetran(clock: Clock) -> FivetranSimulator:
    simulator = FivetranSimulator(clock=clock)
    simulator.add_connection(C, schema="sheets.orders")
    return simulator


def ask(
    fivetran: FivetranSimulator,
    method: str,
    path: str,
    body: object = None,
    **headers: str,
) -> SimReply:
    sent = BASIC | {key.replace("_", "-"): value for key, value in headers.items()}
    return fivetran.respond(SimRequest.to(method, path, headers=sent, json_body=body))


def row(fivetran: FivetranSimulator, connection: str = C) -> dict[str, Any]:
    reply = ask(fivetran, "GET", f"/v1/connections/{connection}")
    assert reply.status == 200, reply.body
    found: dict[str, Any] = reply.json()["data"]
    return found


def sync(fivetran: FivetranSimulator, *, force: bool = False) -> SimReply:
    return ask(fivetran, "POST", f"/v1/connections/{C}/sync", {"force": force})


def patch(fivetran: FivetranSimulator, **body: object) -> SimReply:
    return ask(fivetran, "PATCH", f"/v1/connections/{C}", body)


def history(fivetran: FivetranSimulator, query: str = "") -> list[dict[str, Any]]:
    reply = ask(fivetran, "GET", f"/v1/connections/{C}/sync-history{query}")
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json()["data"]["items"]
    return found


def states(fivetran: FivetranSimulator) -> tuple[str, str | None, str | None]:
    found = row(fivetran)
    return found["status"]["sync_state"], found["succeeded_at"], found["failed_at"]


# Credentials and formats


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}, 401),
        ({"Authorization": "Basic ?"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 401),
        ({"Accept": "application/json"}, 200),
        ({"Accept": "*/*"}, 200),
        ({"Accept": "application/json;version=7"}, 406),
        ({"Accept": "text/html"}, 406),
    ],
)
def test_credentials_and_formats(
    fivetran: FivetranSimulator, headers: dict[str, str], status: int
) -> None:
    assert ask(fivetran, "GET", "/v1/account/info", None, **headers).status == status


def test_a_body_needs_its_content_type(fivetran: FivetranSimulator) -> None:
    path = f"/v1/connections/{C}/sync"
    reply = ask(fivetran, "POST", path, None, Content_Type="text/plain")
    assert reply.status == 415
    assert fivetran.record.starts == {}


def test_account(fivetran: FivetranSimulator) -> None:
    reply = ask(fivetran, "GET", "/v1/account/info")
    assert reply.json()["code"] == "Success"
    assert reply.json()["data"]["account_id"] == "simulated_account"


# A connection's life


def test_a_new_connection_has_never_synced(fivetran: FivetranSimulator) -> None:
    found = row(fivetran)
    assert found["succeeded_at"] is None
    assert found["failed_at"] is None
    assert found["schema"] == "sheets.orders"
    assert found["created_at"] == "2026-03-25T01:30:00.000000Z"
    assert found["status"] == {
        "tasks": [],
        "warnings": [],
        "setup_state": "connected",
        "schema_status": "ready",
        "sync_state": "scheduled",
        "update_state": "on_schedule",
        "is_historical_sync": False,
        "rescheduled_for": None,
    }


def test_a_start_names_no_run_and_the_row_tells_its_end(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.configure(life="scheduled:2 syncing:5.25 succeeded")
    reply = sync(fivetran)
    assert reply.json() == {
        "code": "Success",
        "message": f"Sync has been successfully triggered for connection with id '{C}'",
    }
    assert states(fivetran) == ("scheduled", None, None)
    clock.advance(2)
    assert states(fivetran) == ("syncing", None, None)
    clock.advance(10)
    assert states(fivetran) == ("scheduled", "2026-03-25T01:30:07.250000Z", None)
    assert fivetran.record.starts == {C: 1}


def test_a_failure_has_its_own_time(fivetran: FivetranSimulator, clock: Clock) -> None:
    fivetran.add_connection(C, succeeded_ago=60, lives=["syncing:1 failed"])
    sync(fivetran)
    clock.advance(1)
    assert states(fivetran) == (
        "scheduled",
        "2026-03-25T01:29:00.000000Z",
        "2026-03-25T01:30:01.000000Z",
    )


def test_times_are_the_servers(fivetran: FivetranSimulator, clock: Clock) -> None:
    fivetran.configure(skew=-3600, life="succeeded")
    sync(fivetran)
    assert row(fivetran)["succeeded_at"] == "2026-03-25T00:30:00.000000Z"
    assert len(history(fivetran, "?start_time=2026-03-25T00:00:00Z")) == 1


@pytest.mark.parametrize(("policy", "status"), [("ok", 200), ("conflict", 409)])
def test_a_start_while_syncing_starts_nothing(
    fivetran: FivetranSimulator, policy: str, status: int
) -> None:
    fivetran.configure(already_syncing=policy, life="syncing")
    sync(fivetran)
    assert sync(fivetran).status == status
    assert fivetran.record.starts == {C: 1}
    assert fivetran.record.refused_starts == {C: 1}
    assert len(history(fivetran)) == 1


def test_force_stops_the_running_sync(fivetran: FivetranSimulator) -> None:
    fivetran.configure(life="syncing:60 succeeded", stop_blocks=30)
    sync(fivetran)
    assert sync(fivetran, force=True).delay == 30
    assert [one["status"] for one in history(fivetran)] == ["CANCELED", "INCOMPLETE"]
    assert fivetran.record.cancels == {C: 1}
    assert fivetran.record.starts == {C: 2}


@pytest.mark.parametrize(
    "arranged",
    [{"paused": True}, {"setup_state": "broken"}, {"setup_state": "incomplete"}],
)
def test_a_connection_that_cannot_sync_does_not(
    fivetran: FivetranSimulator, clock: Clock, arranged: Any
) -> None:
    fivetran.add_connection(C, **arranged)
    assert sync(fivetran).status == 200
    fivetran.configure(paused_sync="conflict")
    assert sync(fivetran).status == 409
    clock.advance(3600)
    assert states(fivetran)[1:] == (None, None)
    assert fivetran.record.starts == {}


def test_a_rescheduled_manual_connection_waits_for_a_start(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.configure(life="syncing:5 rescheduled:60 syncing:5 succeeded")
    sync(fivetran)
    clock.advance(5)
    status = row(fivetran)["status"]
    assert status["sync_state"] == "rescheduled"
    assert status["rescheduled_for"] == "2026-03-25T01:31:05.000000Z"
    clock.advance(3600)
    assert states(fivetran) == ("rescheduled", None, None)
    sync(fivetran)
    assert row(fivetran)["status"]["rescheduled_for"] is None
    clock.advance(5)
    assert states(fivetran)[1] == "2026-03-25T02:30:10.000000Z"
    window = "?start_time=2026-03-25T01:00:00Z&end_time=2026-03-25T03:00:00Z"
    assert [one["status"] for one in history(fivetran, window)] == [
        "RESCHEDULED",
        "COMPLETED",
    ]


def test_a_rescheduled_automatic_connection_goes_on_by_itself(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.add_connection(
        C,
        schedule_type="auto",
        lives=["syncing:5 rescheduled:60 syncing:5 rescheduled", "syncing:1 failed"],
    )
    sync(fivetran)
    clock.advance(70)
    assert states(fivetran) == ("rescheduled", None, None)
    clock.advance(3601)
    assert states(fivetran) == ("scheduled", None, "2026-03-25T02:31:11.000000Z")


def test_a_rescheduled_connection_can_be_started_early(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.add_connection(
        C, schedule_type="auto", lives=["rescheduled:60 syncing:5 succeeded"]
    )
    sync(fivetran)
    sync(fivetran)
    clock.advance(5)
    assert states(fivetran)[1] == "2026-03-25T01:30:05.000000Z"


def test_changing_the_schedule_lets_a_rescheduled_sync_go_on(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.configure(life="rescheduled:60 syncing:5 succeeded")
    sync(fivetran)
    clock.advance(30)
    patch(fivetran, schedule_type="auto")
    clock.advance(35)
    assert states(fivetran)[1] == "2026-03-25T01:31:05.000000Z"


def test_a_connection_that_breaks_has_a_task_and_no_time(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.configure(life="syncing:5 broken")
    sync(fivetran)
    clock.advance(5)
    found = row(fivetran)
    assert found["status"]["setup_state"] == "broken"
    assert found["status"]["tasks"][0]["code"] == "reconnect"
    assert (found["succeeded_at"], found["failed_at"]) == (None, None)


def test_schedules_run_only_where_asked_for(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.add_connection(C, schedule_type="auto", sync_frequency=15)
    clock.advance(16 * 60)
    assert states(fivetran)[1] is None
    fivetran.configure(run_schedules=True, life="syncing:5 succeeded")
    assert states(fivetran)[1] == "2026-03-25T01:45:05.000000Z"
    clock.advance(15 * 60)
    assert states(fivetran)[1] == "2026-03-25T02:00:10.000000Z"
    assert fivetran.record.starts == {}


def test_a_foreign_sync_makes_the_connection_busy(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.start_sync(C, "syncing:9 succeeded")
    sync(fivetran)
    assert fivetran.record.starts == {}
    assert [job.state for job in fivetran.jobs()] == ["syncing"]
    clock.advance(9)
    assert fivetran.jobs() == []
    assert [job.job for job in fivetran.jobs(finished=True)] == [C]


def test_a_sync_can_be_finished_on_demand(fivetran: FivetranSimulator) -> None:
    fivetran.configure(life="syncing")
    sync(fivetran)
    fivetran.finish(C, "failed")
    assert states(fivetran) == ("scheduled", None, "2026-03-25T01:30:00.000000Z")


def test_a_row_can_be_changed_on_demand(fivetran: FivetranSimulator) -> None:
    fivetran.arrange(
        changes=[{"connection_id": C, "warnings": [["slow", "Slow source"]]}]
    )
    assert row(fivetran)["status"]["warnings"][0]["message"] == "Slow source"
    with pytest.raises(ValueError, match="bad change"):
        fivetran.change(C, colour=1)
    with pytest.raises(ValueError, match="pairs of code and message"):
        fivetran.change(C, tasks=["x"])


# Changing a connection


def test_patch_counts_setup_tests(fivetran: FivetranSimulator) -> None:
    assert patch(fivetran, schedule_type="auto", run_setup_tests=False).status == 200
    assert fivetran.record.facts == {"patches": 1}
    assert row(fivetran)["schedule_type"] == "auto"
    patch(fivetran, schedule_type="manual")
    assert fivetran.record.facts == {"patches": 2, "setup_tests": 1}


@pytest.mark.parametrize("body", [{}, {"run_setup_tests": False}, {"schedule_type": 1}])
def test_bad_patches(fivetran: FivetranSimulator, body: dict[str, object]) -> None:
    assert patch(fivetran, **body).status == 400


def test_pausing_stops_the_sync_without_a_time(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.configure(life="syncing:60 succeeded", stop_blocks=20)
    sync(fivetran)
    reply = patch(fivetran, paused=True, run_setup_tests=False)
    assert (reply.status, reply.delay) == (200, 20)
    clock.advance(100)
    assert states(fivetran) == ("paused", None, None)
    assert history(fivetran)[0]["status"] == "PAUSED"
    assert fivetran.record.cancels == {C: 1}
    patch(fivetran, paused=False)
    assert states(fivetran) == ("scheduled", None, None)


def test_pausing_can_answer_500_and_yet_work(fivetran: FivetranSimulator) -> None:
    fivetran.configure(life="syncing:60 succeeded", pause_answers_500=True)
    sync(fivetran)
    reply = patch(fivetran, paused=True)
    assert (reply.status, reply.delay) == (500, 60)
    assert row(fivetran)["paused"] is True


# Re-syncs


def test_a_resync_is_historical_until_it_succeeds(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    path = f"/v1/connections/{C}/resync"
    assert ask(fivetran, "POST", path, {}).status == 200
    assert row(fivetran)["status"]["is_historical_sync"] is True
    assert ask(fivetran, "POST", path, {}).status == 409
    clock.advance(6)
    assert row(fivetran)["status"]["is_historical_sync"] is False
    scope = {"scope": {"sales": ["orders"]}}
    assert ask(fivetran, "POST", path, scope).status == 200
    assert row(fivetran)["status"]["is_historical_sync"] is False
    assert [one.details["scope"] for one in fivetran.record.started] == [
        None,
        {"sales": ["orders"]},
    ]


@pytest.mark.parametrize("scope", [{}, {"sales": []}, {"sales": "orders"}, "sales"])
def test_a_scope_must_name_tables(fivetran: FivetranSimulator, scope: object) -> None:
    reply = ask(fivetran, "POST", f"/v1/connections/{C}/resync", {"scope": scope})
    assert reply.status == 400


def test_a_resync_of_a_paused_connection_runs_when_it_is_enabled(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    patch(fivetran, paused=True)
    assert ask(fivetran, "POST", f"/v1/connections/{C}/resync", {}).status == 200
    clock.advance(60)
    assert states(fivetran)[1] is None
    patch(fivetran, paused=False)
    clock.advance(6)
    assert states(fivetran)[1] == "2026-03-25T01:31:06.000000Z"


# History


def test_history_tells_id_reason_and_volumes(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.configure(life="syncing:5 failed")
    sync(fivetran)
    running = history(fivetran)[0]
    assert (running["end"], running["stages"]["load"]["volume"]) == (None, None)
    clock.advance(5)
    done = history(fivetran)[0]
    assert done["sync_id"] == running["sync_id"]
    assert done["status"] == "FAILURE"
    assert done["reason"] == "The simulated sync has failed"
    assert done["start"] == "2026-03-25T01:30:00.000000Z"
    assert done["end"] == "2026-03-25T01:30:05.000000Z"
    assert done["stages"]["extract"]["volume"] == 1.5


def test_history_looks_back_an_hour_by_default(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    sync(fivetran)
    clock.advance(3 * 3600)
    assert history(fivetran) == []
    assert len(history(fivetran, "?start_time=2026-03-25T01:30:00Z")) == 1
    assert len(history(fivetran, "?end_time=2026-03-25T02:00:00Z")) == 1


@pytest.mark.parametrize(
    "query",
    [
        "start_time=2026-03-17T01:30:00Z",
        "start_time=2026-03-20T01:30:00Z&end_time=2026-03-28T01:30:00Z",
        "start_time=2026-03-25T01:30:00Z&end_time=2026-03-25T01:00:00Z",
        "start_time=yesterday",
    ],
)
def test_history_goes_back_seven_days(fivetran: FivetranSimulator, query: str) -> None:
    path = f"/v1/connections/{C}/sync-history?{query}"
    assert ask(fivetran, "GET", path).status == 400


def test_history_can_be_missing(fivetran: FivetranSimulator) -> None:
    fivetran.configure(sync_history=False)
    path = f"/v1/connections/{C}/sync-history"
    assert ask(fivetran, "GET", path).status == 404


# Lists


def page(fivetran: FivetranSimulator, path: str) -> tuple[list[str], str | None]:
    reply = ask(fivetran, "GET", path)
    assert reply.status == 200, reply.body
    data = reply.json()["data"]
    return [one["id"] for one in data["items"]], data.get("next_cursor")


def test_connections_are_paged_by_cursor(fivetran: FivetranSimulator) -> None:
    for number in range(2):
        fivetran.add_connection(f"c{number}")
    first, cursor = page(fivetran, "/v1/connections?limit=2")
    assert first == [C, "c0"]
    assert page(fivetran, f"/v1/connections?limit=2&cursor={cursor}") == (["c1"], None)
    fivetran.configure(stuck_cursor=True)
    _, cursor = page(fivetran, "/v1/connections?limit=2")
    assert page(fivetran, f"/v1/connections?limit=2&cursor={cursor}")[1] == cursor


def test_the_last_page_may_have_no_cursor_at_all(fivetran: FivetranSimulator) -> None:
    assert "next_cursor" in ask(fivetran, "GET", "/v1/connections").json()["data"]
    fivetran.configure(null_cursor=False)
    assert "next_cursor" not in ask(fivetran, "GET", "/v1/connections").json()["data"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=eA=="])
def test_bad_paging_is_400(fivetran: FivetranSimulator, query: str) -> None:
    assert ask(fivetran, "GET", f"/v1/connections?{query}").status == 400


def test_lists_are_filtered_by_group_and_schema(fivetran: FivetranSimulator) -> None:
    fivetran.arrange(
        groups=[{"group_id": "g", "name": "Warehouse"}],
        connections=[{"connection_id": "other", "group_id": "g", "schema": "s"}],
    )
    assert page(fivetran, "/v1/connections?group_id=g")[0] == ["other"]
    assert page(fivetran, "/v1/connections?schema=sheets.orders")[0] == [C]
    assert page(fivetran, "/v1/groups/g/connections")[0] == ["other"]
    fivetran.quirks = ListQuirks(ignore_filters=("group_id",))
    assert page(fivetran, "/v1/connections?group_id=g")[0] == [C, "other"]


def test_a_list_can_lag_behind_the_single_row(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.quirks = ListQuirks(lag=120)
    sync(fivetran)
    clock.advance(100)
    listed = ask(fivetran, "GET", "/v1/connections").json()["data"]["items"][0]
    assert listed["succeeded_at"] is None
    assert row(fivetran)["succeeded_at"] is not None
    clock.advance(100)
    listed = ask(fivetran, "GET", "/v1/connections").json()["data"]["items"][0]
    assert listed == row(fivetran)


def test_rows_can_move_between_pages(fivetran: FivetranSimulator) -> None:
    for number in range(3):
        fivetran.add_connection(f"c{number}")
    fivetran.quirks = ListQuirks(churn=1)
    first, cursor = page(fivetran, "/v1/connections?limit=2")
    assert first == [C, "c0"]
    assert page(fivetran, f"/v1/connections?limit=2&cursor={cursor}")[0] == ["c2", C]


def test_groups_and_destinations(fivetran: FivetranSimulator) -> None:
    assert page(fivetran, "/v1/groups")[0] == ["simulated_group"]
    reply = ask(fivetran, "GET", "/v1/groups/simulated_group")
    assert reply.json()["data"]["name"] == "simulated_warehouse"
    reply = ask(fivetran, "GET", "/v1/destinations/simulated_group")
    assert reply.json()["data"]["setup_status"] == "CONNECTED"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/connections/x", "NotFound_Connector"),
        ("/v1/groups/x", "NotFound_Group"),
        ("/v1/groups/x/connections", "NotFound_Group"),
        ("/v1/destinations/x", "NotFound_Destination"),
        ("/v1/planets", "NotFound"),
        (f"/v1/connectors/{C}", "NotFound"),
    ],
)
def test_unknown_things_are_404(
    fivetran: FivetranSimulator, path: str, code: str
) -> None:
    reply = ask(fivetran, "GET", path)
    assert reply.status == 404
    assert reply.json()["code"] == code


def test_unknown_connections_can_be_accepted(fivetran: FivetranSimulator) -> None:
    fivetran.configure(accept_unknown=True)
    assert row(fivetran, "x")["id"] == "x"


def test_a_method_that_a_path_does_not_have_is_405(fivetran: FivetranSimulator) -> None:
    assert ask(fivetran, "PUT", f"/v1/connections/{C}").status == 405


def test_paths_of_the_past_are_served_where_asked_for(
    fivetran: FivetranSimulator,
) -> None:
    fivetran.configure(legacy_paths=True)
    assert ask(fivetran, "GET", f"/v1/connectors/{C}").status == 200
    assert ask(fivetran, "POST", f"/v1/connectors/{C}/force", {}).status == 200
    assert fivetran.record.started[0].details == {"force": True}


# The limit


def test_the_hourly_limit_rolls(fivetran: FivetranSimulator, clock: Clock) -> None:
    fivetran.configure(hourly_limit=2)
    reply = ask(fivetran, "GET", "/v1/account/info")
    assert reply.headers["X-Rate-Limit"] == "2"
    assert reply.headers["X-Rate-Limit-Remaining"] == "1"
    clock.advance(600)
    ask(fivetran, "GET", "/v1/account/info")
    reply = ask(fivetran, "GET", "/v1/account/info")
    assert reply.status == 429
    assert reply.json()["code"] == "TooManyRequests"
    assert reply.headers["Retry-After"] == "3000"
    assert reply.headers["X-Rate-Limit-Remaining"] == "0"
    clock.advance(3000)
    assert ask(fivetran, "GET", "/v1/account/info").status == 200
    fivetran.configure(retry_after=3600)
    assert ask(fivetran, "GET", "/v1/account/info").headers["Retry-After"] == "3600"


# What connections load


def test_a_destination_shows_its_config(fivetran: FivetranSimulator) -> None:
    fivetran.add_group(
        "lake", name="Lake", service="databricks", config={"catalog": "RAW"}
    )

    shown = ask(fivetran, "GET", "/v1/destinations/lake").json()["data"]

    assert shown["service"] == "databricks"
    assert shown["config"] == {"catalog": "RAW"}


def test_schemas_show_the_tables_of_a_connection(fivetran: FivetranSimulator) -> None:
    fivetran.add_connection(
        C, tables={"shop": ["orders", {"name": "old", "enabled": False}]}
    )

    schemas = ask(fivetran, "GET", f"/v1/connections/{C}/schemas").json()["data"][
        "schemas"
    ]

    assert schemas["shop"]["name_in_destination"] == "shop"
    assert {
        table["name_in_destination"]: table["enabled"]
        for table in schemas["shop"]["tables"].values()
    } == {"orders": True, "old": False}


def test_a_connection_without_a_schema_config_is_404(
    fivetran: FivetranSimulator,
) -> None:
    reply = ask(fivetran, "GET", f"/v1/connections/{C}/schemas")

    assert reply.status == 404
    assert reply.json()["code"] == "NotFound_SchemaConfig"


# Bodies, slashes and ids


@pytest.mark.parametrize("action", ["sync", "resync"])
def test_a_start_needs_neither_a_body_nor_a_content_type(
    fivetran: FivetranSimulator, action: str
) -> None:
    path = f"/v1/connections/{C}/{action}"
    assert fivetran.respond(SimRequest.to("POST", path, headers=UNTYPED)).status == 200
    assert fivetran.record.starts == {C: 1}


def test_a_body_without_a_content_type_is_refused(fivetran: FivetranSimulator) -> None:
    path = f"/v1/connections/{C}/sync"
    request = SimRequest.to("POST", path, headers=UNTYPED, body=b"{}")
    assert fivetran.respond(request).status == 415


def test_a_change_needs_a_body(fivetran: FivetranSimulator) -> None:
    request = SimRequest.to("PATCH", f"/v1/connections/{C}", headers=UNTYPED)
    assert fivetran.respond(request).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/groups",
        f"/v1/groups/{DEFAULT_GROUP}",
        f"/v1/groups/{DEFAULT_GROUP}/connections",
        "/v1/connections",
        f"/v1/connections/{C}",
        f"/v1/connections/{C}/sync-history",
        f"/v1/destinations/{DEFAULT_GROUP}",
        "/v1/account/info",
        "/v1/users",
    ],
)
def test_a_slash_at_the_end_makes_no_difference(
    fivetran: FivetranSimulator, path: str
) -> None:
    plain, slashed = (ask(fivetran, "GET", one) for one in (path, path + "/"))
    assert plain.status == slashed.status == 200
    assert plain.json() == slashed.json()
    assert ask(fivetran, "GET", path + "//").status == 404


@pytest.mark.parametrize(
    "text",
    ["None", "none", "null", "undefined", "NaN", "True", "%20", "%7B%7B%20x%20%7D%7D",
     "%5B%5D", "%3Cobject%20at%200x7f%3E", "orders_None", "...", "caf%C3%A9"],
)  # fmt: skip
def test_what_is_no_id_is_refused_even_where_all_are_accepted(
    clock: Clock, text: str
) -> None:
    fivetran = FivetranSimulator(FivetranSettings(accept_unknown=True), clock=clock)
    path = f"/v1/connections/{text}"
    for method, one in (
        ("GET", path),
        ("POST", f"{path}/sync"),
        ("POST", f"{path}/test"),
        ("PATCH", path),
    ):
        reply = ask(
            fivetran, method, one, {"paused": False} if method != "GET" else None
        )
        assert reply.status == 404, one
        assert reply.json()["code"] == "NotFound_Connector"
        assert "is no id" in reply.json()["message"]
    assert not fivetran.connections


@pytest.mark.parametrize("text", ["gentle_lion", "4107c213907114059a5544ad8fa66c52"])
def test_an_id_springs_into_being_with_the_group_that_it_names(
    clock: Clock, text: str
) -> None:
    fivetran = FivetranSimulator(FivetranSettings(accept_unknown=True), clock=clock)
    row = ask(fivetran, "GET", f"/v1/connections/{text}").json()["data"]
    for path in ("groups", "destinations"):
        assert ask(fivetran, "GET", f"/v1/{path}/{row['group_id']}").status == 200


# Setup tests


def setup_test(fivetran: FivetranSimulator, connection: str = C) -> Any:
    reply = ask(fivetran, "POST", f"/v1/connections/{connection}/test", {})
    assert reply.status == 200, reply.body
    return reply.json()["data"]


def test_setup_tests_of_a_connected_connection_pass(
    fivetran: FivetranSimulator,
) -> None:
    found = setup_test(fivetran)
    assert [one["status"] for one in found["setup_tests"]] == ["PASSED"]
    assert found["status"]["setup_state"] == "connected"
    assert fivetran.record.facts["setup_tests"] == 1
    assert fivetran.record.starts == {}


@pytest.mark.parametrize("setup_state", ["broken", "incomplete"])
def test_setup_tests_of_another_connection_fail_unless_arranged(
    fivetran: FivetranSimulator, setup_state: Any
) -> None:
    fivetran.add_connection("bad", setup_state=setup_state)
    found = setup_test(fivetran, "bad")
    assert [one["status"] for one in found["setup_tests"]] == ["FAILED"]
    assert found["status"]["setup_state"] == setup_state


def test_setup_tests_heal_a_broken_connection_at_the_run_that_passes(
    fivetran: FivetranSimulator,
) -> None:
    fivetran.add_connection(
        "bad",
        setup_state="broken",
        tasks=[("reconnect", "Reconnect")],
        setup_tests=["FAILED", "JOB_FAILED", "PASSED"],
    )
    assert setup_test(fivetran, "bad")["status"]["setup_state"] == "broken"
    assert setup_test(fivetran, "bad")["status"]["setup_state"] == "broken"
    healed = setup_test(fivetran, "bad")["status"]
    assert healed["setup_state"] == "connected"
    assert healed["tasks"] == []
    # The last outcome is used again and again.
    assert setup_test(fivetran, "bad")["setup_tests"][0]["status"] == "PASSED"


def test_single_setup_tests_can_be_chosen_through_the_control_api(
    fivetran: FivetranSimulator,
) -> None:
    tests: list[dict[str, Any]] = [
        {"title": "Validate Login", "status": "PASSED"},
        {"title": "Check Permissions", "status": "WARNING", "message": "Read only"},
        {
            "title": "Connect to Host",
            "status": "FAILED",
            "message": "No route",
            "details": {"host": "db"},
        },
    ]
    fivetran.arrange(connections=[{"connection_id": C, "setup_tests": [tests]}])
    found = setup_test(fivetran)
    assert [one["title"] for one in found["setup_tests"]] == [
        one["title"] for one in tests
    ]
    assert found["setup_tests"][2] == tests[2]
    assert found["status"]["setup_state"] == "broken"
    assert found["status"]["tasks"][0]["code"] == "reconnect"


@pytest.mark.parametrize(
    "outcome", ["passed", "OK", [{"title": "x"}], [["x", "PASSED"]]]
)
def test_an_outcome_that_fivetran_does_not_have_is_refused(
    fivetran: FivetranSimulator, outcome: Any
) -> None:
    with pytest.raises(ValueError, match="setup"):
        fivetran.add_connection("x", setup_tests=[outcome])


def test_setup_tests_need_a_body_and_take_their_time(
    fivetran: FivetranSimulator,
) -> None:
    fivetran.configure(setup_tests_take=30)
    path = f"/v1/connections/{C}/test"
    assert ask(fivetran, "POST", path).status == 400
    assert fivetran.record.facts["setup_tests"] == 0
    assert ask(fivetran, "POST", path, {}).delay == 30


def test_a_change_runs_the_setup_tests_unless_it_says_not_to(
    fivetran: FivetranSimulator,
) -> None:
    fivetran.add_connection("bad", setup_state="broken", setup_tests=["PASSED"])
    path = "/v1/connections/bad"
    sent = {"sync_frequency": 60, "run_setup_tests": False}
    quiet = ask(fivetran, "PATCH", path, sent).json()["data"]
    assert "setup_tests" not in quiet
    assert quiet["status"]["setup_state"] == "broken"
    tested = ask(fivetran, "PATCH", path, {"sync_frequency": 60}).json()["data"]
    assert tested["setup_tests"][0]["status"] == "PASSED"
    assert tested["status"]["setup_state"] == "connected"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Type": "Application/JSON"},
        {"Content_Type": "APPLICATION/JSON; Charset=UTF-8"},
        {"Accept": "Application/JSON"},
        {"Accept": "Application/Json; Version=2"},
    ],
)
def test_media_types_are_read_in_any_case(
    fivetran: FivetranSimulator, headers: dict[str, str]
) -> None:
    reply = ask(fivetran, "POST", f"/v1/connections/{C}/sync", {}, **headers)

    assert reply.status == 200, reply.body


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "sync", {"force": "true"}),
        ("POST", "sync", {"force": 1}),
        ("POST", "test", {"trust_certificates": "yes"}),
        ("POST", "resync", {"scope": {"orders": [1]}}),
        ("PATCH", "", {"paused": "true"}),
        ("PATCH", "", {"paused": 1}),
        ("PATCH", "", {"is_historical_sync": "None"}),
        ("PATCH", "", {"paused": True, "run_setup_tests": "false"}),
        ("PATCH", "", {"sync_frequency": 7}),
        ("PATCH", "", {"sync_frequency": True}),
        ("PATCH", "", {"sync_frequency": "hourly"}),
    ],
)
def test_a_field_of_another_type_is_refused_and_changes_nothing(
    fivetran: FivetranSimulator, method: str, path: str, body: dict[str, Any]
) -> None:
    before = row(fivetran)

    reply = ask(fivetran, method, f"/v1/connections/{C}/{path}", body)

    assert reply.status == 400, reply.body
    assert reply.json()["code"] == "InvalidInput"
    assert row(fivetran) == before
    assert not fivetran.record.starts


@pytest.mark.parametrize("sent", [60, "60"])
def test_the_frequency_is_a_number_however_it_is_sent(
    fivetran: FivetranSimulator, sent: object
) -> None:
    ask(fivetran, "PATCH", f"/v1/connections/{C}", {"sync_frequency": sent})

    assert row(fivetran)["sync_frequency"] == 60


def test_null_in_a_body_counts_as_not_sent(fivetran: FivetranSimulator) -> None:
    before = row(fivetran)
    empty = {"paused": None, "sync_frequency": None, "is_historical_sync": None}

    assert ask(fivetran, "PATCH", f"/v1/connections/{C}", empty).status == 200
    assert row(fivetran) == before
    sync = ask(fivetran, "POST", f"/v1/connections/{C}/sync", {"force": None})
    assert sync.status == 200


def test_one_life_may_be_given_without_a_list(
    fivetran: FivetranSimulator, clock: Clock
) -> None:
    fivetran.add_connection("sales", lives="syncing:5 failed")
    ask(fivetran, "POST", "/v1/connections/sales/sync", {})
    assert row(fivetran, "sales")["status"]["sync_state"] == "syncing"
    clock.advance(6)

    assert row(fivetran, "sales")["failed_at"] is not None
