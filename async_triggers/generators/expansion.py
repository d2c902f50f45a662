"""From generator entries to plain operator entries. Plain values in, plain values out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from async_triggers.generators.reading import NAME_KEYS
from async_triggers.generators.warehouses import asset_uris

if TYPE_CHECKING:
    from async_triggers.generators.lookup import Lookup
    from async_triggers.generators.model import Loader

log = logging.getLogger(__name__)

_LISTED = 50
"""How many missed tables a message names."""

_SHARED = 5
"""How many connections a message names that two generators choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A connection for which tasks were made, and the source tables that need it."""

    tasks: tuple[str, ...]
    loader: Loader
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a generator made, and from which arguments."""

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


def by_name(config: Mapping[str, Any], place: Place) -> Mapping[str, Any]:
    """Return a DAG's configuration with its tasks and groups by name.

    dag-factory takes lists too, whose items have their names inside:
    https://astronomer.github.io/dag-factory/latest/configuration/configuring_workflows
    """
    found = dict(config)
    for key, name_key in zip(("tasks", "task_groups"), NAME_KEYS, strict=True):
        items = config.get(key)
        if isinstance(items, list) and all(isinstance(each, Mapping) for each in items):
            found[key] = _items_by_name(items, name_key, place.at(key))

    return found


def _items_by_name(
    items: Sequence[Mapping[str, Any]], name_key: str, place: Place
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(items):
        at = place.at(number)
        name = item.get(name_key)
        if not isinstance(name, str) or not name:
            msg = f"each item of this list needs a {name_key}, with a text"
            raise GeneratorError(at, msg)

        if name in found:
            msg = f"there is a {name_key} {name!r} above already"
            raise GeneratorError(at, msg)

        found[name] = {key: value for key, value in item.items() if key != name_key}

    return found


def has_generators(config: Mapping[str, Any]) -> bool:
    """Return whether any task of a DAG is a generator."""
    tasks = config.get("tasks")
    if isinstance(tasks, Mapping):
        tasks = list(tasks.values())

    return isinstance(tasks, list) and any(
        isinstance(each, Mapping) and "generator" in each for each in tasks
    )


def expand_dag(
    config: Mapping[str, Any], place: Place, folder: Path, lookup: Lookup
) -> Expansion:
    """Put plain operator entries where a DAG's configuration has generators.

    The configuration is left as it is. Tasks that depend on a generator by its name
    depend on all that it made; where it made nothing, on what it would have waited for.
    """
    config = by_name(config, place)
    tasks = config.get("tasks")
    if not isinstance(tasks, Mapping):
        return Expansion(dict(config))

    found = _chosen_by_all(tasks, place, folder, lookup)
    _check_overlap(found, lookup)
    plain = {name: entry for name, entry in tasks.items() if name not in found}
    stems = _stems(found, set(plain))

    done = Expansion({**config, "tasks": {}})
    made: dict[str, dict[str, Any]] = {}
    for name, entry in tasks.items():
        if name in plain:
            done.config["tasks"][name] = entry
            continue

        report, made[name] = _make_all(found[name], stems, str(entry["generator"]))
        done.reports.append(report)
        done.config["tasks"] |= made[name]

    for key in ("tasks", "task_groups"):
        if isinstance(done.config.get(key), Mapping):
            done.config[key] = {
                name: _rewired(entry, found, made, place.at(key, name))
                for name, entry in done.config[key].items()
            }

    return done


@dataclass(frozen=True, slots=True)
class _Found:
    """A generator, and what it has chosen."""

    generator: Generator
    chosen: tuple[Chosen, ...]
    remarks: list[str]


def _chosen_by_all(
    tasks: Mapping[str, Any], place: Place, folder: Path, lookup: Lookup
) -> dict[str, _Found]:
    found = {}
    for name, entry in tasks.items():
        if isinstance(entry, Mapping) and "generator" in entry:
            generator = read_generator(name, entry, place.at("tasks", name), folder)
            found[name] = _Found(generator, *_choose(generator, lookup))

    return found


def _check_overlap(found: Mapping[str, _Found], lookup: Lookup) -> None:
    """Refuse that generators choose one connection, which several tasks would sync."""
    owners: dict[tuple[str, str], list[Generator]] = {}
    names: dict[tuple[str, str], str] = {}
    for each in found.values():
        for chosen in each.chosen:
            loader = chosen.loader
            key = (each.generator.vendor.name, loader.id)
            owners.setdefault(key, []).append(each.generator)
            names[key] = f"{loader.name!r} ({loader.id})"

    shared: dict[tuple[str, ...], list[str]] = {}
    for key, choosing in owners.items():
        for those in _by_server(choosing, lookup):
            if len(those) > 1:
                shared.setdefault(tuple(those), []).append(names[key])

    for those, connections in shared.items():
        *first, last = map(repr, those)
        shown = ", ".join(connections[:_SHARED])
        more = f" and {len(connections) - _SHARED} more"
        msg = (
            f"the generators {', '.join(first)} and {last}"
            f" {'all' if first[1:] else 'both'} choose"
            f" {shown}{more if len(connections) > _SHARED else ''}, so that"
            f" {'several' if first[1:] else 'two'} tasks would sync it. Let one generator"
            " choose it"
        )
        raise GeneratorError(found[those[1]].generator.place, msg)


def _by_server(
    choosing: Sequence[Generator], lookup: Lookup
) -> Iterable[Sequence[str]]:
    """Return the names of the generators that read from each server.

    A copy of an Airbyte server has the same connection ids.
    """
    if len({each.conn_id for each in choosing}) == 1:
        return [[each.name for each in choosing]]

    servers: dict[str, list[str]] = {}
    for each in choosing:
        server = lookup.server(each.vendor.name, each.conn_id)
        servers.setdefault(server, []).append(each.name)

    return servers.values()


def _rewired(
    entry: Any,
    found: Mapping[str, _Found],
    made: Mapping[str, Mapping[str, Any]],
    place: Place,
) -> Any:
    """Return an entry with what generators made in the place of their names."""
    if not isinstance(entry, Mapping) or "dependencies" not in entry:
        return entry

    passed: set[str] = set()

    def stands_for(name: str) -> Iterator[str]:
        if name not in found:
            yield name
        elif made[name]:
            yield from made[name]
        elif name not in passed:
            passed.add(name)
            for upstream in found[name].generator.dependencies:
                yield from stands_for(upstream)

    wanted = names(entry["dependencies"], place.at("dependencies"))
    upstream = (task for name in wanted for task in stands_for(name))
    return {**entry, "dependencies": list(dict.fromkeys(upstream))}


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
        0, f"{len(sources)} source tables, {len(loaders)} connections compared"
    )
    if found.missed:
        text = _unmatched(generator, found.missed, loaders)
        remarks += _object(generator, text)

    return found.chosen, remarks


def _by_id(
    generator: Generator, lookup: Lookup
) -> tuple[tuple[Chosen, ...], list[str]]:
    databases = ("",) if generator.emits_assets else None
    loaders = lookup.loaders(
        generator.vendor.name, generator.conn_id, databases, generator.place
    )
    known = {each.id: each for each in loaders}
    remarks = [f"{len(loaders)} connections checked"]
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
            f" tables; {len(loaders)} connections with {tables} tables were checked"
        )
    ]
    for each in missed[:_LISTED]:
        lines.append(f"  {each.source} ({each.source.unique_id})")
        lines += [f"    nearest: {near}" for near in each.nearest]

    if len(missed) > _LISTED:
        lines.append(f"  and {len(missed) - _LISTED} more")

    return "\n".join(lines)


# Making -------------------------------------------------------------------------------


def _stems(
    found: Mapping[str, _Found], taken: set[str]
) -> Mapping[tuple[str, str], str]:
    """Return what the task ids of each connection begin with, by generator and id.

    Of connections that would have the same task id the oldest keeps it, so that a new one
    takes over no other task's history.
    """
    every = [
        (each.generator, chosen.loader)
        for each in found.values()
        for chosen in each.chosen
    ]
    stems = {}
    for generator, loader in sorted(
        every, key=lambda each: (each[1].created, each[1].id)
    ):
        stem = _stem(generator, loader)
        if taken & set(_task_ids(generator, stem)):
            stem = f"{stem}-{_slug_of_id(loader)}"

        ids = _task_ids(generator, stem)
        if taken & set(ids):
            msg = (
                f"it makes a task {ids[0]!r} for {loader.name!r} ({loader.id}), and there"
                " is one of that name in this DAG already: rename that"
            )
            raise GeneratorError(generator.place, msg)

        taken |= set(ids)
        stems[generator.name, loader.id] = stem

    return stems


def _stem(generator: Generator, loader: Loader) -> str:
    by_name = "" if generator.names_by_id else slugify(loader.name)
    return by_name or _slug_of_id(loader)


def _slug_of_id(loader: Loader) -> str:
    return slugify(loader.id, lowercase=False)


def _task_ids(generator: Generator, stem: str) -> list[str]:
    # Fivetran's tasks have always had the suffix, Airbyte's never.
    trigger = stem + ("-trigger" if generator.vendor is FIVETRAN else "")
    has_sensor = generator.sensor and generator.wait
    return [trigger, f"{stem}-sensor"] if has_sensor else [trigger]


def _make_all(
    found: _Found, stems: Mapping[tuple[str, str], str], written: str
) -> tuple[Report, dict[str, Any]]:
    generator, remarks = found.generator, list(found.remarks)
    tasks: dict[str, Any] = {}
    made = []
    for chosen in found.chosen:
        stem = stems[generator.name, chosen.loader.id]
        entries = _make(generator, chosen.loader, _task_ids(generator, stem))
        tasks |= entries
        because = tuple(f"{each.unique_id} is {each}" for each in chosen.sources)
        made.append(Made(tasks=tuple(entries), loader=chosen.loader, because=because))

    if not made:
        remarks.append("it makes no task")

    report = Report(
        name=generator.name,
        generator=written,
        group=generator.group,
        made=tuple(made),
        remarks=tuple(remarks),
    )
    return report, tasks


def _make(generator: Generator, loader: Loader, ids: Sequence[str]) -> dict[str, Any]:
    trigger = ids[0]
    made = {
        trigger: {
            "operator": _path(generator.vendor.operator),
            **_start(generator, loader),
            **_shown_as(generator, loader),
            **_shared(generator, generator.vendor.operator),
            **_dependencies(generator.dependencies),
        }
    }
    for sensor in ids[1:]:
        made[sensor] = {
            "operator": _path(generator.vendor.sensor),
            **_watch(generator, loader, trigger),
            **_shared(generator, generator.vendor.sensor),
            "dependencies": [trigger],
        }

    uris = asset_uris(loader) if generator.emits_assets else []
    if uris and generator.wait:
        # The last of them is the one that sees the end.
        last = made[ids[-1]]
        last["outlets"] = [*last.get("outlets", ()), *uris]

    return made


def _shown_as(generator: Generator, loader: Loader) -> dict[str, str]:
    """Return the name for people of a task whose id says nothing to them."""
    if not generator.names_by_id or generator.sensor:
        return {}

    return {"task_display_name": loader.name}


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
