"""The two sides of a comparison: this package's triggers and the official ones.

Runs in either environment. Neither side's classes are imported before they are asked
for, so that a process holds one side alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.triggers.base import BaseTrigger

Side: TypeAlias = Literal["ours", "peer"]
Vendor: TypeAlias = Literal["airbyte", "fivetran", "dbt_cloud"]

VENDORS: tuple[Vendor, ...] = ("airbyte", "fivetran", "dbt_cloud")
TITLES: Mapping[str, str] = {
    "airbyte": "Airbyte",
    "fivetran": "Fivetran",
    "dbt_cloud": "dbt Cloud",
}
PACKAGES: Mapping[str, str] = {
    "airbyte": "apache-airflow-providers-airbyte",
    "fivetran": "airflow-provider-fivetran-async",
    "dbt_cloud": "apache-airflow-providers-dbt-cloud",
}
"""The official triggers' packages."""

_CLASSES: Mapping[tuple[str, str], str] = {
    ("ours", "airbyte"): "async_triggers.airbyte.triggers:AirbyteSyncTrigger",
    ("ours", "fivetran"): "async_triggers.fivetran.triggers:FivetranTrigger",
    ("ours", "dbt_cloud"): "async_triggers.dbt_cloud.triggers:DbtCloudRunJobTrigger",
    (
        "peer",
        "airbyte",
    ): "airflow.providers.airbyte.triggers.airbyte:AirbyteSyncTrigger",
    ("peer", "fivetran"): "fivetran_provider_async.triggers:FivetranTrigger",
    ("peer", "dbt_cloud"): (
        "airflow.providers.dbt.cloud.triggers.dbt:DbtCloudRunJobTrigger"
    ),
}

INTERVALS: Mapping[str, float] = {"airbyte": 5.0, "fivetran": 15.0, "dbt_cloud": 5.0}
"""Seconds between two looks: the shortest that this package allows."""

_BEFORE = 60.0
"""Seconds before the start at which a Fivetran connection is said to have synced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One job to wait for.

    ``job`` is the vendor's id of it (Fivetran: of the connection); ``seen_at`` the
    server's time, in epoch seconds, at which an operator would have looked last; ``ends``
    the task's deadline, a day later where it is None. With ``owned``, which is ours alone,
    the job is cancelled with its task.
    """

    vendor: Vendor
    job: str
    seen_at: float
    ends: float | None = None
    owned: bool = False


def trigger_class(side: Side, vendor: Vendor) -> Any:
    """Import the class of a trigger."""
    module, _, name = _CLASSES[side, vendor].partition(":")
    return getattr(import_module(module), name)


def make_trigger(side: Side, ticket: Ticket, *, interval: float) -> BaseTrigger:
    """Make the trigger that waits for a job, with its own side's usual arguments."""
    make = trigger_class(side, ticket.vendor)
    conn_id = f"{ticket.vendor}_default"
    ends = ticket.seen_at + 86_400.0 if ticket.ends is None else ticket.ends
    ours = side == "ours"
    seen: dict[str, Any] = {}
    if ours:
        seen = {"seen_at": ticket.seen_at, "owned": ticket.owned}

    match ticket.vendor:
        case "airbyte":
            trigger = make(
                job_id=int(ticket.job),
                conn_id=conn_id,
                end_time=ends,
                poll_interval=interval,
                **seen,
            )
        case "dbt_cloud":
            trigger = make(
                conn_id=conn_id,
                run_id=int(ticket.job),
                end_time=ends,
                poll_interval=interval,
                account_id=None,
                **seen,
            )
        case "fivetran":
            trigger = make(
                task_id="wait",
                connector_id=ticket.job,
                fivetran_conn_id=conn_id,
                poke_interval=interval,
                **(_baseline(ticket) if ours else _earlier(ticket)),
            )
    return cast("BaseTrigger", trigger)


def _baseline(ticket: Ticket) -> dict[str, Any]:
    """Say what the connection showed before its sync, as our operator does."""
    before = datetime.fromtimestamp(ticket.seen_at - _BEFORE, tz=UTC).isoformat()
    run = import_module("async_triggers.fivetran.api.models").Run(
        connection_id=ticket.job,
        succeeded_at=before,
        failed_at=before,
        at=ticket.seen_at,
    )
    return {
        "baseline": run.mark,
        "seen_at": ticket.seen_at,
        "owned": ticket.owned,
    }


def _earlier(ticket: Ticket) -> dict[str, Any]:
    """Say when the connection had synced before, as the peer's operator does."""
    pendulum = import_module("pendulum")
    return {
        "previous_completed_at": pendulum.from_timestamp(ticket.seen_at - _BEFORE),
    }


def connections(urls: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the Airflow connections of both sides to a simulator that uses TLS."""
    return {
        "airbyte_default": {
            "conn_type": "airbyte",
            "host": f"{urls['airbyte']}/api/public/v1/",
            "login": "simulator-client",
            "password": "simulator-secret",
            "schema": "v1/applications/token",
        },
        "fivetran_default": {
            "conn_type": "fivetran",
            "host": urls["fivetran"],
            "login": "simulator-key",
            "password": "simulator-secret",
        },
        "dbt_cloud_default": {
            "conn_type": "dbt_cloud",
            # The peer puts the scheme before it, which is always https.
            "host": urlsplit(urls["dbt_cloud"]).netloc,
            "login": "70403103916001",
            "password": "simulator-token",
        },
    }


def connect(side: Side, urls: Mapping[str, str]) -> None:
    """Set this process's Airflow connections to a simulator that uses TLS."""
    for name, values in connections(urls).items():
        os.environ[f"AIRFLOW_CONN_{name.upper()}"] = json.dumps(values)

    if side == "peer":
        # The peer's host is an attribute of its class, and not to be set otherwise.
        fivetran = urlsplit(urls["fivetran"]).netloc
        import_module("fivetran_provider_async.hooks").FivetranHook.api_host = fivetran


def versions(side: Side) -> dict[str, str]:
    """Return the versions of what runs in this process."""
    names = ["apache-airflow", "aiohttp"]
    names += (
        ["airflow-provider-async-triggers"]
        if side == "ours"
        else list(PACKAGES.values())
    )
    return {name: metadata.version(name) for name in names}
