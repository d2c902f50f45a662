"""Which module of this package takes the place of which module elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

COUNTERPARTS: Mapping[str, str] = {
    **{
        f"airflow.providers.airbyte.{kind}.airbyte": f"async_triggers.airbyte.{kind}"
        for kind in ("hooks", "operators", "sensors", "triggers")
    },
    **{
        f"airflow.providers.dbt.cloud.{kind}.dbt": f"async_triggers.dbt_cloud.{kind}"
        for kind in ("hooks", "operators", "sensors", "triggers")
    },
    **{
        f"fivetran_provider_async.{kind}": f"async_triggers.fivetran.{kind}"
        for kind in ("hooks", "operators", "sensors", "triggers")
    },
    # The provider before the one with triggers.
    **{
        f"fivetran_provider.{kind}.fivetran": f"async_triggers.fivetran.{kind}"
        for kind in ("hooks", "operators", "sensors")
    },
}
"""From a module of another provider to the module here."""

PACKAGES = (
    "airflow.providers.airbyte",
    "airflow.providers.dbt.cloud",
    "fivetran_provider",
    "fivetran_provider_async",
)
"""The packages of the other providers."""


def package_of(path: str) -> str | None:
    """Return the other provider's package that a dotted path lies in, if any."""
    for package in PACKAGES:
        if path == package or path.startswith(f"{package}."):
            return package

    return None


def leads_to_package(path: str) -> bool:
    """Return whether another provider's package lies below a package."""
    return any(package.startswith(f"{path}.") for package in PACKAGES)


def split_path(path: str) -> tuple[str, str] | None:
    """Split a dotted path into a module that has a counterpart and what follows it."""
    for module in COUNTERPARTS:
        if path.startswith(f"{module}."):
            return module, path[len(module) + 1 :]

    return None


def may_name(source: bytes) -> bool:
    """Return False for source that can name none of the packages, in any layout."""
    return (
        b"fivetran_provider" in source
        or b"airbyte_api" in source
        or (b"providers" in source and (b"airbyte" in source or b"dbt" in source))
    )
