from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from async_triggers.demo.airflow_api import AirflowApi, AirflowApiError

SILENT = "silent"
CUT = "cut"


class Airflow:
    """A server that answers what it was given, in order; then 200."""

    def __init__(self) -> None:
        self.answers: list[str | tuple[int, object]] = []
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.over = threading.Event()
        airflow = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                if self.path == "/auth/token":
                    self._send(200, {"access_token": "secret"})
                    return
                airflow.requests.append(f"{self.command} {self.path}")
                airflow.headers.append(dict(self.headers.items()))
                length = int(self.headers.get("Content-Length") or 0)
                airflow.bodies.append(self.rfile.read(length))
                answer = airflow.answers.pop(0) if airflow.answers else (200, {})
                if answer == SILENT:
                    airflow.over.wait(10)
                elif isinstance(answer, tuple):
                    self._send(*answer)

            # As the server looks for them.
            do_GET = do_POST = do_PATCH = do_PUT = _answer  # noqa: N815

            def _send(self, status: int, payload: object) -> None:
                body = json.dumps(payload).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_request(self, *args: Any) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def airflow() -> Iterator[Airflow]:
    found = Airflow()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.over.set()
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@pytest.fixture
def api(airflow: Airflow) -> AirflowApi:
    return AirflowApi(airflow.url, patience=0.2)


@pytest.mark.parametrize("trouble", [SILENT, CUT])
def test_a_read_without_an_answer_is_tried_again(
    airflow: Airflow, api: AirflowApi, trouble: str
) -> None:
    airflow.answers = [trouble, (200, {"state": "running"})]

    assert api.request("GET", "/dags") == {"state": "running"}

    assert airflow.requests == ["GET /api/v2/dags"] * 2


def test_a_read_is_given_up_at_last(airflow: Airflow, api: AirflowApi) -> None:
    airflow.answers = [CUT] * 10

    with pytest.raises(ConnectionError, match="GET /api/v2/dags"):
        api.request("GET", "/dags")

    assert len(airflow.requests) == 4


def test_a_silent_server_is_a_timeout_as_of_any_socket(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_triggers.demo.airflow_api._READ_TRIES", 1)
    airflow.answers = [SILENT]

    with pytest.raises(TimeoutError, match="GET /api/v2/dags: no answer"):
        AirflowApi(airflow.url, patience=0.2).request("GET", "/dags")


def test_a_change_without_an_answer_is_not_made_again(
    airflow: Airflow, api: AirflowApi
) -> None:
    airflow.answers = [CUT]

    with pytest.raises(ConnectionError, match="POST /api/v2/dags/d/dagRuns"):
        api.request("POST", "/dags/d/dagRuns", {"conf": {}})

    assert airflow.requests == ["POST /api/v2/dags/d/dagRuns"]
    assert json.loads(airflow.bodies[0]) == {"conf": {}}


def test_a_change_may_take_longer_than_a_read(
    airflow: Airflow, api: AirflowApi
) -> None:
    threading.Timer(0.5, airflow.over.set).start()
    # Nothing is sent, but only after half a second: no timeout, a broken connection.
    airflow.answers = [SILENT]

    with pytest.raises(ConnectionError):
        api.request("PATCH", "/dags/d", {"is_paused": False})


@pytest.mark.parametrize("parsing", [(201, {}), (409, {"detail": "there already"})])
def test_a_dag_that_is_unpaused_is_parsed_again(
    airflow: Airflow, api: AirflowApi, parsing: tuple[int, object]
) -> None:
    dag = {"is_stale": False, "file_token": "token"}
    airflow.answers = [(200, dag), (200, dag), parsing]

    api.unpause("d")

    assert airflow.requests[1:] == [
        "PATCH /api/v2/dags/d",
        "PUT /api/v2/parseDagFile/token",
    ]


def test_an_interrupt_ends_the_tries(airflow: Airflow) -> None:
    interrupted = threading.Event()
    interrupted.set()
    airflow.answers = [CUT] * 10

    with pytest.raises(ConnectionError):
        AirflowApi(airflow.url, interrupted=interrupted).request("GET", "/dags")

    assert len(airflow.requests) == 1


def test_a_refusal_is_said_and_not_repeated(airflow: Airflow, api: AirflowApi) -> None:
    airflow.answers = [(404, {"detail": "no such DAG"})]

    with pytest.raises(AirflowApiError, match=r"GET /api/v2/dags/d: 404 .*no such DAG"):
        api.request("GET", "/dags/d")

    assert len(airflow.requests) == 1


def test_nobody_listens(api: AirflowApi, airflow: Airflow) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="GET /auth/token"):
            AirflowApi(url).request("GET", "/dags")


def test_paths_and_queries_arrive_as_they_are_meant(
    airflow: Airflow, api: AirflowApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy of the environment is not for this host.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    path = "/dags/d/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00%2F1"
    fresh = AirflowApi(airflow.url)

    fresh.request("GET", path, query={"limit": 5, "map_index": -1, "full": True})

    assert airflow.requests == [f"GET /api/v2{path}?limit=5&map_index=-1&full=true"]
    assert airflow.headers[0]["Authorization"] == "Bearer secret"
