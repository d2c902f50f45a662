"""Tables as assets: the URIs by which Airflow's providers for warehouses know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.deferral.landings import names_in

if TYPE_CHECKING:
    from async_triggers.deferral.landings import Landing
    from async_triggers.generators.model import Loader


def asset_uris(loader: Loader) -> list[str]:
    """Return the URI of each table that a connection loads, as far as all is known."""
    uris = (_asset_uri(loader.warehouse, each) for each in loader.landings)
    return [uri for uri in dict.fromkeys(uris) if uri]


def _asset_uri(warehouse: str, landing: Landing) -> str:
    parts = names_in(warehouse, landing)
    if not warehouse or not all(parts) or any("/" in part for part in parts):
        return ""

    return "/".join([warehouse, *parts])
