"""Airbyte's public API on paper: requests in, answers out.

Written from the vendor's documentation and server source, not from any client.
"""

from __future__ import annotations

from async_triggers.simulator.airbyte.model import (
    DEFAULT_WORKSPACE,
    JOB_TYPES,
    STATUSES,
    TERMINAL,
    AirbyteConnection,
    AirbyteEndpoint,
    AirbyteJob,
)
from async_triggers.simulator.airbyte.settings import AirbyteSettings
from async_triggers.simulator.airbyte.simulator import AirbyteSimulator
from async_triggers.simulator.airbyte.times import java_duration, java_instant

__all__ = [
    "DEFAULT_WORKSPACE",
    "JOB_TYPES",
    "STATUSES",
    "TERMINAL",
    "AirbyteConnection",
    "AirbyteEndpoint",
    "AirbyteJob",
    "AirbyteSettings",
    "AirbyteSimulator",
    "java_duration",
    "java_instant",
]
