"""What is told of it, in lines and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.sides import TITLES, VENDORS
from benchmarks.trouble.cases import CASES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.cells import Fare
    from benchmarks.sides import Side
    from benchmarks.trouble.cases import Case, Result
    from benchmarks.trouble.ends import Ended

_SHORTEST = 60


def tell(result: Result) -> str:
    """Say in a line what became of a cell."""
    words = [result.verdict]
    if result.survived and result.late is not None:
        words[0] += f", {result.late:.1f} s late"

    if not result.survived and result.answered:
        words[0] += f": {_short(result.fare)}"

    if result.blocked:
        words.append(f"loop blocked for {result.fare.blocked:.1f} s")

    return "; ".join(words)


def _short(fare: Fare) -> str:
    text = " ".join(fare.message.split()) or fare.status
    return text if len(text) <= _SHORTEST else f"{text[:_SHORTEST]}…"


def table(
    results: Sequence[Result], sides: Sequence[Side], cases: Sequence[Case] = CASES
) -> str:
    """Write the results as a table in Markdown, and what they come to before it."""
    found = {
        (each.cell.case.name, each.cell.vendor, each.cell.side): each
        for each in results
    }
    vendors = [
        vendor
        for vendor in VENDORS
        if any(result.cell.vendor == vendor for result in results)
    ]
    columns = [(vendor, side) for vendor in vendors for side in sides]
    sums = [
        "| trigger | survived | failed the task | never answered | blocked the loop |"
    ]
    sums.append("| --- | --- | --- | --- | --- |")
    for vendor, side in columns:
        own = [
            each
            for each in results
            if (each.cell.vendor, each.cell.side) == (vendor, side)
            and each.cell.case.name != "none"
        ]
        counts = (
            sum(each.survived for each in own),
            sum(each.verdict == "failed the task" for each in own),
            sum(not each.answered for each in own),
            sum(each.blocked for each in own),
        )
        shown = " | ".join(f"{count} of {len(own)}" for count in counts)
        sums.append(f"| {_title(vendor, side)} | {shown} |")

    head = " | ".join(_title(vendor, side) for vendor, side in columns)
    lines = [f"| trouble | {head} |", "| --- |" + " --- |" * len(columns)]
    for case in cases:
        row = [found.get((case.name, vendor, side)) for vendor, side in columns]
        if any(row):
            shown = " | ".join("n/a" if each is None else _entry(each) for each in row)
            lines.append(f"| {case.title} | {shown} |")

    return "\n".join([*sums, "", *lines, ""])


def _title(vendor: str, side: Side) -> str:
    return f"{TITLES[vendor]}, {'ours' if side == 'ours' else 'official'}"


def _entry(result: Result) -> str:
    words = [result.verdict if result.survived else f"**{result.verdict}**"]
    if result.survived and result.late is not None:
        words.append(f"{result.late:.1f} s late")

    if not result.survived and result.answered:
        text = _short(result.fare).replace("|", "\\|").replace("`", "'")
        words.append(f"`{text}`")

    if result.blocked:
        words.append(f"**blocked the loop** for {result.fare.blocked:.1f} s")

    return ", ".join(words)


def tell_end(ended: Ended) -> str:
    """Say in a line how a wait ended that could not come to anything."""
    when = "goes on" if ended.after is None else f"failed after {duration(ended.after)}"
    spent = "" if ended.requests is None else f", {ended.requests} requests"
    return f"{ended.name}/{ended.vendor}: {when}{spent}: {ended.message}"


def duration(seconds: float) -> str:
    """Write a duration as people read it."""
    if seconds < 120:
        return f"{seconds:.0f} s"

    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 120 else f"{hours:.1f} h"


def ends_table(ended: Sequence[Ended]) -> str:
    """Write how the waits ended as a table in Markdown."""
    lines = [
        "| what is over | vendor | the task fails after | requests meanwhile | it says |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in ended:
        when = "**goes on**" if each.after is None else duration(each.after)
        spent = "-" if each.requests is None else str(each.requests)
        text = " ".join(each.message.split()).replace("|", "\\|").replace("`", "'")
        said = f"`{text}`" if text else "-"
        vendor = TITLES[each.vendor]
        lines.append(f"| {each.title} | {vendor} | {when} | {spent} | {said} |")

    return "\n".join([*lines, ""])
