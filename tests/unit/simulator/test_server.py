from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yarl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from async_triggers.simulator import (
    AirbyteSettings,
    CannotListenError,
    Fault,
    SimReply,
    SimRequest,
    Simulator,
    SimulatorControl,
    SimulatorThread,
)
from async_triggers.simulator.record import Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


BEARER = {"Authorization": "Bearer simulator-token"}


@contextlib.asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[Simulator, Any]]:
    async with (
        Simulator(airbyte=AirbyteSettings(**settings)) as simulator,
        aiohttp.ClientSession(simulator.airbyte_url, headers=BEARER) as session,
    ):
        simulator.airbyte.add_connection("c")
        yield simulator, session


@pytest.mark.asyncio
async def test_a_job_over_a_socket() -> None:
    async with served(life="running:60 succeeded") as (simulator, session):
        body = {"connectionId": "c", "jobType": "sync"}
        async with session.post("/api/public/v1/jobs", json=body) as reply:
            assert reply.status == 200
            assert (await reply.json())["jobId"] == 1
        async with session.get("/v1/jobs?orderBy=createdAt%7CDESC") as reply:
            page = await reply.json()
        assert [row["status"] for row in page["data"]] == ["running"]
        assert page["next"].startswith(simulator.airbyte_url + "/v1/jobs?")
        async with session.delete("/v1/jobs/1") as reply:
            assert (await reply.json())["status"] == "cancelled"
        record = simulator.airbyte.record
        assert (record.total, record.starts, record.cancels) == (3, {"c": 1}, {"1": 1})
        assert (record.tcp_connections, record.max_connections) == (1, 1)


class CountedLock:
    """A lock that knows how often it is held."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self.held = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self.held += 1

    def __exit__(self, *_: object) -> None:
        self.held -= 1
        self._lock.release()


@pytest.mark.asyncio
async def test_connections_are_counted_under_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may reset the record just then."""
    held: list[tuple[str, int]] = []
    closed = asyncio.Event()
    async with served() as (simulator, session):
        lock = CountedLock(simulator.airbyte.lock)
        monkeypatch.setattr(simulator.airbyte, "lock", lock)

        def opened(_record: Record) -> None:
            held.append(("opened", lock.held))

        def ended(_record: Record) -> None:
            held.append(("closed", lock.held))
            closed.set()

        monkeypatch.setattr(Record, "connection_opened", opened)
        monkeypatch.setattr(Record, "connection_closed", ended)
        async with session.get("/v1/jobs"):
            pass

        await session.close()
        await closed.wait()

    assert held == [("opened", 1), ("closed", 1)]


@pytest.mark.asyncio
async def test_the_query_is_read_as_it_was_sent() -> None:
    async with served() as (simulator, session):
        simulator.airbyte.add_job("c", "running", age=60)
        path = "/v1/jobs?updatedAtStart=2026-03-25T01:30:00{}00:00&connectionId=%63"
        for sign, status in (("%2B", 200), ("+", 400)):
            async with session.get(yarl.URL(path.format(sign), encoded=True)) as reply:
                assert reply.status == status
        assert simulator.airbyte.record.exchanges[0].query == (
            ("updatedAtStart", "2026-03-25T01:30:00+00:00"),
            ("connectionId", "c"),
        )


@pytest.mark.asyncio
async def test_two_connections_at_once_are_counted() -> None:
    async with served(latency=0.05) as (simulator, session):

        async def look() -> None:
            async with session.get("/v1/jobs") as reply:
                await reply.read()

        await asyncio.gather(look(), look())
        assert simulator.airbyte.record.max_connections == 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", aiohttp.ClientOSError),
        ("close", aiohttp.ServerDisconnectedError),
        ("truncate", aiohttp.ClientPayloadError),
    ],
)
async def test_broken_connections(kind: Any, error: type[Exception]) -> None:
    async with served() as (simulator, session):
        # A client may try a lost GET again on its own: a POST it may not.
        simulator.airbyte.faults.add(Fault(kind=kind, times=None))
        with pytest.raises(error):
            async with session.post("/v1/jobs", json={}) as reply:
                await reply.read()


@pytest.mark.asyncio
async def test_a_hang_ends_with_the_clients_patience() -> None:
    async with served() as (simulator, session):
        simulator.airbyte.faults.add(Fault(kind="hang"))
        timeout = aiohttp.ClientTimeout(total=0.05)
        with pytest.raises(TimeoutError):
            await session.get("/v1/jobs", timeout=timeout)
        async with session.get("/v1/jobs") as reply:
            assert reply.status == 200


@pytest.mark.asyncio
async def test_a_hang_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served() as (simulator, session):
        asked, respond = asyncio.Event(), simulator.airbyte.respond

        def tell(request: SimRequest) -> SimReply:
            asked.set()
            return respond(request)

        monkeypatch.setattr(simulator.airbyte, "respond", tell)
        simulator.airbyte.faults.add(Fault(kind="hang"))
        asking = asyncio.create_task(session.get("/v1/jobs"))
        await asked.wait()
        await simulator.stop()
        with pytest.raises(aiohttp.ClientError):
            await asking


@pytest.mark.asyncio
async def test_a_slow_body_arrives_whole() -> None:
    async with served() as (simulator, session):
        simulator.airbyte.faults.add(Fault(kind="slow", seconds=0.05))
        async with session.get("/v1/jobs") as reply:
            assert await reply.json() == {"previous": "", "next": "", "data": []}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault(kind="html"), 200, b"<!doctype"),
        (Fault(kind="cut"), 200, b'{"previous":""'),
        (Fault(kind="empty"), 200, b""),
        (Fault(kind="status", status=503, retry_after=7), 503, b'{"status":503'),
        (Fault(kind="status", status=504), 504, b"<html>"),
        (Fault(kind="status", status=418, body="tea"), 418, b"tea"),
    ],
)
async def test_spoilt_answers(fault: Fault, status: int, body: bytes) -> None:
    async with served() as (simulator, session):
        simulator.airbyte.faults.add(fault)
        async with session.get("/v1/jobs") as reply:
            assert reply.status == status
            assert (await reply.read()).startswith(body)
            expected = None if fault.retry_after is None else str(fault.retry_after)
            assert reply.headers.get("Retry-After") == expected
        async with session.get("/v1/jobs") as reply:
            assert reply.status == 200


@pytest.mark.asyncio
async def test_a_taken_port_names_the_argument_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        simulator = Simulator(airbyte_port=taken.getsockname()[1])
        with pytest.raises(CannotListenError, match="another airbyte_port"):
            await simulator.start()
        with pytest.raises(RuntimeError, match="does not listen yet"):
            _ = simulator.airbyte_url


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 with its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulator")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "simulator.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.asyncio
async def test_tls(certificate: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with Simulator(ssl_context=serving) as simulator:
        url = simulator.dbt_cloud_url
        assert url.startswith("https://127.0.0.1:")
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with (
            aiohttp.ClientSession(url, headers=BEARER, connector=connector) as session,
            session.get("/api/v2/accounts") as reply,
        ):
            # The redirect to the path with a slash has been followed.
            assert (await reply.json())["status"]["code"] == 200


# Synchronous code and other processes


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with SimulatorThread() as running:
        yield running


def test_the_control_api_arranges_and_tells(simulator: Simulator) -> None:
    control = SimulatorControl(simulator.airbyte_url)
    control.arrange(
        settings={"auth": ["none"], "life": "running:60 succeeded"},
        connections=[{"connection_id": "c", "lives": ["running:60 failed"]}],
        jobs=[{"connection_id": "c", "age": 30}],
        quirks={"lag": 5},
    )
    assert [job["state"] for job in control.jobs()] == ["running"]
    control.finish(1, "succeeded")
    assert control.jobs() == []
    assert [job["state"] for job in control.jobs(finished=True)] == ["succeeded"]
    control.fault(kind="status", status=502)
    with pytest.raises(urllib.error.HTTPError, match="502") as caught:
        urllib.request.urlopen(simulator.airbyte_url + "/v1/jobs", timeout=5)
    caught.value.close()
    record = control.record(exchanges=True)
    assert record["total"] == record["tcp_connections"] == 1
    assert record["exchanges"][0]["endpoint"] == "GET /jobs"
    assert record["faults"] == {"status": 1}
    control.fault(kind="hang", times=None)
    control.clear_faults()
    control.reset()
    assert control.record()["total"] == 0
    assert control.jobs(finished=True) == []


@pytest.mark.parametrize(
    ("things", "message"),
    [
        ({"settings": {"colour": 1}}, "no setting 'colour'"),
        ({"settings": {"latency": "1"}}, "setting 'latency'"),
        ({"settings": {"show_nulls": 1}}, "setting 'show_nulls'"),
        ({"settings": []}, "must be a JSON object"),
        ({"quirks": {"colour": 1}}, "no field 'colour'"),
        ({"faults": [{"kind": "flood"}]}, "'flood' is unknown"),
        ({"faults": [{"kind": "hang", "rate": 2}]}, "between 0 and 1"),
        ({"faults": [{}]}, "bad fault"),
        ({"faults": {}}, "must be a list"),
        ({"planets": [{}]}, "no 'planets' to arrange"),
        ({"jobs": [{"connection_id": "x"}]}, "no connection 'x'"),
        ({"jobs": [{}]}, "bad entry in 'jobs'"),
        ({"connections": [{"lives": ["running succeeded"]}]}, "needs seconds"),
        ({"connections": [{"lives": [""]}]}, "at least one state"),
        ({"connections": [{"lives": ["running:x failed"]}]}, "not a number"),
        ({"connections": [{"lives": ["running:-1 failed"]}]}, "must be >= 0"),
    ],
)
def test_the_control_api_names_what_is_wrong(
    simulator: Simulator, things: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatorControl(simulator.airbyte_url).arrange(**things)


def test_the_control_api_refuses_what_it_does_not_have(simulator: Simulator) -> None:
    url = simulator.airbyte_url
    with pytest.raises(ValueError, match="needs the fields"):
        SimulatorControl(url)._call("POST", "finish", {"job": "1"})
    with pytest.raises(ValueError, match="no job '1'"):
        SimulatorControl(url).finish(1, "failed")
    with pytest.raises(ValueError, match="has no GET 'weather'"):
        SimulatorControl(url)._call("GET", "weather")
    assert SimulatorControl(url)._call("GET", "")["vendor"] == "airbyte"
