"""Which run's lineage a sensor by job shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from async_triggers.dbt_cloud.ends import DbtCloudRuns
from async_triggers.dbt_cloud.remote_job import DbtCloudRun
from async_triggers.deferral.remote_job import RemoteJob
from async_triggers.engine.jobs import Job, JobState


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("targets", "found", "expected"),
    [
        (("5",), {"5": "77"}, "77"),
        # One that has failed is named by its message alone.
        (("5",), {"5": None}, "5@100"),
        (("5", "6"), {"5": "77", "6": "78"}, "5,6@100"),
    ],
)
async def test_a_run_is_shown_where_one_was_waited_for(
    monkeypatch: pytest.MonkeyPatch,
    targets: tuple[str, ...],
    found: dict[str, str | None],
    expected: str,
) -> None:
    async def shown(_: RemoteJob, leased: object, job: Job) -> str:
        return job.id

    for cls in (DbtCloudRun, RemoteJob):
        monkeypatch.setattr(cls, "lineage_of", shown)

    runs = DbtCloudRuns(conn_id="c", targets=targets, since=100.0)
    ended = Job(
        id=runs.job_id, state=JobState.SUCCEEDED, word="success", statistics=found
    )
    leased: Any = SimpleNamespace()

    shown_as: object = await runs.lineage_of(leased, ended)
    assert shown_as == expected
