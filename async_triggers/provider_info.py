"""What Airflow asks about this package, in every process: strings only, no imports."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the shape of Airflow's provider schema."""
    return {
        "package-name": "async-triggers",
        "name": "Async Triggers",
        "description": "Deferrable operators for Airbyte, Fivetran and dbt Cloud.",
    }
