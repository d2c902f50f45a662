"""What a token may do at dbt Cloud, found without starting a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from async_triggers.dbt_cloud.api import requests
from async_triggers.deferral.finding import Finding, probe_read, probe_right

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount

# Ids begin at 1.
NO_ID: Final = 0
# https://docs.getdbt.com/docs/dbt-apis/service-tokens: what the permission sets allow.
_FIX: Final = (
    "Give the token the permission set Job Admin, or a user's own rights to jobs"
)


async def find_rights(leased: LeasedAccount) -> list[Finding]:
    """Return what the token may do."""
    account = leased.account
    cause = {"cause": "async-triggers check"}
    newest = requests.list_runs(account, order_by="-id", limit=1)
    jobs, _ = await probe_read(
        leased, requests.list_jobs(account), topic="read jobs", fix=_FIX
    )
    runs, _ = await probe_read(leased, newest, topic="read runs", fix=_FIX)
    return [
        jobs,
        runs,
        await probe_right(
            leased,
            requests.start_run(account, NO_ID, cause),
            topic="start",
            fix=_FIX,
        ),
        await probe_right(
            leased, requests.cancel_run(account, NO_ID), topic="cancel", fix=_FIX
        ),
    ]
