"""A triggerer that is told to end while a cancel is pending."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from async_triggers.simulator import Fault
from tests.stack.airbyte_stage import RUNNING, AirbyteStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.deployment import Deployment


@pytest.fixture(scope="module")
def stage(sqlite_deployment: Deployment) -> Iterator[AirbyteStage]:
    with ExitStack() as closing:
        yield AirbyteStage(sqlite_deployment, closing, "ends")


@pytest.mark.parametrize("recovers", [True, False], ids=["recovers", "refuses"])
def test_a_pending_cancel_is_made_or_logged(
    stage: AirbyteStage, *, recovers: bool
) -> None:
    deployment = stage.deployment
    account = stage.open_account(f"ends_{recovers}")
    sync = stage.sync(RUNNING, account=account).begin("lifecycle_deferrable")
    sync.wait_until_waited_for()
    index = len(deployment.triggerers) - 1
    triggerer = deployment.triggerers[index]
    pause = Fault(kind="status", status=429, retry_after=3600, times=None)
    account.airbyte.faults.add(pause)
    # The log goes on where an earlier triggerer in its place has left it.
    logged = len(triggerer.log.read_text())

    def said() -> str:
        return triggerer.log.read_text()[logged:] + sync.log()

    sync.mark("failed")
    stage.wait_until(
        lambda: "Trying again in 3600 s" in said(),
        "the cancel to be refused",
        every=1.0,
    )
    if recovers:
        account.airbyte.faults.clear()

    try:
        deployment.kill_triggerer(index, signal.SIGTERM)
        triggerer.process.wait(60)
    finally:
        deployment.restart_triggerer(index)

    told = said()
    job = sync.jobs[0]
    if recovers:
        assert f"Job {job}: cancelled before this process ends" in told
        assert sync.states == ["cancelled"]
    else:
        assert f"Job {job} was not cancelled before this process ends" in told
        assert "It is still running: http" in told
        assert sync.states == ["running"]
