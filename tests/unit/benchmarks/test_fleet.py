"""A small fleet on a small account: that the benchmark works, not what it measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import fleet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("account", fleet.ACCOUNTS)
def test_three_triggerers_wait_for_the_jobs_of_an_account(
    account: str, tmp_path: Path
) -> None:
    found = fleet.day(account, "shared", jobs=12, triggerers=3, hours=3.0)

    triggerers = {f"triggerer {number}" for number in (1, 2, 3)}
    assert set(found.report.by) == {*triggerers, "workers"}
    assert found.report.started >= found.report.ended > 0
    assert found.report.refused == {}

    fleet.write([found], [], tmp_path)
    assert fleet.measured(tmp_path) == ([found], [])
    assert f"| {account} | 12 | 3 | shared | 3 |" in (tmp_path / "fleet.md").read_text()


def test_a_share_is_divided_by_the_triggerers() -> None:
    own, divided = (
        fleet.day("Fivetran, trial", arm, jobs=12, triggerers=20, hours=1.0)
        for arm in ("own", "divided")
    )

    assert divided.report.busiest < own.report.busiest


def test_a_triggerer_holds_tasks_in_many_accounts(tmp_path: Path) -> None:
    found = fleet.hold_apart("Airbyte", accounts=3, tasks=5, items=20, hours=0.1)

    # Each account is polled by itself.
    assert found.requests >= 3 * 6
    assert found.megabytes > 0
    assert found.hourly > 0

    fleet.write([], [found], tmp_path)
    assert fleet.measured(tmp_path) == ([], [found])
    assert "| Airbyte | 15 | 3 |" in (tmp_path / "fleet-triggerer.md").read_text()
