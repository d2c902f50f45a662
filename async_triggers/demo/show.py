"""How the demo looks: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from async_triggers.demo.airflow_api import FINISHED
from async_triggers.demo.measure import wrong_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import Console, RenderableType

    from async_triggers.demo.airflow_api import TaskInstance
    from async_triggers.demo.measure import Moment, Outcome
    from async_triggers.demo.scenarios import EventScenario, Scenario

_COLUMNS = ("running", "deferred", "success", "failed")
# Seconds between two plain lines: with news, and without.
_PLAIN_EVERY = 5.0
_PLAIN_STILL = 20.0
_COLOURS = {"success": "green", "failed": "red", "deferred": "magenta"}


class Progress:
    """Shows one moment after the other, as a context manager around them."""

    def __init__(self, console: Console, scenarios: Sequence[Scenario]) -> None:
        self._console = console
        self._scenarios = scenarios
        self._live = (
            Live(console=console, auto_refresh=False) if console.is_terminal else None
        )
        self._shown = ""
        self._shown_at = float("-inf")

    def __enter__(self) -> Self:
        """Take the terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture where it stands."""
        if self._live is not None:
            self._live.stop()

    def show(self, moment: Moment) -> None:
        """Show what is the case now; on no terminal only news, every few seconds."""
        if self._live is not None:
            self._live.update(progress_table(self._scenarios, moment), refresh=True)
            return
        line = progress_line(moment)
        silent = moment.elapsed - self._shown_at
        if silent >= (_PLAIN_STILL if line == self._shown else _PLAIN_EVERY):
            self._shown, self._shown_at = line, moment.elapsed
            self._console.print(f"{moment.elapsed:5.0f} s  {line}", soft_wrap=True)


def progress_table(scenarios: Iterable[Scenario], moment: Moment) -> RenderableType:
    """Return the live table: a row for each DAG, and the totals below."""
    table = Table(title="DAGs", title_justify="left", expand=False)
    table.add_column("DAG", no_wrap=True)
    for state in _COLUMNS:
        table.add_column(state, justify="right", no_wrap=True)
    table.add_column("jobs", justify="right")
    table.add_column("slots", justify="right")
    for scenario in scenarios:
        now = moment.samples[scenario.dag_id]
        table.add_row(
            scenario.dag_id,
            *(_number(now.states.get(state, 0), state) for state in _COLUMNS),
            str(now.jobs),
            str(now.slots),
        )
    totals = Text.assemble(
        f"{moment.elapsed:4.0f} s   jobs in flight ",
        (str(moment.jobs), "bold"),
        "   worker slots held ",
        (f"{moment.slots} of {moment.capacity}", "bold"),
        "   API requests made ",
        (str(moment.requests), "bold"),
    )
    if moment.events:
        totals.append(f"\n         {_started_by_events(moment)}")

    return Group(table, totals)


def progress_line(moment: Moment) -> str:
    """Return the same in one line of plain text."""
    states: Counter[str] = Counter()
    for now in moment.samples.values():
        states.update(now.states)
    return (
        f"jobs in flight {moment.jobs}, "
        f"worker slots held {moment.slots} of {moment.capacity}, "
        f"API requests made {moment.requests}; tasks: "
        + ", ".join(f"{states[state]} {state}" for state in _COLUMNS if states[state])
    ).removesuffix("; tasks: ") + (
        f"; {_started_by_events(moment)}" if moment.events else ""
    )


def unfinished(moment: Moment) -> str:
    """Return which DAGs are not over, and what their tasks do."""
    found = [
        f"{dag_id}: "
        + (", ".join(f"{n} {state}" for state, n in now.states.items()) or "no tasks")
        for dag_id, now in moment.samples.items()
        if not now.over
    ]
    found += [
        f"{dag_id}: runs that an event has started: {', '.join(states) or 'none'}"
        for dag_id, states in moment.events.items()
        if not FINISHED.intersection(states)
    ]
    return "; ".join(found)


def _started_by_events(moment: Moment) -> str:
    started = sum(bool(states) for states in moment.events.values())
    return f"DAGs started by events: {started} of {len(moment.events)}"


def summary(
    outcomes: Sequence[Outcome],
    *,
    requested: Mapping[str, Mapping[str, int]],
    status_requests: Mapping[str, Iterable[str]],
    at_once: int,
    events: Sequence[EventScenario],
    runs: Mapping[str, Sequence[str]],
) -> RenderableType:
    """Return all that the demo came to.

    ``requested`` counts each vendor's requests by endpoint, ``status_requests`` are
    those for the status of jobs, and ``at_once`` is how many jobs of all
    scenarios ran at one time. ``runs`` holds the states of the runs of the DAGs that
    ``events`` have started.
    """
    return Group(
        _tasks_table(outcomes),
        _waiting_table(outcomes),
        *([_events_table(events, runs)] if events else []),
        *(
            _requests(
                vendor,
                counts,
                status=status_requests[vendor],
                separate=sum(
                    outcome.separate
                    for outcome in outcomes
                    if outcome.scenario.vendor == vendor
                ),
            )
            for vendor, counts in requested.items()
        ),
        Text(f"At most {at_once} jobs ran at once."),
        *(
            Text(f"{outcome.scenario.dag_id}: {wrong}", style="red")
            for outcome in outcomes
            for wrong in outcome.wrong
        ),
        *(Text(wrong, style="red") for wrong in wrong_events(runs)),
    )


def _tasks_table(outcomes: Iterable[Outcome]) -> Table:
    table = Table(title="Final states", title_justify="left")
    table.add_column("DAG", no_wrap=True)
    table.add_column("task")
    table.add_column("state")
    table.add_column("attempts", justify="right")
    for outcome in outcomes:
        for label, state, attempts in _task_rows(outcome.tasks):
            style = _COLOURS.get(state, "yellow")
            table.add_row(
                outcome.scenario.dag_id, label, Text(state, style=style), attempts
            )
    return table


def _task_rows(tasks: Iterable[TaskInstance]) -> Iterable[tuple[str, str, str]]:
    """Group neighbours of a mapped task that came to the same end into one row."""

    def end(ti: TaskInstance) -> tuple[str, str, int]:
        return ti.task_id, str(ti.state), ti.try_number

    for (task_id, state, attempts), group in groupby(tasks, key=end):
        alike = list(group)
        label = alike[0].label
        if len(alike) > 1:
            label = f"{task_id}[{alike[0].map_index}-{alike[-1].map_index}]"
        yield label, state, str(attempts)


def _waiting_table(outcomes: Iterable[Outcome]) -> Table:
    table = Table(title="While the jobs ran", title_justify="left")
    table.add_column("DAG", no_wrap=True)
    table.add_column("what it shows")
    table.add_column("jobs at once", justify="right")
    table.add_column("worker slots held", justify="right")
    for outcome in outcomes:
        held = "?" if outcome.slots is None else str(outcome.slots)
        table.add_row(
            outcome.scenario.dag_id,
            outcome.scenario.shows,
            str(outcome.at_once),
            held,
        )
    return table


def _events_table(
    events: Iterable[EventScenario], runs: Mapping[str, Sequence[str]]
) -> Table:
    table = Table(title="Started by events", title_justify="left")
    table.add_column("DAG", no_wrap=True)
    table.add_column("what it shows")
    for title in ("runs", "succeeded"):
        table.add_column(title, justify="right")
    for event in events:
        states = runs[event.dag_id]
        succeeded = str(states.count("success"))
        table.add_row(event.dag_id, event.shows, str(len(states)), succeeded)
    return table


def _requests(
    vendor: str,
    counts: Mapping[str, int],
    *,
    status: Iterable[str],
    separate: int,
) -> RenderableType:
    wanted = set(status)
    table = Table(title=f"Requests to {vendor}", title_justify="left")
    table.add_column("endpoint")
    table.add_column("requests", justify="right")
    for endpoint, number in sorted(counts.items()):
        table.add_row(endpoint, str(number))
    table.add_section()
    table.add_row("all", str(sum(counts.values())), style="bold")
    looks = sum(number for name, number in counts.items() if name in wanted)
    return Group(
        table,
        Text(
            f"{looks} of these polled jobs. Polling each job by itself, once a poll "
            f"interval, would have made {separate}."
        ),
    )


def _number(number: int, state: str) -> Text:
    return Text(str(number), style=_COLOURS.get(state, "") if number else "dim")
