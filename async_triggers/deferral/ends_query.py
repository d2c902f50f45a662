"""Which ends a sensor waits for, by what its arguments say."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from async_triggers.deferral.after import is_given, read_after
from async_triggers.deferral.arguments import ArgumentUnusable, identifier
from async_triggers.deferral.hook import wall_clock
from async_triggers.deferral.ids import is_nothing
from async_triggers.deferral.job_query import JobQuery

if TYPE_CHECKING:
    from async_triggers.deferral.ends import EndsJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen

FAR_FUTURE = 1e11


@dataclass(frozen=True, kw_only=True)
class EndsQuery(JobQuery):
    """The first ends of some targets after a time, or the next of each.

    ``found`` is the server's time of the first look, where no time was given.
    """

    completed_after_time: str | datetime | None

    returns = True
    one: ClassVar[str]
    """The argument with the id of one target, such as ``connection_id``."""
    several: ClassVar[str]
    """The argument with a list of ids, such as ``connection_ids``."""

    @staticmethod
    def read_target(name: str, value: object) -> str:
        """Read the id of a target from an argument, or raise ArgumentUnusable."""
        return identifier(name, value)

    @property
    def targets(self) -> tuple[str, ...]:
        """The ids of all that is waited for."""
        given = getattr(self, self.one)
        if not self.has_many:
            return (self.read_target(self.one, given),)

        if given:
            msg = f"Give {self.one} or {self.several}, not both"
            raise ArgumentUnusable(msg)

        ids = many(self.several, getattr(self, self.several))
        return tuple(self.read_target(self.several, each) for each in ids)

    @property
    def has_many(self) -> bool:
        """True where a list was given, so that a list is returned."""
        return getattr(self, self.several) is not None

    @abstractmethod
    def make_job(self, since: float) -> EndsJob:
        """Return the job of which an end counts after the server's time ``since``."""

    def check(self) -> None:
        """Raise ArgumentUnusable for ids or a time that cannot be read."""
        _ = self.targets
        self._baseline()

    def _baseline(self) -> float | None:
        """Return the time after which an end counts, None for the next to come."""
        if self.found:
            return float(self.found)

        moment = read_after(self.completed_after_time)
        return None if moment is None else moment.timestamp()

    @property
    def keeps_found(self) -> bool:
        """True where no time is given: the first look sets it."""
        return not is_given(self.completed_after_time)

    @property
    def waits_unseen(self) -> bool:
        """Only where the time is known."""
        return self._baseline() is not None

    async def look(self, leased: LeasedAccount) -> tuple[Self, Seen]:
        """Request the newest jobs of all targets; the first look may set the time."""
        since = self._baseline()
        if since is not None:
            return self, await self.make_job(since).look(leased)

        # It shows whether the targets are there, and nothing that has ended counts.
        seen = await self.make_job(FAR_FUTURE).look(leased)
        now = wall_clock() if seen.at is None else seen.at
        query = self.recalling(f"{now:.0f}")
        job = query.make_job(now).judge({})
        return query, replace(seen, job=job, at=now)

    def recalling(self, found: str) -> Self:
        """Return the query with the time of an earlier look, also as a job's id has it."""
        return super().recalling(found.rpartition("@")[2])

    def ended(self, job: Job) -> EndsJob:
        """Return the job that has ended, whose id ends with its time."""
        return self.make_job(float(job.id.rpartition("@")[2]))

    def job(self, shown: Job | None) -> EndsJob:
        """Return the job to wait for."""
        since = self._baseline()
        return self.make_job(wall_clock() if since is None else since)

    def result(self, job: Job) -> Any:
        """Return the id of the job that has succeeded; a list where many were given."""
        return self.job(None).result(job)


def many(name: str, value: object) -> list[object]:
    """Return some ids, also of a text that has them with commas between."""
    given = value.split(",") if isinstance(value, str) else value
    is_list = isinstance(given, Sequence) and not isinstance(given, bytes)
    ids = [*given] if is_list else []  # type: ignore[misc]
    if not ids or any(map(is_nothing, ids)):
        msg = f"{name} must be a list of ids, not {value!r}"
        raise ArgumentUnusable(msg)

    return [each.strip() if isinstance(each, str) else each for each in ids]
