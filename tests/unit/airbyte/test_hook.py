from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseHook, Connection

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.deferral.compat import AirflowNotFoundException
from async_triggers.deferral.errors import ConnectionUnusable, VendorRefused
from async_triggers.engine.errors import AccountMisconfigured, AlreadyRunning
from async_triggers.engine.jobs import JobState
from async_triggers.engine.wire import Account, CredentialKind
from async_triggers.simulator import Fault, Simulator, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from async_triggers.engine.accounts import LeasedAccount

SELF = "http://localhost:8000/api/public/v1"


def read(hook: AirbyteHook | None = None, **fields: Any) -> Account:
    """Read a connection with these fields."""
    extra = fields.pop("extra", None)
    if extra is not None and not isinstance(extra, str):
        extra = json.dumps(extra)

    given = {"conn_type": "airbyte", "host": "http://localhost:8000", **fields}
    return (hook or AirbyteHook()).read(Connection(conn_id="c", extra=extra, **given))


# Layouts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "base", "token"),
    [
        pytest.param(
            {
                "host": "https://api.airbyte.com/v1/",
                "login": "id",
                "password": "psst",
                "schema": "v1/applications/token",
            },
            "https://api.airbyte.com/v1",
            "https://api.airbyte.com/v1/applications/token",
            id="the official provider's, Cloud",
        ),
        pytest.param(
            {
                "host": "http://localhost:8000/api/public/v1/",
                "login": "id",
                "password": "psst",
                "schema": "v1/applications/token",
                "port": None,
            },
            SELF,
            f"{SELF}/applications/token",
            id="the official provider's, self-managed",
        ),
        pytest.param(
            {"host": "https://api.airbyte.com", "login": "id", "password": "psst"},
            "https://api.airbyte.com/v1",
            "https://api.airbyte.com/v1/applications/token",
            id="Cloud without a path",
        ),
        pytest.param(
            {
                "host": SELF,
                "login": "id",
                "password": "psst",
                "schema": "https://login.example/token",
            },
            SELF,
            "https://login.example/token",
            id="a token endpoint elsewhere",
        ),
        pytest.param(
            {
                "conn_type": "http",
                "host": "localhost",
                "port": 8000,
                "schema": "http",
                "login": "id",
                "password": "psst",
            },
            SELF,
            f"{SELF}/applications/token",
            id="Airbyte's tutorial, of type HTTP",
        ),
        pytest.param(
            {
                "conn_type": "http",
                "host": "data.example",
                "schema": "https",
                "login": "id",
                "password": "psst",
            },
            "https://data.example/api/public/v1",
            "https://data.example/api/public/v1/applications/token",
            id="of type HTTP, https",
        ),
        pytest.param(
            {"conn_type": "generic", "host": "localhost:8000"},
            SELF,
            "",
            id="of another type, without credentials",
        ),
    ],
)
def test_every_layout_of_a_connection(
    fields: dict[str, Any], base: str, token: str
) -> None:
    account = read(**fields)

    assert account.base_url == base
    assert account.credentials.token_url == token


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"login": "id", "password": "psst"}, CredentialKind.CLIENT_CREDENTIALS),
        ({"password": "psst"}, CredentialKind.BEARER),
        ({}, CredentialKind.NONE),
        ({"login": "me", "password": "psst", "extra": {"auth": "basic"}}, "basic"),
        ({"login": "me", "password": "", "extra": {"auth": "Basic"}}, "basic"),
        ({"login": "id", "password": "x", "extra": {"auth": "none"}}, "none"),
        (
            {"login": "id", "password": "x", "extra": {"auth": "client credentials"}},
            CredentialKind.CLIENT_CREDENTIALS,
        ),
    ],
)
def test_the_kind_of_credentials_is_guessed_or_said(
    fields: dict[str, Any], kind: str
) -> None:
    assert read(**fields).credentials.kind == kind


def test_no_credentials_are_kept_that_are_not_sent() -> None:
    credentials = read(login="id", password="x", extra={"auth": "none"}).credentials

    assert (credentials.login, credentials.secret) == ("", "")


def test_the_interface_may_be_elsewhere() -> None:
    assert read().ui_url == "http://localhost:8000"
    assert read(extra={"ui_url": "https://ui.example/"}).ui_url == "https://ui.example"


def test_the_version_and_timeout_of_the_hook_win() -> None:
    account = read(AirbyteHook("c", "v2", 7.0), extra={"timeout": 60})

    assert account.base_url.endswith("/api/public/v2")
    assert account.route.total == 7.0


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        ("http://p:3128", (("http", "http://p:3128"), ("https", "http://p:3128"))),
        ({"https": "http://p:3128"}, (("https", "http://p:3128"),)),
        ({"https://": "http://p:3128"}, (("https", "http://p:3128"),)),
        ("", ()),
        (None, ()),
    ],
)
def test_proxies_are_a_url_or_urls_by_scheme(proxies: Any, expected: Any) -> None:
    assert read(extra={"proxies": proxies}).route.proxies == expected


def test_route_and_budget_come_from_the_extra() -> None:
    account = read(
        extra={
            "timeout": 20,
            "connect_timeout": "5",
            "verify": "/etc/ca.pem",
            "requests_per_minute": 60,
            "share": 0.5,
            "concurrent_polls": 1,
            "concurrent_starts": 4,
        }
    )

    assert (account.route.total, account.route.connect) == (20.0, 5.0)
    assert (account.route.verify, account.route.ca_bundle) == (True, "/etc/ca.pem")
    budget = account.budget
    assert (budget.requests, budget.per, budget.share) == (60, 60.0, 0.5)
    assert (budget.polls, budget.starts) == (1, 4)


def test_the_budget_may_come_from_airflows_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__AIRBYTE_REQUESTS_PER_MINUTE", "30")

    assert read().budget.requests == 30
    assert read(extra={"requests_per_minute": 90}).budget.requests == 90

    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__AIRBYTE_REQUESTS_PER_MINUTE", "lots")
    with pytest.raises(
        AccountMisconfigured, match=r"\[async_triggers\] airbyte_requests_per_minute"
    ):
        read()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": ""}, "host is empty: set it"),
        ({"host": "ftp://x"}, "host is not an http or https URL: write it as"),
        ({"login": "id"}, "password is empty: set it to the client secret"),
        ({"extra": "{"}, "extra is not JSON: correct"),
        ({"extra": "[1]"}, "extra is not a JSON object: correct"),
        ({"extra": {"auth": "magic"}}, "extra.auth must be one of client_credentials"),
        ({"password": "psst", "extra": {"auth": "basic"}}, "login is empty"),
        ({"login": "x", "extra": {"auth": "bearer"}}, "password is empty"),
        ({"extra": {"ui_url": 7}}, "extra.ui_url must be a URL"),
        ({"extra": {"proxies": 7}}, r"extra.proxies must be a URL or an object"),
        ({"extra": {"proxies": {"https": "p:3128"}}}, "extra.proxies must hold http"),
        ({"extra": {"timeout": "long"}}, "extra.timeout must be a number of at least"),
        ({"extra": {"timeout": 0}}, "extra.timeout must be a number"),
        ({"extra": {"verify": 3}}, "extra.verify must be true, false or the path"),
        ({"extra": {"share": -1}}, "extra.share must be a number of at least 0.01"),
        ({"extra": {"concurrent_polls": 0}}, "extra.concurrent_polls must be"),
    ],
)
def test_a_bad_field_is_named_with_the_next_step_and_without_a_secret(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(AccountMisconfigured, match=words) as caught:
        read(**fields)

    assert "psst" not in str(caught.value)


def test_no_secret_is_in_what_is_printed() -> None:
    account = read(
        login="id", password="psst", extra={"proxies": "http://me:hush@p:3128"}
    )

    for text in (repr(account), str(account), repr(account.credentials)):
        assert "psst" not in text
        assert "hush" not in text


# Calls ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[Simulator]:
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def simulator(served: Simulator) -> Simulator:
    served.reset()
    served.airbyte.add_connection("c", lives=["running"])
    return served


@pytest.fixture
def connect(
    monkeypatch: pytest.MonkeyPatch, simulator: Simulator
) -> Callable[..., None]:
    """Make the one Airflow connection that there is."""

    def make(**fields: Any) -> None:
        given = {
            "conn_type": "airbyte",
            "host": simulator.airbyte_url,
            "login": "simulator-client",
            "password": "simulator-secret",
            **fields,
        }
        connection = Connection(conn_id="airbyte_default", **given)

        def look_up(conn_id: str) -> Connection:
            assert conn_id == "airbyte_default"
            return connection

        monkeypatch.setattr(BaseHook, "get_connection", staticmethod(look_up))

    make()
    return make


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"schema": "v1/applications/token"},
        {"schema": "api/v1/applications/token"},
        {"login": None, "password": "simulator-token"},
        {"login": "airbyte", "password": "password", "extra": '{"auth": "basic"}'},
    ],
)
def test_the_connection_can_be_tested(
    connect: Callable[..., None], simulator: Simulator, fields: dict[str, Any]
) -> None:
    connect(**fields)

    assert AirbyteHook().test_connection() == (
        True,
        f"Airbyte answers at {simulator.airbyte_url}/api/public/v1",
    )
    assert simulator.airbyte.record.count("GET", "/workspaces") == 1


def test_the_connection_of_a_server_without_authentication(
    connect: Callable[..., None], simulator: Simulator
) -> None:
    simulator.airbyte.configure(auth=("none",))
    connect(login=None, password=None)

    assert AirbyteHook().test_connection()[0]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": "psst"}, "Client ID (login) and Client Secret (password)"),
        ({"host": ""}, "Server URL (host) is empty"),
        ({"schema": "v1/nowhere"}, "set Token URL (schema) to v1/applications/token"),
        ({"host": "http://127.0.0.1:9"}, "cannot be reached"),
    ],
)
def test_a_test_that_fails_says_why_and_what_to_do(
    connect: Callable[..., None], fields: dict[str, Any], words: str
) -> None:
    connect(**fields)

    good, message = AirbyteHook().test_connection()

    assert not good
    assert words in message
    assert "airbyte_default" in message
    assert "psst" not in message


def test_calls_made_by_hand(connect: Callable[..., None], simulator: Simulator) -> None:
    hook = AirbyteHook()

    async def calls(leased: LeasedAccount) -> None:
        connection, now = await hook.get_airbyte_connection(leased, "c")
        assert connection.status == "active"
        assert now is not None
        started = await hook.start_job(leased, "c")
        with pytest.raises(AlreadyRunning):
            await hook.start_job(leased, "c")

        seen = await hook.get_job(leased, 1)
        assert seen.job.id == started.job.id == "1"
        assert [each.job.id for each in await hook.list_jobs(leased, "c")] == ["1"]
        await hook.stop_job(leased, 1)
        ended = await hook.get_job(leased, "1")
        assert ended.job.state is JobState.CANCELLED

    hook.run(calls)

    # One token, and one connection at a time.
    assert simulator.airbyte.record.tokens_issued == 1


def test_a_cancel_looks_first(
    connect: Callable[..., None], simulator: Simulator
) -> None:
    ended = simulator.airbyte.add_job("c", "succeeded")
    running = simulator.airbyte.add_job("c", "running")
    hook = AirbyteHook()

    job = hook.run(lambda leased: hook.stop_job(leased, ended))

    assert job.state is JobState.SUCCEEDED
    assert [view.job for view in simulator.airbyte.jobs()] == [str(running)]
    assert not simulator.airbyte.record.cancels


def test_a_cancel_looks_again_before_it_tries_again(
    connect: Callable[..., None], simulator: Simulator
) -> None:
    job_id = simulator.airbyte.add_job("c", "running")
    simulator.airbyte.faults.add(
        Fault(kind="status", method="DELETE", status=504, takes_effect=True)
    )
    hook = AirbyteHook()

    job = hook.run(lambda leased: hook.stop_job(leased, job_id))

    assert job.state is JobState.CANCELLED
    assert simulator.airbyte.record.count("DELETE", "/jobs/{job_id}") == 1


def test_errors_of_calls_are_airflows(
    connect: Callable[..., None], simulator: Simulator
) -> None:
    hook = AirbyteHook()
    with pytest.raises(VendorRefused, match="airbyte_default"):
        hook.run(lambda leased: hook.get_job(leased, 99))

    connect(password="psst")
    with pytest.raises(ConnectionUnusable) as caught:
        hook.run(lambda leased: hook.get_job(leased, 99))

    assert "psst" not in str(caught.value)


def test_get_conn_is_the_account(connect: Callable[..., None]) -> None:
    assert AirbyteHook().get_conn().vendor == "Airbyte"


def test_a_connection_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(conn_id: str) -> Connection:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(nowhere))

    with pytest.raises(AirflowNotFoundException, match="airbyte_default"):
        AirbyteHook().account()


def test_credentials_sent_in_the_clear_are_warned_about(
    connect: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    AirbyteHook().account()
    assert "unencrypted" not in caplog.text

    connect(host="http://airbyte.example")
    AirbyteHook().account()
    assert "sends its credentials to airbyte.example unencrypted" in caplog.text

    connect(host="https://airbyte.example", schema="http://tokens.example/token")
    AirbyteHook().account()
    assert "sends its credentials to tokens.example unencrypted" in caplog.text
    assert "does not check TLS certificates" not in caplog.text

    connect(host="https://airbyte.example", extra='{"verify": false}')
    AirbyteHook().account()
    assert "does not check TLS certificates" in caplog.text
