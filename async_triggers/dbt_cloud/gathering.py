"""What a run has left, gathered for OpenLineage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from async_triggers.dbt_cloud.api import replies, requests
from async_triggers.engine.errors import PermanentError

if TYPE_CHECKING:
    from async_triggers.dbt_cloud.hooks import DbtCloudHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Row
    from async_triggers.lineage.dbt import DbtLineage, StepArtifacts

AGAIN = 2.0
"""Seconds after which artifacts that were not there yet are requested again."""
MOST = 64 * 1024 * 1024
"""Bytes of artifacts that a task keeps of all steps; the steps beyond are left out."""


class Gathering:
    """Requests what the steps of a run have left."""

    def __init__(self, hook: DbtCloudHook, leased: LeasedAccount, job: Job) -> None:
        self._hook = hook
        self._leased = leased
        self._job = job
        self._left = MOST

    async def gather(self) -> DbtLineage | None:
        """Return the artifacts; None where there are none, or no warehouse is known."""
        # OpenLineage may not be installed.
        from async_triggers.lineage.dbt import DbtLineage  # noqa: PLC0415

        row = await self._hook.get_run_details(
            self._leased, self._job.id, include_related=("run_steps",)
        )
        connection, steps = await asyncio.gather(
            self._get_connection(row), self._get_steps(row)
        )
        if not connection or not steps:
            return None

        return DbtLineage(
            vendor=self._leased.vendor.name,
            job=self._job,
            account_id=int(self._leased.account.account_id),
            connection=connection,
            steps=steps,
            # Of the last step, as ``docs generate`` is.
            catalog=await self._get(None, "catalog.json"),
        )

    async def _get_connection(self, row: Row) -> Row:
        """Return the connection of the run's project to its warehouse, empty for none."""
        request = requests.get_project(self._leased.account, row["project_id"])
        reply = await self._leased.call(request)
        connection = replies.read_row(request, reply).get("connection")
        return connection if isinstance(connection, dict) else {}

    async def _get_steps(self, row: Row) -> tuple[StepArtifacts, ...]:
        indexes = replies.read_building_steps(row)
        steps = await self._get_all(indexes)
        if indexes and not steps:
            # They appear a moment after the run's end.
            await asyncio.sleep(AGAIN)
            steps = await self._get_all(indexes)

        return steps

    async def _get_all(self, indexes: list[int]) -> tuple[StepArtifacts, ...]:
        found = await asyncio.gather(*map(self._get_step, indexes))
        return tuple(each for each in found if each is not None)

    async def _get_step(self, index: int) -> StepArtifacts | None:
        """Return what a step has left; None for one that failed before dbt ran."""
        from async_triggers.lineage.dbt import StepArtifacts  # noqa: PLC0415 - as above

        results = await self._get(index, "run_results.json")
        manifest = await self._get(index, "manifest.json") if results else b""
        if not manifest:
            return None

        return StepArtifacts(index=index, manifest=manifest, run_results=results)

    async def _get(self, index: int | None, path: str) -> bytes:
        """Return an artifact of a step, of the last one for None.

        Empty where there is none, or no room for it.
        """
        try:
            content = await self._hook.get_artifact(
                self._leased, self._job.id, path, step=index
            )
        except PermanentError:
            return b""

        if len(content) > self._left:
            self._hook.log.warning(
                "%s of run %s is left out of its lineage: its artifacts have more than %d"
                " MiB",
                path,
                self._job.id,
                MOST >> 20,
            )
            return b""

        self._left -= len(content)
        return content
