from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import trustme
from aiohttp import ClientError, web

from async_triggers.engine import http as http_module
from async_triggers.engine.errors import (
    AccountMisconfigured,
    CredentialsRejected,
    EngineError,
    InBetween,
    JobNotFound,
    PermanentError,
    RateLimited,
    RefusedInBetween,
    RequestRejected,
    TransientError,
    Unreachable,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.http import HttpSession
from async_triggers.engine.limiter import Limiter, urgent
from async_triggers.engine.transport import Transport
from async_triggers.engine.wire import (
    Account,
    Belief,
    CredentialKind,
    Credentials,
    Lane,
    Reply,
    Request,
    Route,
    Token,
    Vendor,
)
from tests.unit.engine.fake import FakeVendor, an_account

if TYPE_CHECKING:
    from tests.conftest import CannedResponses

virtual = pytest.mark.asyncio(loop_factories=["virtual"])
real = pytest.mark.asyncio

URL = "http://fake.test"
SECRET = "s3cr3t-marked"
ASK = Request(method="GET", path="/jobs/1", about="job 1")
DATE = "Wed, 25 Mar 2026 01:30:00 GMT"
START = replace(ASK, method="POST", lane=Lane.START, json={"job": 1})
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class TokenVendor(FakeVendor):
    """Gives out tokens, or sends a key as it is."""

    def token_request(self, account: Account) -> Request | None:
        if account.credentials.kind is not CredentialKind.CLIENT_CREDENTIALS:
            return None

        return Request(
            method="POST",
            path="/token",
            about="an access token",
            json={"secret": account.credentials.secret},
            authorized=False,
        )

    def read_token(self, reply: Reply) -> Token:
        return Token(reply.object("an access token")["token"], 100.0)

    def authorize(self, account: Account, token: Token | None) -> Mapping[str, str]:
        proof = token.value if token is not None else account.credentials.secret
        return {"Authorization": f"Bearer {proof}"}

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        left = reply.headers.get("x-left")
        return None if left is None else (float(left), 100.0)


def a_key(
    secret: str = SECRET, kind: CredentialKind = CredentialKind.CLIENT_CREDENTIALS
) -> Credentials:
    return Credentials(kind=kind, login="me", secret=secret)


BEARER = a_key(kind=CredentialKind.BEARER)


@asynccontextmanager
async def a_transport(
    *, on_refusal: Callable[[], Any] | None = None, **account: Any
) -> AsyncIterator[Transport]:
    settled = an_account(**{"base_url": URL, **account})
    vendor = cast("Vendor", TokenVendor())
    transport = Transport(
        vendor, settled, Limiter(settled.budget), on_refusal=on_refusal
    )
    try:
        yield transport
    finally:
        await transport.close()


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class TestMapping:
    @virtual
    async def test_a_success_is_a_reply(self, canned: CannedResponses) -> None:
        canned.get(f"{URL}/jobs/1", body=b'{"a": 1}', headers={"X-Left": "80"})
        async with a_transport() as transport:
            reply = await transport.send(ASK)

            assert reply.status == 200
            assert reply.object("job 1") == {"a": 1}
            assert reply.headers["x-left"] == "80"
            state = transport.statistics()
            assert (state.requests, state.failures, state.received_bytes) == (1, 0, 8)
            assert repr(transport) == (
                "<Transport Fake at fake.test [open | 1 requests,"
                " 0 failed, 0 connections]>"
            )

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (301, RequestRejected),
            (400, RequestRejected),
            (401, CredentialsRejected),
            (403, RequestRejected),
            (404, JobNotFound),
            (429, RateLimited),
            (500, VendorBroken),
            (503, VendorBroken),
        ],
    )
    @virtual
    async def test_a_refusal_is_an_error_of_its_kind(
        self, status: int, error: type[EngineError], canned: CannedResponses
    ) -> None:
        canned.get(f"{URL}/jobs/1", status=status, repeat=True)
        async with a_transport() as transport:
            with pytest.raises(error) as caught:
                await transport.send(ASK)

            assert caught.value.status == status
            assert transport.statistics().failures == 1

    @pytest.mark.parametrize(
        ("error", "ambiguous"), [(TimeoutError(), True), (ClientError("x"), True)]
    )
    @virtual
    async def test_what_breaks_on_the_way_is_unreachable(
        self,
        error: Exception,
        ambiguous: bool,
        canned: CannedResponses,
    ) -> None:
        canned.get(f"{URL}/jobs/1", exception=error)
        async with a_transport() as transport:
            with pytest.raises(Unreachable) as caught:
                await transport.send(ASK)

            assert caught.value.ambiguous is ambiguous

    @pytest.mark.parametrize(
        ("status", "headers", "pause"),
        [
            (429, {}, 60.0),
            (429, {"Retry-After": "7"}, 7.0),
            (429, {"Retry-After": "0"}, 60.0),
            (429, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}, 60.0),
            (503, {"Retry-After": "90"}, 90.0),
            (429, {"Retry-After": "31536000"}, 86_400.0),
            (503, {"Retry-After": "86400"}, 600.0),
            (502, {"Retry-After": "inf"}, 600.0),
            (503, {"Retry-After": "nan"}, 0.0),
            (
                504,
                {"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT", "Date": DATE},
                600.0,
            ),
            (503, {}, 0.0),
        ],
    )
    @virtual
    async def test_being_asked_to_wait_pauses_the_account(
        self,
        status: int,
        headers: dict[str, str],
        pause: float,
        canned: CannedResponses,
    ) -> None:
        canned.get(f"{URL}/jobs/1", status=status, headers=headers)
        canned.get(f"{URL}/jobs/1", body=b"{}")
        async with a_transport() as transport:
            with pytest.raises(TransientError) as caught:
                await transport.send(ASK)

            assert (caught.value.retry_after or 0.0) == pause
            assert transport.limiter.paused_for == pause
            await transport.send(ASK)
            assert asyncio.get_running_loop().time() >= pause

    @virtual
    async def test_what_is_left_of_the_limit_slows_us_down(
        self, canned: CannedResponses
    ) -> None:
        canned.get(f"{URL}/jobs/1", body=b"{}", headers={"X-Left": "20"})
        budget = replace(an_account().budget, share=0.6, requests=100)
        async with a_transport(budget=budget) as transport:
            full = transport.limiter.statistics().rate
            await transport.send(ASK)

            assert transport.limiter.statistics().rate == pytest.approx(full / 2)

    @pytest.mark.parametrize(
        "base_url",
        ["http://me:s3cr3t-marked@fake.test", "http://fake.test:port", "fake", ""],
    )
    @virtual
    async def test_a_host_that_is_none_names_the_field(self, base_url: str) -> None:
        async with a_transport(base_url=base_url) as transport:
            with pytest.raises(AccountMisconfigured, match="host") as caught:
                await transport.send(ASK)

            assert SECRET not in f"{caught.value!r} {transport!r} {transport.account!r}"

    @real
    async def test_all_that_the_limiter_admits_has_a_connection(self) -> None:
        rooms = {
            Lane.SHARED: 2,
            Lane.POLL: 1,
            Lane.LOOK: 1,
            Lane.START: 3,
            Lane.CANCEL: 1,
        }
        met = asyncio.Barrier(sum(rooms.values()))

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            await met.wait()
            return web.json_response({})

        budget = replace(an_account().budget, polls=2, starts=3, cancels=1)
        async with (
            asyncio.timeout(30.0),
            a_server(answer) as server,
            a_transport(base_url=server.url, budget=budget) as transport,
        ):
            sent = [
                transport.send(ASK, lane=lane)
                for lane, count in rooms.items()
                for _ in range(count)
            ]
            assert {reply.status for reply in await asyncio.gather(*sent)} == {200}

    @virtual
    async def test_proof_of_who_we_are_stays_with_our_host(
        self, canned: CannedResponses
    ) -> None:
        async with a_transport(credentials=BEARER) as transport:
            with pytest.raises(RequestRejected, match=re.escape("evil.test")):
                await transport.send(replace(ASK, path="http://evil.test/jobs?page=2"))

            assert not canned.requests


class TestProof:
    """Tokens, credentials, and what is done when they are rejected."""

    @virtual
    async def test_one_token_for_all_who_ask_at_once(
        self, canned: CannedResponses
    ) -> None:
        canned.post(f"{URL}/token", payload={"token": "t1"})
        canned.get(f"{URL}/jobs/1", body=b"{}", repeat=True)
        async with a_transport(credentials=a_key()) as transport:
            await asyncio.gather(*[transport.send(ASK) for _ in range(20)])

            assert transport.statistics().tokens == 1
            assert transport.statistics().requests == 21

    @virtual
    async def test_a_token_is_renewed_before_it_ends(
        self, canned: CannedResponses
    ) -> None:
        canned.post(f"{URL}/token", payload={"token": "t"}, repeat=True)
        canned.get(f"{URL}/jobs/1", body=b"{}", repeat=True)
        async with a_transport(credentials=a_key()) as transport:
            await transport.send(ASK)
            await asyncio.sleep(79.0)
            await transport.send(ASK)
            assert transport.statistics().tokens == 1
            await asyncio.sleep(2.0)
            await transport.send(ASK)
            assert transport.statistics().tokens == 2

    @real
    async def test_a_token_that_ends_early_is_renewed_once_for_all(self) -> None:
        tokens = iter(["old", "new"])

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/token":
                return web.json_response({"token": next(tokens)})

            old = request.headers["Authorization"] == "Bearer old"
            return web.json_response({}, status=401 if old else 200)

        async with (
            a_server(answer) as server,
            a_transport(base_url=server.url, credentials=a_key()) as transport,
        ):
            replies = await asyncio.gather(*[transport.send(ASK) for _ in range(12)])

            assert {reply.status for reply in replies} == {200}
            assert transport.statistics().tokens == 2

    @virtual
    async def test_rejected_after_one_new_token_and_one_look_at_the_connection(
        self, canned: CannedResponses
    ) -> None:
        canned.post(f"{URL}/token", payload={"token": "t"}, repeat=True)
        canned.get(f"{URL}/jobs/1", status=401, repeat=True)
        looks = 0

        async def look() -> None:
            nonlocal looks
            looks += 1

        async with a_transport(credentials=a_key(), on_refusal=look) as transport:
            with pytest.raises(CredentialsRejected):
                await transport.send(ASK)

            assert (transport.statistics().tokens, looks) == (2, 1)
            # Those who ask right after it hear the same, and the vendor nothing.
            asked = transport.statistics().requests
            with pytest.raises(CredentialsRejected):
                await transport.send(ASK)

            assert transport.statistics().requests == asked == 4

    @virtual
    async def test_a_connection_that_cannot_be_read_now_is_only_a_late_answer(
        self, canned: CannedResponses
    ) -> None:
        canned.get(f"{URL}/jobs/1", status=401, repeat=True)

        async def look() -> None:
            msg = "the metadata database is down"
            raise Unreachable(msg)

        async with a_transport(credentials=BEARER, on_refusal=look) as transport:
            for _ in range(3):
                with pytest.raises(Unreachable):
                    await transport.send(ASK)

    @pytest.mark.parametrize("status", [400, 404, 422])
    @virtual
    async def test_a_refusal_of_the_token_endpoint_concerns_the_account(
        self, status: int, canned: CannedResponses
    ) -> None:
        canned.post(f"{URL}/token", status=status)
        async with a_transport(credentials=a_key()) as transport:
            with pytest.raises(AccountMisconfigured):
                await transport.send(ASK)

    @virtual
    async def test_what_is_urgent_waits_for_no_token_that_waits_for_a_pause(
        self, canned: CannedResponses
    ) -> None:
        canned.post(f"{URL}/token", payload={"token": "t"}, repeat=True)
        canned.get(f"{URL}/jobs/1", body=b"{}", repeat=True)
        loop = asyncio.get_running_loop()

        async def send_urgently() -> None:
            with urgent():
                await transport.send(ASK)

        async with a_transport(credentials=a_key()) as transport:
            transport.limiter.pause(3600.0)
            poll = loop.create_task(transport.send(ASK))
            await asyncio.sleep(1.0)
            await asyncio.gather(*[send_urgently() for _ in range(5)])

            assert loop.time() < 2.0
            # One token for all that is urgent.
            assert transport.statistics().tokens == 1
            await poll
            assert loop.time() > 3600.0

    @virtual
    async def test_a_start_that_waited_long_for_a_token_is_not_sent(
        self, canned: CannedResponses
    ) -> None:
        canned.post(f"{URL}/token", payload={"token": "t"}, repeat=True)
        canned.post(f"{URL}/jobs/1", body=b"{}", repeat=True)
        async with a_transport(credentials=a_key()) as transport:
            transport.limiter.pause(3600.0)
            with pytest.raises(Unreachable, match="the start was not sent") as caught:
                await transport.send(START)

            assert not caught.value.ambiguous
            assert transport.statistics().requests == 1
            await transport.send(START)

    @virtual
    async def test_a_start_that_a_pause_turns_away_says_how_long_it_lasts(
        self, canned: CannedResponses
    ) -> None:
        async with a_transport() as transport:
            transport.limiter.pause(3600.0)
            with pytest.raises(RateLimited, match="for 3600 s more") as caught:
                await transport.send(START)

            assert caught.value.retry_after == pytest.approx(3600.0)
            assert not caught.value.ambiguous
            assert not canned.requests

    @real
    async def test_cancel_during_the_token_leaves_the_others_going(self) -> None:
        asked, given = asyncio.Event(), asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            asked.set()
            await given.wait()
            return web.json_response({"token": "t"})

        async with (
            a_server(answer) as server,
            a_transport(base_url=server.url, credentials=a_key()) as transport,
        ):
            loop = asyncio.get_running_loop()
            first, second = (loop.create_task(transport.send(ASK)) for _ in range(2))
            await asked.wait()
            first.cancel()
            given.set()

            assert (await second).status == 200
            assert first.cancelled()


@dataclass
class Loopback:
    """A server on loopback; ``seen`` are the requests that came."""

    url: str
    seen: list[web.BaseRequest]


@asynccontextmanager
async def a_server(
    answer: Callable[[web.BaseRequest], Any], *, trust: ssl.SSLContext | None = None
) -> AsyncIterator[Loopback]:
    seen: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request)
        response: web.StreamResponse = await answer(request)
        return response

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust)
    await site.start()
    scheme = "https" if trust is not None else "http"
    try:
        yield Loopback(f"{scheme}://127.0.0.1:{runner.addresses[0][1]}", seen)
    finally:
        await runner.cleanup()


async def well(request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"path": request.raw_path})


async def once(request: web.BaseRequest) -> web.StreamResponse:
    response = await well(request)
    response.force_close()
    return response


async def reset(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def cut(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"a":')
    assert request.transport is not None
    request.transport.close()
    return response


async def large(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=b"1" * 5000)


async def bomb(request: web.BaseRequest) -> web.StreamResponse:
    response = web.Response(body=b"1" * 100_000)
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def away(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://evil.test/?a=b"})


class TestWire:
    """Against a real server, on real time."""

    @pytest.mark.parametrize("answer", [reset, hang, drip, cut])
    @pytest.mark.parametrize("request_", [ASK, START], ids=["read", "start"])
    @real
    async def test_what_goes_wrong_on_the_way_is_ambiguous(
        self, answer: Callable[[web.BaseRequest], Any], request_: Request
    ) -> None:
        async with (
            a_server(answer) as server,
            a_transport(base_url=server.url, route=Route(total=0.3)) as transport,
        ):
            with pytest.raises(Unreachable) as caught:
                await transport.send(request_)

            assert caught.value.ambiguous
            assert "127.0.0.1" in caught.value.message

    @real
    async def test_only_a_read_is_repeated_when_a_kept_connection_breaks(self) -> None:
        """A cancel acts on whatever is running: the second one may hit another job."""

        async def first_well(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/well":
                return await well(request)

            return await reset(request)

        cancel = Request(
            method="DELETE", path="/jobs/1", about="a cancel", lane=Lane.CANCEL
        )
        read = Request(method="GET", path="/jobs/1", about="job 1")
        keep = Request(method="GET", path="/well", about="something")
        async with (
            a_server(first_well) as server,
            a_transport(base_url=server.url) as transport,
        ):
            for request in (cancel, read):
                await transport.send(keep)
                with pytest.raises(Unreachable) as caught:
                    await transport.send(request)

                assert caught.value.ambiguous

            sent = [
                request.method for request in server.seen if request.path != "/well"
            ]
            assert sent == ["DELETE", "GET", "GET"]

    @real
    async def test_silence_in_the_middle_ends_a_read_and_not_a_start(self) -> None:
        async def late(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(0.3)
            return web.json_response({})

        route = Route(read=0.1, total=10.0)
        async with (
            a_server(late) as server,
            a_transport(base_url=server.url, route=route) as transport,
        ):
            with pytest.raises(Unreachable, match=r"within 0\.1 s"):
                await transport.send(ASK)

            assert (await transport.send(START)).status == 200

    @real
    async def test_nobody_there_is_not_ambiguous(self) -> None:
        async with a_server(well) as server:
            url = server.url

        async with a_transport(base_url=url) as transport:
            with pytest.raises(Unreachable, match="cannot be reached") as caught:
                await transport.send(START)

            assert not caught.value.ambiguous

    @pytest.mark.parametrize("answer", [large, bomb])
    @real
    async def test_a_body_that_is_too_large_is_given_up(
        self, answer: Callable[[web.BaseRequest], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_module, "LARGEST_BODY", 1000)
        async with (
            a_server(answer) as server,
            a_transport(base_url=server.url) as transport,
        ):
            with pytest.raises(UnreadableReply, match="larger than"):
                await transport.send(ASK)

    @real
    async def test_a_redirect_is_not_followed(self) -> None:
        async with (
            a_server(away) as server,
            a_transport(base_url=server.url, credentials=BEARER) as transport,
        ):
            with pytest.raises(RequestRejected):
                await transport.send(ASK)

            assert len(server.seen) == 1
            assert server.seen[0].headers["Authorization"] == f"Bearer {SECRET}"

    @real
    async def test_parameters_arrive_as_they_are(self) -> None:
        window = '["2026-03-25T01:30:00Z","9999-01-01T00:00:00Z"]'
        params = (("range", window), ("range", "a+b c&d"), ("path", "%2F"))
        async with (
            a_server(well) as server,
            a_transport(base_url=f"{server.url}/api/") as transport,
        ):
            await transport.send(replace(ASK, path="/jobs/a%2Fb", params=params))

            (seen,) = server.seen
            assert seen.raw_path.startswith("/api/jobs/a%2Fb?")
            assert "[" not in seen.raw_path
            assert list(seen.query.items()) == list(params)
            assert seen.headers["Accept"] == "application/json"

    @real
    async def test_connections_are_used_again(self) -> None:
        async with (
            a_server(well) as server,
            a_transport(base_url=server.url) as transport,
        ):
            for _ in range(5):
                await transport.send(ASK)

            assert transport.statistics().connections == 1
            assert transport.statistics().requests == 5

    @real
    async def test_closed_and_used_again(self) -> None:
        async with (
            a_server(well) as server,
            a_transport(base_url=server.url) as transport,
        ):
            await transport.send(ASK)
            await transport.close()
            assert "[idle" in repr(transport)
            assert (await transport.send(ASK)).status == 200


class TestProxy:
    @pytest.mark.parametrize(
        ("own", "environment", "exempt", "used"),
        [
            ((("http", "A"),), None, None, "A"),
            ((("http", "A"),), "B", None, "A"),
            ((("http", "A"),), "B", "vendor.test", "A"),
            ((("all", "A"),), None, None, "A"),
            ((), "B", None, "B"),
            ((), "B", "vendor.test", None),
            ((), "B", "vendor.test:80", None),
            ((), "B", "other.test", "B"),
            ((("https", "A"),), "B", None, None),
        ],
    )
    @real
    async def test_the_connections_proxy_wins(
        self,
        own: tuple[tuple[str, str], ...],
        environment: str | None,
        exempt: str | None,
        used: str | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        urls = {"A": "http://me:pw@a.test:1", "B": "http://b.test:2"}
        if environment is not None:
            monkeypatch.setenv("http_proxy", urls[environment])

        if exempt is not None:
            monkeypatch.setenv("no_proxy", exempt)

        route = Route(proxies=tuple((scheme, urls[name]) for scheme, name in own))
        async with a_transport(base_url="http://vendor.test", route=route) as transport:
            chosen = transport.http.proxy(transport.http.url(ASK))

            assert chosen == (None if used is None else urls[used])

    @real
    async def test_requests_go_through_the_proxy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_server(well) as proxy:
            # Without a scheme, as many environments have it.
            monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
            async with a_transport(base_url="http://vendor.test") as transport:
                await transport.send(ASK)

            (seen,) = proxy.seen
            assert seen.raw_path == "http://vendor.test/jobs/1"

    @real
    async def test_a_proxy_that_is_away_gives_no_password_away(self) -> None:
        async with a_server(well) as server:
            port = server.url.rpartition(":")[2]

        route = Route(proxies=(("http", f"http://me:{SECRET}@127.0.0.1:{port}"),))
        async with a_transport(base_url="http://vendor.test", route=route) as transport:
            with pytest.raises(Unreachable, match="through the proxy") as caught:
                await transport.send(ASK)

            assert SECRET not in f"{caught.value!r} {transport!r} {route!r}"

    @real
    async def test_a_proxy_that_cannot_be_used_names_the_field(self) -> None:
        route = Route(proxies=(("http", f"socks5://me:{SECRET}@127.0.0.1:1"),))
        async with a_transport(base_url="http://vendor.test", route=route) as transport:
            with pytest.raises(AccountMisconfigured, match=r"extra\.proxies") as caught:
                await transport.send(ASK)

            assert SECRET not in repr(caught.value)

    @pytest.mark.parametrize("status", [401, 403, 404, 405, 407])
    @real
    async def test_one_that_refuses_to_connect_stands_in_between(
        self, status: int
    ) -> None:
        async with a_proxy_that_answers(f"{status} No") as url:
            route = Route(proxies=(("https", url),))
            belief = Belief(in_between=0.01)
            async with a_transport(
                base_url="https://vendor.test", route=route, belief=belief
            ) as transport:
                met = []
                for _ in range(4):
                    with pytest.raises(EngineError) as caught:
                        await transport.send(ASK)

                    met.append(caught.value)
                    await asyncio.sleep(0.01)

        assert isinstance(met[0], InBetween)
        assert met[0].message.startswith("The proxy on the way to Fake")
        assert isinstance(met[-1], RefusedInBetween)
        for error in met:
            assert error.status == status
            assert error.url == "https://vendor.test/jobs/1"
            assert error.suspect is not None
            assert error.suspect.field == "extra.proxies"

    @real
    async def test_its_limit_pauses_the_account(self) -> None:
        answer = "429 Too Many\r\nRetry-After: 30"
        async with a_proxy_that_answers(answer) as url:
            route = Route(proxies=(("https", url),))
            async with a_transport(
                base_url="https://vendor.test", route=route
            ) as transport:
                with pytest.raises(RateLimited):
                    await transport.send(ASK)

                assert 25.0 < transport.limiter.paused_for <= 30.0

    @pytest.mark.parametrize("answer", ["502 Bad Gateway", "503 No", "204 Nothing"])
    @real
    async def test_any_other_trouble_of_its_own_is_an_outage(self, answer: str) -> None:
        async with a_proxy_that_answers(answer) as url:
            route = Route(proxies=(("https", url),))
            async with a_transport(
                base_url="https://vendor.test", route=route
            ) as transport:
                with pytest.raises(Unreachable, match="the proxy answered") as caught:
                    await transport.send(ASK)

                assert caught.value.suspect is None

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize(
        ("address", "fix"),
        [
            ("http://no-such-proxy.invalid:3128", "the name no-such-proxy.invalid"),
            ("http://127.0.0.1:{port}", "nothing listens on port"),
        ],
    )
    @pytest.mark.parametrize("host_is_typed", [True, False])
    @pytest.mark.parametrize("is_typed", [True, False])
    @real
    async def test_one_that_a_user_has_misspelt_is_evidence(
        self,
        address: str,
        fix: str,
        scheme: str,
        *,
        host_is_typed: bool,
        is_typed: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(
            socket, "getaddrinfo", partial(unknown_but_loopback, socket.getaddrinfo)
        )
        async with a_server(well) as server:
            proxy = address.format(port=server.url.rpartition(":")[2])

        route = Route(proxies=((scheme, proxy),)) if is_typed else Route()
        if not is_typed:
            monkeypatch.setenv(f"{scheme}_proxy", proxy)

        async with a_transport(
            base_url=f"{scheme}://vendor.test",
            route=route,
            host_is_typed=host_is_typed,
        ) as transport:
            with pytest.raises(Unreachable, match="through the proxy") as caught:
                await transport.send(ASK)

            suspect = caught.value.suspect
            if is_typed:
                assert suspect is not None
                assert suspect.field == "extra.proxies"
                assert fix in suspect.fix
            else:
                assert suspect is None

            later = asyncio.get_running_loop().time() + 1000.0
            wrong = transport.trust.wrong_field(later)
            assert (wrong is not None) is is_typed
            transport.trust.vouch()
            with pytest.raises(Unreachable):
                await transport.send(ASK)

            assert transport.trust.wrong_field(later) is None


def unknown_but_loopback(look_up: Callable[..., Any], host: str, *rest: Any) -> Any:
    """Look a name up as where there is no network: none but this machine is known."""
    if host != "127.0.0.1":
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    return look_up(host, *rest)


@asynccontextmanager
async def a_proxy_that_answers(head: str) -> AsyncIterator[str]:
    """Serve this status line, and headers, whatever it is to connect to."""

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    return a_certificate_of(authority)


def a_certificate_of(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    show(context, authority)
    return context


def show(context: ssl.SSLContext, authority: trustme.CA) -> None:
    """Let a server show another certificate from the next connection on."""
    authority.issue_cert("127.0.0.1").configure_cert(context)


class TestTrust:
    @real
    async def test_a_certificate_of_nobody_known_is_refused(
        self, certificate: ssl.SSLContext
    ) -> None:
        async with (
            a_server(well, trust=certificate) as server,
            a_transport(base_url=server.url) as transport,
        ):
            with pytest.raises(Unreachable, match=r"extra\.ca_bundle"):
                await transport.send(ASK)

            assert not server.seen

    @pytest.mark.parametrize(
        ("dates", "words"),
        [
            ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "has expired: have it"),
            ({"not_before": datetime(2100, 1, 1, tzinfo=UTC)}, "not valid yet: set"),
        ],
    )
    @real
    async def test_one_that_is_not_valid_now_needs_no_other_authority(
        self,
        authority: trustme.CA,
        tmp_path: Path,
        dates: dict[str, Any],
        words: str,
    ) -> None:
        bundle = tmp_path / "ca.pem"
        await asyncio.to_thread(authority.cert_pem.write_to_path, str(bundle))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        shown = authority.issue_cert("127.0.0.1", **dates)
        await asyncio.to_thread(shown.configure_cert, context)
        async with (
            a_server(well, trust=context) as server,
            a_transport(
                base_url=server.url, route=Route(ca_bundle=str(bundle))
            ) as transport,
        ):
            with pytest.raises(Unreachable, match=words) as raised:
                await transport.send(ASK)

            assert "ca_bundle" not in str(raised.value)

    @real
    async def test_the_connections_authority_is_trusted(
        self, certificate: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
    ) -> None:
        bundle = tmp_path / "ca.pem"
        await asyncio.to_thread(authority.cert_pem.write_to_path, str(bundle))
        async with (
            a_server(well, trust=certificate) as server,
            a_transport(
                base_url=server.url, route=Route(ca_bundle=str(bundle))
            ) as transport,
        ):
            assert (await transport.send(ASK)).status == 200

    @real
    async def test_the_check_can_be_switched_off(
        self, certificate: ssl.SSLContext
    ) -> None:
        async with (
            a_server(well, trust=certificate) as server,
            a_transport(base_url=server.url, route=Route(verify=False)) as transport,
        ):
            assert (await transport.send(ASK)).status == 200

    @pytest.mark.parametrize("content", [None, "no certificate"])
    @real
    async def test_a_bundle_that_cannot_be_used_names_the_field(
        self, content: str | None, tmp_path: Path
    ) -> None:
        bundle = tmp_path / "ca.pem"
        if content is not None:
            await asyncio.to_thread(bundle.write_text, content)

        route = Route(ca_bundle=str(bundle))
        async with a_transport(base_url="https://127.0.0.1", route=route) as transport:
            with pytest.raises(AccountMisconfigured, match=r"extra\.ca_bundle"):
                await transport.send(ASK)

    @real
    async def test_an_authority_that_is_replaced_is_read_again(
        self, authority: trustme.CA, tmp_path: Path
    ) -> None:
        bundle = tmp_path / "ca.pem"
        context = await asyncio.to_thread(a_certificate_of, authority)
        await asyncio.to_thread(authority.cert_pem.write_to_path, str(bundle))
        async with (
            a_server(once, trust=context) as server,
            a_transport(
                base_url=server.url, route=Route(ca_bundle=str(bundle))
            ) as transport,
        ):
            await transport.send(ASK)
            renewed = trustme.CA()
            await asyncio.to_thread(show, context, renewed)
            with pytest.raises(Unreachable, match=r"extra\.ca_bundle"):
                await transport.send(ASK)

            # In the middle of being written it cannot be read, which ends no wait.
            await asyncio.to_thread(bundle.write_text, "")
            with pytest.raises(Unreachable, match=r"extra\.ca_bundle"):
                await transport.send(ASK)

            await asyncio.to_thread(renewed.cert_pem.write_to_path, str(bundle))
            with pytest.raises(Unreachable, match=r"extra\.ca_bundle"):
                await transport.send(ASK)

            assert (await transport.send(ASK)).status == 200

    @real
    async def test_what_python_trusts_is_read_again(
        self,
        certificate: ssl.SSLContext,
        authority: trustme.CA,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bundle = tmp_path / "ca.pem"
        await asyncio.to_thread(authority.cert_pem.write_to_path, str(bundle))
        async with (
            a_server(well, trust=certificate) as server,
            a_transport(base_url=server.url) as transport,
        ):
            # Not there when this process began.
            monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
            with pytest.raises(Unreachable):
                await transport.send(ASK)

            assert (await transport.send(ASK)).status == 200

    @real
    async def test_requests_that_fail_together_read_the_authority_once(
        self,
        certificate: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        reads = []
        load = HttpSession._load_certificates

        def counted(self: HttpSession) -> ssl.SSLContext:
            reads.append(self)
            return load(self)

        monkeypatch.setattr(HttpSession, "_load_certificates", counted)
        async with (
            a_server(well, trust=certificate) as server,
            a_transport(base_url=server.url) as transport,
        ):
            failures = await asyncio.gather(
                *(transport.send(ASK) for _ in range(3)), return_exceptions=True
            )

            assert {type(each) for each in failures} == {Unreachable}
            assert len(reads) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, None), (500, None), (429, None), (200, ClientError(SECRET))],
)
@virtual
async def test_no_secret_is_shown(
    status: int,
    error: Exception | None,
    canned: CannedResponses,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    canned.post(f"{URL}/token", payload={"token": SECRET}, repeat=True)
    canned.get(f"{URL}/jobs/1", status=status, exception=error, repeat=True)

    async with a_transport(credentials=a_key()) as transport:
        with pytest.raises((TransientError, PermanentError)) as caught:
            await transport.send(ASK)

        shown = f"{caught.value!r} {caught.value} {transport!r} {transport.account!r}"
        shown += f"{transport.account} {transport.account.credentials!r} {caplog.text}"
        shown += repr(transport._token)
        assert SECRET not in shown
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@real
async def test_a_secret_that_http_cannot_carry_names_the_field() -> None:
    key = a_key(f"{SECRET}\n", CredentialKind.BEARER)
    async with (
        a_server(well) as server,
        a_transport(base_url=server.url, credentials=key) as transport,
    ):
        with pytest.raises(AccountMisconfigured, match="login, password") as caught:
            await transport.send(ASK)

        assert SECRET not in repr(caught.value)
        assert not server.seen
