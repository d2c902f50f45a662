"""The tables that a sync has read and filled, as OpenLineage's datasets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    datasource_dataset,
    output_statistics_output_dataset,
)
from openlineage.common.provider.snowflake import fix_account_name

from async_triggers.lineage.facets import Lineage

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

log = logging.getLogger(__name__)

D = TypeVar("D", bound=Dataset)

MOST = 1000
"""Tables that an event names at most, of those read and of those filled."""
_SNOWFLAKE = "snowflake://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A warehouse, or another store, and its tables.

    ``uri`` is how URIs of its tables begin; ``tables`` are the parts of their names.
    """

    uri: str
    tables: tuple[Sequence[str], ...] = field(repr=False)

    @property
    def namespace(self) -> str:
        """The namespace of its tables: https://openlineage.io/docs/spec/naming."""
        if self.uri.startswith(_SNOWFLAKE):
            # As the library does it for dbt, so that both name the same tables.
            account: str = fix_account_name(self.uri.removeprefix(_SNOWFLAKE))
            return _SNOWFLAKE + account

        return self.uri.removesuffix(":/")

    def datasets(self, kind: type[D], **more: Any) -> list[D]:
        """Return the tables as datasets of a kind."""
        if len(self.tables) > MOST:
            log.warning(
                "The lineage names %d of the %d tables in %s",
                MOST,
                len(self.tables),
                self.uri,
            )

        namespace = self.namespace
        source = datasource_dataset.DatasourceDatasetFacet(
            name=namespace, uri=self.uri.removesuffix("/")
        )
        return [
            kind(
                namespace=namespace,
                name=".".join(filter(None, parts)),
                facets={"dataSource": source},
                **more,
            )
            for parts in self.tables[:MOST]
        ]


@dataclass(frozen=True, kw_only=True)
class TableLineage(Lineage):
    """What one sync, or several, have read and filled.

    ``rows`` and ``size``, in bytes, are those of all tables, None where not known.
    """

    sources: tuple[Place, ...]
    targets: tuple[Place, ...]
    rows: int | None = None
    size: int | None = None

    def describe(self, ti: Any) -> OperatorLineage:
        """Return the tables, and what describes the job."""
        described = super().describe(ti)
        described.inputs = [
            each for place in self.sources for each in place.datasets(InputDataset)
        ]
        described.outputs = [
            each
            for place in self.targets
            for each in place.datasets(OutputDataset, outputFacets=self._statistics)
        ]
        return described

    @property
    def _statistics(self) -> dict[str, Any]:
        """Return what is known of each table: the vendor counts for all together."""
        is_one = sum(len(place.tables) for place in self.targets) == 1
        if not is_one or (self.rows is None and self.size is None):
            return {}

        facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=self.rows, size=self.size
        )
        return {"outputStatistics": facet}
