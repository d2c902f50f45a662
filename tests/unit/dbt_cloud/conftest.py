"""dbt Cloud in memory: the simulator behind the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import pytest
from airflow.sdk import Connection
from structlog.testing import capture_logs

from async_triggers.dbt_cloud import by_hand
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral import compat, hook
from async_triggers.engine.errors import Unreachable
from async_triggers.engine.http import HttpSession
from async_triggers.engine.wire import Reply, Request
from async_triggers.simulator.dbt_cloud import DbtCloudSettings, DbtCloudSimulator
from async_triggers.simulator.exchange import SimRequest
from tests.clock import VirtualClockLoop
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB, Clock, Runs, TaskRun

if TYPE_CHECKING:
    from airflow.sdk import Context

RealRunner = asyncio.Runner


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Make every loop virtual, and the time of the day follow it."""
    clock = Clock()

    class VirtualRunner:
        def __init__(self, **_: Any) -> None:
            self._runner = RealRunner(loop_factory=VirtualClockLoop)
            self.run = self._runner.run
            self.get_loop = self._runner.get_loop

        def __enter__(self) -> Self:
            self._runner.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            passed = self.get_loop().time()
            self._runner.close()
            clock.base += passed

    monkeypatch.setattr(asyncio, "Runner", VirtualRunner)
    monkeypatch.setattr(asyncio.runners, "Runner", VirtualRunner)
    # Below `wall_clock`, which modules that are first imported meanwhile would keep.
    monkeypatch.setattr(hook, "time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture
def dbt_cloud(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> DbtCloudSimulator:
    """Answer all requests from a simulator in memory."""
    simulator = DbtCloudSimulator(DbtCloudSettings(account_id=ACCOUNT), clock=clock)
    simulator.add_job(
        JOB, name="Nightly", lives=["queued:10 starting:10 running:60 success"]
    )

    async def ask(
        session: HttpSession, request: Request, proof: Mapping[str, str]
    ) -> Reply:
        query = f"?{urlencode(request.params)}" if request.params else ""
        answer = simulator.respond(
            SimRequest.to(
                request.method,
                request.path + query,
                headers=dict(proof),
                json_body=None if request.json is None else dict(request.json),
            )
        )
        await asyncio.sleep(answer.delay)
        if answer.fault is not None:
            msg = "the connection broke"
            raise Unreachable(msg, ambiguous=True)

        headers = {key.lower(): value for key, value in answer.headers.items()}
        return Reply(answer.status, MappingProxyType(headers), answer.body)

    async def in_this_thread(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    connections = {
        "dbt_cloud_default": Connection(
            conn_id="dbt_cloud_default",
            conn_type="dbt_cloud",
            host="ab123.us1.dbt.com",
            login=str(ACCOUNT),
            password="simulator-token",
        ),
        "no_account": Connection(
            conn_id="no_account",
            conn_type="http",
            host="ab123.us1.dbt.com",
            password="simulator-token",
        ),
    }
    monkeypatch.setattr(HttpSession, "exchange", ask)
    monkeypatch.setattr(by_hand, "in_thread", in_this_thread)
    monkeypatch.setattr(hook, "in_thread", in_this_thread)
    monkeypatch.setattr(
        DbtCloudHook,
        "get_connection",
        staticmethod(connections.__getitem__),
    )
    return simulator


@pytest.fixture
def run_of(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return what makes a task instance of an operator."""

    def push(context: Context, job_id: str) -> None:
        """Take the token, as Airflow's API would."""

    monkeypatch.setattr(compat, "push_owner_token", push)
    return lambda make: TaskRun(clock, make)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """Return what gives all that has been logged, formatted."""

    def text() -> str:
        said = [
            str(entry["event"]) % entry.get("positional_args", ())
            if entry.get("positional_args")
            else str(entry["event"])
            for entry in entries
        ]
        return "\n".join([*said, caplog.text])

    with capture_logs() as entries:
        yield text
