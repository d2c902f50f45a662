"""Whose answer is it? One classifier for the replies to every request.

A reply of 3xx or 4xx is the vendor's own only if its body has the shape of that vendor's
refusals (:meth:`~async_triggers.engine.wire.Vendor.is_own_refusal`). Everything else with
such a status comes from something in between: a proxy, a gateway, an ingress, a router.
The difference decides whether waiting goes on: the vendor's refusal may be final, that of
a proxy is only a late answer.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from async_triggers.engine.errors import (
    InBetween,
    PermanentError,
    Suspect,
    VendorBroken,
)
from async_triggers.engine.wire import (
    HTTP_BAD_REQUEST,
    HTTP_FORBIDDEN,
    HTTP_MULTIPLE_CHOICES,
    HTTP_NOT_FOUND,
    HTTP_PROXY_AUTHENTICATION,
    HTTP_REQUEST_TIMEOUT,
    HTTP_SERVER_ERROR,
    HTTP_TOO_EARLY,
    HTTP_TOO_MANY_REQUESTS,
    HTTP_UNAUTHORIZED,
    is_web_page,
    without_secrets,
)

if TYPE_CHECKING:
    from async_triggers.engine.errors import EngineError
    from async_triggers.engine.wire import Reply, Request, Vendor

_LOCKED = re.compile(
    rb"invalid_client|\b(is|are|been|was|temporarily|account) locked\b"
)

LONGEST_EXCERPT = 100
"""Characters of a foreign answer that a message repeats."""
_LONGEST_PAGE = 4096
"""Bytes of a web page in which the words that a person would read are looked for."""

_HIDDEN = frozenset({"script", "style", "template"})
_PORTS = {"http": 80, "https": 443}
HTTP_MISDIRECTED = 421
HTTP_LOCKED = 423
_TRY_AGAIN = frozenset({HTTP_REQUEST_TIMEOUT, HTTP_MISDIRECTED, HTTP_TOO_EARLY})
"""Statuses that say "send it again", from any server (RFC 9110, RFC 8470)."""


def classify(
    vendor: Vendor,
    request: Request,
    reply: Reply,
    *,
    masked: Reply | None = None,
    is_always_https: bool = False,
) -> EngineError:
    """Return the error that a reply stands for whose status is not a success.

    ``masked`` is the same reply without what we had sent, for the error's words: some
    servers repeat it, and what is cut short cannot be found again. ``is_always_https`` is
    the account's: the error's advice must not name http where a connection cannot.
    """
    status = reply.status
    shown = reply if masked is None else masked
    if status >= HTTP_SERVER_ERROR or status == HTTP_TOO_MANY_REQUESTS:
        return vendor.refuse(request, shown)

    if reply.is_of_proxy or not vendor.is_own_refusal(request, reply):
        error = _in_between(vendor, request, shown)
        error.suspect = _suspect(shown, is_always_https=is_always_https)
        return error

    refusal = vendor.refuse(request, shown)
    if status not in _TRY_AGAIN:
        if isinstance(refusal, PermanentError):
            refusal.is_locked = _is_locked(reply)

        return refusal

    return VendorBroken(refusal.message, status=status, ambiguous=True)


def _is_locked(reply: Reply) -> bool:
    """Return True if a refusal says that further tries will be held against us."""
    body = reply.body[:10_000].lower()
    return reply.status == HTTP_LOCKED or _LOCKED.search(body) is not None


def _in_between(vendor: Vendor, request: Request, reply: Reply) -> InBetween:
    status, excerpt = reply.status, _excerpt(reply)
    if status == HTTP_PROXY_AUTHENTICATION:
        said = (
            f"The proxy on the way to {vendor.name} requires credentials: put them into the"
            " URL in Proxy (extra.proxies)"
        )
    elif reply.is_of_proxy:
        said = f"The proxy on the way to {vendor.name} refused to connect: {status}"
    else:
        said = (
            f"Something between Airflow and {vendor.name} answered the request for"
            f" {request.about}: {status}"
        )
        said += f", {excerpt}" if excerpt else ""

    return InBetween(said, status=status, excerpt=excerpt)


def _excerpt(reply: Reply) -> str:
    """Return the beginning of a foreign answer on one line, for messages.

    For a redirect that is where it leads.
    """
    if HTTP_MULTIPLE_CHOICES <= reply.status < HTTP_BAD_REQUEST:
        text = _shown(without_secrets(reply.headers.get("location", "")))
        return f"to {text[:LONGEST_EXCERPT]}" if text else ""

    text = reply.body[:_LONGEST_PAGE].decode("utf-8", "replace")
    if not is_web_page(reply):
        return _shown(text)[:LONGEST_EXCERPT]

    words = _shown(_words_of_page(text))[:LONGEST_EXCERPT]
    return f"a page that says: {words}" if words else "a page"


class _PageWords(HTMLParser):
    """Collects the words of a page that a person would read, each piece once."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: dict[str, None] = {}
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Leave out what follows, where a browser shows none of it."""
        self._hidden += tag in _HIDDEN

    def handle_endtag(self, tag: str) -> None:
        """Go on after what a browser does not show."""
        self._hidden -= tag in _HIDDEN and self._hidden > 0

    def handle_data(self, data: str) -> None:
        """Keep a piece of text."""
        if not self._hidden and data.strip():
            self.pieces[data.strip()] = None


def _words_of_page(text: str) -> str:
    """Return what a person would read of the beginning of a page.

    The title often stands in the page once more. A tag that was cut is left out.
    """
    parser = _PageWords()
    parser.feed(text)
    return " ".join(parser.pieces)


def _shown(text: str) -> str:
    """Return a foreign text on one line, without what a terminal would obey."""
    kept = (each for each in text if each.isprintable() or each.isspace())
    return " ".join("".join(kept).split())


def _suspect(reply: Reply, *, is_always_https: bool) -> Suspect | None:
    """Return what a foreign answer says against the address in the connection."""
    status = reply.status
    if reply.is_of_proxy or status == HTTP_PROXY_AUTHENTICATION:
        return _suspect_proxy(status)

    if HTTP_MULTIPLE_CHOICES <= status < HTTP_BAD_REQUEST:
        return _suspect_redirect(reply, is_always_https=is_always_https)

    if b"HTTPS" in reply.body[:1000] and status == HTTP_BAD_REQUEST:
        return Suspect("host", "the server speaks TLS: write https instead of http")

    if is_web_page(reply):
        return Suspect(
            "host",
            "there is a web page, not the API: enter the API's address",
            is_path=True,
        )

    if status in {HTTP_UNAUTHORIZED, HTTP_FORBIDDEN, HTTP_NOT_FOUND}:
        return Suspect(
            "host",
            f"something that is not the API answers {status} there: check the host, the"
            " port and the path",
            is_path=True,
        )

    return None


def _suspect_proxy(status: int) -> Suspect:
    if status == HTTP_PROXY_AUTHENTICATION:
        fix = "write it as http://user:password@host:port"
    else:
        fix = (
            f"the proxy answers {status} where it should connect: check its address, and"
            " whether it lets requests through to the API"
        )

    return Suspect("extra.proxies", fix)


def _suspect_redirect(reply: Reply, *, is_always_https: bool) -> Suspect | None:
    here = urlsplit(reply.url)
    try:
        there = urlsplit(urljoin(reply.url, reply.headers.get("location", "")))
        is_same = _origin(here) == _origin(there)
    except ValueError:
        # It leads nowhere, and says nothing about the address.
        return None

    if is_same:
        return None

    is_less_safe = (here.scheme, there.scheme) == ("https", "http")
    if is_always_https and is_less_safe and here.hostname == there.hostname:
        fix = (
            "the server redirects to http: write http, and set extra.insecure_http to"
            " true where credentials may be sent unencrypted"
        )
        return Suspect("host", fix)

    address = without_secrets(f"{there.scheme}://{there.netloc}")
    if is_always_https and is_less_safe:
        # A host without a scheme is requested by https.
        address = address.removeprefix("http://")

    if there.hostname != here.hostname and not _is_same_place(here.path, there.path):
        # What moves an API keeps the path. This is a login page, or the like.
        fix = (
            f"requests are redirected to another page, at {address} : enter the API's"
            " address, or let requests to the API pass without a login"
        )
        return Suspect("host", fix)

    return Suspect("host", f"write the address {address} that the server redirects to")


def _is_same_place(here: str, there: str) -> bool:
    """Return whether a path that a redirect leads to may be the API's."""
    return there in {"", "/"} or there.endswith(here)


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Return what a URL is requested from; raise ValueError where that is nothing."""
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)
