"""How connections to Fivetran are read, and the calls that people make by hand."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from async_triggers.deferral.errors import VendorRefused, VendorUnavailable
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.engine.wire import Account, CredentialKind
from async_triggers.fivetran import hooks
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.provider_info import get_provider_info
from async_triggers.simulator.faults import Fault
from tests.unit.fivetran.stage import HOUR, C, FivetranWorld, paths

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest

ENCODED = base64.b64encode(b"simulator-key:simulator-secret").decode()


def read(extra: dict[str, Any] | None = None, **fields: Any) -> Account:
    given = {"login": "key", "password": "secret", "conn_type": "fivetran", **fields}
    text = None if extra is None else json.dumps(extra)
    return FivetranHook().read(Connection(conn_id="conn", extra=text, **given))


# Connections --------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, 0])
def test_a_timeout_that_is_none_leaves_the_connection_s(given: float | None) -> None:
    hook = FivetranHook(timeout_seconds=given)
    fields: dict[str, Any] = {"conn_type": "fivetran", "login": "k", "password": "s"}

    account = hook.read(Connection(conn_id="c", extra='{"timeout": 7}', **fields))

    assert account.route.total == 7.0


@pytest.mark.parametrize("conn_type", ["fivetran", "Fivetran", "http"])
def test_the_type_of_a_connection_is_not_looked_at(conn_type: str) -> None:
    account = read(conn_type=conn_type)

    assert account.base_url == "https://api.fivetran.com"
    assert account.credentials.kind is CredentialKind.BASIC
    assert account.credentials.login == "key"


def test_both_spellings_of_the_type_are_declared() -> None:
    types = {
        each["connection-type"]: each["hook-class-name"].rpartition(".")[2]
        for each in get_provider_info()["connection-types"]
    }

    # Airflow warns of a hook that declares another type than its provider does.
    for conn_type in ("fivetran", "Fivetran"):
        hook = getattr(hooks, types[conn_type])
        assert hook.conn_type == conn_type
        assert issubclass(hook, FivetranHook)


@pytest.mark.parametrize(
    "fields",
    [
        {"login": "", "password": ENCODED},
        {"login": None, "password": ENCODED},
        {"login": ENCODED, "password": ""},
        {"login": ENCODED, "password": None},
        {"login": "", "password": f" {ENCODED}\n"},
    ],
)
def test_a_key_in_base64_may_stand_in_either_field(
    world: FivetranWorld, fields: dict[str, Any]
) -> None:
    world.connect("fivetran_default", **fields)

    assert FivetranHook().test_connection() == (
        True,
        "Fivetran knows these credentials as Simulated account",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"login": "", "password": ""}, "login and password are empty"),
        ({"login": "", "password": "planted"}, "login is empty and password is no"),
        ({"login": "planted", "password": ""}, "password is empty and login is no"),
        ({"login": "", "password": "cGxhbnRlZA=="}, "login is empty"),
        ({"host": "ftp://x"}, "host is not a URL"),
        ({"host": "https://x:port"}, "is not a URL"),
        ({"host": "https://u:planted@x"}, "host holds credentials"),
        ({"extra": {"trial": "perhaps"}}, "extra.trial must be true or false"),
        ({"extra": {"timeout": 0}}, "extra.timeout must be"),
    ],
)
def test_what_is_wrong_with_a_connection_is_named_without_secrets(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(AccountMisconfigured, match=message) as caught:
        read(**fields)

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({}, "https://api.fivetran.com"),
        ({"host": "api.fivetran.com"}, "https://api.fivetran.com"),
        ({"host": "https://api.fivetran.com/v1/"}, "https://api.fivetran.com"),
        ({"host": "http://localhost:8001"}, "http://localhost:8001"),
        ({"host": "http://localhost", "port": 8001}, "http://localhost:8001"),
        ({"host": "proxy.corp/fivetran"}, "https://proxy.corp/fivetran"),
    ],
)
def test_the_host_may_be_left_out(fields: dict[str, Any], url: str) -> None:
    assert read(**fields).base_url == url


@pytest.mark.parametrize(
    ("extra", "requests"),
    [
        (None, 20_000),
        ({"trial": False}, 20_000),
        ({"trial": True}, 500),
        ({"trial": "true"}, 500),
        ({"requests_per_minute": 10}, 600),
    ],
)
def test_the_documented_limits_hold(
    extra: dict[str, Any] | None, requests: int
) -> None:
    budget = read(extra).budget

    assert (budget.requests, budget.per) == (requests, HOUR)
    assert budget.share == 0.6


def test_the_hook_s_timeout_wins() -> None:
    connection = Connection(
        conn_id="c", login="k", password="s", extra='{"timeout": 9}'
    )

    assert FivetranHook().read(connection).route.total == 9
    assert FivetranHook(timeout_seconds=5).read(connection).route.total == 5
    assert FivetranHook().key != FivetranHook(timeout_seconds=5).key


# Calls --------------------------------------------------------------------------------


def test_calls_are_made_from_a_script(world: FivetranWorld) -> None:
    hook = FivetranHook()
    world.add("other", schema="other.name", group_id="group2")

    one, now = hook.run(lambda leased: hook.get_fivetran_connection(leased, C))
    every = hook.run(hook.list_fivetran_connections)
    group = hook.run(lambda leased: hook.list_fivetran_connections(leased, "group2"))
    named = hook.run(
        lambda leased: hook.list_fivetran_connections(leased, name="other.name")
    )
    found = hook.run(
        lambda leased: hook.find_connector_id(leased, "other.name", "group2")
    )

    assert one.succeeded_at == world.shown()["succeeded_at"]
    assert now == pytest.approx(world.now(), abs=1)
    assert [each.id for each in every] == [C, "other"]
    assert [each.id for each in group] == ["other"]
    assert [each.id for each in named] == ["other"]
    assert found == "other"


@pytest.mark.parametrize(
    ("changes", "is_listed"),
    [
        ({"failed_at": "0000-00-00"}, True),
        ({"succeeded_at": "yesterday", "failed_at": 5}, True),
        ({"status": None}, False),
        ({"id": None}, False),
    ],
)
def test_an_odd_row_keeps_no_other_connection_from_being_found(
    monkeypatch: pytest.MonkeyPatch,
    world: FivetranWorld,
    changes: dict[str, Any],
    is_listed: bool,
) -> None:
    hook, respond = FivetranHook(), world.fivetran.respond
    world.add("other", schema="other.name")

    def odd(asked: SimRequest) -> SimReply:
        reply = respond(asked)
        body = json.loads(reply.body)
        for row in body["data"].get("items", ()):
            if row["id"] == C:
                row.update(changes)

        return replace(reply, body=json.dumps(body).encode())

    monkeypatch.setattr(world.fivetran, "respond", odd)
    found = hook.run(hook.list_fivetran_connections)
    by_name = hook.run(
        lambda leased: hook.find_connector_id(
            leased, "other.name", "simulated_warehouse"
        )
    )

    assert [each.id for each in found] == [C, "other"][not is_listed :]
    assert by_name == "other"
    assert "other" in {each.id for each in hook.run(hook.list_startables)}


def test_a_list_of_odd_rows_alone_is_no_list(world: FivetranWorld) -> None:
    items = [{"id": "a", "status": None}, {"id": "b", "status": 5}]
    body = json.dumps({"code": "Success", "data": {"items": items}})
    world.fivetran.faults.add(Fault(kind="status", status=200, body=body, times=None))
    hook = FivetranHook()

    with pytest.raises(VendorUnavailable, match="Connection b has no status"):
        hook.run(hook.list_fivetran_connections)


def test_calls_are_made_from_a_loop(world: FivetranWorld) -> None:
    hook = FivetranHook()

    async def start() -> None:
        async with hook.lease() as leased:
            await hook.start_sync(leased, C)

    asyncio.run(start())

    assert world.starts == 1


def test_force_is_there_for_those_who_ask(world: FivetranWorld) -> None:
    hook = FivetranHook()
    world.fivetran.start_sync(C, "syncing")

    hook.run(lambda leased: hook.start_sync(leased, C, force=True))

    assert world.fivetran.record.started[0].details == {"force": True}


def test_the_syncs_of_a_week_are_listed(world: FivetranWorld) -> None:
    hook = FivetranHook()
    for end in ("succeeded", "failed", "canceled"):
        world.fivetran.start_sync(C, f"syncing:60 {end}")
        world.pass_time(100)

    syncs = hook.run(
        lambda leased: hook.list_syncs(
            leased, C, since=world.now() - HOUR, until=world.now()
        )
    )

    assert [each.status for each in syncs] == ["COMPLETED", "FAILURE", "CANCELED"]
    assert syncs[1].reason == "The simulated sync has failed"


def test_a_long_history_is_read_page_by_page(
    world: FivetranWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("async_triggers.fivetran.api.requests.PAGE", 2)
    hook = FivetranHook()
    for _ in range(5):
        world.fivetran.start_sync(C, "syncing:60 succeeded")
        world.pass_time(100)

    syncs = hook.run(
        lambda leased: hook.list_syncs(
            leased, C, since=world.now() - HOUR, until=world.now()
        )
    )

    assert len({each.sync_id for each in syncs}) == 5
    assert len(world.requests) == 3


def test_an_account_without_a_history_says_so(world: FivetranWorld) -> None:
    world.fivetran.configure(sync_history=False)
    hook = FivetranHook()

    with pytest.raises(VendorRefused):
        hook.run(
            lambda leased: hook.list_syncs(
                leased, C, since=world.now() - HOUR, until=world.now()
            )
        )


@pytest.mark.parametrize("paused", [True, False])
def test_pausing_that_fails_and_yet_works_counts(
    world: FivetranWorld, *, paused: bool
) -> None:
    world.add(paused=not paused)
    world.fivetran.faults.add(
        Fault(kind="status", status=500, method="PATCH", takes_effect=True)
    )
    hook = FivetranHook()

    hook.run(lambda leased: hook.set_paused(leased, C, paused=paused))

    assert world.shown()["paused"] is paused
    assert paths(world) == [f"PATCH /connections/{C}", f"GET /connections/{C}"]


def test_pausing_that_fails_is_tried_again(world: FivetranWorld) -> None:
    world.fivetran.faults.add(Fault(kind="status", status=500, method="PATCH"))
    hook = FivetranHook()

    hook.run(lambda leased: hook.set_paused(leased, C, paused=True))

    assert world.shown()["paused"] is True
    assert world.times_asked("PATCH", C) == 2


def test_a_sync_that_is_over_is_not_stopped(world: FivetranWorld) -> None:
    """Somebody else's has begun since, and is let be."""
    hook = FivetranHook()
    before, _ = hook.run(lambda leased: hook.get_fivetran_connection(leased, C))
    world.fivetran.start_sync(C, "syncing:10 succeeded")
    world.pass_time(20)
    world.fivetran.start_sync(C, "syncing")

    hook.run(lambda leased: hook.stop_sync(leased, before.run()))

    assert world.facts == {}


def test_names_that_are_there_twice_are_refused(world: FivetranWorld) -> None:
    world.fivetran.add_group("again", name="simulated_warehouse")
    hook = FivetranHook()

    with pytest.raises(VendorRefused, match="has 2 destinations named"):
        hook.run(
            lambda leased: hook.find_connector_id(
                leased, "sheets.orders", "simulated_warehouse"
            )
        )


def test_rejected_credentials_are_told_by_the_test_button(world: FivetranWorld) -> None:
    world.connect("fivetran_default", login="planted", password="planted")

    works, message = FivetranHook().test_connection()

    assert not works
    assert "rejected the credentials" in message
    assert "planted" not in message
