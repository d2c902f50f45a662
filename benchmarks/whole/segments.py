"""What the processes of tasks on their workers have used, see ``hooks/worker_segments``."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.whole.calls import RESUME, START

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The median process of a segment.

    ``cpu`` is in seconds, ``peak_mb`` its memory at its highest, in MB. ``modules`` is
    what it has imported, ``threads`` how many it has started, ``loops`` how many event
    loops it has opened.
    """

    count: int
    cpu: float
    peak_mb: float
    modules: int
    threads: float
    loops: float


def read_segments(folder: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Read what all processes have written down, by segment."""
    written = [json.loads(each.read_text()) for each in folder.glob("*.json")]
    written.sort(key=lambda each: each["at"])
    runs: Counter[str] = Counter()
    found: dict[str, list[Mapping[str, Any]]] = {START: [], RESUME: []}
    for each in written:
        runs[each["task"]] += 1
        found[RESUME if runs[each["task"]] > 1 else START].append(each)

    return found


def summarize(processes: Sequence[Mapping[str, Any]]) -> Segment | None:
    """Return the medians of some processes; None where there were none."""
    if not processes:
        return None

    return Segment(
        count=len(processes),
        cpu=statistics.median(each["cpu"] for each in processes),
        peak_mb=statistics.median(each["peak_mb"] for each in processes),
        modules=round(statistics.median(len(each["modules"]) for each in processes)),
        threads=statistics.median(len(each["threads"]) for each in processes),
        loops=statistics.median(each["loops"] for each in processes),
    )
