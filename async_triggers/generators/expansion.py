"""From generator entries to plain operator entries. Plain values in, plain values out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slugify import slugify

from async_triggers.generators.catalogue import AUDIT_TABLES
from async_triggers.generators.dialect import (
    FIVETRAN,
    Generator,
    names,
    read_generator,
    takes,
)
from async_triggers.generators.errors import GeneratorError, Place
from async_triggers.generators.matching import (
    EXPLAINED,
    Chosen,
    Miss,
    in_order,
    match,
    wanted_databases,
)
from async_triggers.generators.model import unquoted

if TYPE_CHECKING:
    from async_triggers.generators.lookup import Lookup
    from async_triggers.generators.model import Loader

log = logging.getLogger(__name__)

_LISTED = 50
"""How many missed tables a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A connection for which tasks were made, and the source tables that asked for it."""

    tasks: tuple[str, ...]
    loader: Loader
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a generator made, and what it was told."""

    name: str
    generator: str
    group: str | None
    made: tuple[Made, ...]
    remarks: tuple[str, ...]


@dataclass(slots=True)
class Expansion:
    """A DAG's configuration without generators, and what became of them."""

    config: dict[str, Any]
    reports: list[Report] = field(default_factory=list)


def expand_dag(
    config: Mapping[str, Any], place: Place, folder: Path, lookup: Lookup
) -> Expansion:
    """Put plain operator entries where a DAG's configuration has generators.

    The configuration is left as it is. Tasks that depend on a generator by its name
    depend on all that it made; where it made nothing, on what it would have waited for.
    """
    tasks = config.get("tasks")
    if not isinstance(tasks, Mapping):
        return Expansion(dict(config))

    done = Expansion({**config, "tasks": {}})
    plain: dict[str, Any] = done.config["tasks"]
    stands_for: dict[str, tuple[str, ...]] = {}
    taken = {
        name
        for name, entry in tasks.items()
        if not (isinstance(entry, Mapping) and "generator" in entry)
    }
    for name, entry in tasks.items():
        if not isinstance(entry, Mapping) or "generator" not in entry:
            plain[name] = entry
            continue

        at = place.at("tasks", name)
        generator = read_generator(name, entry, at, folder)
        chosen, remarks = _choose(generator, lookup)
        made = tuple(_make(generator, each, taken, plain) for each in chosen)
        stands_for[name] = tuple(task for each in made for task in each.tasks)
        if not made:
            stands_for[name] = generator.dependencies
            remarks.append("it makes no task")

        report = Report(
            name=name,
            generator=str(entry["generator"]),
            group=generator.group,
            made=made,
            remarks=tuple(remarks),
        )
        done.reports.append(report)

    for key in ("tasks", "task_groups"):
        if isinstance(done.config.get(key), Mapping):
            done.config[key] = {
                name: _rewired(entry, stands_for, place.at(key, name))
                for name, entry in done.config[key].items()
            }

    return done


def _rewired(entry: Any, stands_for: Mapping[str, Sequence[str]], place: Place) -> Any:
    """Return an entry with what generators made in the place of their names."""
    if not isinstance(entry, Mapping) or "dependencies" not in entry:
        return entry

    wanted = list(names(entry["dependencies"], place.at("dependencies")))
    seen: set[str] = set()
    while any(name in stands_for for name in wanted):
        expanded: list[str] = []
        for name in wanted:
            if name in seen:
                continue

            if name in stands_for:
                seen.add(name)

            expanded += stands_for.get(name, (name,))

        wanted = expanded

    return {**entry, "dependencies": list(dict.fromkeys(wanted))}


# Choosing -----------------------------------------------------------------------------


def _choose(
    generator: Generator, lookup: Lookup
) -> tuple[tuple[Chosen, ...], list[str]]:
    if generator.selection is None:
        return _by_id(generator, lookup)

    place = generator.place
    remarks: list[str] = []

    def unmatched(text: str) -> None:
        remarks.extend(_object(generator, text))

    sources = [
        source
        for source in lookup.sources(generator.selection, place, unmatched)
        if not (
            generator.vendor is FIVETRAN
            and unquoted(source.identifier).lower() in AUDIT_TABLES
        )
    ]
    words = " ".join(generator.selection.arguments)
    if not sources:
        remark = f"dbt selects no sources with {words!r}" if words else "no sources"
        log.warning("%s: %s, so there is nothing to load", place, remark)
        return (), [remark, *remarks]

    loaders = lookup.loaders(
        generator.vendor.name, generator.conn_id, wanted_databases(sources), place
    )
    is_shown = generator.on_unmatched != "ignore"
    found = match(sources, loaders, explained=EXPLAINED if is_shown else 0)
    remarks.insert(
        0, f"{len(sources)} source tables, {len(loaders)} connections looked at"
    )
    if found.missed:
        text = _unmatched(generator, found.missed, loaders)
        remarks += _object(generator, text)

    return found.chosen, remarks


def _by_id(
    generator: Generator, lookup: Lookup
) -> tuple[tuple[Chosen, ...], list[str]]:
    loaders = lookup.loaders(
        generator.vendor.name, generator.conn_id, None, generator.place
    )
    known = {each.id: each for each in loaders}
    remarks = [f"{len(loaders)} connections looked at"]
    unknown = [each for each in generator.ids if each not in known]
    if unknown:
        text = (
            f"{generator.vendor.name} has no connection {', '.join(unknown)} among the"
            f" {len(loaders)} that {generator.conn_id!r} sees"
        )
        remarks += _object(generator, text)

    named = in_order(known[each] for each in generator.ids if each in known)
    return tuple(Chosen(loader=each, sources=()) for each in named), remarks


def _object(generator: Generator, text: str) -> list[str]:
    """Say what is missing, as loud as the generator wants it."""
    if generator.on_unmatched == "error":
        msg = f"{text}\nSet on_unmatched to warn or ignore to go on without"
        raise GeneratorError(generator.place, msg)

    if generator.on_unmatched == "warn":
        log.warning("%s: %s", generator.place, text)

    return text.splitlines()


def _unmatched(
    generator: Generator, missed: Sequence[Miss], loaders: Sequence[Loader]
) -> str:
    tables = sum(len(each.landings) for each in loaders)
    lines = [
        (
            f"no {generator.vendor.name} connection loads {len(missed)} of the source"
            f" tables; {len(loaders)} connections with {tables} tables were looked at"
        )
    ]
    for each in missed[:_LISTED]:
        lines.append(f"  {each.source} ({each.source.unique_id})")
        lines += [f"    nearest: {near}" for near in each.nearest]

    if len(missed) > _LISTED:
        lines.append(f"  and {len(missed) - _LISTED} more")

    return "\n".join(lines)


# Making -------------------------------------------------------------------------------


def _make(
    generator: Generator, chosen: Chosen, taken: set[str], plain: dict[str, Any]
) -> Made:
    loader = chosen.loader
    stem = slugify(loader.name) or slugify(loader.id)
    # Fivetran's tasks have always had the suffix, Airbyte's never.
    suffix = "-trigger" if generator.vendor is FIVETRAN else ""
    if {stem + suffix, f"{stem}-sensor"} & taken:
        stem = f"{stem}-{slugify(loader.id)}"

    trigger, sensor = stem + suffix, f"{stem}-sensor"
    if trigger in taken:
        msg = (
            f"it makes a task {trigger!r}, of which there is one in this DAG already: the"
            " same connection is chosen twice. Let one generator choose it"
        )
        raise GeneratorError(generator.place, msg)

    taken.add(trigger)
    plain[trigger] = {
        "operator": _path(generator.vendor.operator),
        **_start(generator, loader),
        **_shared(generator, generator.vendor.operator),
        **_dependencies(generator.dependencies),
    }
    tasks = [trigger]
    if generator.sensor and generator.wait:
        taken.add(sensor)
        tasks.append(sensor)
        plain[sensor] = {
            "operator": _path(generator.vendor.sensor),
            **_watch(generator, loader, trigger),
            **_shared(generator, generator.vendor.sensor),
            "dependencies": [trigger],
        }

    return Made(
        tasks=tuple(tasks),
        loader=loader,
        because=tuple(f"{each.unique_id} is {each}" for each in chosen.sources),
    )


def _start(generator: Generator, loader: Loader) -> dict[str, Any]:
    waits = generator.wait and not generator.sensor
    if generator.vendor is FIVETRAN:
        return {
            "connector_id": loader.id,
            "fivetran_conn_id": generator.conn_id,
            "wait_for_completion": waits,
            "deferrable": True,
            "poll_frequency": generator.poke_interval,
        }

    return {
        "connection_id": loader.id,
        "airbyte_conn_id": generator.conn_id,
        "asynchronous": not waits,
        "deferrable": True,
        "wait_seconds": generator.poke_interval,
    }


def _watch(generator: Generator, loader: Loader, trigger: str) -> dict[str, Any]:
    task_id = f"{generator.group}.{trigger}" if generator.group else trigger
    pulled = f"{{{{ task_instance.xcom_pull({task_id!r}, key='return_value') }}}}"
    if generator.vendor is FIVETRAN:
        return {
            "connector_id": loader.id,
            "fivetran_conn_id": generator.conn_id,
            "completed_after_time": pulled,
            "deferrable": True,
            "poke_interval": generator.poke_interval,
        }

    return {
        "airbyte_job_id": pulled,
        "airbyte_conn_id": generator.conn_id,
        "deferrable": True,
        "poke_interval": generator.poke_interval,
    }


def _shared(generator: Generator, operator: type) -> dict[str, Any]:
    """Return the other arguments, as far as this operator takes them."""
    found = {
        key: value for key, value in generator.arguments.items() if takes(operator, key)
    }
    if generator.group:
        found["task_group_name"] = generator.group

    return found


def _dependencies(dependencies: Sequence[str]) -> dict[str, Any]:
    return {"dependencies": list(dependencies)} if dependencies else {}


def _path(operator: type) -> str:
    return f"{operator.__module__}.{operator.__qualname__}"
