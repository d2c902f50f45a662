"""Airflow connections that lead to a running simulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_triggers.simulator.server import Simulator


def connection_variables(simulator: Simulator) -> dict[str, str]:
    """Return environment variables with Airflow connections, in Airflow's JSON form.

    The names are those of the operators' default connections, such as
    ``AIRFLOW_CONN_AIRBYTE_DEFAULT``.
    """
    urls = simulator.urls
    return {
        f"AIRFLOW_CONN_{vendor.name.upper()}_DEFAULT": json.dumps(
            vendor.airflow_connection(urls[vendor.name])
        )
        for vendor in simulator.vendors
    }
