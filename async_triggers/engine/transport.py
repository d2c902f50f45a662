"""Request in, reply out: the only module that speaks HTTP.

A :class:`Transport` belongs to one account and one event loop. It keeps one session with
a small pool of connections, asks the limiter before anything leaves, proves who we are,
and translates every failure of the network into the error tree. Nothing goes round it.
"""

from __future__ import annotations

import asyncio
import errno
import html
import json
import logging
import math
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from async_triggers import __version__
from async_triggers.engine.answers import classify
from async_triggers.engine.doubt import Trust
from async_triggers.engine.errors import (
    AccountMisconfigured,
    CredentialsRejected,
    EngineError,
    InBetween,
    PermanentError,
    RateLimited,
    RequestRejected,
    Scope,
    Suspect,
    TransientError,
    Unreachable,
    UnreadableReply,
)
from async_triggers.engine.wire import (
    HTTP_FORBIDDEN,
    HTTP_MULTIPLE_CHOICES,
    HTTP_UNAUTHORIZED,
    Lane,
    Reply,
    without_secrets,
)
from async_triggers.engine.wording import aside

if TYPE_CHECKING:
    from async_triggers.engine.limiter import Limiter
    from async_triggers.engine.wire import Account, Request, Token, Vendor

log = logging.getLogger(__name__)

LARGEST_BODY = 32 * 1024 * 1024
"""Bytes of a reply (decompressed) that are read before it is given up."""
TOKEN_MARGIN = 0.2
"""A token is renewed when this part of its life is left, at most a minute."""
SHORTEST_SECRET = 4
"""Characters of a secret below which it would be found in any sentence."""

TOKEN_RENEWAL = 50.0
"""Seconds at least between two tokens that are fetched because one was rejected."""

HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """A snapshot of a transport."""

    requests: int
    failures: int
    received_bytes: int
    connections: int
    tokens: int
    doubt: str
    in_between_for: float


class Transport:
    """Carries the requests of one account.

    ``on_refusal`` is awaited when the vendor, or something on the way, does not accept
    the account, before that is raised: the Airflow connection may have changed.
    """

    def __init__(
        self,
        vendor: Vendor,
        account: Account,
        limiter: Limiter,
        *,
        on_refusal: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.vendor = vendor
        self.account = account
        self.limiter = limiter
        self.trust = Trust(account.belief)
        self._on_refusal = on_refusal
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._proving = asyncio.Lock()
        self._token: Token | None = None
        self._token_ends = 0.0
        self._proof = 0
        # The proof is newer than the last rejection and has not been accepted yet.
        self._untried = False
        self._renewed_at = -math.inf
        self._requests = 0
        self._failures = 0
        self._received = 0
        self._connections = 0
        self._tokens = 0

    def __repr__(self) -> str:
        """State the state, and no secret."""
        state = "open" if self._session is not None else "idle"
        doubt = f" | {self.trust.doubt!r}" if self.trust.doubt is not None else ""
        between = self.trust.between
        told = f" | in between: {between.message}" if between is not None else ""
        return (
            f"<Transport {self.account} [{state} | {self._requests} requests,"
            f" {self._failures} failed, {self._connections} connections{doubt}{told}]>"
        )

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        doubt = self.trust.doubt
        between = 0.0
        if self.trust.between is not None:
            between = asyncio.get_running_loop().time() - self.trust.between_since

        return TransportStatistics(
            requests=self._requests,
            failures=self._failures,
            received_bytes=self._received,
            connections=self._connections,
            tokens=self._tokens,
            doubt="" if doubt is None else doubt.refusal.message,
            in_between_for=between,
        )

    async def send(self, request: Request, *, lane: Lane | None = None) -> Reply:
        """Send a request and return a successful reply.

        ``lane`` wins over the request's own. Raise
        :class:`~async_triggers.engine.errors.TransientError` when no usable answer came or
        a refusal is in doubt, :class:`~async_triggers.engine.errors.PermanentError` when
        the vendor's answer is a refusal that will stand.
        """
        lane = request.lane if lane is None else lane
        if not request.authorized:
            return await self._exchange(request, {}, lane)

        loop = asyncio.get_running_loop()
        is_check = self.trust.admit(loop.time(), is_start=lane is Lane.START)
        try:
            reply = await self._prove_and_exchange(request, lane)
        except EngineError as error:
            failure = await self._weigh(error, is_check=is_check)
        else:
            if self.vendor.is_own_answer(request, reply):
                self.trust.answered()

            return reply
        finally:
            if is_check:
                self.trust.check_ended(loop.time())

        raise failure

    async def _weigh(self, error: EngineError, *, is_check: bool) -> EngineError:
        """Take in what a failure says about the account; return what to raise for it."""
        trust, loop = self.trust, asyncio.get_running_loop()
        if isinstance(error, InBetween):
            if error.status in {HTTP_UNAUTHORIZED, HTTP_FORBIDDEN}:
                await self.read_connections_again()

            return trust.refused_in_between(error, loop.time(), self.vendor.name)

        if isinstance(error, RateLimited):
            trust.rate_limited()
        elif isinstance(error, TransientError):
            trust.missed(error, loop.time())
        elif error.status is None:
            # The request could not even be made: that needs no second opinion.
            return error
        elif isinstance(error, PermanentError) and error.scope is Scope.ACCOUNT:
            await self.read_connections_again()
            return trust.refused(error, loop.time(), is_check=is_check)
        else:
            # The refusal of one job is an answer to who may ask for it.
            trust.answered()

        return error

    async def read_connections_again(self) -> None:
        """Read the Airflow connections again: they may lead elsewhere by now."""
        if self._on_refusal is not None:
            await self._on_refusal()

    async def _prove_and_exchange(self, request: Request, lane: Lane) -> Reply:
        """Send a request with a proof of who we are, which is renewed once."""
        # At most: as it is, with a new token, and once for a bystander whose proof
        # others have renewed meanwhile.
        attempts = 3
        while True:
            attempts -= 1
            proof, headers = await self._prove()
            try:
                reply = await self._exchange(request, headers, lane)
            except (CredentialsRejected, InBetween) as error:
                # Whatever the body says: an old server's is another one than today's.
                if (
                    error.status != HTTP_UNAUTHORIZED
                    or not await self._renew(proof)
                    or not attempts
                ):
                    raise

                if request.lane is Lane.START and isinstance(error, InBetween):
                    # It may have got through, and is looked for before it is sent again.
                    raise
            else:
                if proof == self._proof:
                    self._untried = False

                return reply

    async def close(self) -> None:
        """Close the connections. The transport opens new ones if it is used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # Who we are ---------------------------------------------------------------

    async def _prove(self) -> tuple[int, Mapping[str, str]]:
        """Return the headers that prove who we are, and the number of that proof."""
        loop = asyncio.get_running_loop()
        async with self._proving:
            wanted = self.vendor.token_request(self.account)
            if wanted is not None and loop.time() >= self._token_ends:
                await self._fetch_token(wanted)

            return self._proof, self.vendor.authorize(self.account, self._token)

    async def _fetch_token(self, request: Request) -> None:
        try:
            reply = await self._exchange(request, {}, request.lane)
        except PermanentError as error:
            if error.scope is Scope.ACCOUNT:
                raise

            # A refusal of the token endpoint is about the account, never about a job.
            failure = AccountMisconfigured(error.message, status=error.status)
            failure.url, failure.suspect = error.url, error.suspect
            raise failure from None

        self._token = self.vendor.read_token(reply)
        lifetime = self._token.lifetime
        margin = min(60.0, lifetime * TOKEN_MARGIN)
        self._token_ends = asyncio.get_running_loop().time() + lifetime - margin
        self._proof += 1
        self._tokens += 1

    async def _renew(self, proof: int) -> bool:
        """Take back the token of proof number ``proof``; False where that is no use.

        A token that was fetched after the last rejection is given a minute: each try
        costs a request to an endpoint that locks clients out.
        """
        async with self._proving:
            if proof != self._proof:
                return True

            now = asyncio.get_running_loop().time()
            if self._token is None or (
                self._untried and now < self._renewed_at + TOKEN_RENEWAL
            ):
                return False

            self._token = None
            self._token_ends = 0.0
            self._proof += 1
            self._untried = True
            self._renewed_at = now
            return True

    # The wire -----------------------------------------------------------------

    async def _exchange(
        self, request: Request, proof: Mapping[str, str], lane: Lane
    ) -> Reply:
        async with self.limiter.admit(lane):
            self._requests += 1
            try:
                reply = await self._ask(request, proof)
            except EngineError:
                self._failures += 1
                raise

        left = self.vendor.remaining(reply)
        if left is not None:
            self.limiter.observe(*left)

        if HTTP_OK <= reply.status < HTTP_MULTIPLE_CHOICES:
            return reply

        self._failures += 1
        masked = self._masked(reply, proof)
        error = classify(self.vendor, request, reply, masked=masked)
        error.url = reply.url
        if not self.account.host_is_typed:
            # The vendor's own host is right, whatever answers there.
            error.suspect = None

        if isinstance(error, RateLimited) and error.retry_after is None:
            error.retry_after = self.account.budget.cooldown
            error.is_guess = True

        if isinstance(error, TransientError) and error.retry_after is not None:
            self.limiter.pause(error.retry_after)

        raise error

    def _masked(self, reply: Reply, proof: Mapping[str, str]) -> Reply:
        """Take out of a refusal what we had sent."""
        credentials = self.account.credentials
        sent = {header.rpartition(" ")[2] for header in proof.values()}
        sent |= {credentials.secret, credentials.login}
        if self._token is not None:
            sent.add(self._token.value)

        body, headers = reply.body, dict(reply.headers)
        for secret in sorted(sent, key=len, reverse=True):
            if len(secret) < SHORTEST_SECRET:
                continue

            for form in _forms(secret):
                body = body.replace(form.encode(), b"***")
                headers = {
                    name: value.replace(form, "***") for name, value in headers.items()
                }

        return replace(reply, body=body, headers=MappingProxyType(headers))

    async def _ask(self, request: Request, proof: Mapping[str, str]) -> Reply:
        try:
            return await self._ask_aiohttp(request, proof)
        except (EngineError, asyncio.CancelledError):
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._explain(request, error)

        # Not within the except clause: aiohttp's errors hold the headers that were sent.
        raise failure

    async def _ask_aiohttp(self, request: Request, proof: Mapping[str, str]) -> Reply:
        url = self._url(request)
        session = await self._open()
        total, silence = self._patience(request)
        timeout = aiohttp.ClientTimeout(
            total=total, sock_connect=self.account.route.connect, sock_read=silence
        )
        async with session.request(
            request.method,
            url,
            params=request.params or None,
            json=None if request.json is None else dict(request.json),
            headers={**request.headers, **proof},
            proxy=self._proxy(url),
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            body = await self._body(response, request)
            headers = {key.lower(): val for key, val in response.headers.items()}
            return Reply(
                response.status,
                MappingProxyType(headers),
                body,
                without_secrets(str(url)),
            )

    def _patience(self, request: Request) -> tuple[float, float]:
        """Return how many seconds an exchange may take, and how many be silent."""
        route = self.account.route
        total = request.timeout or route.total
        # A start or a cancel may be silent for a minute before its answer comes.
        is_slow = request.lane in {Lane.START, Lane.CANCEL}
        return total, max(route.read, total) if is_slow else route.read

    def _explain(self, request: Request, error: Exception) -> EngineError:
        """Say what went wrong on the way, and what to do about it."""
        url = self._url(request)
        failure = self._failure(request, url, error)
        failure.url = without_secrets(str(url))
        failure.suspect = self._suspect(url, error)
        return failure

    def _failure(self, request: Request, url: URL, error: Exception) -> EngineError:
        host = url.host or ""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Unreachable(
                f"{host} shows a TLS certificate that is not trusted"
                f" {aside(str(error.certificate_error))}: name the certificate authority's"
                " file in the connection's CA bundle (extra.ca_bundle)"
            )

        if isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
        ):
            way = " through the proxy" if self._proxy(url) else ""
            return Unreachable(f"{host} cannot be reached{way}: {_reason(error)}")

        if isinstance(error, TimeoutError):
            total, silence = self._patience(request)
            waited = silence if isinstance(error, aiohttp.SocketTimeoutError) else total
            return Unreachable(
                f"{host} did not answer about {request.about} within {waited:g} s",
                ambiguous=True,
            )

        if isinstance(error, ValueError):
            # Of aiohttp and yarl (a certificate's error is a ValueError too, see above):
            # an address or a header that HTTP cannot carry.
            return AccountMisconfigured(
                f"{self.account} cannot be used: correct the connection's host, login,"
                " password or extra.proxies, one of them holds characters or a scheme"
                " that HTTP does not allow"
            )

        return Unreachable(
            f"The connection to {host} broke while requesting {request.about}:"
            f" {_reason(error)}",
            ambiguous=True,
        )

    def _suspect(self, url: URL, error: Exception) -> Suspect | None:
        """Return what a failure of the network says against the connection's address.

        Nothing where a user has not typed the host: a vendor's own name is right. Nothing
        either where a proxy stands between: it is the proxy that was not reached.
        """
        if not self.account.host_is_typed or self._proxy(url):
            return None

        fix = None
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            fix = _wrong_certificate(url, error)
        elif isinstance(error, aiohttp.ClientConnectorError):
            fix = _wrong_server(url, error.os_error)

        return None if fix is None else Suspect("host", fix)

    async def _body(self, response: aiohttp.ClientResponse, request: Request) -> bytes:
        pieces = bytearray()
        async for piece in response.content.iter_chunked(256 * 1024):
            pieces += piece
            if len(pieces) > LARGEST_BODY:
                response.close()
                msg = (
                    f"The answer about {request.about} is larger than"
                    f" {LARGEST_BODY >> 20} MiB"
                )
                raise UnreadableReply(msg, status=response.status, ambiguous=True)

        self._received += len(pieces)
        return bytes(pieces)

    def _url(self, request: Request) -> URL:
        """Make the address of a request; proof of who we are stays with our host."""
        try:
            base = URL(self.account.base_url, encoded=True)
            if not request.path.startswith(("http://", "https://")):
                url = URL(
                    self.account.base_url.rstrip("/") + request.path, encoded=True
                )
            else:
                url = URL(request.path, encoded=True)
                if request.authorized and url.origin() != base.origin():
                    msg = (
                        f"The credentials of {self.account} are not sent to"
                        f" {url.host}, where {request.about} should come from"
                    )
                    raise RequestRejected(msg)

            bare = url.user is None and url.password is None
        except ValueError:
            bare = False

        if not bare:
            msg = (
                f"{self.account} is no usable address: give the connection's host as"
                " scheme, name and port, and credentials in their own fields"
            )
            raise AccountMisconfigured(msg)

        return url

    def _proxy(self, url: URL) -> str | None:
        """Choose a proxy: the connection's own, else the environment's."""
        found = dict(self.account.route.proxies)
        if not found:
            found = getproxies_environment()
            if not found or proxy_bypass(f"{url.host}:{url.port}"):
                return None

        proxy = found.get(url.scheme) or found.get("all")
        if not proxy:
            return None

        # As everywhere else, a proxy without a scheme is an HTTP proxy.
        scheme, mark, _ = proxy.partition("://")
        if not mark:
            return f"http://{proxy}"

        if scheme not in {"http", "https"}:
            msg = (
                f"{self.account} is configured with a proxy of the kind {scheme}:"
                " name an HTTP proxy in the connection's extra.proxies, or none"
            )
            raise AccountMisconfigured(msg)

        return proxy

    async def _open(self) -> aiohttp.ClientSession:
        if self._session is not None:
            return self._session

        async with self._opening:
            if self._session is None:
                trust = await self._trust()
                budget = self.account.budget
                trace = aiohttp.TraceConfig()
                trace.on_connection_create_end.append(self._count_connection)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        limit=budget.polls + budget.starts + budget.cancels,
                        ssl=trust,
                        keepalive_timeout=90.0,
                    ),
                    headers={
                        "User-Agent": f"async-triggers/{__version__}",
                        "Accept": "application/json",
                    },
                    cookie_jar=aiohttp.DummyCookieJar(),
                    middlewares=(_send_once,),
                    trace_configs=[trace],
                )

        return self._session

    async def _count_connection(self, *_: object) -> None:
        self._connections += 1

    async def _trust(self) -> ssl.SSLContext | bool:
        """Say which certificates to trust; True stands for those that Python trusts.

        These aiohttp has read already, once for all accounts of a process.
        """
        route = self.account.route
        if not route.verify:
            return False

        if not route.ca_bundle:
            return True

        # Reading certificates from the disk takes tens of milliseconds.
        return await asyncio.to_thread(self._load_certificates)

    def _load_certificates(self) -> ssl.SSLContext:
        route = self.account.route
        try:
            trust = ssl.create_default_context()
            trust.load_verify_locations(cafile=route.ca_bundle)
        except (OSError, ssl.SSLError) as error:
            msg = (
                f"The connection's extra.ca_bundle {route.ca_bundle!r} cannot be used,"
                f" name a readable PEM file: {error}"
            )
            raise AccountMisconfigured(msg) from None

        return trust


def _forms(secret: str) -> set[str]:
    """Return the ways in which a page may repeat a secret."""
    quoted = quote(secret, safe="")
    escaped = json.dumps(secret)[1:-1]
    return {
        secret,
        quoted,
        quoted.lower(),
        quote(secret),
        quote_plus(secret),
        escaped,
        escaped.replace("/", "\\/"),
        html.escape(secret),
        html.escape(secret, quote=False),
        html.escape(secret).replace("&#x27;", "&#39;"),
        b64encode(secret.encode()).decode().rstrip("="),
    }


_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""What OpenSSL calls an answer that is no TLS."""


def _wrong_certificate(
    url: URL, error: aiohttp.ClientConnectorCertificateError
) -> str | None:
    if "mismatch" not in str(error.certificate_error):
        return None

    return f"the server's certificate is not for {url.host}: write its own name"


def _wrong_server(url: URL, error: OSError) -> str | None:
    """Say what is wrong with an address that does not lead to the API at all."""
    if isinstance(error, ssl.SSLError):
        no_tls = error.reason in _NO_TLS
        fix = "the server does not speak TLS: write http instead of https"
        return fix if no_tls else None

    # A resolver that does not answer (EAI_AGAIN) says nothing about the name.
    if isinstance(error, socket.gaierror):
        unknown = error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}
        fix = f"the name {url.host} does not exist: check its spelling"
        return fix if unknown else None

    if _is_refused(error):
        return (
            f"nothing listens on port {url.port} of {url.host}: check host, port and"
            " scheme"
        )

    return None


def _is_refused(error: OSError) -> bool:
    """Return True if the host has refused the connection.

    A host with several addresses makes one error of several, which has no number.
    """
    if error.errno == errno.ECONNREFUSED:
        return True

    refused = os.strerror(errno.ECONNREFUSED)
    return error.errno is None and refused in str(error)


class _Broken(aiohttp.ClientError):
    """A connection broke under a request that must not be sent again unseen."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Let aiohttp repeat nothing but a GET when a connection breaks.

    It takes DELETE for safe to repeat too. A cancel that acts on whatever is running is
    not: the second one may hit another job.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if request.method == "GET":
            raise

        raise _Broken(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """Say in a few words why, without a URL that might hold a proxy's password."""
    if isinstance(error, _Broken):
        return str(error)

    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or type(error.os_error).__name__

    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"

    return getattr(error, "strerror", None) or type(error).__name__
