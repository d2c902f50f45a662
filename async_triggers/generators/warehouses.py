"""Tables as assets: the URIs by which Airflow's providers for warehouses know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from async_triggers.generators.model import Landing, Loader


class _Form(NamedTuple):
    """How a kind of warehouse is written: the scheme, the port, and what names a table."""

    scheme: str
    port: str
    has_database: bool = True


# https://airflow.apache.org/docs/apache-airflow-providers/core-extensions/asset-uri-handlers.html
_FORMS = {
    "mssql": _Form("mssql", "1433"),
    "sql_server": _Form("mssql", "1433"),
    "mysql": _Form("mysql", "3306", has_database=False),
    "maria": _Form("mysql", "3306", has_database=False),
    "postgres": _Form("postgres", "5432"),
    "redshift": _Form("redshift", "5439"),
}
_SNOWFLAKE = ".snowflakecomputing.com"


def warehouse_uri(kind: str, host: str, port: str) -> str:
    """Return how the URIs of a destination's tables begin; empty where none is known.

    ``kind`` is the vendor's word for the destination.
    """
    kind = kind.lower()
    if "snowflake" in kind:
        account = host.lower().partition("://")[2] or host.lower()
        account = account.strip("/").removesuffix(_SNOWFLAKE)
        return f"snowflake://{account}" if account else ""

    if "bigquery" in kind or "big_query" in kind:
        return "bigquery:/"

    form = next((each for word, each in _FORMS.items() if word in kind), None)
    if form is None or not host:
        return ""

    return f"{form.scheme}://{host}:{port or form.port}"


def asset_uris(loader: Loader) -> list[str]:
    """Return the URI of each table that a connection loads, as far as all is known."""
    uris = (_asset_uri(loader.warehouse, each) for each in loader.landings)
    return [uri for uri in dict.fromkeys(uris) if uri]


def _asset_uri(warehouse: str, landing: Landing) -> str:
    parts = [*landing]
    if warehouse.startswith("mysql:"):
        parts = [landing.schema, landing.table]
    elif warehouse.startswith("snowflake:"):
        # Names that are not quoted are upper case there.
        parts = [part.upper() for part in landing]

    if not warehouse or not all(parts) or any("/" in part for part in parts):
        return ""

    return "/".join([warehouse, *parts])
