"""Fivetran's REST API on paper: requests in, answers out.

Written from the vendor's documentation and API definition, not from any client.
"""

from __future__ import annotations

from async_triggers.simulator.fivetran.model import (
    DEFAULT_GROUP,
    FivetranConnection,
    FivetranState,
    FivetranSync,
    FivetranTest,
    TestRun,
)
from async_triggers.simulator.fivetran.settings import FivetranSettings
from async_triggers.simulator.fivetran.simulator import FivetranSimulator

__all__ = [
    "DEFAULT_GROUP",
    "FivetranConnection",
    "FivetranSettings",
    "FivetranSimulator",
    "FivetranState",
    "FivetranSync",
    "FivetranTest",
    "TestRun",
]
