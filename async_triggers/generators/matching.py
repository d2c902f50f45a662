"""Which connections load which source tables. Pure.

Names are compared without regard to case. In schemas and tables whatever is no letter,
digit or underscore counts as an underscore, as the vendors write such names.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_triggers.generators.model import Landing, Loader, SourceTable

_STRANGE = re.compile(r"[^a-z0-9_]")
_RAW = "_airbyte_raw_"
_NEAREST = 3
_COMPARED = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A connection, and the source tables that it loads."""

    loader: Loader
    sources: tuple[SourceTable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A source table that no connection loads, and what comes nearest to it."""

    source: SourceTable
    nearest: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """What became of the source tables."""

    chosen: tuple[Chosen, ...]
    missed: tuple[Miss, ...]


def match(sources: Sequence[SourceTable], loaders: Sequence[Loader]) -> Matching:
    """Find for each source table all connections that load it.

    Connections come in the order of their names and ages, whatever the order was in which
    the vendor told them.
    """
    places: dict[tuple[str, str], list[tuple[Loader, Landing]]] = defaultdict(list)
    for loader in loaders:
        for landing in loader.landings:
            key = (_fold(landing.schema), _fold(landing.table))
            places[key].append((loader, landing))

    loads: dict[str, list[SourceTable]] = defaultdict(list)
    missed = []
    for source in sources:
        found = {
            loader.id: loader
            for loader, landing in _at(places, source)
            if not loader.trouble and _same_database(source, landing)
        }
        for each in found:
            loads[each].append(source)

        if not found:
            nearest = tuple(islice(_nearest(source, loaders, places), _NEAREST))
            missed.append(Miss(source=source, nearest=nearest))

    return Matching(
        chosen=tuple(
            Chosen(loader=loader, sources=tuple(loads[loader.id]))
            for loader in in_order(loaders)
            if loader.id in loads
        ),
        missed=tuple(missed),
    )


def in_order(loaders: Iterable[Loader]) -> list[Loader]:
    """Sort by name; of one name the oldest comes first, so that a new one is the last."""
    return sorted(loaders, key=lambda each: (each.name.lower(), each.created, each.id))


def wanted_databases(sources: Iterable[SourceTable]) -> tuple[str, ...]:
    """Return the databases that the tables are in; the empty one stands for any."""
    return tuple(sorted({source.database.lower() for source in sources}))


def _fold(name: str) -> str:
    return _STRANGE.sub("_", name.lower())


def _names(source: SourceTable) -> tuple[str, ...]:
    # https://docs.airbyte.com/platform/using-airbyte/core-concepts/typing-deduping: what
    # was loaded before version 2 of the destinations lies in raw tables of that name.
    name = _fold(source.identifier)
    return (name, name.removeprefix(_RAW)) if name.startswith(_RAW) else (name,)


def _at(
    places: dict[tuple[str, str], list[tuple[Loader, Landing]]], source: SourceTable
) -> Iterable[tuple[Loader, Landing]]:
    for schema in (_fold(source.schema), ""):
        for table in (*_names(source), ""):
            yield from places.get((schema, table), ())


def _same_database(source: SourceTable, landing: Landing) -> bool:
    return (
        not source.database
        or not landing.database
        or source.database.lower() == landing.database.lower()
    )


def _nearest(
    source: SourceTable,
    loaders: Sequence[Loader],
    places: dict[tuple[str, str], list[tuple[Loader, Landing]]],
) -> Iterable[str]:
    """Name what is nearest: all but the database right, else the most alike."""
    told = set()
    for loader, landing in _at(places, source):
        why = loader.trouble or "its database is another"
        told.add(str(landing))
        yield f"{landing} of {loader.name!r}, but {why}"

    names = {
        str(landing): loader.name
        for loader, landing in islice(
            ((loader, landing) for loader in loaders for landing in loader.landings),
            _COMPARED,
        )
        if str(landing) not in told
    }
    wanted = str(source).lower()
    known = {name.lower(): name for name in names}
    for alike in difflib.get_close_matches(wanted, known, n=_NEAREST, cutoff=0.6):
        yield f"{known[alike]} of {names[known[alike]]!r}"
