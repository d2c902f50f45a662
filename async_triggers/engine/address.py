"""Where a vendor's API is, from what people write into the host of a connection."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from async_triggers.engine.errors import AccountMisconfigured

# What no name has, and what urlsplit() takes for a part of one.
_NO_HOST = re.compile(r"[\s\x00-\x1f,;\\\"'<>|^`{}]")


@dataclass(frozen=True, slots=True)
class Address:
    """A host that was given, taken apart.

    :ivar host: the name or number, an IPv6 address without its brackets
    :ivar origin: scheme, host and port, such as ``https://api.example.com:8000``
    :ivar path: what follows, without a slash at its end; empty, or begins with a slash
    """

    host: str
    origin: str
    path: str


def read_address(
    text: str, *, port: int | None, scheme: str, credentials: str, form: str
) -> Address:
    """Read a host or a URL; ``port`` and ``scheme`` count where it names none.

    :param credentials: where the connection has its user and password, for the message
        about a host that holds them
    :param form: what is wrong with any other host, and how to write one
    :raises AccountMisconfigured: it is no address, or holds a user or a password
    """
    if "@" in text:
        # Also behind a slash, which a password may hold.
        msg = f"host holds credentials: {credentials}"
        raise AccountMisconfigured(msg)

    if "://" not in text:
        text = f"{scheme}://{text}"

    try:
        parts = urlsplit(text)
        number = parts.port or port
        host = _in_ascii(parts.hostname or "")
    except ValueError:
        parts, number, host = urlsplit(""), None, ""

    # What the host holds is not repeated: it may be a password.
    if (
        parts.scheme not in {"http", "https"}
        or not host
        or _NO_HOST.search(host)
        # http:/host, where the scheme was added.
        or (host in {"http", "https"} and parts.path)
    ):
        raise AccountMisconfigured(form)

    name = f"[{host}]" if ":" in host else host
    return Address(
        host=host,
        origin=f"{parts.scheme}://{name}" + (f":{number}" if number else ""),
        path=quoted(parts.path.rstrip("/")),
    )


def quoted(text: str) -> str:
    """Return a URL, or its path, with blanks and letters beyond ASCII as URLs have them.

    Elsewhere a request line would break in two, and so would the link in a log.
    """
    return quote(text, safe="%/:@!$&'()*+,;=~?#[]")


def _in_ascii(host: str) -> str:
    """Return a name as it is looked up; raise ValueError where no name is written so."""
    return host if ":" in host else host.encode("idna").decode()


def read_https_address(
    text: str,
    *,
    port: int | None,
    scheme: str,
    insecure: bool,
    credentials: str,
    form: str,
) -> Address:
    """Read an address as :func:`read_address` does, to which only https may lead.

    What says http is read as https, without a port that was meant for http. It stays where
    ``insecure`` allows that, and on the machine itself.
    """
    given = read_address(
        text, port=port, scheme=scheme, credentials=credentials, form=form
    )
    if given.origin.startswith("https:"):
        return replace(given, origin=given.origin.removesuffix(":80"))

    if insecure or is_loopback(given.host):
        return given

    # The port of the connection belongs to its scheme, that of the host to the host.
    bare = read_address(
        text, port=None, scheme=scheme, credentials=credentials, form=form
    )
    origin = bare.origin.replace("http:", "https:", 1).removesuffix(":80")
    return replace(bare, origin=origin)


def is_loopback(host: str | None) -> bool:
    """Return True for a host that is this machine, in any spelling."""
    if host is None:
        return False

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
