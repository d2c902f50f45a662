"""What connections read and load, gathered for OpenLineage."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from async_triggers.airbyte.api import models, replies, requests
from async_triggers.airbyte.landings import landings_of, read_by, warehouse_of
from async_triggers.deferral.landings import Landing, names_in

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.lineage.tables import Place, TableLineage


async def gather(
    leased: LeasedAccount, job: Job, connection_ids: Iterable[str]
) -> TableLineage:
    """Return what the syncs of some connections read and load."""
    # OpenLineage may not be installed.
    from async_triggers.lineage.tables import TableLineage  # noqa: PLC0415

    places = [await _places_of(leased, each) for each in connection_ids]
    rows, size = (job.statistics.get(name) for name in ("rows_synced", "bytes_synced"))
    return TableLineage(
        vendor=leased.vendor.name,
        job=job,
        sources=tuple(source for source, _ in places),
        targets=tuple(target for _, target in places),
        rows=rows if isinstance(rows, int) else None,
        size=size if isinstance(size, int) else None,
    )


async def _places_of(leased: LeasedAccount, connection_id: str) -> tuple[Place, Place]:
    """Return where a connection reads, and where it loads to."""
    request = requests.get_connection(connection_id)
    reply = await leased.call(request)
    connection = replies.read_replication(reply.object(request.about))
    source, target = await asyncio.gather(
        _get_endpoint(leased, "source", connection.source_id),
        _get_endpoint(leased, "destination", connection.destination_id),
    )
    return (
        _place(source, read_by(connection, source)),
        _place(target, landings_of(connection, source, target)),
    )


async def _get_endpoint(
    leased: LeasedAccount, word: str, endpoint_id: str
) -> models.Endpoint:
    request = requests.get_endpoint(word, endpoint_id)
    reply = await leased.call(request)
    return replies.read_endpoint(reply.object(request.about), word)


def _place(endpoint: models.Endpoint, landings: Iterable[Landing]) -> Place:
    """Return a store and its tables; one whose address is not known goes by its id."""
    from async_triggers.lineage.tables import Place  # noqa: PLC0415 - as above

    uri = warehouse_of(endpoint)
    return Place(
        uri=uri or f"airbyte://{endpoint.id}",
        tables=tuple(tuple(names_in(uri, each)) for each in landings),
    )
