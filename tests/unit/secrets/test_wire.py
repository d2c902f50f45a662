"""Strangers on the wire: what they are told, and what is told of them."""

from __future__ import annotations

import asyncio
import gzip
import html
import json
import logging
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import trustme

from async_triggers.airbyte.api.requests import get_job
from async_triggers.airbyte.api.vendor import AIRBYTE
from async_triggers.engine import http as http_module
from async_triggers.engine.errors import (
    AccountMisconfigured,
    EngineError,
    InBetween,
    Unreachable,
    UnreadableReply,
)
from async_triggers.engine.limiter import Limiter
from async_triggers.engine.masking import repetition_of
from async_triggers.engine.transport import Transport
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Reply,
    Request,
    Route,
)
from tests.unit.secrets.planted import (
    CLIENT,
    PROXY_PASSWORD,
    PROXY_USER,
    SECRET,
    TOKEN,
    Search,
    pair,
)

ASK = get_job("1")
ANSWER = b'{"jobId": 1, "status": "running"}'

Answer = Callable[[bytes], bytes] | bytes | None


@dataclass(slots=True)
class Stranger:
    """A server that answers with whatever bytes it likes; None resets the connection."""

    url: str
    heard: list[bytes] = field(default_factory=list)

    @property
    def all_heard(self) -> str:
        return b"".join(self.heard).decode("latin-1")


@asynccontextmanager
async def a_stranger(
    answer: Answer, *, trust: ssl.SSLContext | None = None
) -> AsyncIterator[Stranger]:
    stranger = Stranger("")

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = [
                line.split(b":")[1]
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            body = await reader.readexactly(int(length[0])) if length else b""
            stranger.heard.append(head + body)
            told = answer(head + body) if callable(answer) else answer
            if told is None:
                writer.transport.abort()
            else:
                writer.write(told)
                await writer.drain()

        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=trust)
    port = server.sockets[0].getsockname()[1]
    stranger.url = f"{'https' if trust else 'http'}://127.0.0.1:{port}"
    try:
        yield stranger
    finally:
        server.close()
        await asyncio.gather(*serving)
        await server.wait_closed()


def http(status: str, body: bytes = ANSWER, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def an_account(url: str, kind: CredentialKind, **route: Any) -> Account:
    return Account(
        vendor="Airbyte",
        base_url=url,
        credentials=Credentials(
            kind=kind,
            login=CLIENT,
            secret=TOKEN if kind is CredentialKind.BEARER else SECRET,
            token_url=f"{url}/token",
        ),
        route=Route(**{"total": 5.0, **route}),
        budget=Budget(requests=600_000, per=60.0),
    )


@asynccontextmanager
async def a_transport(account: Account) -> AsyncIterator[Transport]:
    transport = Transport(AIRBYTE, account, Limiter(account.budget))
    try:
        yield transport
    finally:
        await transport.close()


async def fails(transport: Transport, search: Search, request: Request = ASK) -> Any:
    """Send a request that must fail, and look at all that is left of it."""
    with pytest.raises(EngineError) as caught:
        await transport.send(request)

    search.see_error(caught.value)
    search.see_reachable(transport)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return caught.value


async def refused(answer: bytes, secret: str, search: Search) -> Any:
    """Return the error of a request with a secret that a stranger answers so."""
    async with a_stranger(answer) as host:
        account = replace(
            an_account(host.url, CredentialKind.BEARER),
            credentials=Credentials(kind=CredentialKind.BEARER, secret=secret),
        )
        async with a_transport(account) as transport:
            return await fails(transport, search)


@pytest.fixture
def search(caplog: pytest.LogCaptureFixture) -> Search:
    caplog.set_level(logging.DEBUG)
    for name in ("aiohttp", "aiohttp.client", "asyncio"):
        caplog.set_level(logging.DEBUG, name)

    return Search()


every_kind = pytest.mark.parametrize(
    "kind", [CredentialKind.BEARER, CredentialKind.BASIC]
)

NONSENSE: dict[str, Answer] = {
    "no status line": lambda heard: b"BANANA " + heard + b"\r\n\r\n",
    "a status that is none": http("2OO " + TOKEN),
    "a header that is none": lambda heard: b"HTTP/1.1 200 OK\r\n" + heard,
    "a reason that repeats": http(f"500 {TOKEN} {SECRET}"),
    "a page that repeats": lambda heard: http("401 No", b"<html>" + heard),
    "a problem that repeats": lambda heard: http(
        "403 No", json.dumps({"detail": heard.decode("latin-1")}).encode()
    ),
    "half an answer": http("200 OK")[:-5],
    "a chunk that is none": lambda heard: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + heard
    ),
    "a coding that is none": lambda heard: http(
        "200 OK", heard, Content_Encoding="gzip"
    ),
    "a header that never ends": lambda heard: http("200 OK", X=heard.hex() * 200),
    "a reset": None,
    "nothing": b"",
}


@every_kind
@pytest.mark.parametrize("nonsense", sorted(NONSENSE))
@pytest.mark.asyncio
async def test_nonsense_on_the_wire_gives_nothing_away(
    kind: CredentialKind,
    nonsense: str,
    search: Search,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        a_stranger(NONSENSE[nonsense]) as stranger,
        a_transport(an_account(stranger.url, kind)) as transport,
    ):
        await fails(transport, search)
        await fails(transport, search, replace(ASK, method="POST", lane=Lane.START))

    search.see("log", caplog.text)
    assert search.found() == []
    search.see("what was sent", stranger.all_heard)
    assert search.found()


@pytest.mark.asyncio
async def test_a_token_endpoint_that_repeats_gives_nothing_away(
    search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        a_stranger(
            lambda heard: http(
                "400 No", json.dumps({"detail": heard.decode("latin-1")}).encode()
            )
        ) as stranger,
        a_transport(
            an_account(stranger.url, CredentialKind.CLIENT_CREDENTIALS)
        ) as transport,
    ):
        await fails(transport, search)

    search.see("log", caplog.text)
    assert SECRET in stranger.all_heard
    assert search.found() == []


# Other hosts --------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.asyncio
async def test_a_redirect_leads_no_credential_to_another_host(
    kind: CredentialKind, status: int, search: Search
) -> None:
    async with a_stranger(http("200 OK")) as other:
        location = f"{other.url}/v1/jobs/1"
        async with (
            a_stranger(http(f"{status} Go", Location=location)) as host,
            a_transport(an_account(host.url, kind)) as transport,
        ):
            error = await fails(transport, search)

    assert isinstance(error, InBetween)
    assert location in error.message
    assert len(host.heard) == 1
    assert other.heard == []
    assert search.found() == []


@pytest.mark.parametrize(
    "path",
    [
        "http://other.test/v1/jobs/1",
        "http://127.0.0.1:1/v1/jobs/1",
        "https://127.0.0.1:{port}/v1/jobs/1",
    ],
)
@pytest.mark.asyncio
async def test_an_absolute_address_elsewhere_is_not_asked_with_our_credentials(
    path: str, search: Search
) -> None:
    async with a_stranger(http("200 OK")) as host:
        elsewhere = path.format(port=host.url.rpartition(":")[2])
        account = an_account(host.url, CredentialKind.BEARER)
        async with a_transport(account) as transport:
            error = await fails(transport, search, replace(ASK, path=elsewhere))

    assert "are not sent to" in error.message
    assert host.heard == []
    assert search.found() == []


# TLS and proxies ----------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_certificate_that_nobody_vouches_for_gets_no_credential(
    search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    await asyncio.to_thread(trustme.CA().issue_cert("127.0.0.1").configure_cert, trust)
    async with (
        a_stranger(http("200 OK"), trust=trust) as stranger,
        a_transport(an_account(stranger.url, CredentialKind.BASIC)) as transport,
    ):
        error = await fails(transport, search)

    search.see("log", caplog.text)
    assert isinstance(error, Unreachable)
    assert stranger.heard == []
    assert search.found() == []


PROXY_ANSWERS: dict[str, Answer] = {
    "requires credentials": lambda heard: http("407 No", heard),
    "is broken": lambda heard: http("502 No", heard),
    "talks nonsense": b"BANANA\r\n\r\n",
    "hangs up": None,
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("trouble", sorted(PROXY_ANSWERS))
@pytest.mark.asyncio
async def test_a_proxy_in_trouble_gives_nothing_away(
    scheme: str, trouble: str, search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_stranger(PROXY_ANSWERS[trouble]) as proxy:
        way = proxy.url.replace("://", f"://{PROXY_USER}:{PROXY_PASSWORD}@")
        account = an_account(
            f"{scheme}://vendor.test", CredentialKind.BASIC, proxies=((scheme, way),)
        )
        async with a_transport(account) as transport:
            await fails(transport, search)

    search.see("log", caplog.text)
    search.see("identity", account.identity)
    assert pair(PROXY_USER, PROXY_PASSWORD) in proxy.all_heard
    assert search.found() == []


def test_two_proxies_are_two_accounts() -> None:
    account = an_account("http://vendor.test", CredentialKind.BASIC)
    ways = [
        {},
        {"proxies": (("http", "http://a:1"),)},
        {"proxies": (("http", "http://a:2"),)},
        {"verify": False},
        {"ca_bundle": "ca.pem"},
    ]

    found = {replace(account, route=Route(**way)).identity for way in ways}  # type: ignore[arg-type]

    assert len(found) == len(ways)


# Size and depth -----------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.asyncio
async def test_an_answer_without_end_is_given_up(
    coding: str, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "LARGEST_BODY", 1 << 20)
    body = b" " * (8 << 20)
    sent = gzip.compress(body) if coding == "gzip" else body
    async with (
        a_stranger(http("200 OK", sent, Content_Encoding=coding)) as host,
        a_transport(an_account(host.url, CredentialKind.BEARER)) as transport,
    ):
        error = await fails(transport, search)

    assert isinstance(error, UnreadableReply)
    assert "larger than 1 MiB" in error.message


@pytest.mark.parametrize("depth", [1_000, 1_100, 1_000_000])
@pytest.mark.parametrize("shape", ["[{}]", '{{"data": {}}}', '{{"detail": {}}}'])
def test_a_deep_answer_is_read_or_unreadable(depth: int, shape: str) -> None:
    inner = "[" * depth + "]" * depth
    reply = Reply(403, {}, shape.format(inner).encode())

    assert isinstance(AIRBYTE.refuse(ASK, reply), EngineError)
    with pytest.raises(UnreadableReply):
        AIRBYTE.read(ASK, reply)


@pytest.mark.asyncio
async def test_a_long_explanation_is_cut(search: Search) -> None:
    body = json.dumps({"detail": "x" * 1_000_000}).encode()
    async with (
        a_stranger(http("418 No", body)) as host,
        a_transport(an_account(host.url, CredentialKind.BEARER)) as transport,
    ):
        error = await fails(transport, search)

    assert len(error.message) < 600


# Masking ------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["", "a", "abc"])
@pytest.mark.asyncio
async def test_a_word_that_is_too_short_to_be_a_secret_masks_nothing(
    secret: str, search: Search
) -> None:
    body = json.dumps({"detail": "a clear explanation"}).encode()
    error = await refused(http("418 No", body), secret, search)

    assert "a clear explanation" in error.message


@pytest.mark.parametrize(
    "repeat",
    [
        html.escape,
        lambda secret: html.escape(secret).replace("&#x27;", "&#39;"),
        lambda secret: json.dumps(secret)[1:-1].replace("/", "\\/"),
        quote,
        quote_plus,
        lambda secret: quote(secret, safe="").lower(),
        lambda secret: b64encode(secret.encode()).decode(),
        lambda secret: spelt(secret, r"\u{:04x}", "<>&"),
        lambda secret: spelt(secret, r"\u{:04X}", "<>&"),
        lambda secret: spelt(json.dumps(secret)[1:-1], r"\u{:04x}", "<>&'"),
        lambda secret: spelt(secret, "&#{};", "<>&'\"/"),
        lambda secret: spelt(secret, "&#x{:x};", "<>&'\"/"),
        lambda secret: spelt(secret, "&#x{:04X};", "<>&'\"/ "),
        lambda secret: spelt(secret, r"\x{:02x}", "<>&'\"/"),
        lambda secret: spelt(html.escape(secret), "%{:02X}", "/ "),
        str.upper,
    ],
    ids=[
        "html",
        "html 39",
        "json",
        "url",
        "form",
        "lower",
        "base64",
        "go",
        "gson",
        "go in json",
        "decimal",
        "hexadecimal",
        "owasp",
        "javascript",
        "html in url",
        "upper",
    ],
)
@pytest.mark.asyncio
async def test_a_secret_is_masked_however_a_page_repeats_it(
    repeat: Callable[[str], str], search: Search
) -> None:
    secret = "s3cr3t/<marked>&'so' \"it\" is"
    told = repeat(secret)
    error = await refused(http("403 No", f"You sent {told}.".encode()), secret, search)

    assert told not in error.message
    assert "You sent ***" in error.message


@pytest.mark.asyncio
async def test_a_secret_is_masked_before_a_page_is_read(search: Search) -> None:
    secret = "s3cr3t/<marked>&'so' it is"
    page = f"<html><p>You sent <b>{html.escape(secret)}</b>.</p></html>"
    error = await refused(http("403 No", page.encode()), secret, search)

    assert "a page that says: You sent *** ." in error.message


def test_a_secret_is_found_with_its_letters_named_as_a_page_may() -> None:
    found = repetition_of("gr\xfc\xdfe an alle").search(
        b"You sent gr&uuml;&szlig;e an alle."
    )

    assert found is not None
    assert found.group() == b"gr&uuml;&szlig;e an alle"


def spelt(text: str, way: str, chars: str) -> str:
    """Write some characters of a text by their numbers."""
    return "".join(way.format(ord(each)) if each in chars else each for each in text)


@pytest.mark.parametrize("secret", ["pässwörd-s3cr3t", "s3cr3t-\U0001f511-marked"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_secret_of_other_letters_is_found(secret: str, *, ensure_ascii: bool) -> None:
    told = json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1]

    for each in (told, told.replace("\\u00E4", "\\u00e4"), quote(secret), secret):
        assert repetition_of(secret).sub(b"***", f"a {each} b".encode()) == b"a *** b"


def test_a_short_word_is_not_masked_in_another_case() -> None:
    assert repetition_of("admin").sub(b"***", b"Admin, admin") == b"Admin, ***"


@pytest.mark.parametrize("before", range(60, 110, 3))
@pytest.mark.asyncio
async def test_a_secret_that_is_cut_short_is_masked_all_the_same(
    before: int, search: Search
) -> None:
    secret = "s3cr3t-that-is-rather-long-and-marked"
    body = f"{'x' * before}{secret} and more".encode()
    error = await refused(http("403 No", body), secret, search)

    assert isinstance(error, InBetween)
    assert "s3c" not in error.message
    assert "s3c" not in error.excerpt


@pytest.mark.asyncio
async def test_a_secret_that_http_cannot_carry_is_not_repeated(
    search: Search, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_stranger(http("200 OK")) as host:
        account = replace(
            an_account(host.url, CredentialKind.BEARER),
            credentials=Credentials(
                kind=CredentialKind.BEARER, secret=f"{TOKEN}\r\nX: y"
            ),
        )
        async with a_transport(account) as transport:
            error = await fails(transport, search)

    search.see("log", caplog.text)
    assert isinstance(error, AccountMisconfigured)
    assert host.heard == []
    assert search.found() == []
