"""No secret is seen anywhere, whatever goes wrong: every vendor, every way to fail."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import BaseOperator, Connection
from structlog.testing import capture_logs

from async_triggers.deferral.compat import AirflowException
from async_triggers.deferral.errors import AsyncTriggersException
from async_triggers.engine.accounts import shared_accounts
from async_triggers.engine.errors import EngineError, Unreachable
from async_triggers.engine.wire import Reply, Request, Token, Vendor
from tests.airflow_versions import call_on_kill
from tests.unit.deferral import stage
from tests.unit.deferral.stage import Deferral, Task, World, make_world, the_event
from tests.unit.secrets.planted import (
    CLIENT,
    PROXY_PASSWORD,
    PROXY_USER,
    SECRET,
    TOKEN,
    Search,
    chain,
    forms,
    reachable,
)
from tests.vendors import VENDORS, Entry

if TYPE_CHECKING:
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.http import HttpSession

PROXY = f"http://{PROXY_USER}:{PROXY_PASSWORD}@127.0.0.1:3128"


# The vendors --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """One vendor and one way to prove who we are."""

    name: str
    vendor: Entry
    fields: dict[str, Any]

    def operator(self, **given: Any) -> BaseOperator:
        return self.vendor.sync(**{self.vendor.conn_key: "conn", **given})()

    def hook(self) -> VendorHook:
        return self.vendor.hook_class("conn")


CASES = [
    Case(name, vendor, fields)
    for vendor in VENDORS
    for name, fields in vendor.proofs(CLIENT, SECRET, TOKEN).items()
]
every_vendor = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


# What goes wrong ----------------------------------------------------------------------

Rude = Callable[[str], Reply]
"""Answers a request, of which it is told all that proves who asks."""


def _echo(status: int, **headers: str) -> Rude:
    """Repeat what was sent, in every field that an explanation may stand in."""

    def answer(sent: str) -> Reply:
        words = {
            "message": sent,
            "detail": sent,
            "title": sent,
            "code": sent,
            "type": f"https://reference.airbyte.com/reference/errors#{sent}",
            "data": {"message": sent},
            "status": {"user_message": sent, "developer_message": sent},
        }
        told = {name: value.format(sent=sent) for name, value in headers.items()}
        return Reply(status, MappingProxyType(told), json.dumps(words).encode())

    return answer


def _page(status: int, body: str, kind: str = "text/html") -> Rude:
    headers = MappingProxyType({"content-type": kind})
    return lambda sent: Reply(status, headers, body.format(sent=sent).encode())


def _broken(sent: str) -> Reply:
    raise Unreachable("The connection was lost", ambiguous=True)


TROUBLE: dict[str, Rude] = {
    **{
        str(status): _echo(status)
        for status in (400, 401, 403, 404, 407, 409, 418, 422, 429, 500, 503)
    },
    "429 for an hour": _echo(429, **{"retry-after": "3600"}),
    "302": _echo(302, location="https://{sent}@other.test/{sent}?q={sent}#{sent}"),
    "html": _page(200, "<html><h1>{sent}</h1></html>"),
    "html 401": _page(401, "<html><h1>{sent}</h1></html>"),
    "cut": _page(200, '{{"data": "{sent}', "application/json"),
    "no object": _page(200, '["{sent}"]', "application/json"),
    "broken": _broken,
}


def fields_of(case: Case) -> dict[str, Any]:
    """Return the fields of a connection with a proxy."""
    found = {
        "host": "http://localhost:8000",
        "login": None,
        "password": None,
        **case.fields,
    }
    extra = {"proxies": PROXY, **case.fields.get("extra", {})}
    return {**found, "extra": json.dumps(extra)}


class Stage(World):
    """A world whose vendor has been planted with secrets, and may turn rude."""

    case: Case
    search: Search

    def __init__(self) -> None:
        super().__init__()
        vendor = self.case.vendor
        simulator = vendor.simulator(clock=self.now)
        simulator.configure(**vendor.accepts(CLIENT, SECRET, TOKEN))
        lives = vendor.life("error"), vendor.life()
        vendor.add_target(simulator, vendor.target, *lives)
        # What the wire leads to.
        self.airbyte = simulator
        self.connect("conn", **fields_of(self.case))
        self.rude: Rude | None = None
        self.only: Callable[[Request], bool] = lambda _: True

    async def ask(self, session: HttpSession, request: Request, proof: Any) -> Reply:
        transports = [each.transport for each in shared_accounts()]
        self.search.see_reachable(request, session, *transports)
        if self.rude is not None and self.only(request):
            sent = " ".join([*proof.values(), *map(str, (request.json or {}).values())])
            reply = self.rude(sent)
        else:
            reply = await super().ask(session, request, proof)

        self.search.see("reply", reply)
        return reply


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Search:
    search = Search()
    for vendor in VENDORS:
        note_tokens(type(vendor.vendor), search, monkeypatch)

    return search


def note_tokens(
    vendor: type[Vendor], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have every token noted that a vendor issues."""
    read = vendor.read_token

    def note(self: Vendor, reply: Reply) -> Token:
        token = read(self, reply)
        search.issued.add(token.value)
        return token

    monkeypatch.setattr(vendor, "read_token", note)


@pytest.fixture
def world(case: Case, search: Search, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(Stage, "case", case, raising=False)
    monkeypatch.setattr(Stage, "search", search, raising=False)
    monkeypatch.setattr(stage, "World", Stage)
    world = make_world(monkeypatch)
    assert isinstance(world, Stage)
    return world


@contextmanager
def listening(search: Search, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Take in what anybody logs at any level, with tracebacks."""
    caplog.set_level(logging.DEBUG)
    for name in ("aiohttp", "asyncio", "async_triggers", "airflow", "task"):
        caplog.set_level(logging.DEBUG, name)

    with capture_logs() as entries:
        yield

    search.see("log", caplog.text)
    for entry in entries:
        search.see("log", entry)

    for record in caplog.records:
        if record.exc_info and record.exc_info[1] is not None:
            search.see_error(record.exc_info[1], "logged error")


class Provoker:
    """Leads a task through its life while its vendor misbehaves."""

    def __init__(self, world: Stage) -> None:
        self.world = world
        self.search = world.search
        self.errors: list[BaseException] = []

    def task(self, **given: Any) -> Task:
        """Make a task of its own."""
        return Task(
            self.world,
            lambda: self.world.case.operator(
                **{"deferrable": True, "timeout": 600, **given}
            ),
        )

    def attempt(self, task: Task, work: Callable[[], Any]) -> Any:
        """Do something that may fail, and look at all that is left of it."""
        try:
            result = work()
        except (AirflowException, EngineError) as error:
            self.errors.append(error)
            self.search.see_error(error)
            result = None

        if isinstance(result, Deferral):
            self.search.see("trigger row", json.dumps(result.arguments))
            self.search.see("next kwargs", json.dumps(result.kwargs))
            trigger = task.trigger(result) if result.moment is None else None
            self.search.see_reachable(trigger)

        self.search.see("result", result)
        self.search.see("xcom", json.dumps(task.world.xcoms["sync", -1]))
        self.search.see("state store", json.dumps(task.store.values))
        self.search.see_reachable(task.operator)
        if task.operator is not None:
            for name in task.operator.template_fields:
                self.search.see("rendered", getattr(task.operator, name))

        return result

    def defer(self, task: Task) -> Deferral:
        """Start a job while the vendor is well."""
        before, self.world.rude = self.world.rude, None
        deferral = self.attempt(task, task.execute)
        self.world.rude = before
        assert isinstance(deferral, Deferral)
        return deferral

    def wait(self, task: Task, deferral: Deferral) -> Any:
        """Let the trigger wait, and look at its event and at what it holds."""

        async def wait() -> Any:
            trigger = task.trigger(deferral)
            payload = await the_event(trigger)
            self.search.see_reachable(trigger, shared_accounts())
            return payload

        payload = (
            asyncio.run(wait()) if deferral.moment is None else task.wait(deferral)
        )
        self.search.see("event", json.dumps(payload))
        return payload

    def kill(self, task: Task, deferral: Deferral) -> None:
        """Let a user stop the deferred task."""

        async def kill() -> None:
            trigger = task.trigger(deferral)
            self.world.states["sync", -1] = "failed"
            waiting = asyncio.create_task(the_event(trigger))
            await asyncio.sleep(30)
            waiting.cancel()
            await asyncio.wait({waiting})
            await call_on_kill(trigger)
            await asyncio.sleep(200)
            self.search.see_reachable(trigger, shared_accounts())

        asyncio.run(kill())

    def by_hand(self) -> None:
        """Make every call that a hook offers."""
        hook = self.world.case.hook()
        told = hook.test_connection()
        self.search.see("test button", told)
        for name, call in inspect.getmembers(hook, inspect.iscoroutinefunction):
            wanted = list(inspect.signature(call).parameters)
            if wanted[:1] != ["leased"]:
                continue

            given = [
                _argument(name)
                for name, each in inspect.signature(call).parameters.items()
                if name != "leased" and each.default is each.empty
            ]
            if None in given:
                continue

            try:
                answer = hook.run(partial(_call, call, given))
            except (AirflowException, EngineError) as error:
                self.errors.append(error)
                self.search.see_error(error)
                continue

            # A file that was asked for is handed over as it is.
            if not isinstance(answer, bytes):
                self.search.see("answer", answer)


async def _call(call: Any, given: list[Any], leased: LeasedAccount) -> Any:
    return await call(leased, *given)


def _argument(name: str) -> Any:
    return {
        "job_id": "4711",
        "run_id": "4711",
        "connection_id": "c",
        "connector_id": "c",
        "group_id": "g",
        "cause": "because",
        "path": "run_results.json",
        "connector_name": "a",
        "destination_name": "b",
        "schedule_type": "manual",
    }.get(name)


@every_vendor
@pytest.mark.parametrize("trouble", sorted(TROUBLE))
def test_no_secret_is_seen_when_the_vendor_misbehaves(
    case: Case,
    trouble: str,
    world: Stage,
    search: Search,
    caplog: pytest.LogCaptureFixture,
) -> None:
    provoker = Provoker(world)
    world.rude = TROUBLE[trouble]
    with listening(search, caplog):
        live_through_it(provoker)

    search.see("record", world.airbyte.record.as_dict(exchanges=True))
    search.see_reachable(world.airbyte.record, world.requests)
    assert provoker.errors
    assert search.found() == []


def live_through_it(provoker: Provoker) -> None:
    """Start, wait, run into the deadline, be killed, and begin again."""

    task = provoker.task()
    provoker.attempt(task, task.execute)
    task = provoker.task()
    deferral = provoker.defer(task)
    payload = provoker.wait(task, deferral)
    provoker.attempt(task, lambda: task.resume(deferral, payload))
    provoker.attempt(task, task.expire)
    task.retry()
    provoker.attempt(task, task.execute)
    stop_all(provoker.world)
    task = provoker.task()
    provoker.kill(task, provoker.defer(task))
    stop_all(provoker.world)
    task = provoker.task(deferrable=False, timeout=60)
    provoker.attempt(task, task.execute)
    provoker.by_hand()


def stop_all(world: Stage) -> None:
    """Let whatever runs at the vendor end."""
    for view in world.airbyte.jobs():
        world.airbyte.finish(view.job, world.case.vendor.ends["error"])


@every_vendor
def test_the_vendor_is_rude_enough(
    case: Case, world: Stage, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the search must not find is there to be found."""
    bodies: list[str] = []
    rude = TROUBLE["400"]

    def listen(sent: str) -> Reply:
        reply = rude(sent)
        bodies.append(reply.body.decode())
        return reply

    world.rude = listen
    provoker = Provoker(world)
    task = provoker.task()
    provoker.attempt(task, task.execute)

    assert bodies
    assert search.found() == []
    search.see("body", bodies[-1])
    assert search.found()


# Connections that cannot be used ------------------------------------------------------

SPOILED: dict[str, dict[str, Any]] = {
    "user in the host": {"host": f"https://{CLIENT}:{SECRET}@vendor.test"},
    "user in a host that is no URL": {"host": f"https://{CLIENT}:{SECRET}@[vendor"},
    "user in a host of another kind": {"host": f"ftp://{CLIENT}:{SECRET}@vendor.test"},
    "a port that is none": {"host": f"https://vendor.test:{SECRET}"},
    "a token for a host": {"host": TOKEN},
    "a key in the query": {"host": f"https://vendor.test?key={SECRET}"},
    "extra that is cut": {"extra": f'{{"token": "{SECRET}'},
    "extra that is a list": {"extra": f'["{SECRET}"]'},
    "extra that is deep": {"extra": "[" * 100_000 + SECRET},
    "proxies of another kind": {
        "extra": json.dumps({"proxies": f"socks5://{SECRET}@x"})
    },
    "proxies that are no URL": {
        "extra": json.dumps({"proxies": f"http://{SECRET}@[x"})
    },
    "proxies in a list": {"extra": json.dumps({"proxies": [PROXY]})},
    "a token for a way": {"extra": json.dumps({"auth": TOKEN})},
    "a token for a trial": {"extra": json.dumps({"trial": TOKEN})},
    "user in the interface": {
        "extra": json.dumps({"ui_url": f"https://{CLIENT}:{SECRET}@ui.test"})
    },
    "a script for an interface": {"extra": json.dumps({"ui_url": "javascript:x()"})},
    "user in the token's address": {"schema": f"https://{CLIENT}:{SECRET}@x/token"},
    "a token's address that is none": {"schema": f"https://[{SECRET}"},
    "a token for a login": {"login": TOKEN, "password": None},
    "a bundle that is none": {"extra": json.dumps({"verify": {"key": SECRET}})},
}


@every_vendor
@pytest.mark.parametrize("spoiled", sorted(SPOILED))
def test_a_connection_that_cannot_be_used_gives_nothing_away(
    case: Case,
    spoiled: str,
    world: Stage,
    search: Search,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world.connections["conn"] = Connection(
        conn_id="conn",
        conn_type="http",
        **{**fields_of(case), "extra": None, **SPOILED[spoiled]},
    )
    provoker = Provoker(world)
    with listening(search, caplog):
        task = provoker.task()
        provoker.attempt(task, task.execute)
        search.see("test button", case.hook().test_connection())
        search.see_reachable(task.operator, leased_in(world))

    assert all(isinstance(each, AsyncTriggersException) for each in provoker.errors)
    assert search.found() == []


def leased_in(world: Stage) -> list[object]:
    """Return the accounts as the connections describe them, where they do."""
    try:
        return [world.case.hook().account()]
    except AsyncTriggersException:
        return []


# The search itself --------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(forms("planted-Issued-4716")))
def test_the_search_finds_every_form(form: str) -> None:
    search = Search()
    search.issued.add("planted-Issued-4716")
    search.see("somewhere", f"a word, {form} and another")

    assert search.found()


def test_the_search_looks_behind_an_exception() -> None:
    search = Search()
    hidden = EngineError("nothing to see")
    hidden.__context__ = ValueError(SECRET)
    hidden.__suppress_context__ = True

    search.see_error(ExceptionGroup("some", [hidden]))

    assert len(list(chain(hidden))) == 2
    assert search.found()


def test_the_search_walks_what_objects_hold() -> None:
    request = Request(
        method="GET", path="/", about="x", note=[{"deep": Token(SECRET, 1.0)}]
    )

    assert [type(each) for each in reachable(request)] == [Request, Token]
