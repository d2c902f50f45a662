"""The tables of what tasks cost a whole Airflow: ratios first."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.sides import TITLES
from benchmarks.whole.calls import RESUME, START
from benchmarks.whole.ways import FLOOR, WAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.whole.play import Cost
    from benchmarks.whole.segments import Segment

CALL = 0.025
"""Seconds of CPU, of worker and server together, that one call to Airflow may take."""
NONE = "-"
"""Where there is nothing to show."""
_SPACE = "\N{NO-BREAK SPACE}"
_WAYS = {way.name: way for way in WAYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What a way's ratios to the official provider should be at most; None: no target.

    ``calls`` is a number of calls and no ratio. The target of the CPU above the floor is
    what :func:`allowed` returns.
    """

    cpu: float
    wall: float | None = None
    late: float | None = None
    start: float | None = 0.8
    resume: float | None = 0.8
    memory: float | None = 0.9
    calls: float | None = 11.0


_DEFERRABLE = Targets(cpu=0.9, wall=0.95, late=1.0)
_TARGETS: Mapping[str, Targets] = {
    "ours": _DEFERRABLE,
    "ours_fresh": _DEFERRABLE,
    "ours_spare": _DEFERRABLE,
    "ours_ended": Targets(cpu=0.6, resume=None),
    "ours_sensors": Targets(cpu=0.22, start=None, resume=None, memory=None, calls=None),
    "ours_common": _DEFERRABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Medians:
    """What a way has cost in the median round; times in seconds.

    ``above`` is the CPU that a round took above the floor of the same round, None without
    a floor. ``median`` and ``slowest`` are from a job's end to its task's end. ``calls``
    are those to Airflow's API server, of one task. The two processes of a task are
    ``start`` and ``resume``, None where a way has no such process.
    """

    vendor: str
    way: str
    rounds: int
    tasks: int
    wall: float
    workers: float
    cpu: float
    above: float | None
    median: float | None
    slowest: float | None
    requests: float
    calls: float
    start: Segment | None
    resume: Segment | None


def medians_of(rounds: Sequence[Sequence[Cost]]) -> list[Medians]:
    """Return the medians of each way over the rounds: the floor, then by vendor."""
    floors = [_floor(costs) for costs in rounds]
    kinds: dict[tuple[str, str], list[tuple[Cost, float | None]]] = {}
    for costs, floor in zip(rounds, floors, strict=True):
        for cost in costs:
            above = None if floor is None else cost.cpu - floor.cpu
            kinds.setdefault((cost.vendor, cost.way), []).append((cost, above))

    def place(kind: tuple[str, str]) -> tuple[bool, int, int]:
        vendor, way = kind
        return way != FLOOR.name, [*TITLES].index(vendor), [*_WAYS].index(way)

    return [_medians(kinds[kind]) for kind in sorted(kinds, key=place)]


def _floor(costs: Iterable[Cost]) -> Cost | None:
    return next((cost for cost in costs if cost.way == FLOOR.name), None)


def _medians(found: Sequence[tuple[Cost, float | None]]) -> Medians:
    costs = [cost for cost, _ in found]
    above = [each for _, each in found if each is not None]
    delays = [cost.delays for cost in costs if cost.delays]
    first = costs[0]
    return Medians(
        vendor=first.vendor,
        way=first.way,
        rounds=len(costs),
        tasks=first.tasks,
        wall=statistics.median(cost.wall for cost in costs),
        workers=statistics.median(cost.workers for cost in costs),
        cpu=statistics.median(cost.cpu for cost in costs),
        above=statistics.median(above) if above else None,
        median=statistics.median(map(statistics.median, delays)) if delays else None,
        slowest=statistics.median(map(max, delays)) if delays else None,
        requests=statistics.median(cost.requests for cost in costs),
        calls=statistics.median(calls_of_a_task(cost) for cost in costs),
        start=_typical(cost.segments.get(START) for cost in costs),
        resume=_typical(cost.segments.get(RESUME) for cost in costs),
    )


def _typical(segments: Iterable[Segment | None]) -> Segment | None:
    known = [each for each in segments if each is not None]
    if not known:
        return None

    return replace(
        known[0],
        cpu=statistics.median(each.cpu for each in known),
        peak_mb=statistics.median(each.peak_mb for each in known),
    )


def calls_of_a_task(cost: Cost) -> float:
    """Return how many calls to the API server one task has made."""
    return sum(sum(calls.values()) for calls in cost.calls.values()) / cost.tasks


def allowed(ours: Medians, theirs: Medians) -> float | None:
    """Return the CPU above the floor that a way may take.

    That is what the other one takes, and what each call more may take that a promise needs.
    """
    if theirs.above is None:
        return None

    more = max(0.0, ours.calls - theirs.calls)
    return theirs.above + CALL * more * ours.tasks


def ratio(ours: float | None, theirs: float | None, most: float | None = None) -> str:
    """Return a ratio as text, a dash where there is none; in bold above ``most``."""
    if ours is None or theirs is None or theirs <= 0:
        return NONE

    return _judged(f"{ours / theirs:.2f}", most)


def _judged(shown: str, most: float | None) -> str:
    """Return a number in bold where it misses its target, as precisely as it is shown."""
    return f"**{shown}**" if most is not None and float(shown) > most else shown


def ratio_table(found: Sequence[Medians]) -> str:
    """Return each way's ratios to the official provider as a table in Markdown.

    What misses its target is bold. The last rows hold the targets.
    """
    rows = _head(
        "",
        "CPU",
        "CPU above the floor",
        "… allowed",
        "wall time",
        "from job's end to task's end",
        "CPU at start",
        "CPU at resume",
        "memory",
        "calls to Airflow",
    )
    known = {(each.vendor, each.way): each for each in found}
    compared: list[str] = []
    for ours in found:
        theirs = known.get((ours.vendor, _WAYS[ours.way].against))
        if theirs is not None:
            rows.append(_ratio_row(ours, theirs))
            compared.append(ours.way)

    rows += [_target_row(way) for way in _TARGETS if way in compared]
    return "\n".join(rows) + "\n"


def _ratio_row(ours: Medians, theirs: Medians) -> str:
    targets = _TARGETS[ours.way]
    most = ratio(allowed(ours, theirs), theirs.above)
    cells = [
        _title(ours),
        ratio(ours.cpu, theirs.cpu, targets.cpu),
        ratio(ours.above, theirs.above, None if most == NONE else float(most)),
        most,
        ratio(ours.wall, theirs.wall, targets.wall),
        ratio(ours.median, theirs.median, targets.late),
        ratio(_cpu(ours.start), _cpu(theirs.start), targets.start),
        ratio(_cpu(ours.resume), _cpu(theirs.resume), targets.resume),
        ratio(_peak(ours), _peak(theirs), targets.memory),
        f"{_judged(f'{ours.calls:.0f}', targets.calls)} to {theirs.calls:.0f}",
    ]
    return _row(cells)


def _target_row(way: str) -> str:
    each = _TARGETS[way]
    shares = [each.wall, each.late, each.start, each.resume, each.memory]
    cells = [
        f"*target*: {_WAYS[way].title}",
        _limit(each.cpu),
        "what is allowed",
        NONE,
        *map(_limit, shares),
        NONE if each.calls is None else f"≤{_SPACE}{each.calls:.0f}",
    ]
    return _row(cells)


def _limit(most: float | None) -> str:
    return NONE if most is None else f"≤{_SPACE}{most:.2f}"


def _title(found: Medians) -> str:
    title = _WAYS[found.way].title
    return title if found.way == FLOOR.name else f"{TITLES[found.vendor]}: {title}"


def _cpu(segment: Segment | None) -> float | None:
    return None if segment is None else segment.cpu


def _peak(found: Medians) -> float | None:
    known = [each.peak_mb for each in (found.start, found.resume) if each is not None]
    return max(known, default=None)


def cost_table(found: Sequence[Medians]) -> str:
    """Return what each way has cost as a table in Markdown."""
    rows = _head(
        "way",
        "rounds",
        "wall time",
        "worker processes",
        "CPU",
        "… above the floor",
        "from job's end: median, longest",
        "CPU of a start, a resume",
        "memory",
        "requests",
    )
    for each in found:
        above = NONE if each.above is None else f"{each.above:.0f} s"
        late = (
            NONE
            if each.median is None
            else f"{each.median:.1f} s, {each.slowest:.1f} s"
        )
        used = ", ".join(
            NONE if cpu is None else f"{cpu * 1000:.0f} ms"
            for cpu in (_cpu(each.start), _cpu(each.resume))
        )
        peak = _peak(each)
        memory = NONE if peak is None else f"{peak:.0f} MB"
        cells = [
            _title(each),
            f"{each.rounds}",
            f"{each.wall:.0f} s",
            f"{each.workers:.0f}",
            f"{each.cpu:.0f}{_SPACE}s",
            above,
            late,
            used,
            memory,
            f"{each.requests:.0f}",
        ]
        rows.append(_row(cells))

    return "\n".join(rows) + "\n"


def call_table(costs: Sequence[Cost]) -> str:
    """Return the calls of one task by segment, a column for each run."""
    kinds: dict[tuple[str, str], None] = {}
    for segment in (START, RESUME):
        for cost in costs:
            kinds |= dict.fromkeys((segment, what) for what in cost.calls[segment])

    rows = [
        _row(["segment", "call", *map(_name, costs)]),
        _row(["---", "---", *["---:" for _ in costs]]),
    ]
    ordered = sorted(kinds, key=lambda kind: kind[0] == RESUME)
    for segment, what in ordered:
        counts = [cost.calls[segment].get(what, 0) / cost.tasks for cost in costs]
        rows.append(_row([segment, what, *(_count(each) for each in counts)]))

    totals = [f"**{calls_of_a_task(cost):g}**" for cost in costs]
    rows.append(_row(["both", "**all**", *totals]))
    return "\n".join(rows) + "\n"


def process_table(costs: Sequence[Cost]) -> str:
    """Return what the processes of a task have used by segment, a column for each run."""
    measures: Mapping[str, str] = {
        "cpu": "CPU, ms",
        "peak_mb": "memory, MB",
        "modules": "modules imported",
        "threads": "threads started",
        "loops": "event loops opened",
    }
    rows = [
        _row(["segment", "of the worker process", *map(_name, costs)]),
        _row(["---", "---", *["---:" for _ in costs]]),
    ]
    for segment in (START, RESUME):
        for field, title in measures.items():
            cells = [_measure(cost.segments.get(segment), field) for cost in costs]
            rows.append(_row([segment, title, *cells]))

    lines = [f"{cost.lines / cost.tasks:.0f}" for cost in costs]
    rows.append(_row(["both", "lines logged", *lines]))
    return "\n".join(rows) + "\n"


def _measure(segment: Segment | None, field: str) -> str:
    if segment is None:
        return NONE

    value = float(getattr(segment, field))
    return f"{value * 1000 if field == 'cpu' else value:.0f}"


def _name(cost: Cost) -> str:
    if cost.way == FLOOR.name:
        return "floor"

    side = "official" if _WAYS[cost.way].is_peer else "this package"
    more = {"ours_ended": ", `end_from_trigger`", "ours_fresh": ", `preload = False`"}
    return f"{TITLES[cost.vendor]}: {side}{more.get(cost.way, '')}"


def _count(value: float) -> str:
    return f"{value:g}" if value else ""


def _head(first: str, *numbers: str) -> list[str]:
    """Return the head of a table whose columns but the first hold numbers."""
    return [_row([first, *numbers]), _row(["---", *["---:" for _ in numbers]])]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
