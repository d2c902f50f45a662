from __future__ import annotations

import base64
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import aiohttp
import pytest

from async_triggers.simulator import (
    PROXY_ANSWERS,
    AirbyteSimulator,
    DbtCloudSimulator,
    Fault,
    FivetranSimulator,
    SimReply,
    SimRequest,
    Simulator,
)
from async_triggers.simulator.dbt_cloud import DEFAULT_ACCOUNT

if TYPE_CHECKING:
    from async_triggers.simulator.faults import Operation
    from async_triggers.simulator.vendor import VendorSimulator

    class Clock(Protocol):
        time: float

        def __call__(self) -> float: ...

        def advance(self, seconds: float) -> None: ...


A = f"/api/v2/accounts/{DEFAULT_ACCOUNT}"
KEY = base64.b64encode(b"simulator-key:simulator-secret").decode()


class Asked(NamedTuple):
    """A vendor, and how each operation of it is requested."""

    vendor: VendorSimulator[Any]
    requests: dict[Operation, tuple[str, str, object]]
    headers: dict[str, str]

    def ask(self, operation: Operation) -> SimReply:
        method, path, body = self.requests[operation]
        request = SimRequest.to(method, path, headers=self.headers, json_body=body)
        return self.vendor.respond(request)


@pytest.fixture(params=["airbyte", "fivetran", "dbt_cloud"])
def asked(request: pytest.FixtureRequest, clock: Clock) -> Asked:
    if request.param == "airbyte":
        airbyte = AirbyteSimulator(clock=clock)
        airbyte.add_connection("c")
        job = airbyte.add_job(airbyte.add_connection("d"), "running")
        client = {
            "client_id": "simulator-client",
            "client_secret": "simulator-secret",
        }
        return Asked(
            airbyte,
            {
                "token": ("POST", "/v1/applications/token", client),
                "poll": ("GET", f"/v1/jobs/{job}", None),
                "list": ("GET", "/v1/jobs", None),
                "start": (
                    "POST",
                    "/v1/jobs",
                    {"connectionId": "c", "jobType": "sync"},
                ),
                "cancel": ("DELETE", f"/v1/jobs/{job}", None),
            },
            {"Authorization": "Bearer simulator-token"},
        )
    if request.param == "fivetran":
        fivetran = FivetranSimulator(clock=clock)
        fivetran.add_connection("c")
        return Asked(
            fivetran,
            {
                "poll": ("GET", "/v1/connections/c", None),
                "list": ("GET", "/v1/groups/simulated_group/connections", None),
                "start": ("POST", "/v1/connections/c/sync", {"force": True}),
                "cancel": ("PATCH", "/v1/connections/c", {"paused": True}),
            },
            {"Authorization": f"Basic {KEY}", "Content-Type": "application/json"},
        )
    dbt = DbtCloudSimulator(clock=clock)
    run = dbt.add_run(dbt.add_job(9), "running")
    return Asked(
        dbt,
        {
            "poll": ("GET", f"{A}/runs/{run}/", None),
            "list": ("GET", f"{A}/runs/", None),
            "start": ("POST", f"{A}/jobs/9/run/", {"cause": "test"}),
            "cancel": ("POST", f"{A}/runs/{run}/cancel/", None),
        },
        {"Authorization": "Bearer simulator-token"},
    )


def test_every_operation_can_be_spoilt_alone(asked: Asked) -> None:
    for spoilt in asked.requests:
        asked.vendor.faults.clear()
        asked.vendor.faults.add(
            Fault(kind="proxy", answer="go-404", operation=spoilt, times=None)
        )
        pages = {
            operation
            for operation in asked.requests
            if asked.ask(operation).body == b"404 page not found\n"
        }
        assert pages == {spoilt}


@pytest.mark.parametrize("takes_effect", [False, True])
def test_a_proxy_answers_before_or_after_the_vendor_has_acted(
    asked: Asked, takes_effect: bool
) -> None:
    asked.vendor.faults.add(
        Fault(
            kind="proxy",
            answer="nginx-403",
            operation="start",
            takes_effect=takes_effect,
        )
    )
    reply = asked.ask("start")
    assert reply.status == 403
    assert reply.headers["Server"] == "nginx"
    # The vendor's own headers come with the vendor's own answers.
    assert not [name for name in reply.headers if name.startswith("X-Rate")]
    assert sum(asked.vendor.record.starts.values()) == takes_effect
    assert asked.vendor.record.faults == {"proxy": 1}


def test_a_proxy_answers_for_some_time_and_may_say_until_when(
    asked: Asked, clock: Clock
) -> None:
    asked.vendor.faults.add(
        Fault(kind="proxy", answer="kong-429", times=None, lasts=25, retry_after=7)
    )
    assert asked.ask("poll").headers["Retry-After"] == "7"
    clock.advance(24.9)
    assert asked.ask("poll").status == 429
    clock.advance(0.1)
    assert asked.ask("poll").status == 200


def date(reply: SimReply) -> float:
    return parsedate_to_datetime(reply.headers["Date"]).timestamp()


@pytest.mark.parametrize("off", [3600.0, -3600.0])
def test_one_date_is_wrong(asked: Asked, clock: Clock, off: float) -> None:
    right = asked.ask("poll")
    asked.vendor.faults.add(Fault(kind="date", seconds=off))
    wrong = asked.ask("poll")
    assert date(wrong) - clock() == off
    assert wrong.body == right.body
    assert date(asked.ask("poll")) == clock()


@pytest.mark.parametrize("off", [3600.0, -3600.0])
def test_a_servers_clock_is_stepped_for_a_while(
    asked: Asked, clock: Clock, off: float
) -> None:
    asked.vendor.faults.add(Fault(kind="clock", seconds=off, times=None, lasts=60))
    before, wrong = clock(), asked.ask("start")
    assert date(wrong) - clock() == off
    clock.advance(60)
    assert date(asked.ask("poll")) == clock()
    # What is recorded has the clock as it is otherwise.
    (started,) = asked.vendor.record.started
    assert started.at == before


def test_what_happens_while_the_clock_is_wrong_bears_its_time_for_good(
    clock: Clock,
) -> None:
    airbyte = AirbyteSimulator(clock=clock)
    headers = {"Authorization": "Bearer simulator-token"}

    def starts(*jobs: int) -> list[str]:
        paths = (f"/v1/jobs/{job}" for job in jobs)
        asked = (SimRequest.to("GET", path, headers=headers) for path in paths)
        return [airbyte.respond(each).json()["startTime"] for each in asked]

    before = airbyte.add_job(airbyte.add_connection(), "running")
    clock.advance(60)
    airbyte.faults.add(Fault(kind="clock", seconds=3600, times=None, lasts=60))
    during = airbyte.add_job(airbyte.add_connection(), "running")
    right, wrong = "2026-03-25T01:30Z", "2026-03-25T02:31Z"
    assert starts(before, during) == [right, wrong]
    clock.advance(60)
    assert starts(before, during) == [right, wrong]
    clock.advance(60)
    after = airbyte.add_job(airbyte.add_connection(), "running")
    assert starts(after) == ["2026-03-25T01:33Z"]


def test_the_documentation_names_every_answer() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "simulator.md"
    text = page.read_text()
    assert [name for name in PROXY_ANSWERS if f"`{name}`" not in text] == []


@pytest.mark.asyncio
async def test_proxies_answers_pass_the_wire_as_they_are() -> None:
    async with Simulator() as simulator, aiohttp.ClientSession() as session:
        for name, answer in PROXY_ANSWERS.items():
            simulator.fivetran.faults.add(Fault(kind="proxy", answer=name))
            url = f"{simulator.fivetran_url}/v1/groups"
            async with session.get(url, allow_redirects=False) as reply:
                assert reply.status == answer.status, name
                assert await reply.read() == answer.body, name
                for header, value in answer.headers.items():
                    assert reply.headers[header] == value, name
