"""What is known of a job and of the tables that it has filled, in OpenLineage's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import attrs
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.facet_v2 import RunFacet

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job

JOB_FACET = "async_triggers_job"
"""The name of the run facet that describes the job."""


@attrs.define
class JobRunFacet(RunFacet):
    """The vendor's job that a task has waited for.

    ``statistics`` are those of the job, see :class:`async_triggers.engine.jobs.Job`.
    """

    vendor: str
    job_id: str
    status: str
    url: str
    started_at: str | None
    statistics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What is known of the data that a job has moved."""

    vendor: str
    job: Job

    def describe(self, ti: Any) -> OperatorLineage:
        """Return what the event of the task instance shows beside Airflow's own facets."""
        job = self.job
        facet = JobRunFacet(
            vendor=self.vendor,
            job_id=job.id,
            status=job.word,
            url=job.url,
            started_at=job.started_at,
            statistics={**job.statistics},
        )
        return OperatorLineage(run_facets={JOB_FACET: facet})
