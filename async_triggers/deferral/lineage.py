"""What a task shows OpenLineage's listener of the job that it has waited for.

The listener calls a task's facet methods in a child of the task's process, which shares
its connections and is killed after some seconds. So these methods request nothing: what
they need is requested while the task ends, and kept until then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from async_triggers.deferral import compat
from async_triggers.deferral.alarm import Alarm

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk.types import Logger

    from async_triggers.deferral.remote_job import RemoteJob
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.lineage.facets import Lineage

GATHER = 30.0
"""Seconds in which lineage is gathered: the task must not wait for it longer."""


class ShowsLineage:
    """The methods that OpenLineage's listener calls, for operators and sensors."""

    _lineage: Lineage | None = None
    """What is known of the job; never templated, never serialized."""

    if TYPE_CHECKING:

        @property
        def log(self) -> Logger:
            """The log of the task."""

    def gather_lineage(self, find: Callable[[], RemoteJob], ended: Job) -> None:
        """Request what lineage needs of a job that has ended, where a listener wants it.

        ``find`` returns the job at the vendor. A failure here costs only the lineage.
        """
        # The job has ended: an execution_timeout that passes now is met.
        with Alarm() as alarm:
            alarm.is_met = True
            try:
                if compat.wants_lineage(self):
                    self._lineage = _gather(find(), ended)
            except Exception as error:  # noqa: BLE001 - the job matters more than its lineage
                self.log.warning(
                    "The lineage of %s could not be determined: %s",
                    ended.title,
                    str(error) or type(error).__name__,
                )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return OpenLineage's ``OperatorLineage``; emit the events of what the job ran."""
        if self._lineage is None:
            return compat.no_lineage()

        return self._lineage.describe(task_instance)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return the same: a job that has failed may have moved data."""
        return self.get_openlineage_facets_on_complete(task_instance)


def _gather(remote_job: RemoteJob, ended: Job) -> Lineage:
    async def gather(leased: LeasedAccount) -> Lineage:
        async with asyncio.timeout(GATHER):
            return await remote_job.lineage_of(leased, ended)

    return remote_job.make_hook().run(gather)
