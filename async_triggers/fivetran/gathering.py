"""What connections read and load, gathered for OpenLineage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from async_triggers.deferral.landings import Landing, names_in, warehouse_uri
from async_triggers.engine.errors import JobNotFound
from async_triggers.fivetran.api import models, replies, requests
from async_triggers.fivetran.landings import landings_of

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.fivetran.hooks import FivetranHook
    from async_triggers.lineage.tables import Place, TableLineage


async def gather(
    hook: FivetranHook, leased: LeasedAccount, job: Job, connection_ids: Iterable[str]
) -> TableLineage:
    """Return what the syncs of some connections read and load."""
    # OpenLineage may not be installed.
    from async_triggers.lineage.tables import TableLineage  # noqa: PLC0415

    places = [await _places_of(hook, leased, each) for each in connection_ids]
    volume = job.statistics.get("load_volume_mb")
    return TableLineage(
        vendor=leased.vendor.name,
        job=job,
        sources=tuple(source for source, _ in places),
        targets=tuple(target for _, target in places),
        size=int(volume * 1_000_000) if isinstance(volume, int | float) else None,
    )


async def _places_of(
    hook: FivetranHook, leased: LeasedAccount, connection_id: str
) -> tuple[Place, Place]:
    """Return where a connection reads, and where it loads to."""
    request = requests.get_connection(connection_id)
    row = replies.read_row(request, await leased.call(request))
    connection, source = replies.read_connection(row), replies.read_destination(row)
    target = await hook.get_destination(leased, connection.group_id)
    request = requests.get_schemas(connection_id)
    read: tuple[models.Table, ...] = ()
    loaded: tuple[models.Table, ...] | None = None
    try:
        data = replies.read_data(request, await leased.call(request))
        read, loaded = replies.read_source_tables(data), replies.read_tables(data)
    except JobNotFound:
        # Some kinds of connections have no schema config, and load one table.
        pass

    return (
        _place(source, landings_of(connection, source, read), connection.id),
        _place(target, landings_of(connection, target, loaded), connection.group_id),
    )


def _place(
    place: models.Destination, landings: Iterable[Landing], unknown: str
) -> Place:
    """Return a store and its tables; one whose address is not known goes by an id."""
    from async_triggers.lineage.tables import Place  # noqa: PLC0415 - as above

    uri = warehouse_uri(place.service, place.host, place.port)
    return Place(
        uri=uri or f"fivetran://{unknown}",
        tables=tuple(tuple(names_in(uri, each)) for each in landings),
    )
