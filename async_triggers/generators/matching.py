"""Which connections load which source tables. Pure.

Names are compared without regard to case, and to one pair of quotes around them. In
schemas and tables each character other than a letter, digit or underscore counts as one, as
the vendors write such names.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from async_triggers.generators.model import unquoted

if TYPE_CHECKING:
    from async_triggers.deferral.landings import Landing
    from async_triggers.generators.model import Loader, SourceTable

_STRANGE = re.compile(r"[^a-z0-9_]")
_RAW = "_airbyte_raw_"
# https://docs.airbyte.com/platform/using-airbyte/core-concepts/typing-deduping: version 2
# of the destinations keeps raw tables of all schemas in one. Each is named after its
# stream, with one underscore more in the middle than there are together anywhere else.
_RAW_OF_STREAM = re.compile(r"(?=_raw_(_+)stream_)")
_NEAREST = 3
_COMPARED = 2_000

EXPLAINED = 3
"""For how many missed tables it is worth the time to find what is nearest."""

Places = Mapping[tuple[str, str], Sequence[tuple["Loader", "Landing"]]]


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


def match(
    sources: Sequence[SourceTable],
    loaders: Sequence[Loader],
    *,
    explained: int = EXPLAINED,
) -> Matching:
    """Find for each source table all connections that load it.

    Connections come in the order of their names and ages, in any order
    of the vendor's. What is nearest is found for the first ``explained`` misses.
    """
    places = _places(sources, loaders)
    loads: dict[str, list[SourceTable]] = defaultdict(list)
    missed = []
    for source in sources:
        found = _loading(source, places)
        for each in found:
            loads[each].append(source)

        if not found:
            missed.append(source)

    nearest = _Nearest(loaders, places)
    return Matching(
        chosen=tuple(
            Chosen(loader=loader, sources=tuple(loads[loader.id]))
            for loader in in_order(loaders)
            if loader.id in loads
        ),
        missed=tuple(
            Miss(source=each, nearest=nearest.to(each) if at < explained else ())
            for at, each in enumerate(missed)
        ),
    )


def _places(sources: Sequence[SourceTable], loaders: Sequence[Loader]) -> Places:
    """Index the tables that are loaded, as far as a source may stand for them."""
    wanted = {key for source in sources for key in (*_keys(source), *_raw_keys(source))}
    places: dict[tuple[str, str], list[tuple[Loader, Landing]]] = defaultdict(list)
    for loader in loaders:
        for landing in loader.landings:
            key = (_fold(landing.schema), _fold(landing.table))
            if key in wanted:
                places[key].append((loader, landing))

    return places


def _loading(source: SourceTable, places: Places) -> Mapping[str, Loader]:
    for keys in (_keys(source), _raw_keys(source)):
        found = {
            loader.id: loader
            for loader, landing in _at(places, keys)
            if not loader.trouble and _same_database(source, landing)
        }
        if found:
            return found

    return {}


def in_order(loaders: Iterable[Loader]) -> list[Loader]:
    """Sort by name; of one name the oldest comes first, so that a new one is the last."""
    return sorted(loaders, key=lambda each: (each.name.lower(), each.created, each.id))


def wanted_databases(sources: Iterable[SourceTable]) -> tuple[str, ...]:
    """Return the databases that the tables are in; the empty one stands for any."""
    return tuple(sorted({unquoted(source.database).lower() for source in sources}))


# Schemas, and many tables' names, come again and again.
@lru_cache(maxsize=2**16)
def _fold(name: str) -> str:
    return _STRANGE.sub("_", name.lower())


def _keys(source: SourceTable) -> Iterable[tuple[str, str]]:
    schema, name = (
        _fold(unquoted(part)) for part in (source.schema, source.identifier)
    )
    # https://docs.airbyte.com/platform/using-airbyte/core-concepts/typing-deduping: what
    # was loaded before version 2 of the destinations lies in raw tables of that name.
    names = (name, name.removeprefix(_RAW)) if name.startswith(_RAW) else (name,)
    return ((in_, of) for in_ in (schema, "") for of in (*names, ""))


def _raw_keys(source: SourceTable) -> Iterable[tuple[str, str]]:
    """Return where the stream may go of which a source is the raw table."""
    name = _fold(unquoted(source.identifier))
    for middle in _RAW_OF_STREAM.finditer(name):
        schema = name[: middle.start()]
        table = name[middle.end(1) + len("stream_") :]
        yield from ((schema, table), ("", table), (schema, ""))


def _at(
    places: Places, keys: Iterable[tuple[str, str]]
) -> Iterable[tuple[Loader, Landing]]:
    for key in keys:
        yield from places.get(key, ())


def _same_database(source: SourceTable, landing: Landing) -> bool:
    wanted = unquoted(source.database)
    return (
        not wanted or not landing.database or wanted.lower() == landing.database.lower()
    )


class _Nearest:
    """Finds what comes near to a table: all but the database right, else the most alike."""

    def __init__(self, loaders: Sequence[Loader], places: Places) -> None:
        self._loaders = loaders
        self._places = places

    @cached_property
    def _names(self) -> Mapping[str, tuple[str, str]]:
        """The tables' names in lower case, with the names and their connections'."""
        every = (
            (landing, loader) for loader in self._loaders for landing in loader.landings
        )
        return {
            str(landing).lower(): (str(landing), loader.name)
            for landing, loader in islice(every, _COMPARED)
        }

    def to(self, source: SourceTable) -> tuple[str, ...]:
        """Describe what is nearest to a table, the nearest first."""
        return tuple(islice(self._all(source), _NEAREST))

    def _all(self, source: SourceTable) -> Iterable[str]:
        seen = set()
        for loader, landing in _at(self._places, (*_keys(source), *_raw_keys(source))):
            why = loader.trouble or "its database is another"
            seen.add(str(landing))
            yield f"{landing} of {loader.name!r}, but {why}"

        wanted = str(source).lower()
        for alike in difflib.get_close_matches(
            wanted, self._names, n=_NEAREST + len(seen), cutoff=0.6
        ):
            name, of = self._names[alike]
            if name not in seen:
                yield f"{name} of {of!r}"
