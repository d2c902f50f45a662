"""Where on its server the API is: by the connection, or by one careful question."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from airflow.sdk import Connection

from async_triggers.airbyte.api import addresses
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.deferral.errors import ConnectionUnusable, JobTimedOut
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.simulator import Fault
from async_triggers.simulator.exchange import SimReply, SimRequest
from tests.unit.deferral.stage import TARGET, Task, World, deferred, make_world, sync

GATEWAY = "http://gw.example/airbyte"


def read(extra: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Read a connection to a gateway."""
    given: dict[str, Any] = {"host": GATEWAY, "login": "id", "password": "s", **fields}
    text = None if extra is None else json.dumps(extra)
    return AirbyteHook().read(
        Connection(conn_id="c", conn_type="airbyte", extra=text, **given)
    )


# The connection decides -------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "path", "url"),
    [
        (GATEWAY, "/airbyte", "http://gw.example/airbyte"),
        (GATEWAY, "airbyte/", "http://gw.example/airbyte"),
        (GATEWAY, " /airbyte\n", "http://gw.example/airbyte"),
        ("http://gw.example", "/a/b/v2", "http://gw.example/a/b/v2"),
        ("http://gw.example:8000/x", "/", "http://gw.example:8000"),
        ("https://gw.example/api/public/v1", "/own", "https://gw.example/own"),
        (GATEWAY, "", "http://gw.example/airbyte/api/public/v1"),
        (GATEWAY, None, "http://gw.example/airbyte/api/public/v1"),
    ],
)
def test_the_path_may_be_given(host: str, path: str | None, url: str) -> None:
    assert read({"api_path": path}, host=host).base_url == url


@pytest.mark.parametrize(
    "path",
    ["http://u:planted@x/", "/a?planted", "/a#planted", "/a b", 5, ["/a"], "//x"],
)
def test_what_is_no_path_is_refused_and_not_repeated(path: object) -> None:
    with pytest.raises(AccountMisconfigured, match=r"extra\.api_path") as caught:
        read({"api_path": path})

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "url"),
    [
        ("/oauth/token", "http://gw.example/oauth/token"),
        ("/v1/applications/token", "http://gw.example/v1/applications/token"),
        ("oauth/token", "http://gw.example/airbyte/oauth/token"),
        ("v1/applications/token", "http://gw.example/airbyte/applications/token"),
        ("api/v1/token", "http://gw.example/api/v1/token"),
        ("", "http://gw.example/airbyte/applications/token"),
        ("/", "http://gw.example/airbyte/applications/token"),
        ("https://id.example/token", "https://id.example/token"),
    ],
)
def test_a_token_path_with_a_slash_begins_at_the_root(schema: str, url: str) -> None:
    account = read({"api_path": "/airbyte"}, schema=schema)

    assert account.credentials.token_url == url


def test_only_a_path_of_its_own_may_mean_two() -> None:
    def bases(host: str) -> int:
        return len(addresses.base_urls(host, port=None, scheme="", api_version="v1"))

    assert bases(GATEWAY) == 2
    for host in (
        "http://localhost:8000",
        "http://localhost:8000/api/public/v1",
        "http://gw.example/airbyte/api/public",
        "http://gw.example/airbyte/api",
        "http://gw.example/airbyte/v1",
        "https://api.airbyte.com/",
    ):
        assert bases(host) == 1


# One careful question -----------------------------------------------------------------


class Gateway:
    """Serves the API at a path, in the place of the server's own."""

    def __init__(self, world: World, path: str) -> None:
        self._respond = world.airbyte.respond
        self._path = path
        world.airbyte.respond = self.respond  # type: ignore[method-assign]
        world.connect("airbyte_default", host=GATEWAY)

    def respond(self, request: SimRequest) -> SimReply:
        path = request.path
        if not path.startswith(f"{self._path}/"):
            return SimReply(404, {"Content-Type": "text/plain"}, b"no such page")

        below = path.removeprefix(self._path)
        if below.startswith("/api/"):
            return SimReply(404, {"Content-Type": "text/plain"}, b"no such page")

        return self._respond(replace(request, path=f"/api/public/v1{below}"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything around a task."""
    return make_world(monkeypatch)


def probes(world: World) -> list[SimRequest]:
    """Return the questions for the API's health."""
    return [each for each in world.requests if each.path.endswith("/health")]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_worker_finds_the_path(world: World, *, deferrable: bool) -> None:
    Gateway(world, "/airbyte")
    task = Task(world, sync(deferrable=deferrable))

    assert task.run() == 1

    assert [each.path for each in probes(world)] == [
        "/airbyte/api/public/v1/health",
        "/airbyte/health",
    ]
    # Whatever was asked before has no credentials, and the rest goes to the one path.
    assert world.requests[:2] == probes(world)
    for each in probes(world):
        assert not each.header("Authorization")
        assert "simulator-secret" not in str(each.body)

    assert {each.path.split("/")[2] for each in world.requests[2:]} <= {
        "applications",
        "connections",
        "jobs",
    }


def test_the_path_that_is_usual_is_found_too(world: World) -> None:
    respond = world.airbyte.respond

    def below(request: SimRequest) -> SimReply:
        path = request.path.removeprefix("/airbyte")
        return respond(replace(request, path=path))

    world.airbyte.respond = below  # type: ignore[method-assign]
    world.connect("airbyte_default", host=GATEWAY)

    assert Task(world, sync(deferrable=True)).run() == 1
    assert len(probes(world)) == 2


def test_what_has_worked_is_not_asked_again(world: World) -> None:
    Gateway(world, "/airbyte")
    task = Task(world, sync(deferrable=True))
    task.run()
    world.requests.clear()

    task.run_again()
    assert task.run() == 2

    assert not probes(world)


def test_the_triggerer_asks_nothing_of_the_kind(world: World) -> None:
    Gateway(world, "/airbyte")
    task = Task(world, sync(deferrable=True))
    deferral = deferred(task.execute())
    world.requests.clear()

    task.resume(deferral, task.wait(deferral))

    assert world.requests
    assert not probes(world)


def test_a_start_that_must_wait_goes_on_where_it_was_found(world: World) -> None:
    Gateway(world, "/airbyte")
    fault = Fault(
        kind="status", status=503, times=None, start_in=0, lasts=400, path="*jobs*"
    )
    world.airbyte.faults.add(fault)

    assert Task(world, sync(deferrable=True)).run() == 1
    assert world.starts == 1


def test_a_retry_attaches_there_and_its_timeout_cancels_there(world: World) -> None:
    Gateway(world, "/airbyte")
    world.airbyte.add_connection(TARGET, lives=["running"])
    task = Task(world, sync(deferrable=True, timeout=100))
    task.execute()
    task.retry()
    world.requests.clear()

    with pytest.raises(JobTimedOut):
        task.run()

    assert world.cancels == 1
    assert not probes(world)


def test_a_kill_looks_for_a_lost_start_there(world: World) -> None:
    Gateway(world, "/airbyte")
    world.airbyte.add_connection(TARGET, lives=["running"])
    lost = Fault(kind="reset", method="POST", path="*/jobs", takes_effect=True)
    world.airbyte.faults.add(lost)

    def cut_off(request: SimRequest) -> None:
        if request.method == "POST" and request.path.endswith("/jobs"):
            outage = Fault(kind="status", status=502, method="GET", times=None)
            world.airbyte.faults.add(outage)

    world.on_request.append(cut_off)
    task = Task(world, sync(deferrable=True))
    deferral = deferred(task.execute())
    assert deferral.classpath.endswith(".StartLaterTrigger")
    world.airbyte.faults.clear()
    trigger = task.trigger(deferral)
    world.states["sync", -1] = "failed"
    world.requests.clear()

    async def kill() -> None:
        await trigger.on_kill()
        await asyncio.sleep(300)

    asyncio.run(kill())

    assert world.cancels == 1
    assert not probes(world)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_a_sensor_finds_the_path(world: World, mode: str) -> None:
    Gateway(world, "/airbyte")
    world.airbyte.add_job(TARGET, "running:5 succeeded")
    world.pass_time(10 if mode == "poke" else 0)
    task = Task(
        world,
        lambda: AirbyteJobSensor(
            task_id="sync", airbyte_job_id=1, deferrable=mode == "deferrable"
        ),
    )

    task.run()

    assert len(probes(world)) == 2


def test_the_connection_s_path_needs_no_question(world: World) -> None:
    Gateway(world, "/airbyte")
    world.connect("airbyte_default", host=GATEWAY, extra='{"api_path": "/airbyte"}')

    assert Task(world, sync(deferrable=True, start_in_trigger=True)).run() == 1
    assert not probes(world)


def test_a_bare_host_needs_no_question(world: World) -> None:
    assert Task(world, sync(deferrable=True)).run() == 1
    assert not probes(world)


@pytest.mark.parametrize("status", [404, 200])
def test_where_the_answers_do_not_tell_the_message_proposes_the_key(
    world: World, status: int
) -> None:
    """Neither path has an API, or a gateway answers whatever is requested."""

    def respond(request: SimRequest) -> SimReply:
        is_health = request.path.endswith("/health")
        return SimReply(
            status if is_health else 404, {"Content-Type": "text/plain"}, b""
        )

    world.airbyte.respond = respond  # type: ignore[method-assign]
    world.connect("airbyte_default", host=GATEWAY)

    with pytest.raises(
        ConnectionUnusable, match=r"or set API path \(extra\.api_path\)"
    ) as caught:
        Task(world, sync(deferrable=True)).run()

    assert "http://gw.example/airbyte/api/public/v1/" in str(caught.value)


def test_a_start_on_the_triggerer_proposes_it_as_well(world: World) -> None:
    Gateway(world, "/airbyte")

    with pytest.raises(ConnectionUnusable, match=r"extra\.api_path"):
        Task(world, sync(deferrable=True, start_in_trigger=True)).run()

    assert not probes(world)
