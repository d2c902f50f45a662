"""A task that can poll its job no more says what becomes of the job, and where it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from async_triggers.deferral.errors import ConnectionUnusable
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import Entry as Case
from tests.vendors import every_vendor


@pytest.fixture
def world_of(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Case], VendorWorld]:
    return lambda case: make_vendor_world(monkeypatch, case)


@every_vendor
def test_a_revoked_key_ends_the_wait_and_not_the_job(
    world_of: Callable[[Case], VendorWorld], case: Case
) -> None:
    world = world_of(case)
    world.add_target(case.life())
    task = Task(world, case.sync())
    deferral = deferred(task.execute())
    began = world.elapsed()
    # A triggerer that has just started: it has never polled the job.
    world.airbyte.faults.add(Fault(kind="status", status=401, times=None))
    with pytest.raises(ConnectionUnusable) as caught:
        task.resume(deferral, task.wait(deferral))

    assert 300 <= world.elapsed() - began <= 330
    told = str(caught.value)
    assert f"(connection '{case.name}_default')" in told
    assert "was not cancelled and may still be running" in told
    assert "A retry of the task attaches to it: " in told
    url = told.rpartition(": ")[2]
    assert url.startswith("http")
    assert case.url_part in url
    assert " " not in url
    assert world.cancels == 0
