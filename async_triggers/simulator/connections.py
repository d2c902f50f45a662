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
    airbyte, fivetran = simulator.airbyte.settings, simulator.fivetran.settings
    dbt_cloud = simulator.dbt_cloud.settings
    found = {
        "airbyte_default": {
            "conn_type": "airbyte",
            "host": f"{simulator.airbyte_url}/api/public/v1",
            "login": airbyte.client_id,
            "password": airbyte.client_secret,
            "schema": "v1/applications/token",
        },
        "fivetran_default": {
            "conn_type": "fivetran",
            "host": simulator.fivetran_url,
            "login": fivetran.api_key,
            "password": fivetran.api_secret,
        },
        "dbt_cloud_default": {
            "conn_type": "dbt_cloud",
            "host": simulator.dbt_cloud_url,
            "login": str(dbt_cloud.account_id),
            "password": dbt_cloud.tokens[0],
        },
    }
    return {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps(values)
        for name, values in found.items()
    }
