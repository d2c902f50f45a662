"""dbt Cloud's Admin API on paper: requests in, answers out.

Written from the vendor's documentation and API definition, not from any client.
"""

from __future__ import annotations

from async_triggers.simulator.dbt_cloud.model import (
    DEFAULT_ACCOUNT,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    FIRST_RUN_ID,
    STATUSES,
    TERMINAL,
    DbtCloudJob,
    DbtCloudRun,
)
from async_triggers.simulator.dbt_cloud.settings import DbtCloudSettings
from async_triggers.simulator.dbt_cloud.simulator import DbtCloudSimulator

__all__ = [
    "DEFAULT_ACCOUNT",
    "DEFAULT_ENVIRONMENT",
    "DEFAULT_PROJECT",
    "FIRST_RUN_ID",
    "STATUSES",
    "TERMINAL",
    "DbtCloudJob",
    "DbtCloudRun",
    "DbtCloudSettings",
    "DbtCloudSimulator",
]
