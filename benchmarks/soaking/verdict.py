"""What must not be: growth, drift, excess and loss, as findings in words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.sides import TITLES
from benchmarks.soaking.meter import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.soaking.meter import Hour
    from benchmarks.soaking.play import Outcome

WARM = 2
"""Hours until all that is loaded and cached once is there."""
OBJECTS_PER_JOB = 0.1
"""Traced objects that a job may leave behind: nine of ten leave none at all."""
OBJECTS = 1500
"""Traced objects by which two counts of the same state may differ."""
KB_PER_JOB = 0.5
"""Memory that a job may seem to leave behind: freed memory is in pieces."""
MB = 8.0
"""Memory by which two counts of the same may differ."""
DESCRIPTORS = 8
TASKS = 4
ENTRIES = 16
"""By how much the size of a container may differ."""
DRIFT = 0.001
"""Seconds by which sums of intervals may be off."""
ROUND_LATE = 5.0
"""Seconds after its place on the grid at which a round begins at the latest."""


def findings(hours: Sequence[Hour], outcome: Outcome) -> list[str]:
    """Return what is wrong, empty where all is well."""
    return [*_growth(hours), *_rates(hours), *_losses(outcome), *_rest(outcome)]


def _growth(hours: Sequence[Hour]) -> Iterator[str]:
    if len(hours) <= WARM:
        return

    first, last = hours[WARM - 1], hours[-1]
    jobs = sum(each.ended for each in hours[WARM:])
    more = last.objects - first.objects
    if more > OBJECTS + OBJECTS_PER_JOB * jobs:
        yield f"{more} more traced objects after {jobs} jobs"

    grown = last.resident_mb - first.resident_mb
    if grown > MB + KB_PER_JOB * jobs / 1000:
        yield f"{grown:.1f} MB more memory after {jobs} jobs"

    for name, before, after, most in (
        ("open files", first.descriptors, last.descriptors, DESCRIPTORS),
        ("tasks of the loop", first.tasks, last.tasks, TASKS),
        ("accounts", first.accounts, last.accounts, 0),
    ):
        if after > before + most + max(0, last.waiting - first.waiting):
            yield f"{name}: {before} after {first.hour} h, {after} after {last.hour} h"

    for path, size in last.tables.items():
        before = first.tables.get(path, 0)
        if size > before + ENTRIES + max(0, last.waiting - first.waiting):
            yield f"{path} has grown from {before} to {size} entries"


def _rates(hours: Sequence[Hour]) -> Iterator[str]:
    for each in hours:
        if each.grid_drift > DRIFT:
            yield f"hour {each.hour}: the grid has moved by {each.grid_drift} s"

        if each.round_late > ROUND_LATE:
            yield f"hour {each.hour}: a round began {each.round_late} s late"

        for vendor, (limit, seconds) in LIMITS.items():
            if limit is not None and each.busiest.get(vendor, 0) > limit:
                yield (
                    f"hour {each.hour}: {each.busiest[vendor]} requests to"
                    f" {TITLES[vendor]} in {seconds:g} s"
                )

        if each.broken_rounds:
            yield f"hour {each.hour}: {each.broken_rounds} rounds broke down"


def _losses(outcome: Outcome) -> Iterator[str]:
    if outcome.never:
        yield f"{outcome.never} ends were never reported"

    if outcome.late:
        yield f"{outcome.late} ends were reported late without trouble"

    for words, count in outcome.wrong.items():
        yield f"{count} tasks ended as they should not: {words}"

    if outcome.cancels != outcome.to_cancel:
        yield f"{outcome.cancels} jobs were cancelled, not {outcome.to_cancel}"


def _rest(outcome: Outcome) -> Iterator[str]:
    before, after = outcome.before, outcome.after
    if after.accounts or after.waiting:
        yield f"{after.accounts} accounts stay open with {after.waiting} waiting"

    if after.descriptors > before.descriptors:
        yield f"{after.descriptors - before.descriptors} files stay open at the end"

    if after.tasks > before.tasks:
        yield f"{after.tasks - before.tasks} tasks stay at the end"
