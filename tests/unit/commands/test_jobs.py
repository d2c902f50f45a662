"""``async-triggers jobs`` reads Airflow's REST API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from async_triggers.commands.jobs import waited
from tests.unit.commands.conftest import Printed
from tests.unit.secrets import planted

Command = Callable[..., Printed]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def row(at: int, **changes: Any) -> dict[str, Any]:
    """Return a task instance as Airflow's REST API shows it."""
    return {
        "id": f"ti-{at}",
        "task_id": f"sync_{at}",
        "dag_id": "sales",
        "dag_run_id": "manual__1",
        "map_index": -1,
        "state": "deferred",
        "start_date": f"2026-11-29T08:{59 - at % 60:02}:00Z",
        "trigger": {
            "id": at,
            "classpath": "async_triggers.airbyte.triggers.AirbyteSyncTrigger",
            "kwargs": "{}",
            "created_date": "2026-11-29T09:00:00Z",
            "triggerer_id": 1,
        },
        "triggerer_job": {"hostname": "triggerer-1"},
        **changes,
    }


class FakeAirflow:
    """Serves what a test sets, and keeps the requests."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.links: dict[str, str | None] = {}
        self.token = "token"
        self.is_open = True
        self.status = 200
        self.requests: list[str] = []
        self.url = ""

    def answer(self, method: str, target: str, token: str) -> tuple[int, Any]:
        self.requests.append(f"{method} {target}")
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if self.status != 200:
            return self.status, {"detail": "no"}

        if path == "/auth/token":
            is_known = method == "POST" or self.is_open
            return (201, {"access_token": self.token}) if is_known else (401, {})

        if token != f"Bearer {self.token}":
            return 401, {"detail": "no"}

        if path.endswith("/links"):
            return 200, {"extra_links": self.links}

        offset, limit = int(query["offset"][0]), int(query["limit"][0])
        return 200, {
            "task_instances": self.rows[offset : offset + limit],
            "total_entries": len(self.rows),
        }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    fake = FakeAirflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("Authorization", "")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = fake.answer(self.command, self.path, token)
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET  # noqa: N815 - likewise

        def log_message(self, *_: Any) -> None:
            pass

    for name in ("TOKEN", "USER", "PASSWORD", "URL"):
        monkeypatch.delenv(f"AIRFLOW_API_{name}", raising=False)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever, daemon=True)
        thread.start()
        fake.url = f"http://127.0.0.1:{http.server_port}"
        yield fake
        http.shutdown()
        thread.join()


def test_waiting_tasks_are_listed_the_oldest_first(
    server: FakeAirflow, command: Command
) -> None:
    server.rows = [row(1), row(2), row(3, map_index=7)]

    printed = command("jobs", "--url", server.url, "--json")

    assert printed.code == 0
    assert [each["task"] for each in printed.json()] == [
        "sync_3[7]",
        "sync_2",
        "sync_1",
    ]
    assert printed.json()[0]["vendor"] == "airbyte"
    assert printed.json()[0]["triggerer"] == "triggerer-1"
    assert "url" not in printed.json()[0]


def test_all_pages_are_read_and_other_triggers_left_out(
    server: FakeAirflow, command: Command
) -> None:
    foreign = {"classpath": "airflow.providers.standard.triggers.temporal.X"}
    server.rows = [row(at) for at in range(250)]
    server.rows[::2] = [row(at, trigger=foreign) for at in range(125)]
    server.rows[1] = row(1, trigger=None)

    printed = command("jobs", "--url", server.url, "--json")

    assert len(printed.json()) == 124


@pytest.mark.parametrize(
    ("operator", "vendor"),
    [
        ("AirbyteTriggerSyncOperator", "airbyte"),
        ("AirbyteSyncSensor", "airbyte"),
        ("FivetranResyncOperator", "fivetran"),
        ("DbtCloudRunJobOperator", "dbt_cloud"),
        ("NightlySync", ""),
        (None, ""),
    ],
)
def test_the_vendor_of_a_job_to_be_started_is_the_operator_s(
    server: FakeAirflow, command: Command, operator: str | None, vendor: str
) -> None:
    starting = {"classpath": "async_triggers.deferral.start_trigger.StartTrigger"}
    server.rows = [row(1, trigger=starting, operator=operator)]

    printed = command("jobs", "--url", server.url, "--json")

    assert [each["vendor"] for each in printed.json()] == [vendor]


def test_one_dag_may_be_named(server: FakeAirflow, command: Command) -> None:
    command("jobs", "--url", server.url, "--dag", "a/b")

    assert server.requests[-1].startswith(
        "GET /api/v2/dags/a%2Fb/dagRuns/~/taskInstances?state=deferred"
    )


def test_addresses_are_fetched_where_they_are_wanted(
    server: FakeAirflow, command: Command
) -> None:
    server.rows = [row(1)]
    server.links = {"Other": None, "Airbyte job": "https://airbyte.test/5"}

    printed = command("jobs", "--url", server.url, "--links", "--json")

    assert printed.json()[0]["url"] == "https://airbyte.test/5"


def test_a_token_of_the_environment_is_used(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.is_open = False
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "token")

    assert command("jobs", "--url", server.url).code == 0
    assert "auth" not in server.requests[0]


def test_a_user_and_password_get_a_token(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.is_open = False
    monkeypatch.setenv("AIRFLOW_API_USER", "me")
    monkeypatch.setenv("AIRFLOW_API_PASSWORD", "planted")

    printed = command("jobs", "--url", server.url)

    assert printed.code == 0
    assert "No task waits for a job" in printed.err
    assert server.requests[0] == "POST /auth/token"


@pytest.mark.parametrize("status", [401, 403])
def test_without_a_user_the_next_step_is_named(
    server: FakeAirflow, command: Command, status: int
) -> None:
    server.status = status

    printed = command("jobs", "--url", server.url)

    assert printed.code == 2
    assert "set AIRFLOW_API_TOKEN" in printed.err


@pytest.mark.parametrize("status", [400, 401])
def test_a_user_who_is_not_accepted_is_named_as_the_cause(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("AIRFLOW_API_USER", "me")
    server.status = status

    printed = command("jobs", "--url", server.url)

    assert printed.code == 2
    assert "check AIRFLOW_API_USER and AIRFLOW_API_PASSWORD" in printed.err


def test_a_token_that_is_not_accepted_is_named_as_the_cause(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "expired")

    printed = command("jobs", "--url", server.url)

    assert printed.code == 2
    assert "set AIRFLOW_API_TOKEN again" in printed.err


@pytest.mark.parametrize("status", [302, 404, 500])
def test_what_is_no_airflow_is_refused(
    server: FakeAirflow, command: Command, status: int
) -> None:
    server.status = status

    printed = command("jobs", "--url", server.url)

    assert printed.code == 2
    assert f"answered with {status}" in printed.err
    assert "check --url" in printed.err


def test_no_answer_names_the_option(command: Command) -> None:
    printed = command("jobs", "--url", "http://127.0.0.1:9")

    assert printed.code == 2
    assert "check --url: http://127.0.0.1:9" in printed.err


def test_a_refusal_names_the_right_that_is_missing(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "token")
    server.status = 403

    printed = command("jobs", "--url", server.url)

    assert printed.code == 2
    assert "the right to read task instances is missing" in printed.err


def test_a_dag_that_is_not_there_is_named(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "token")
    server.status = 404

    printed = command("jobs", "--url", server.url, "--dag", "slaes")

    assert printed.code == 2
    assert "/dags/slaes/" in printed.err
    assert "(no): check --dag" in printed.err


@pytest.mark.parametrize("answer", [{}, {"task_instances": None, "total_entries": 1}])
def test_an_answer_of_something_else_is_refused(
    server: FakeAirflow,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
) -> None:
    monkeypatch.setattr(server, "answer", lambda *_: (200, answer))

    for token in ("", "token"):
        monkeypatch.setenv("AIRFLOW_API_TOKEN", token)
        printed = command("jobs", "--url", server.url)

        assert printed.code == 2
        assert "not an answer of Airflow's REST API: check --url" in printed.err


def test_a_token_may_end_with_a_line_break(
    server: FakeAirflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_API_TOKEN", "token\n")

    assert command("jobs", "--url", server.url).code == 0


@pytest.mark.parametrize("token", [f"{planted.TOKEN}\nx", f"{planted.TOKEN}é"])
def test_a_token_that_no_request_can_carry_is_not_shown(
    command: Command, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("AIRFLOW_API_TOKEN", token)

    printed = command("jobs", "--url", "http://127.0.0.1:9")

    assert printed.code == 2
    assert "AIRFLOW_API_TOKEN" in printed.err
    assert planted.TOKEN not in printed.err


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1:port"])
def test_a_password_in_the_address_is_not_shown(command: Command, address: str) -> None:
    printed = command("jobs", "--url", f"http://user:{planted.SECRET}@{address}")

    assert printed.code == 2
    assert "check --url" in printed.err
    assert planted.SECRET not in printed.err


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59), "59 s"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(days=2, hours=3), "2 d 3 h"),
    ],
)
def test_how_long_a_task_waits_is_said_in_two_units(ago: timedelta, words: str) -> None:
    assert waited((NOW - ago).isoformat(), NOW) == words


@pytest.mark.parametrize("since", ["", "yesterday", "2026-11-29T08:00:00"])
def test_a_time_that_is_none_is_left_out(since: str) -> None:
    assert waited(since, NOW) == ""
