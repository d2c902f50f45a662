"""What the credentials of a connection may do at Airbyte, found without starting a job."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from async_triggers.airbyte.api import replies, requests
from async_triggers.deferral.finding import Finding, Level, probe_read

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount

MOST_NAMES = 3
"""Workspaces that are named."""

# https://docs.airbyte.com/platform/access-management/rbac: a Reader sees, a Runner
# starts and cancels syncs, an Editor clears. No request shows which of them applies, and
# a refused start looks like an unknown connection.
_READ = "Give the application's user the role Reader or more in the workspace"
_NONE = (
    "Airbyte shows no connection to these credentials: either it has none yet, or their"
    " role is missing"
)
_NONE_FIX = (
    "Check again once Airbyte has a connection (a simulator has one after its first"
    " sync). If it has one already, give the application's user the role Reader or more"
    " in the workspace"
)
_UNKNOWN = Finding(
    topic="start, cancel",
    level=Level.NOTE,
    text=(
        "unknown: Airbyte shows no roles. Syncs and their cancels need the role Runner in"
        " the connection's workspace, a clear or a reset needs Editor"
    ),
)


async def find_rights(leased: LeasedAccount) -> list[Finding]:
    """Return what the credentials may read; Airbyte does not show the rest."""
    return [await _workspaces(leased), *await _reads(leased), _UNKNOWN]


async def _workspaces(leased: LeasedAccount) -> Finding:
    request = requests.list_workspaces()
    found, reply = await probe_read(leased, request, topic="workspaces", fix=_READ)
    if reply is None:
        return found

    rows, _ = replies.read_page(request, reply)
    names = [name for name in replies.read_names(rows, "workspace").values() if name]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return replace(found, text=", ".join(names[:MOST_NAMES]) + more)


async def _reads(leased: LeasedAccount) -> list[Finding]:
    request = requests.list_connections()
    found, reply = await probe_read(
        leased, request, topic="read connections", fix=_READ
    )
    if reply is None:
        return [found]

    names = replies.read_names(replies.read_page(request, reply)[0], "connection")
    if not names:
        return [replace(found, level=Level.WARNING, text=_NONE, fix=_NONE_FIX)]

    jobs = requests.latest_jobs(next(iter(names)), 1)
    readable, _ = await probe_read(leased, jobs, topic="read jobs", fix=_READ)
    return [found, readable]
