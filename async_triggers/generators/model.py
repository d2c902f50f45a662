"""What dbt's sources and the vendors' connections look like to the generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from async_triggers.deferral.landings import Landing

_QUOTES = {'"': '"', "`": "`", "'": "'", "[": "]"}


def unquoted(name: str) -> str:
    """Take one pair of quotes off a name, as SQL of any dialect writes them."""
    is_quoted = len(name) > 1 and _QUOTES.get(name[0]) == name[-1]
    return name[1:-1] if is_quoted else name


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A source table of a dbt project. ``database`` is empty where it has none."""

    unique_id: str
    database: str
    schema: str
    identifier: str

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Self:
        """Read what dbt says of a source, in its list or in its manifest."""
        name = row.get("identifier") or row.get("name") or ""
        return cls(
            unique_id=str(row.get("unique_id") or ""),
            database=str(row.get("database") or ""),
            schema=str(row.get("schema") or ""),
            identifier=str(name),
        )

    def __str__(self) -> str:
        """Name the table as SQL does."""
        return ".".join(filter(None, (self.database, self.schema, self.identifier)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """A connection of a vendor: what it is called and what it loads.

    ``name`` is what its task is named after. ``created`` puts connections of one name
    into an order. ``trouble`` says why it cannot be run, empty where it can. ``warehouse``
    is how the URIs of its tables begin, empty where that is not known.
    """

    id: str
    name: str
    created: str
    trouble: str
    landings: tuple[Landing, ...]
    warehouse: str = ""

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read what :func:`to_json` wrote."""
        return cls(
            **{
                **row,
                "landings": tuple(map(Landing._make, row["landings"])),
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Write the connection as plain values."""
        return {
            "id": self.id,
            "name": self.name,
            "created": self.created,
            "trouble": self.trouble,
            "landings": [
                (each.database, each.schema, each.table) for each in self.landings
            ],
            "warehouse": self.warehouse,
        }


def sources_to_json(sources: Sequence[SourceTable]) -> list[dict[str, str]]:
    """Write source tables as plain values."""
    return [asdict(each) for each in sources]


def sources_from_json(rows: Sequence[Mapping[str, str]]) -> tuple[SourceTable, ...]:
    """Read what :func:`sources_to_json` wrote."""
    return tuple(SourceTable(**row) for row in rows)
