"""One HTTP exchange: the only module that speaks HTTP.

A :class:`HttpSession` keeps the connections of one account, and translates every failure
of the network into the error tree.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from async_triggers import __version__
from async_triggers.engine.errors import (
    AccountMisconfigured,
    EngineError,
    RequestRejected,
    Suspect,
    Unreachable,
    UnreadableReply,
)
from async_triggers.engine.wire import (
    HTTP_MULTIPLE_CHOICES,
    HTTP_SERVER_ERROR,
    Lane,
    Reply,
    without_secrets,
)
from async_triggers.engine.wording import aside

if TYPE_CHECKING:
    from async_triggers.engine.wire import Account, Request

log = logging.getLogger(__name__)

LARGEST_BODY = 32 * 1024 * 1024
"""Bytes of a reply (decompressed) that are read before it is given up."""


class HttpSession:
    """A small pool of connections to the host of one account.

    It is opened by the first request, and again by the first one after :meth:`close`.
    ``received`` counts the bytes of all bodies, ``connections`` how many were opened.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.received = 0
        self.connections = 0
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        # True stands for the certificates that Python trusts, which aiohttp has read once
        # for all accounts of the process.
        self._trust: ssl.SSLContext | bool = True

    @property
    def is_open(self) -> bool:
        """Whether connections may be open."""
        return self._session is not None

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def exchange(self, request: Request, proof: Mapping[str, str]) -> Reply:
        """Send a request with the headers that prove who we are; return any reply.

        Raise :class:`~async_triggers.engine.errors.TransientError` where there is none,
        :class:`~async_triggers.engine.errors.AccountMisconfigured` or
        :class:`~async_triggers.engine.errors.RequestRejected` where none can be sent.
        """
        trust = self._trust
        try:
            return await self._exchange(request, proof)
        except (EngineError, asyncio.CancelledError):
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refusal = self._refusal(request, error)
            if refusal is not None:
                return refusal

            failure = self._explain(request, error)
            is_trusted = not isinstance(error, aiohttp.ClientConnectorCertificateError)

        # Not within the except clause: aiohttp's errors hold the headers that were sent.
        if not is_trusted:
            await self._read_trust_again(trust)

        raise failure

    async def _exchange(self, request: Request, proof: Mapping[str, str]) -> Reply:
        url = self.url(request)
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
            ssl=self._trust,
            proxy=self.proxy(url),
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

    def _refusal(self, request: Request, error: Exception) -> Reply | None:
        """Return what a proxy has answered that was to connect to the host; else None."""
        if not isinstance(error, aiohttp.ClientHttpProxyError):
            return None

        if not HTTP_MULTIPLE_CHOICES <= error.status < HTTP_SERVER_ERROR:
            return None

        headers = {key.lower(): val for key, val in (error.headers or {}).items()}
        return Reply(
            error.status,
            MappingProxyType(headers),
            b"",
            without_secrets(str(self.url(request))),
            is_of_proxy=True,
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
        url = self.url(request)
        failure = self._failure(request, url, error)
        failure.url = without_secrets(str(url))
        failure.suspect = self._suspect(url, error)
        return failure

    def _failure(self, request: Request, url: URL, error: Exception) -> EngineError:
        host = url.host or ""
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Unreachable(_bad_certificate(host, error))

        if isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError
        ):
            way = " through the proxy" if self.proxy(url) else ""
            return Unreachable(f"{host} cannot be reached{way}: {_reason(error)}")

        if isinstance(error, TimeoutError):
            total, silence = self._patience(request)
            waited = silence if isinstance(error, aiohttp.SocketTimeoutError) else total
            return Unreachable(
                f"{host} sent no response for {request.about} within {waited:g} s",
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
            f"The connection to {host} was lost while requesting {request.about}:"
            f" {_reason(error)}",
            ambiguous=True,
        )

    def _suspect(self, url: URL, error: Exception) -> Suspect | None:
        """Return what a failure of the network says against the connection's address.

        Where a proxy stands between, against the proxy's: it is what was not reached.
        """
        fix = None
        proxy = self.proxy(url)
        if proxy is not None:
            if isinstance(error, _NO_PROXY):
                fix = _wrong_server(URL(proxy), error.os_error)

            return None if fix is None else Suspect("extra.proxies", fix)

        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            fix = _wrong_certificate(url, error)
        elif isinstance(error, aiohttp.ClientConnectorError):
            fix = _wrong_server(url, error.os_error)
            if fix == _WRITE_HTTP and self.account.is_always_https:
                fix = _ALLOW_HTTP

        return None if fix is None else Suspect("host", fix)

    async def _body(self, response: aiohttp.ClientResponse, request: Request) -> bytes:
        pieces = bytearray()
        async for piece in response.content.iter_chunked(256 * 1024):
            pieces += piece
            if len(pieces) > LARGEST_BODY:
                response.close()
                msg = (
                    f"The response for {request.about} is larger than"
                    f" {LARGEST_BODY >> 20} MiB"
                )
                raise UnreadableReply(msg, status=response.status, ambiguous=True)

        self.received += len(pieces)
        return bytes(pieces)

    def url(self, request: Request) -> URL:
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
                f"{self.account} is not a usable address: give the connection's host as"
                " scheme, name and port, and credentials in their own fields"
            )
            raise AccountMisconfigured(msg)

        return url

    def proxy(self, url: URL) -> str | None:
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
                self._trust = await self._read_trust()
                budget = self.account.budget
                trace = aiohttp.TraceConfig()
                trace.on_connection_create_end.append(self._count_connection)
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(
                        # As many as the limiter has rooms for; polls have two.
                        limit=2 * budget.polls + budget.starts + budget.cancels,
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
        self.connections += 1

    async def _read_trust(self) -> ssl.SSLContext | bool:
        """Return which certificates to trust."""
        route = self.account.route
        if not route.verify:
            return False

        if not route.ca_bundle:
            return True

        # Reading certificates from the disk takes tens of milliseconds.
        return await asyncio.to_thread(self._load_certificates)

    async def _read_trust_again(self, before: ssl.SSLContext | bool) -> None:
        """Read the trusted certificates again, unless another request has done so.

        A triggerer runs for months, and the file may have been renewed since it was read.
        Connections that are open keep what they were made with.
        """
        async with self._opening:
            if self._trust is not before:
                return

            try:
                self._trust = await asyncio.to_thread(self._load_certificates)
            except AccountMisconfigured as error:
                # It has been readable: it is being replaced.
                log.warning("%s (keeping what was read before)", error.message)

    def _load_certificates(self) -> ssl.SSLContext:
        route = self.account.route
        try:
            trust = ssl.create_default_context()
            if route.ca_bundle:
                trust.load_verify_locations(cafile=route.ca_bundle)
        except (OSError, ssl.SSLError) as error:
            msg = (
                f"The certificates that the connection names in extra.ca_bundle or"
                f" extra.verify, {route.ca_bundle!r}, cannot be used, name a readable PEM"
                f" file: {error}"
            )
            raise AccountMisconfigured(msg) from None

        return trust


_NO_PROXY = (aiohttp.ClientProxyConnectionError, aiohttp.ClientConnectorDNSError)
"""What aiohttp raises where it does not reach a proxy, which alone it looks up then."""
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""What OpenSSL calls an answer that is no TLS."""
_WRITE_HTTP = "the server does not speak TLS: write http instead of https"
_ALLOW_HTTP = (
    "the server does not speak TLS: write http, and set extra.insecure_http to true"
    " where credentials may be sent unencrypted"
)


_EXPIRED = 10
"""What OpenSSL returns for a certificate that has expired (X509_V_ERR_CERT_HAS_EXPIRED)."""
_NOT_YET_VALID = 9
"""What OpenSSL returns for one that is valid later (X509_V_ERR_CERT_NOT_YET_VALID)."""


def _bad_certificate(host: str, error: aiohttp.ClientConnectorCertificateError) -> str:
    """Say why the certificate of a host does not pass, and what to do about it."""
    code = getattr(error.certificate_error, "verify_code", None)
    if code == _EXPIRED:
        return f"{host} shows a TLS certificate that has expired: have it renewed"

    if code == _NOT_YET_VALID:
        return (
            f"{host} shows a TLS certificate that is not valid yet: set this machine's"
            " clock, or have it issued again"
        )

    return (
        f"{host} shows a TLS certificate that is not trusted"
        f" {aside(str(error.certificate_error))}: name the certificate authority's file in"
        " the connection's CA bundle (extra.ca_bundle)"
    )


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
        return _WRITE_HTTP if no_tls else None

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

    It takes DELETE for safe to repeat too. A cancel that acts on any running job is
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
