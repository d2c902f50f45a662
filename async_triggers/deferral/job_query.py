"""Which job a sensor waits for, as a value.

A :class:`JobQuery` is what the arguments of a sensor say, and what its first look has
found. A sensor on a worker makes one of its rendered arguments. A sensor that begins on
the triggerer is no more than its query: the trigger renders it there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from airflow.sdk.definitions.xcom_arg import XComArg

from async_triggers.deferral.stored import NOT_STORED, StoredValue

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from async_triggers.deferral.ending import Ending
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.deferral.ids import Ids
    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job, Seen
    from async_triggers.engine.wire import Vendor


@dataclass(frozen=True, kw_only=True)
class JobQuery(StoredValue, ABC):
    """Which job a sensor waits for.

    The fields that are stored have the names of the sensor's arguments, and are plain JSON.
    ``poke_interval`` is in seconds. ``address`` is as in
    :class:`~async_triggers.deferral.remote_job.RemoteJob`. ``found`` is what the first look
    has found out, in a form of the vendor's.
    """

    poke_interval: float
    address: str = field(default="", metadata=NOT_STORED)
    found: str = field(default="", metadata=NOT_STORED)

    kind = "query"
    ids: ClassVar[Ids]
    """The ids among the fields.

    :meta hide-value:
    """
    template_fields: ClassVar[Sequence[str]]
    """The fields that may hold templates."""
    returns: ClassVar[bool] = False
    """Whether the sensor returns anything, see :meth:`result`."""

    @classmethod
    def of(cls, task: object, *, address: str = "", found: str = "") -> Self:
        """Return the query of a sensor's arguments, as text where they are XComs."""
        given = {name: getattr(task, name) for name in cls.stored_fields()}
        for name, value in given.items():
            if isinstance(value, XComArg):
                # As people wrote it before there were such objects.
                given[name] = str(value)

        return cls(address=address, found=found, **given)

    def rendered(self, values: dict[str, Any]) -> Self:
        """Return the query with rendered fields, or raise ArgumentUnusable."""
        given = self.ids.given(self)
        query = replace(self, **values)
        bare: dict[str, Any] = {**self.ids.read(query, given)}
        query = replace(query, **bare)
        query.check()
        return query

    def check(self) -> None:
        """Raise ArgumentUnusable where the fields do not go together."""

    def warn_of_arguments(self, log: Logger) -> None:
        """Log what of the fields has no effect."""

    @abstractmethod
    def make_hook(self) -> VendorHook:
        """Return the hook of the query's connection. No I/O."""

    @property
    def vendor(self) -> Vendor:
        """The vendor, for its words."""
        return self.make_hook().vendor

    @property
    def waits_unseen(self) -> bool:
        """True where a job can be waited for that no look has shown yet."""
        return True

    @property
    def keeps_found(self) -> bool:
        """True where later looks must know what the first one has found."""
        return False

    @abstractmethod
    async def look(self, leased: LeasedAccount) -> tuple[Self, Seen]:
        """Request the job, with all that its end should show.

        Return it with the query as it is to be used from then on.
        """

    @abstractmethod
    def job(self, shown: Job | None) -> RemoteJob:
        """Return the job to wait for; ``shown`` is what a look has shown of it."""

    def ended(self, job: Job) -> RemoteJob:
        """Return a job that was waited for and has ended."""
        query = self.recalling(job.id) if self.keeps_found else self
        return query.job(job)

    def recalling(self, found: str) -> Self:
        """Return the query with what an earlier look has found."""
        return replace(self, found=found)

    def result(self, job: Job) -> Any:
        """Return what the sensor returns; by default nothing."""
        return None

    def narrowed(self, ending: Ending) -> Ending:
        """Return how a trigger ends the task, now that the fields are rendered."""
        return ending
