"""The list of runs."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from async_triggers.simulator.dbt_cloud.filters import Filters, read_filters
from async_triggers.simulator.dbt_cloud.replies import many, page_of, refuse
from async_triggers.simulator.dbt_cloud.run_rows import run_row, times_of

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import DbtCloudRun, Times
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.lives import Moment

_ORDERS: Final = frozenset({"id", "created_at", "finished_at"})


class _Row(NamedTuple):
    """One run of a list: its place in the order, and its state."""

    key: tuple[float, ...]
    run: DbtCloudRun
    moment: Moment


class RunList:
    """The operation that lists runs."""

    def __init__(self, scene: DbtCloudScene) -> None:
        self._scene = scene

    def get(self, request: SimRequest, account: str) -> SimReply:
        """Answer with a page of runs."""
        scene = self._scene
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs
        scene.settle_all()
        limit, offset = page_of(scene.settings, request)
        order_by = request.value("order_by") or "id"
        name, down = order_by.removeprefix("-"), order_by.startswith("-")
        if name not in _ORDERS:
            raise refuse(400, f"order_by {order_by!r} is unknown")
        filters = read_filters(scene, request, int(account))
        seen = scene.now() - scene.quirks.lag
        own = [
            self._placed(run, moment, name, seen)
            for run in self._asked_for(filters)
            if (moment := run.timeline.at(seen)) is not None
            and filters.pass_job(run.job)
            and filters.pass_run(run, moment, self._kept_times(run, seen))
        ]
        own.sort(key=lambda row: row.key, reverse=down)
        numbers = scene.foreign.numbers(filters, seen)
        if down:
            numbers = numbers[::-1]
        others = self._foreign_rows(numbers, name, seen)
        merged = heapq.merge(own, others, key=lambda row: row.key, reverse=down)
        total = len(own) + len(numbers)
        end = min(offset + limit, total)
        page = list(itertools.islice(merged, min(offset, end), end))
        rows = [run_row(scene, row.run, seen, request) for row in page]
        self._churn(page)
        echo = {**filters.echo, "limit": limit, "offset": offset}
        return many(
            scene.settings,
            scene.quirks.spoil(rows, scene.random),
            total=total,
            filters=echo,
            order_by=order_by,
        )

    def _asked_for(self, filters: Filters) -> Iterable[DbtCloudRun]:
        """Return the runs that can pass, without walking over all of them for a few."""
        scene = self._scene
        if filters.ids is None:
            return scene.runs.values()
        return [scene.runs[run_id] for run_id in filters.ids if run_id in scene.runs]

    def _kept_times(self, run: DbtCloudRun, seen: float) -> Times:
        """Return the times of a run by the server's clock, right or wrong as it was."""
        scene = self._scene
        times = times_of(scene.settings, run, seen)
        finished = None if times.finished is None else scene.shown(times.finished)
        return times._replace(created=scene.shown(times.created), finished=finished)

    def _foreign_rows(
        self, numbers: Sequence[int], name: str, seen: float
    ) -> Iterator[_Row]:
        for number in numbers:
            run = self._scene.foreign.run(number)
            yield self._placed(
                run, run.timeline.at(seen) or run.timeline.last, name, seen
            )

    def _placed(self, run: DbtCloudRun, moment: Moment, name: str, seen: float) -> _Row:
        if name == "id":
            return _Row((run.run_id,), run, moment)
        times = self._kept_times(run, seen)
        if name == "created_at":
            return _Row((times.created, run.run_id), run, moment)
        finished = times.finished
        # As PostgreSQL sorts: what has no end comes after everything that has one.
        return _Row(
            (math.inf if finished is None else finished, run.run_id), run, moment
        )

    def _churn(self, page: list[_Row]) -> None:
        scene = self._scene
        now = scene.now()
        running = [row.run for row in page if row.run.run_id in scene.runs]
        running = [run for run in running if run.begun is not None and run.end > now]
        for run in running[: scene.quirks.churn]:
            run.finish(now, "success")
