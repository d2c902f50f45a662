"""The hooks of airflow-provider-fivetran-async.

They reach Fivetran at a fixed address; here it leads to the simulator.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fivetran_provider_async.hooks import FivetranHook, FivetranHookAsync

from tests.conformance.calls.reporting import Calls

calls = Calls()
given = calls.given
FivetranHook.api_protocol, FivetranHook.api_host = "http", given["host"]
CONNECTION, GROUP, BROKEN = given["connection"], given["group"], given["broken"]
hook = FivetranHook(fivetran_conn_id="fivetran_default")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

calls.check("test_connection", hook.test_connection, lambda found: found[0])
calls.check(
    "get_connector",
    lambda: hook.get_connector(CONNECTION),
    lambda found: found["id"] == CONNECTION,
)
calls.check(
    "check_connector",
    lambda: hook.check_connector(CONNECTION),
    lambda found: found["status"]["setup_state"] == "connected",
)
calls.check(
    "check_connector heals a broken one",
    lambda: (hook.check_connector(BROKEN), hook.get_connector(BROKEN))[1],
    lambda found: found["status"]["setup_state"] == "connected",
)
calls.check(
    "test_connector",
    lambda: hook.test_connector(CONNECTION),
    lambda found: found["setup_tests"][0]["status"] == "PASSED",
)
calls.check(
    "get_connector_schemas",
    lambda: hook.get_connector_schemas(CONNECTION),
    lambda found: "schemas" in found,
)
calls.check(
    "get_groups",
    lambda: list(hook.get_groups()),
    lambda found: GROUP in [one["id"] for one in found],
)
calls.check(
    "get_groups of one",
    lambda: hook.get_groups(GROUP),
    lambda found: found["id"] == GROUP,
)
calls.check(
    "get_destinations",
    lambda: hook.get_destinations(GROUP),
    lambda found: found["id"] == GROUP,
)
calls.check(
    "get_connectors",
    lambda: list(hook.get_connectors(GROUP)),
    lambda found: CONNECTION in [one["id"] for one in found],
)
calls.check(
    "get_connector_id",
    lambda: hook.get_connector_id(given["schema"], given["group_name"]),
    lambda found: found == CONNECTION,
)
calls.check(
    "prep_connector",
    lambda: hook.prep_connector(CONNECTION, "manual"),
    lambda found: found is None,
)
calls.check(
    "set_schedule_type",
    lambda: hook.set_schedule_type(CONNECTION, "manual"),
    lambda found: found["data"]["schedule_type"] == "manual",
)
calls.check(
    "start_fivetran_sync",
    lambda: hook.start_fivetran_sync(CONNECTION),
    lambda found: found is None or isinstance(found, str),
)
calls.check(
    "start_fivetran_sync (resync)",
    lambda: hook.start_fivetran_sync(
        BROKEN, mode="resync", payload={"scope": {"sales": ["orders"]}}
    ),
    lambda found: found is None or isinstance(found, str),
)
calls.check(
    "get_last_sync",
    lambda: hook.get_last_sync(CONNECTION),
    lambda found: found is not None,
)
calls.check(
    "is_synced_after_target_time",
    lambda: hook.is_synced_after_target_time(CONNECTION, LONG_AGO),
    lambda found: found in (True, False),
)
calls.check(
    "is_synced_after_target_time_async",
    lambda: asyncio.run(
        FivetranHookAsync(
            fivetran_conn_id="fivetran_default"
        ).is_synced_after_target_time_async(CONNECTION, LONG_AGO)
    ),
    lambda found: found in {"success", "pending"},
)
