"""What the demo runs, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Scenario:
    """One example DAG and what its run must look like.

    ``conn_id`` is the Airflow connection it uses. ``targets`` are what it starts jobs
    of at the ``vendor`` (Airbyte: connections), one job each, and ``life`` is what each
    of these jobs goes through at the simulator.
    ``tasks`` says how many task instances each task has; all must end in ``state``.
    ``interval`` is the seconds between two polls of a job, and ``slots`` the number of
    worker slots its tasks hold while all of its jobs run, None where that is a matter
    of when a slot is free. ``details`` is what the simulator must know of a target
    besides, such as the tables that it loads.
    """

    dag_id: str
    shows: str
    vendor: str
    conn_id: str
    targets: tuple[str, ...]
    life: str
    tasks: Mapping[str, int]
    interval: float
    slots: int | None
    state: str = "success"
    details: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What a vendor starts by itself: a job of a target, each ``every`` seconds."""

    vendor: str
    conn_id: str
    target: str
    life: str
    every: float = 30.0


@dataclass(frozen=True, slots=True)
class EventScenario:
    """One example DAG that events start.

    The events are the ends of what the vendors start by themselves, or where
    ``scheduled`` is empty, the success of another scenario's task.
    """

    dag_id: str
    shows: str
    scheduled: tuple[Scheduled, ...] = ()


STATUS_REQUESTS: Mapping[str, frozenset[str]] = {
    "airbyte": frozenset({"GET /jobs", "GET /jobs/{job_id}"}),
    "fivetran": frozenset(
        {
            "GET /v1/connections",
            "GET /v1/connections/{connection_id}",
            "GET /v1/groups/{group_id}/connections",
        }
    ),
    "dbt_cloud": frozenset(
        {
            "GET /api/v2/accounts/{account}/runs/",
            "GET /api/v2/accounts/{account}/runs/{run}/",
        }
    ),
}
"""By vendor, the requests for the status of jobs."""

_SHORT = "pending:1 running:25 succeeded"
# Thirty tasks need a while to start on two cores; the first must still run then.
_LONG = "pending:2 running:60 succeeded"

SCENARIOS = (
    Scenario(
        dag_id="airbyte_synchronous",
        shows="waits on the worker",
        vendor="airbyte",
        conn_id="airbyte_conn_example",
        targets=("demo-synchronous",),
        life=_SHORT,
        tasks={"airbyte_money_json_example": 1},
        interval=5,
        slots=1,
    ),
    Scenario(
        dag_id="airbyte_asynchronous",
        shows="starts, then a sensor waits",
        vendor="airbyte",
        conn_id="airbyte_conn_example",
        targets=("demo-asynchronous",),
        life=_SHORT,
        tasks={"airbyte_async_money_json_example": 1, "airbyte_sensor": 1},
        interval=5,
        # The sensor holds one, once it has got one.
        slots=None,
    ),
    Scenario(
        dag_id="airbyte_deferrable",
        shows="waits in the triggerer",
        vendor="airbyte",
        conn_id="airbyte_conn_example",
        targets=("demo-deferrable",),
        life=_SHORT,
        tasks={"sync": 1},
        interval=3,
        slots=0,
    ),
    Scenario(
        dag_id="airbyte_thirty_syncs",
        shows="30 mapped syncs, deferrable",
        vendor="airbyte",
        conn_id="airbyte_conn_example",
        targets=tuple(f"demo-sync-{number:02}" for number in range(1, 31)),
        life=_LONG,
        tasks={"sync": 30},
        interval=3,
        slots=0,
    ),
    Scenario(
        dag_id="fivetran_ten_syncs",
        shows="10 mapped syncs, deferrable",
        vendor="fivetran",
        conn_id="fivetran_conn_example",
        targets=tuple(f"demo_sync_{number:02}" for number in range(1, 11)),
        life="scheduled:1 syncing:60 succeeded",
        tasks={"sync": 10},
        interval=15,
        slots=0,
    ),
    Scenario(
        dag_id="fivetran_with_sensor",
        shows="starts, then a sensor waits in the triggerer",
        vendor="fivetran",
        conn_id="fivetran_conn_example",
        targets=("demo_pair",),
        life="scheduled:1 syncing:45 succeeded",
        tasks={"start": 1, "wait": 1},
        interval=15,
        slots=0,
    ),
    Scenario(
        dag_id="fivetran_deferrable",
        shows="waits in the triggerer",
        vendor="fivetran",
        conn_id="fivetran_conn_example",
        targets=("demo_deferrable",),
        life="scheduled:1 syncing:45 succeeded",
        tasks={"sync": 1},
        interval=15,
        slots=0,
    ),
    Scenario(
        dag_id="dbt_cloud_guide",
        shows="waits in the triggerer",
        vendor="dbt_cloud",
        conn_id="dbt_cloud_conn_example",
        targets=("70403103950001",),
        life="queued:1 starting:1 running:30 success",
        tasks={"trigger_dbt_cloud_job_run": 1},
        interval=10,
        slots=0,
    ),
    Scenario(
        dag_id="dbt_cloud_ten_runs",
        shows="10 mapped runs, deferrable",
        vendor="dbt_cloud",
        conn_id="dbt_cloud_conn_example",
        targets=tuple(str(number) for number in range(1001, 1011)),
        life="queued:1 starting:1 running:60 success",
        tasks={"run": 10},
        interval=5,
        slots=0,
    ),
    Scenario(
        dag_id="loans_from_yaml",
        shows="syncs that dbt's sources need",
        vendor="fivetran",
        conn_id="fivetran_conn_example",
        targets=("demo_yaml_loans", "demo_yaml_crm"),
        life="scheduled:1 syncing:45 succeeded",
        tasks={
            "extract_and_load.simulated-warehouse-crm-trigger": 1,
            "extract_and_load.simulated-warehouse-loans-trigger": 1,
            "transform": 1,
        },
        interval=15,
        slots=0,
        details={
            "demo_yaml_loans": {
                "schema": "loans",
                "tables": {"loans": ["accounts", "payments"]},
            },
            "demo_yaml_crm": {
                "schema": "crm",
                "tables": {"crm": ["customers", "campaigns"]},
            },
        },
    ),
    Scenario(
        dag_id="load_orders",
        shows="loads a table that other DAGs are scheduled on",
        vendor="fivetran",
        conn_id="fivetran_conn_example",
        targets=("demo_orders",),
        life="scheduled:1 syncing:20 succeeded",
        tasks={"sync": 1},
        interval=15,
        slots=0,
    ),
)

EVENT_SCENARIOS = (
    EventScenario(
        dag_id="when_sales_synced",
        shows="starts when a sync on Fivetran's schedule has finished",
        scheduled=(
            Scheduled(
                vendor="fivetran",
                conn_id="fivetran_conn_example",
                target="demo_sales",
                life="syncing:5 succeeded",
            ),
        ),
    ),
    EventScenario(
        dag_id="when_crm_synced_and_models_built",
        shows="starts when an Airbyte sync and a dbt Cloud run have finished",
        scheduled=(
            Scheduled(
                vendor="airbyte",
                conn_id="airbyte_conn_example",
                target="demo-crm",
                life="running:5 succeeded",
            ),
            Scheduled(
                vendor="dbt_cloud",
                conn_id="dbt_cloud_conn_example",
                target="70403103950002",
                life="running:5 success",
            ),
        ),
    ),
    EventScenario(
        dag_id="when_orders_loaded",
        shows="starts when load_orders has loaded its table",
    ),
)
