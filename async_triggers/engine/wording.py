"""How messages are put together, so that the URLs in them can be followed.

What shows logs makes links of URLs, and takes the punctuation right behind one for a part
of it. So a URL stands last and bare, or has a space behind it.
"""

from __future__ import annotations

import re

_URL = re.compile(r"https?://\S+")
_PUNCTUATION = "!'()*,.:;?[]"


def spaced(text: str) -> str:
    """Return a text with a space between each URL and the punctuation behind it."""
    return _URL.sub(_apart, text) if "://" in text else text


def _apart(match: re.Match[str]) -> str:
    url = match[0].rstrip(_PUNCTUATION)
    rest = match[0][len(url) :]
    return f"{url} {rest}" if rest else url


def ends_with_url(text: str) -> bool:
    """Return True if what follows a text would touch a URL."""
    last = "" if text[-1:].isspace() else text.rpartition(" ")[2]
    return _URL.search(last) is not None


def sentence(text: str) -> str:
    """Return a text that another sentence follows, with its full stop."""
    text = text.rstrip().rstrip(".")
    return text if ends_with_url(text) else f"{text}."


def aside(text: str) -> str:
    """Return a text in parentheses."""
    return f"({text} )" if ends_with_url(text) else f"({text})"


def with_url(text: str, url: str) -> str:
    """Add a URL at the end of a text; the text as it is where there is none."""
    if not url:
        return text

    text = text.rstrip().rstrip(".")
    return f"{text} {url}" if ends_with_url(text) else f"{text}: {url}"


def begun(text: str) -> str:
    """Return a text as it stands at the beginning of a sentence."""
    return text[:1].upper() + text[1:]
