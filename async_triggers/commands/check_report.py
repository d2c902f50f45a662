"""What a check prints, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from async_triggers import __version__
from async_triggers.deferral.finding import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXIT_CODES: Final = {Level.OK: 0, Level.NOTE: 0, Level.WARNING: 1, Level.ERROR: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What was found about one connection, or about the triggerer."""

    name: str
    kind: str
    findings: Sequence[Finding]


def worst(sections: Sequence[Section]) -> Level:
    """Return the level of the worst finding."""
    levels = (each.level for section in sections for each in section.findings)
    return max(levels, default=Level.OK)


def as_json(sections: Sequence[Section]) -> str:
    """Return the report as a JSON object."""
    report: dict[str, Any] = {
        "version": __version__,
        "worst": worst(sections).name.lower(),
        "sections": [
            {
                "name": section.name,
                "kind": section.kind,
                "worst": worst([section]).name.lower(),
                "findings": [
                    {
                        "topic": each.topic,
                        "level": each.level.name.lower(),
                        "text": each.text,
                        "fix": each.fix,
                    }
                    for each in section.findings
                ],
            }
            for section in sections
        ],
    }
    return json.dumps(report, indent=2)


def as_text(sections: Sequence[Section]) -> str:
    """Return the report as lines, and what to change once more at the end."""
    return "\n".join(_lines(sections))


def _lines(sections: Sequence[Section]) -> Iterator[str]:
    for section in sections:
        yield f"{section.name} ({section.kind})"
        width = max((len(each.topic) for each in section.findings), default=0)
        for each in section.findings:
            yield f"  {each.level.name.lower():<8} {each.topic:<{width}}  {each.text}"

        yield ""

    changes = [
        f"  {section.name}, {each.topic}: {each.fix}"
        for section in sections
        for each in section.findings
        if each.fix
    ]
    if changes:
        yield "To change:"
        yield from changes
    elif worst(sections) is Level.ERROR:
        yield "The errors above say what to correct."
    else:
        yield "Nothing to change."
