"""What the suite has found: client, call, verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Verdict(NamedTuple):
    """One call of one client."""

    client: str
    call: str
    wrong: str
    note: str = ""

    @property
    def text(self) -> str:
        """The verdict as the table has it."""
        if self.wrong:
            return f"wrong: {self.wrong}"
        return f"good; {self.note}" if self.note else "good"


@dataclass(slots=True)
class Verdicts:
    """The verdicts in the order in which they came."""

    all: list[Verdict] = field(default_factory=list)

    def as_table(self) -> str:
        """Return a table in Markdown."""
        lines = ["| client | call | verdict |", "|---|---|---|"]
        for one in sorted(self.all, key=lambda one: one.client):
            cells = (one.client, f"`{one.call}`", one.text)
            lines.append(f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |")
        return "\n".join(lines) + "\n"
