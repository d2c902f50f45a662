"""Where the tables are that a connection loads."""

from __future__ import annotations

from typing import NamedTuple

# Where a schema is called a database, names have two parts:
# https://docs.airbyte.com/integrations/destinations/mysql,
# https://fivetran.com/docs/destinations/clickhouse
_TWO_PARTS = ("clickhouse", "maria", "mysql", "singlestore")


def has_two_parts(kind: str) -> bool:
    """Return whether tables of a kind of warehouse have no database before the schema."""
    return any(word in kind.lower() for word in _TWO_PARTS)


class Landing(NamedTuple):
    """A table that a connection loads. An empty part is not known and fits any.

    A tuple, since an account may have hundreds of thousands, which each parse reads.
    """

    database: str
    schema: str
    table: str

    def __str__(self) -> str:
        """Name the table as SQL does, with a star for what is not known."""
        return ".".join(
            part or "*" for part in (self.database, self.schema, self.table)
        )


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


def names_in(warehouse: str, landing: Landing) -> list[str]:
    """Return what names a table in a warehouse, as the warehouse writes it."""
    if warehouse.startswith("mysql:"):
        return [landing.schema, landing.table]

    if warehouse.startswith("snowflake:"):
        # Names that are not quoted are upper case there.
        return [part.upper() for part in landing]

    return [*landing]
