"""A Token URL that is wrong is named, and no other field."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from async_triggers.airbyte.api.addresses import token_url
from async_triggers.airbyte.api.requests import get_job
from async_triggers.airbyte.api.vendor import AIRBYTE as VENDOR
from async_triggers.deferral.errors import ConnectionUnusable
from async_triggers.engine.errors import EngineError
from async_triggers.engine.limiter import Limiter
from async_triggers.engine.transport import Transport
from async_triggers.engine.wire import Account, Budget, CredentialKind, Credentials
from async_triggers.simulator.exchange import SimReply, SimRequest
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE

TYPED = "http://localhost:8000/oauth/tokn"
ANSWERS = {
    "page": SimReply(404, {"Content-Type": "text/html"}, b"<html>Not found</html>"),
    "text": SimReply(404, {"Content-Type": "text/plain"}, b"404 page not found"),
    "json": SimReply(404, {"Content-Type": "application/json"}, b'{"status": 404}'),
    "login": SimReply(200, {"Content-Type": "text/html"}, b"<html>Log in</html>"),
    "401": SimReply(401, {}, b"no"),
}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> VendorWorld:
    return make_vendor_world(monkeypatch, AIRBYTE)


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("host", ["http://localhost:8000", "https://api.airbyte.com"])
def test_a_wrong_token_url_fails_the_task_in_five_minutes(
    world: VendorWorld, host: str, answer: str, *, deferrable: bool
) -> None:
    world.connect("airbyte_default", conn_type="airbyte", host=host, schema=TYPED)
    world.add_target(AIRBYTE.life())
    task = Task(world, AIRBYTE.sync(timeout=90_000, deferrable=deferrable))
    vendor: Any = world.vendor
    respond = vendor.respond

    def respond_wrongly(asked: SimRequest) -> SimReply:
        is_token = asked.path.endswith("/tokn")
        reply: SimReply = ANSWERS[answer] if is_token else respond(asked)
        return reply

    vendor.respond = respond_wrongly

    with pytest.raises(ConnectionUnusable) as caught:
        task.run()

    message = str(caught.value)
    assert "Token URL (schema): there is no token endpoint" in message
    assert "Server URL (host)" not in message
    assert "extra.api_path" not in message
    assert message.endswith(TYPED)
    assert 300.0 <= world.elapsed() <= 400.0


def test_a_right_one_elsewhere_says_nothing(world: VendorWorld) -> None:
    world.connect(
        "airbyte_default",
        conn_type="airbyte",
        host="http://localhost:8000",
        schema="http://localhost:8000/api/v1/applications/token",
    )
    world.add_target(AIRBYTE.life())

    deferred(Task(world, AIRBYTE.sync()).execute())


def a_closed_port() -> int:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        port: int = here.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ("", "host"),
        ("v1/applications/token", "host"),
        # Only the path of this one has been typed, and nothing has answered about it.
        ("/elsewhere/token", "host"),
        ("http://127.0.0.1:{port}/token", "schema"),
    ],
)
@pytest.mark.asyncio
async def test_a_server_that_is_not_there_is_that_of_its_field(
    schema: str, field: str
) -> None:
    base = f"http://127.0.0.1:{a_closed_port()}/api/public/v1"
    account = Account(
        vendor="Airbyte",
        base_url=base,
        credentials=Credentials(
            kind=CredentialKind.CLIENT_CREDENTIALS,
            login="id",
            secret="secret",
            token_url=token_url(schema.format(port=a_closed_port()), base),
        ),
        budget=Budget(requests=100, per=1),
    )

    assert await suspected(account) == field
    assert await suspected(replace(account, host_is_typed=False)) == (
        "schema" if field == "schema" else None
    )


async def suspected(account: Account) -> str | None:
    """Return the field that a request of the account speaks against."""
    transport = Transport(VENDOR, account, Limiter(account.budget))
    try:
        await transport.send(get_job("1"))
    except EngineError as error:
        return None if error.suspect is None else error.suspect.field
    finally:
        await transport.close()

    return "nothing"
