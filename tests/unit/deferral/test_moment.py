"""Waiting for a time and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from async_triggers.deferral import moment as module
from async_triggers.deferral.moment import MomentTrigger


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_one_event_comes_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    monkeypatch.setattr(module, "wall_clock", lambda: 1000.0 + loop.time() - began)

    events = [event.payload async for event in MomentTrigger(1000.0 + 3600.5).run()]

    assert events == [4600.5]
    assert loop.time() - began == pytest.approx(3600.5)


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_a_moment_that_has_passed_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "wall_clock", lambda: 2000.0)
    began = asyncio.get_running_loop().time()

    assert [event.payload async for event in MomentTrigger(1000.0).run()] == [1000.0]
    assert asyncio.get_running_loop().time() == began


def test_the_trigger_is_what_it_is_stored_as() -> None:
    classpath, arguments = MomentTrigger(1000.0).serialize()

    assert classpath == "async_triggers.deferral.moment.MomentTrigger"
    assert MomentTrigger(**arguments).serialize() == (classpath, arguments)
