"""The vendors' APIs on loopback: a test double for DAGs that start their jobs.

It knows nothing of the operators: it is the other side of the wire.
"""

from __future__ import annotations

from async_triggers.simulator.airbyte import AirbyteSettings, AirbyteSimulator
from async_triggers.simulator.client import SimulatorControl
from async_triggers.simulator.dbt_cloud import DbtCloudSettings, DbtCloudSimulator
from async_triggers.simulator.exchange import SimReply, SimRequest
from async_triggers.simulator.faults import Fault, ListQuirks
from async_triggers.simulator.fivetran import FivetranSettings, FivetranSimulator
from async_triggers.simulator.lives import Life
from async_triggers.simulator.proxies import PROXY_ANSWERS, PROXY_REFUSALS
from async_triggers.simulator.record import Exchange, Record, Start
from async_triggers.simulator.server import (
    CannotListenError,
    Simulator,
    SimulatorThread,
)

__all__ = [
    "PROXY_ANSWERS",
    "PROXY_REFUSALS",
    "AirbyteSettings",
    "AirbyteSimulator",
    "CannotListenError",
    "DbtCloudSettings",
    "DbtCloudSimulator",
    "Exchange",
    "Fault",
    "FivetranSettings",
    "FivetranSimulator",
    "Life",
    "ListQuirks",
    "Record",
    "SimReply",
    "SimRequest",
    "Simulator",
    "SimulatorControl",
    "SimulatorThread",
    "Start",
]
