"""Crossings of Ferry, a made-up vendor, as Airflow tasks."""

from __future__ import annotations

from typing import Any

from async_triggers.provider_info import vendor_form

FORM = vendor_form(
    "ferry",
    "ferry_provider.hooks.FerryHook",
    "Ferry",
    relabeling={"host": "Harbour", "password": "Boarding pass"},
    hidden=("schema", "port", "login"),
)


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the shape of Airflow's provider schema."""
    return {
        "package-name": "ferry-provider",
        "name": "Ferry",
        "description": "Crossings of Ferry.",
        "connection-types": [FORM],
        "extra-links": ["ferry_provider.operators.FerryLink"],
    }
