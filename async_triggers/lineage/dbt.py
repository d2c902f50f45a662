"""The events of dbt's nodes, made of the artifacts that a run has left.

OpenLineage's own processor makes them: a pair of START and COMPLETE, or FAIL, for each
node that ran, with what the node has read and written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.openlineage.api import emit
from openlineage.common.provider.dbt import DbtCloudArtifactProcessor

import async_triggers
from async_triggers.engine.decoding import decode
from async_triggers.lineage.facets import Lineage
from async_triggers.lineage.parent import parent_of

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import RunEvent
    from openlineage.common.provider.dbt import ParentRunMetadata

log = logging.getLogger(__name__)

PRODUCER = (
    "https://github.com/async-triggers/async-triggers/tree/v"
    f"{async_triggers.__version__}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepArtifacts:
    """What one step of a run has left, as JSON that is not decoded yet."""

    index: int
    manifest: bytes = field(repr=False)
    run_results: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DbtLineage(Lineage):
    """What a run of dbt has left.

    ``connection`` is that of the project, as dbt Cloud shows it: its ``type`` and
    ``details`` say where the tables are. ``catalog`` is empty where the run has none.
    """

    account_id: int
    connection: Mapping[str, Any] = field(repr=False)
    steps: tuple[StepArtifacts, ...]
    catalog: bytes = field(default=b"", repr=False)

    def describe(self, ti: Any) -> OperatorLineage:
        """Emit the events of the nodes; return what describes the run."""
        parent = parent_of(ti)
        for step in self.steps:
            try:
                events = [*self._events_of(step, parent)]
            except Exception as error:  # noqa: BLE001 - of another version, or of a new kind
                log.warning(
                    "Step %d of run %s gives no lineage: %s: %s",
                    step.index,
                    self.job.id,
                    type(error).__name__,
                    error,
                )
                continue

            for event in events:
                emit(event)

        return super().describe(ti)

    def _events_of(
        self, step: StepArtifacts, parent: ParentRunMetadata
    ) -> Iterator[RunEvent]:
        manifest = decode(step.manifest)
        processor = DbtCloudArtifactProcessor(
            producer=PRODUCER,
            job_namespace=parent.job_namespace,
            # A node whose status the processor does not know costs no other its events.
            skip_errors=True,
            logger=log,
            manifest=manifest,
            run_result=decode(step.run_results),
            profile=self.connection,
            catalog=decode(self.catalog) if self.catalog else None,
            project_name=manifest["metadata"].get("project_name"),
            account_id=str(self.account_id),
        )
        processor.dbt_run_metadata = parent
        yield from processor.parse().events()
