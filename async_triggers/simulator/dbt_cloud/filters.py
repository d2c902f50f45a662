"""The filters of a list of runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from async_triggers.simulator.dbt_cloud.model import Times, number
from async_triggers.simulator.dbt_cloud.replies import refuse
from async_triggers.simulator.exchange import parse_instant

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import DbtCloudJob, DbtCloudRun
    from async_triggers.simulator.dbt_cloud.settings import DbtCloudSettings
    from async_triggers.simulator.exchange import SimRequest
    from async_triggers.simulator.lives import Moment
    from async_triggers.simulator.vendor import VendorSimulator

_Value = TypeVar("_Value")


class Filters(NamedTuple):
    """The filters of one list request; None lets everything pass.

    Times are the server's, as it has kept them.
    """

    account: int
    ids: frozenset[int] | None
    statuses: frozenset[int] | None
    projects: frozenset[int] | None
    environment: int | None
    job: int | None
    id_gt: int | None
    finished: tuple[float, float] | None
    created: tuple[float, float] | None
    echo: dict[str, Any]

    def pass_job(self, job: DbtCloudJob) -> bool:
        """Whether the runs of a job can pass."""
        return (
            self.account == job.account_id
            and self.job in (None, job.job_id)
            and self.environment in (None, job.environment_id)
            and (self.projects is None or job.project_id in self.projects)
        )

    def pass_run(self, run: DbtCloudRun, moment: Moment, times: Times) -> bool:
        """Whether a run passes; ``times`` are those that the server shows."""
        return (
            (self.ids is None or run.run_id in self.ids)
            and (self.statuses is None or number(moment.word) in self.statuses)
            and (self.id_gt is None or run.run_id > self.id_gt)
            and _within(times.finished, self.finished)
            and _within(times.created, self.created)
        )


def read_filters(
    simulator: VendorSimulator[DbtCloudSettings], request: SimRequest, account: int
) -> Filters:
    """Read the filters of a request."""
    echo: dict[str, Any] = {"account_id": account}
    read = FilterReader(simulator, request, echo)
    return Filters(
        account=account,
        ids=read.integers("pk__in", "pk"),
        statuses=read.integers("status__in", "status"),
        projects=read.integers("project_id__in", "project_id"),
        environment=read.integer("environment_id"),
        job=read.integer("job_definition_id"),
        id_gt=read.integer("id__gt"),
        finished=read.instants("finished_at__range"),
        created=read.instants("created_at__range"),
        echo=echo,
    )


class FilterReader:
    """Reads filters, in the forms and with the faults of the settings."""

    def __init__(
        self,
        simulator: VendorSimulator[DbtCloudSettings],
        request: SimRequest,
        echo: dict[str, Any],
    ) -> None:
        self._simulator = simulator
        self._request = request
        self._echo = echo

    def integer(self, name: str) -> int | None:
        """Return the value of a filter by a number."""
        text = self._request.value(name)
        if text is None:
            return None
        return self._kept(name, self._int(name, text))

    def integers(self, name: str, single: str) -> frozenset[int] | None:
        """Return the values of a filter by numbers, or by a single one."""
        one = self.integer(single)
        if one is not None:
            return frozenset({one})
        texts = self._array(name)
        if texts is None:
            return None
        found = self._kept(name, [self._int(name, text) for text in texts])
        return None if found is None else frozenset(found)

    def instants(self, name: str) -> tuple[float, float] | None:
        """Return the bounds of a filter by time."""
        texts = self._array(name)
        if texts is None:
            return None
        try:
            times = [parse_instant(str(one)) for one in texts]
        except ValueError as error:
            raise refuse(400, f"{name}: {error}") from error
        if len(times) != 2:
            raise refuse(400, f"{name}: two instants are needed")
        if self._kept(name, texts) is None:
            return None
        return times[0], times[1]

    def _array(self, name: str) -> list[Any] | None:
        values = self._request.values(name)
        if not values:
            return None
        brackets = len(values) == 1 and values[0].lstrip().startswith("[")
        settings = self._simulator.settings
        form = "brackets" if brackets else "repeated"
        if settings.array_encoding not in ("both", form):
            if settings.wrong_encoding == "refuse":
                raise refuse(400, f"{name}: Enter a valid list.")
            if settings.echo_ignored:
                self._echo[name] = values
            return None
        if not brackets:
            return list(values)
        try:
            found = json.loads(values[0])
        except (ValueError, RecursionError) as error:
            raise refuse(400, f"{name}: Enter a valid list.") from error
        return list(found)

    def _kept(self, name: str, value: _Value) -> _Value | None:
        """Return the value of a filter, or None where this server ignores it."""
        simulator = self._simulator
        ignored = name in simulator.quirks.ignore_filters
        if not ignored or simulator.settings.echo_ignored:
            self._echo[name] = value
        return None if ignored else value

    def _int(self, name: str, value: Any) -> int:
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise refuse(400, f"{name}: Enter a number.") from error


def _within(value: float | None, bounds: tuple[float, float] | None) -> bool:
    if bounds is None:
        return True
    if value is None:
        return False
    # The server keeps microseconds: the time that it has shown is within its bounds.
    low, high = (round(bound, 6) for bound in bounds)
    return low <= round(value, 6) <= high
