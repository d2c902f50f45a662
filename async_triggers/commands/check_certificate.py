"""Checks how long the certificates of an account's servers are still valid."""

from __future__ import annotations

import http.client
import ssl
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from yarl import URL

from async_triggers.deferral.finding import Finding, Level
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.engine.http import HttpSession

if TYPE_CHECKING:
    from async_triggers.engine.wire import Account

ENOUGH: Final = timedelta(days=30)
"""How long a certificate must still be valid to pass."""
HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """From when to when a server's certificate is valid."""

    host: str
    begins: datetime
    ends: datetime


def check_certificates(account: Account) -> list[Finding]:
    """Return a finding for each https server of the account.

    A server that cannot be reached has none: the first request says why. Only TLS is
    spoken; no request is sent.
    """
    read = [_read_validity(server, account) for server in _https_servers(account)]
    now = datetime.now(UTC)
    return [
        judge(validity, now, is_checked=account.route.verify)
        for validity in read
        if validity is not None
    ]


def judge(validity: Validity, now: datetime, *, is_checked: bool) -> Finding:
    """Return what the dates of a certificate mean for tasks that begin ``now``.

    Where certificates are not checked, one that is not valid stops nothing.
    """
    stops = Level.ERROR if is_checked else Level.WARNING
    name = f"the certificate of {validity.host}"
    left = validity.ends - now
    until = f"{validity.ends:%Y-%m-%d}"
    if now < validity.begins:
        return Finding(
            topic="TLS",
            level=stops,
            text=f"{name} is not valid before {validity.begins:%Y-%m-%d %H:%M} UTC",
            fix="Set this machine's clock, or have the certificate issued again",
        )

    if left <= timedelta():
        ago = _in_days(-left)
        return Finding(
            topic="TLS",
            level=stops,
            text=f"{name} expired {ago} ago, on {until}",
            fix=f"Have the certificate of {validity.host} renewed",
        )

    is_short = left < ENOUGH
    return Finding(
        topic="TLS",
        level=Level.WARNING if is_short else Level.OK,
        text=f"{name} is valid for {_in_days(left)} more, until {until}",
        fix=f"Have it renewed before {until}" if is_short else "",
    )


def _https_servers(account: Account) -> list[URL]:
    found: dict[URL, None] = {}
    for text in (account.base_url, account.credentials.token_url):
        # The first request says what is wrong with an address that cannot be read.
        with suppress(ValueError):
            url = URL(text)
            if url.scheme == "https":
                found[url.origin()] = None

    return list(found)


def _in_days(span: timedelta) -> str:
    if span < timedelta(days=1):
        return "less than a day"

    return "1 day" if span.days == 1 else f"{span.days:,} days"


def _read_validity(server: URL, account: Account) -> Validity | None:
    try:
        shown = _shown_by(server, account)
    except (OSError, http.client.HTTPException, AccountMisconfigured):
        return None

    if shown is None:
        return None

    try:
        certificate = x509.load_der_x509_certificate(shown)
    except ValueError:
        return None

    return Validity(
        host=server.host or "",
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
    )


def _shown_by(server: URL, account: Account) -> bytes | None:
    """Return the certificate that a server shows, in DER; also one that is not trusted."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    host, port = server.host or "", server.port or HTTPS_PORT
    proxy = _proxy(server, account)
    entry = proxy or server
    connection = http.client.HTTPSConnection(
        entry.host or "",
        entry.port or HTTPS_PORT,
        timeout=account.route.connect,
        context=trust,
    )
    if proxy is not None:
        connection.set_tunnel(host, port, headers=_proof_for(proxy))

    try:
        connection.connect()
        sock = connection.sock
        return sock.getpeercert(binary_form=True) if sock else None
    finally:
        connection.close()


def _proxy(server: URL, account: Account) -> URL | None:
    found = HttpSession(account).proxy(server)
    if found is None:
        return None

    proxy = URL(found)
    if proxy.scheme != "http":
        msg = "TLS within the TLS of a proxy"
        raise http.client.HTTPException(msg)

    return proxy


def _proof_for(proxy: URL) -> dict[str, str]:
    if proxy.user is None:
        return {}

    pair = f"{proxy.user}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(pair).decode()}"}
