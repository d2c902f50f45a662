"""How long a server's certificate is valid, as ``async-triggers check`` shows it."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from async_triggers.commands.check_certificate import (
    Validity,
    check_certificates,
    judge,
)
from async_triggers.deferral.finding import Level
from async_triggers.engine.wire import Account, Route
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.simulator import Simulator, SimulatorThread
from tests.unit.commands.conftest import Airflow, Printed

Command = Callable[..., Printed]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def valid(begins: timedelta, ends: timedelta) -> Validity:
    return Validity(host="api.test", begins=NOW + begins, ends=NOW + ends)


@pytest.mark.parametrize(
    ("begins", "ends", "level", "words"),
    [
        (-90, 63, Level.OK, "valid for 63 days more, until 2027-01-31"),
        (-90, 30, Level.OK, "valid for 30 days more, until 2026-12-29"),
        (-90, 29.99, Level.WARNING, "valid for 29 days more, until 2026-12-29"),
        (-90, 1, Level.WARNING, "valid for 1 day more, until 2026-11-30"),
        (-90, 0.1, Level.WARNING, "valid for less than a day more"),
        (-90, 0, Level.ERROR, "expired less than a day ago, on 2026-11-29"),
        (-90, -3, Level.ERROR, "expired 3 days ago, on 2026-11-26"),
        (2, 90, Level.ERROR, "not valid before 2026-12-01 12:00 UTC"),
    ],
)
def test_the_days_that_are_left_decide(
    begins: float, ends: float, level: Level, words: str
) -> None:
    validity = valid(timedelta(days=begins), timedelta(days=ends))

    found = judge(validity, NOW, is_checked=True)

    assert found.level is level
    assert words in found.text
    assert bool(found.fix) is (level is not Level.OK)


def test_one_that_nothing_checks_stops_nothing() -> None:
    found = judge(valid(timedelta(days=-90), timedelta(days=-1)), NOW, is_checked=False)

    assert found.level is Level.WARNING


# Servers that speak TLS -------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@contextmanager
def vendors(authority: trustme.CA, days: float) -> Iterator[Simulator]:
    """Serve the vendors with a certificate that is valid for some days more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    authority.issue_cert("127.0.0.1", not_after=ends).configure_cert(context)
    with SimulatorThread(ssl_context=context) as simulator:
        for vendor in simulator.vendors:
            vendor.configure(accept_unknown=True)

        yield simulator


def check_all(
    simulator: Simulator, airflow: Airflow, command: Command, **extra: Any
) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Check a connection of each vendor; return the exit code, and what is said of TLS."""
    airflow.fields = Airflow(simulator).fields
    for fields in airflow.fields.values():
        fields["extra"] = {**fields.get("extra", {}), **extra}

    printed = command("check", *airflow.fields, "--json")
    return printed.code, {
        section["name"]: [
            each for each in section["findings"] if each["topic"] == "TLS"
        ]
        for section in printed.json()["sections"]
    }


@pytest.mark.parametrize(
    ("days", "code", "level", "words"),
    [
        (90, 0, "ok", "the certificate of 127.0.0.1 is valid for 90 days more"),
        (12, 1, "warning", "the certificate of 127.0.0.1 is valid for 12 days more"),
        (-3, 2, "error", "the certificate of 127.0.0.1 expired 2 days ago"),
    ],
)
def test_each_vendor_s_certificate_is_read(
    authority: trustme.CA,
    bundle: Path,
    airflow: Airflow,
    command: Command,
    days: float,
    code: int,
    level: str,
    words: str,
) -> None:
    with vendors(authority, days) as simulator:
        simulator.airbyte.add_connection()
        exit_code, found = check_all(simulator, airflow, command, ca_bundle=str(bundle))

    assert exit_code == code
    assert len(found) == 3
    for lines in found.values():
        # Whether certificates are checked, and how long this one is valid.
        assert len(lines) == 2
        assert lines[1]["level"] == level
        assert words in lines[1]["text"]


def test_an_expired_one_is_shown_although_nothing_checks_it(
    authority: trustme.CA, airflow: Airflow, command: Command
) -> None:
    with vendors(authority, -3) as simulator:
        simulator.airbyte.add_connection()
        exit_code, found = check_all(simulator, airflow, command, verify=False)

    assert exit_code == 1
    for lines in found.values():
        assert {each["level"] for each in lines} == {"warning"}
        assert "expired 2 days ago" in lines[-1]["text"]


def test_no_request_is_sent_for_it(
    authority: trustme.CA, account: Callable[[str], Account]
) -> None:
    with vendors(authority, 90) as simulator:
        [found] = check_certificates(account(simulator.fivetran_url))

        assert "valid for 90 days more" in found.text
        assert simulator.fivetran.record.total == 0


def test_a_token_endpoint_on_another_server_has_a_line_too(
    authority: trustme.CA, account: Callable[[str], Account]
) -> None:
    with vendors(authority, 90) as api, vendors(authority, 5) as tokens:
        direct = account(api.airbyte_url)
        credentials = replace(
            direct.credentials, token_url=f"{tokens.airbyte_url}/v1/token"
        )
        found = check_certificates(replace(direct, credentials=credentials))

    assert [each.level for each in found] == [Level.OK, Level.WARNING]


# What is in the way -----------------------------------------------------------------


@pytest.fixture
def account(simulator: Simulator) -> Callable[[str], Account]:
    """Return a function that makes an account of another base URL."""
    known = Airflow(simulator).get_connection("fivetran_default")
    read = FivetranHook("fivetran_default").account_of(known)
    return lambda url: replace(read, base_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9",
        "https://127.0.0.1:9",
        "https://no-such-host.invalid",
        "https://[broken",
    ],
)
def test_a_server_that_shows_none_has_no_line(
    account: Callable[[str], Account], url: str
) -> None:
    assert check_certificates(account(url)) == []


def test_a_server_without_tls_has_no_line(
    account: Callable[[str], Account], simulator: Simulator
) -> None:
    url = simulator.fivetran_url.replace("http://", "https://")

    assert check_certificates(account(url)) == []


@contextmanager
def a_proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Carry one connection to the host that the first lines name, and keep those."""
    heads: list[bytes] = []

    def carry(listening: socket.socket) -> None:
        client, _ = listening.accept()
        with closing(client):
            head = client.recv(65536)
            heads.append(head)
            host, _, port = head.split()[1].decode().rpartition(":")
            with closing(socket.create_connection((host, int(port)))) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                ends = {client: server, server: client}
                # Who closes a connection with TLS unread resets it.
                with suppress(ConnectionError):
                    while True:
                        ready, _, _ = select.select([client, server], [], [])
                        piece = ready[0].recv(65536)
                        if not piece:
                            return

                        ends[ready[0]].sendall(piece)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=carry, args=[listening])
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", heads
        thread.join(10)


def test_the_connection_s_proxy_is_used(
    authority: trustme.CA, account: Callable[[str], Account]
) -> None:
    with vendors(authority, 90) as simulator, a_proxy() as (proxy, heads):
        direct = account(simulator.fivetran_url)
        route = Route(proxies=(("https", f"http://user:pass@{proxy}"),))
        [found] = check_certificates(replace(direct, route=route))

    assert "the certificate of 127.0.0.1 is valid for 90 days more" in found.text
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]


def test_a_proxy_that_speaks_tls_itself_leaves_it_unknown(
    account: Callable[[str], Account],
) -> None:
    route = Route(proxies=(("https", "https://127.0.0.1:9"),))

    assert check_certificates(replace(account("https://api.test"), route=route)) == []
