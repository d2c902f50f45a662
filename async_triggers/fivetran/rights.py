"""What an API key may do at Fivetran, found without starting a sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from async_triggers.deferral.finding import Finding, probe_read, probe_right
from async_triggers.fivetran.api import requests

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount

# Fivetran's own ids consist of letters, digits and underscores.
NO_CONNECTION: Final = "~no_such_connection"


async def find_rights(leased: LeasedAccount) -> list[Finding]:
    """Return what the key may do. Fivetran has no cancel: syncs stop by pausing."""
    readable, _ = await probe_read(
        leased,
        requests.list_connections(),
        topic="read",
        fix="Give the API key read access to connections",
    )
    return [
        readable,
        await probe_right(
            leased,
            requests.start_sync(NO_CONNECTION),
            topic="start",
            fix="Give the API key write access to connections",
        ),
        await probe_right(
            leased,
            requests.modify_connection(NO_CONNECTION, paused=True),
            topic="cancel by pausing",
            fix=(
                "Give the API key write access to connections, or keep cancel_on_kill and"
                " cancel_on_timeout off, as they are by default"
            ),
        ),
    ]
