"""What Airflow's log view makes a link of, and what of a message would harm it."""

from __future__ import annotations

import re
from collections.abc import Iterator

SOURCE = (
    "airflow-core/src/airflow/ui/src/constants/urlRegex.ts, used by addAnsiWithLinks in"
    " components/renderStructuredLog.tsx; the same in the built UI of Airflow 3.3.2"
)
LINK = re.compile(
    r"https?:\/\/[\w.-]+(?:\.?:[\w.-]+)*(?:[#/?][\w!#$%&'()*+,./:;=?@[\]~-]*)?",
    re.ASCII,
)
"""The rule, as it stands there: punctuation behind a URL belongs to the link."""

PUNCTUATION = "!'()*,.:;?[]"


def links_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield each link that is shown, and what follows it on its line."""
    for line in text.splitlines():
        for match in LINK.finditer(line):
            yield match[0], line[match.end() :]


def harmed_in(text: str) -> list[str]:
    """Return the links that are not the URLs that were meant."""
    return [link for link, _ in links_of(text) if link[-1] in PUNCTUATION]
