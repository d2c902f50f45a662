"""Waits for a crossing of Ferry that something else started."""

from __future__ import annotations

from async_triggers.deferral.plain_task import PlainSensor
from ferry_provider.jobs import CrossingQuery


class FerrySensor(PlainSensor):
    """Waits until a crossing has ended, and fails if it did not arrive."""

    query_class = CrossingQuery
