"""Finding a secret in what a server repeats of what it was sent."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from html.entities import codepoint2name
from urllib.parse import quote

LONGEST_WORD = 12
"""Characters of a secret up to which it may be a word of a sentence in another case."""


def repetition_of(secret: str) -> re.Pattern[bytes]:
    r"""Return what matches a secret in a text, each of its characters in any spelling.

    Pages and JSON encoders differ in which characters they escape: Go writes ``\u0026``
    for an ampersand, others ``&amp;``, ``&#38;`` or ``%26``, or leave it as it is.
    """
    spelt = b"".join(map(_spellings, secret))
    encoded = b64encode(secret.encode(errors="surrogatepass")).rstrip(b"=")
    flags = re.IGNORECASE if len(secret) > LONGEST_WORD else re.NOFLAG
    return re.compile(spelt + b"|" + re.escape(encoded), flags)


def _spellings(char: str) -> bytes:
    """Return a pattern of the ways to write one character."""
    raw = char.encode(errors="surrogatepass")
    if char.isascii() and char.isalnum():
        return raw

    units = char.encode("utf-16-be", "surrogatepass").hex()
    pairs = [units[at : at + 4] for at in range(0, len(units), 4)]
    fixed = {
        raw,
        b"\\" + raw,
        quote(raw, safe="").encode(),
        html.escape(char).encode(errors="surrogatepass"),
        "".join(rf"\u{unit}" for unit in pairs).encode(),
    }
    if char == " ":
        fixed.add(b"+")

    if ord(char) in codepoint2name:
        fixed.add(f"&{codepoint2name[ord(char)]};".encode())

    # The longest first: a backslash may begin any other.
    ways = [re.escape(way) for way in sorted(fixed, key=len, reverse=True)]
    ways += [b"&#0*%d;" % ord(char), b"&#x0*%x;" % ord(char)]
    if len(raw) == 1:
        ways.append(rb"\\x%02x" % raw[0])

    return b"(?i:" + b"|".join(ways) + b")"
