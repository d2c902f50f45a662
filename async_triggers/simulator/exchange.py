"""One request and one answer of a simulated vendor API, without any socket."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

WireFault = Literal["reset", "close", "hang", "slow", "truncate"]
"""What the server does to the connection instead of sending an answer properly."""


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One HTTP request as the simulated server sees it.

    ``path`` is decoded and carries no query; ``query`` keeps order and repetitions.
    """

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    # Not shown: they are credentials, or hold some.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @classmethod
    def to(
        cls,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        json_body: object = None,
    ) -> SimRequest:
        """Make a request from a path or URL, percent-encoded as it is sent.

        ``json_body``, where given, becomes the body and sets the content type.
        """
        parts = urlsplit(url)
        sent = dict(headers or {})
        if json_body is not None:
            body = json_bytes(json_body)
            sent.setdefault("Content-Type", "application/json")
        return cls(
            method,
            unquote(parts.path),
            parse_qsl(parts.query, keep_blank_values=True),
            sent,
            body,
        )

    def header(self, name: str, default: str = "") -> str:
        """Return a header; upper and lower case of its name are the same."""
        wanted = name.lower()
        for key, value in self.headers.items():
            if key.lower() == wanted:
                return value
        return default

    def basic_credentials(self) -> bytes:
        """Return what HTTP Basic carries, such as ``user:password``, or nothing."""
        scheme, _, value = self.header("Authorization").partition(" ")
        if scheme.lower() != "basic":
            return b""
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            return b""

    def values(self, name: str) -> list[str]:
        """Return every value of one query parameter, in order."""
        return [value for key, value in self.query if key == name]

    def value(self, name: str) -> str | None:
        """Return the last value of one query parameter, or None."""
        values = self.values(name)
        return values[-1] if values else None

    def json_object(self) -> dict[str, Any]:
        """Return the body as a JSON object.

        :raises ValueError: The body is no JSON object.
        """
        try:
            found = json.loads(self.body) if self.body else {}
        except RecursionError:
            raise ValueError("the body is nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError(f"the body must be an object, not {found!r}")  # noqa: TRY004 - one error for all bad bodies
        return found


@dataclass(frozen=True, slots=True)
class SimReply:
    """The whole answer to one request.

    ``delay`` is the number of seconds the server lets pass before it answers.
    ``fault``, where set, names what goes wrong on the wire instead: ``reset`` and
    ``close`` end the connection without an answer, ``hang`` never answers, ``slow``
    lets the body drip for ``drip`` seconds, ``truncate`` ends the connection in the
    middle of the body.
    """

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)  # it may be an access token
    delay: float = 0.0
    fault: WireFault | None = None
    drip: float = 0.0

    def json(self) -> Any:
        """Return the parsed JSON body."""
        return json.loads(self.body)

    def after(self, seconds: float) -> SimReply:
        """Return the same answer, given ``seconds`` later."""
        return replace(self, delay=self.delay + seconds) if seconds else self


class RefusalError(Exception):
    """Raised inside a simulator to answer a request with an error reply."""

    def __init__(self, reply: SimReply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_bytes(value: object) -> bytes:
    """Return a value as compact JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # A request may have brought half of a surrogate pair, which UTF-8 cannot carry.
    return text.encode("utf-8", "replace")


def json_reply(
    status: int,
    payload: object,
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> SimReply:
    """Make an answer with a JSON body."""
    sent = {"Content-Type": content_type, **(headers or {})}
    return SimReply(status, sent, json_bytes(payload))


def text_reply(status: int, text: str, *, content_type: str = "text/plain") -> SimReply:
    """Make an answer with a text body."""
    return SimReply(
        status, {"Content-Type": f"{content_type}; charset=utf-8"}, text.encode()
    )


def http_date(epoch: float) -> str:
    """Format epoch seconds as an HTTP ``Date``."""
    return formatdate(epoch, usegmt=True)


def parse_instant(text: str) -> float:
    """Read an ISO-8601 instant with a zone as epoch seconds.

    :raises ValueError: The text is no such instant.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return found.timestamp()


def micro_instant(epoch: float) -> str:
    """Format epoch seconds as an ISO-8601 instant with microseconds and ``Z``."""
    moment = datetime.fromtimestamp(epoch, UTC).replace(tzinfo=None)
    return f"{moment.isoformat(timespec='microseconds')}Z"
