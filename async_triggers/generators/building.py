"""From a DAG's plain configuration to a DAG.

The dialect is that of dag-factory 0.8, in which the YAML of Datacoves is written, with the
spellings of today's Airflow besides.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow.sdk import DAG, Asset, BaseOperator, TaskGroup

from async_triggers.deferral.unknown import did_you_mean
from async_triggers.generators.callbacks import from_file, imported, read_custom
from async_triggers.generators.dialect import (
    NODES,
    SECONDS,
    arguments_of,
    find,
    names,
)
from async_triggers.generators.errors import (
    DEFAULT,
    GeneratorError,
    Place,
    brief,
    unknown_key,
)

log = logging.getLogger(__name__)

_DAG_ARGUMENTS = frozenset(inspect.signature(DAG.__init__).parameters) - {
    "self",
    "dag_id",
    "task_group",
    "auto_register",
    "sla_miss_callback",
}
_RENAMED = {"schedule_interval": "schedule", "concurrency": "max_active_tasks"}
# What today's Airflow does not have any more, and does well without.
_GONE = frozenset({"default_view", "orientation", "sla_miss_callback"})
_BY_FILE = {
    "on_success_callback_name": "on_success_callback_file",
    "on_failure_callback_name": "on_failure_callback_file",
}
_DOC_KEYS = (
    "doc_md_file_path",
    "doc_md_python_callable_name",
    "doc_md_python_callable_file",
    "doc_md_python_arguments",
)
_OWN_KEYS = frozenset(
    {"tasks", "task_groups", "default_args", "custom_callbacks", *_DOC_KEYS}
    | set(_BY_FILE)
    | set(_BY_FILE.values())
)
_GROUP_ARGUMENTS = frozenset(
    {
        "tooltip",
        "prefix_group_id",
        "default_args",
        "group_display_name",
        "doc_md",
        "ui_color",
        "ui_fgcolor",
        "add_suffix_on_collision",
    }
)
_DAG_SECONDS = {
    "dagrun_timeout_sec": "dagrun_timeout",
    "dagrun_timeout_secs": "dagrun_timeout",
}
_NOT_FOR_OPERATORS = frozenset(
    {"operator", "task_group_name", "dependencies", "custom_callbacks"}
)
# What each task gets here.
_NOT_FROM_YAML = frozenset({"dag", "task_group"})
_UNITS = ("day", "hour", "minute", "second", "week")


def build_dag(
    dag_id: str, config: Mapping[str, Any], place: Place, folder: Path
) -> DAG:
    """Build a DAG from a configuration without generators.

    Raise :class:`GeneratorError` that names the key of what cannot be used.
    """
    if "nodes" in config:
        raise GeneratorError(place.at("nodes"), NODES)

    arguments = _dag_arguments(config, place, folder)
    schedule = arguments.pop("schedule")
    try:
        # Not used as a context: a DAG that breaks half-way must not be found by Airflow.
        dag = DAG(dag_id, auto_register=False, schedule=schedule, **arguments)
    except Exception as error:
        raise _wrapped(error, config, place) from error

    groups = _groups(config, dag, place)
    tasks = _tasks(config, dag, groups, place)
    _warn_of_defaults(config, tasks.values(), place)
    for key, made in (("task_groups", groups), ("tasks", tasks)):
        for name, node in made.items():
            at = place.at(key, name, "dependencies")
            for upstream in names((config[key][name] or {}).get("dependencies"), at):
                found = tasks.get(upstream) or groups.get(upstream)
                if found is None:
                    msg = f"there is neither a task nor a task group {upstream!r}"
                    raise GeneratorError(at, msg)

                node.set_upstream(found)

    try:
        dag.validate()
        dag.check_cycle()
    except Exception as error:
        raise _wrapped(error, config, place) from error

    return dag


# The DAG ------------------------------------------------------------------------------


def _dag_arguments(
    config: Mapping[str, Any], place: Place, folder: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {"schedule": timedelta(days=1)}
    for key, value in config.items():
        name = _RENAMED.get(key, key)
        if key in _GONE:
            log.warning("%s: Airflow has no such setting any more", place.at(key))
        elif key in _DAG_SECONDS:
            found[_DAG_SECONDS[key]] = _seconds(value, place.at(key))
        elif name in _DAG_ARGUMENTS and name not in _OWN_KEYS:
            # YAML has no other way to say that there is no schedule but null.
            found[name] = None if name == "schedule" and value == "None" else value
        elif key not in _OWN_KEYS:
            known = _known_keys()
            there_are = f"A DAG has: {', '.join(known)}{_if_default(config, place)}"
            raise unknown_key(place, key, known, there_are)

    default_args = _mapping(config, "default_args", place)
    zone = _zone(default_args.get("timezone"), place.at("default_args", "timezone"))
    found["default_args"] = _task_arguments(
        {key: value for key, value in default_args.items() if key != "timezone"},
        place.at("default_args"),
        zone,
    )
    for key in ("start_date", "end_date"):
        if key in found:
            found[key] = _moment(found[key], place.at(key), zone)

    if isinstance(found.get("tags"), str):
        found["tags"] = [found["tags"]]

    found |= _callbacks(config, place, folder)
    if doc := _documentation(config, place, folder):
        found["doc_md"] = doc

    return found


def _if_default(config: Mapping[str, Any], place: Place) -> str:
    """Return a sentence about what looks like the defaults, misspelt; else nothing."""
    if "tasks" in config or not did_you_mean(place.keys[-1], [DEFAULT]):
        return ""

    return f". If it is not a DAG and lies under all of them, call it {DEFAULT!r}"


def _known_keys() -> list[str]:
    every = _DAG_ARGUMENTS | _OWN_KEYS | set(_RENAMED) | {"dagrun_timeout_sec"}
    return sorted(every)


def _callbacks(
    config: Mapping[str, Any], place: Place, folder: Path
) -> dict[str, Callable[..., Any]]:
    found = {}
    if "custom_callbacks" in config:
        found = read_custom(config["custom_callbacks"], place.at("custom_callbacks"))

    for name_key, file_key in _BY_FILE.items():
        if name_key not in config and file_key not in config:
            continue

        at = place.at(name_key)
        if name_key not in config or file_key not in config:
            msg = f"{name_key} and {file_key} belong together: set both"
            raise GeneratorError(place, msg)

        file = find(
            str(config[file_key]), folder, place.at(file_key), "file of callbacks"
        )
        event = name_key.removesuffix("_name")
        found[event] = from_file(str(file), str(config[name_key]), at)

    return found


def _documentation(config: Mapping[str, Any], place: Place, folder: Path) -> str:
    if "doc_md_file_path" in config:
        at = place.at("doc_md_file_path")
        return find(str(config[at.keys[-1]]), folder, at, "document").read_text()

    name = config.get("doc_md_python_callable_name")
    file = config.get("doc_md_python_callable_file")
    if not name and not file:
        return ""

    if not name or not file:
        msg = (
            "doc_md_python_callable_name and doc_md_python_callable_file belong together:"
            " set both"
        )
        raise GeneratorError(place, msg)

    at = place.at("doc_md_python_callable_file")
    function = from_file(str(find(str(file), folder, at, "file")), str(name), at)
    return str(function(**_mapping(config, "doc_md_python_arguments", place)))


# Groups and tasks ---------------------------------------------------------------------


def _groups(config: Mapping[str, Any], dag: DAG, place: Place) -> dict[str, TaskGroup]:
    given = _mapping(config, "task_groups", place)
    made: dict[str, TaskGroup] = {}
    under_way: list[str] = []

    def make(name: str) -> TaskGroup:
        at = place.at("task_groups", name)
        if name in made:
            return made[name]

        if name in under_way:
            msg = "the group is inside itself"
            raise GeneratorError(at.at("parent_group_name"), msg)

        under_way.append(name)
        entry = _group_entry(given, name, at)
        parent = entry.get("parent_group_name")
        try:
            made[name] = TaskGroup(
                name,
                dag=dag,
                parent_group=dag.task_group if parent is None else make(parent),
                **{key: val for key, val in entry.items() if key in _GROUP_ARGUMENTS},
            )
        except GeneratorError:
            raise
        except Exception as error:
            raise _wrapped(error, entry, at) from error

        return made[name]

    for name in given:
        make(name)

    return made


def _group_entry(
    given: Mapping[str, Any], name: str, place: Place
) -> Mapping[str, Any]:
    """Return a task group's configuration when its keys are known."""
    entry = given[name] or {}
    if not isinstance(entry, Mapping):
        msg = "must be an object, such as {tooltip: What it does}"
        raise GeneratorError(place, msg)

    known = _GROUP_ARGUMENTS | {"dependencies", "parent_group_name"}
    for key in entry:
        if key not in known:
            there_are = f"A task group has: {', '.join(sorted(known))}"
            raise unknown_key(place, key, known, there_are)

    parent = entry.get("parent_group_name")
    if parent is not None and parent not in given:
        msg = f"there is no task group {parent!r}"
        raise GeneratorError(place.at("parent_group_name"), msg)

    return entry


def _tasks(
    config: Mapping[str, Any],
    dag: DAG,
    groups: Mapping[str, TaskGroup],
    place: Place,
) -> dict[str, Any]:
    given = _mapping(config, "tasks", place)
    if "tasks" not in config:
        msg = f"a DAG needs tasks: add the key{_if_default(config, place)}"
        raise GeneratorError(place, msg)

    if not given:
        # There were generators only, and they had nothing to make.
        log.warning("%s: the DAG has no tasks", place)

    made = {}
    for name, entry in given.items():
        at = place.at("tasks", name)
        if not isinstance(entry, Mapping) or "operator" not in entry:
            raise _without_operator(name, entry, at)

        operator = imported(str(entry["operator"]), at.at("operator"))
        group_name = entry.get("task_group_name")
        if group_name is not None and group_name not in groups:
            msg = f"there is no task group {group_name!r}: add it to task_groups"
            raise GeneratorError(at.at("task_group_name"), msg)

        arguments = _task_arguments(
            {key: val for key, val in entry.items() if key not in _NOT_FOR_OPERATORS},
            at,
            UTC,
        )
        if "custom_callbacks" in entry:
            here = at.at("custom_callbacks")
            arguments |= read_custom(entry["custom_callbacks"], here)

        try:
            made[name] = operator(
                **{"task_id": name, **arguments},
                dag=dag,
                task_group=dag.task_group if group_name is None else groups[group_name],
            )
        except Exception as error:
            raise _of_task(error, entry, at, operator) from error

        if not isinstance(made[name], BaseOperator):
            raise _made_no_task(entry, at)

    return made


def _task_arguments(
    given: Mapping[str, Any], place: Place, zone: tzinfo
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        at = place.at(key)
        if key in SECONDS:
            found[SECONDS[key]] = _seconds(value, at)
        elif key in {"start_date", "end_date"}:
            found[key] = _moment(value, at, zone)
        elif key in {"sla", "sla_secs"}:
            log.warning("%s: Airflow has no such setting any more", at)
        elif key in {"execution_timeout", "retry_delay"} and not isinstance(
            value, timedelta
        ):
            found[key] = _seconds(value, at)
        elif key == "outlets" and isinstance(value, list):
            found[key] = [
                Asset(each) if isinstance(each, str) else each for each in value
            ]
        else:
            found[key] = value

    return found


# Values -------------------------------------------------------------------------------


def _mapping(config: Mapping[str, Any], key: str, place: Place) -> Mapping[str, Any]:
    value = config.get(key)
    if value is None:
        return {}

    if not isinstance(value, Mapping):
        msg = f"must be an object, not {brief(value)}"
        raise GeneratorError(place.at(key), msg)

    return value


def _seconds(value: Any, place: Place) -> timedelta | None:
    if value is None:
        return None

    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = f"must be a number of seconds, not {brief(value)}"
        raise GeneratorError(place, msg)

    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        msg = f"{value} is not a number of seconds that can pass"
        raise GeneratorError(place, msg) from None


def _zone(name: Any, place: Place) -> tzinfo:
    if name is None:
        return UTC

    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError):
        msg = f"there is no time zone {name!r}: write it as Europe/Berlin"
        raise GeneratorError(place, msg) from None


def _moment(value: Any, place: Place, zone: tzinfo) -> datetime | None:
    """Read a date, a time, or how long ago it is: ``2 days``."""
    if value is None:
        return None

    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=zone)

    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=zone)

    text = str(value).strip()
    try:
        ago = _ago(text)
        if ago is not None:
            # Counted from the beginning of today: a start that moves with every parse
            # would never be reached.
            now = datetime.now(zone)
            return now.replace(hour=0, minute=0, second=0, microsecond=0) - ago
    except OverflowError:
        msg = f"{text!r} is before the first year"
        raise GeneratorError(place, msg) from None

    for form in (text, f"{text}-01"):
        try:
            return _moment(datetime.fromisoformat(form), place, zone)
        except ValueError:
            continue

    msg = (
        f"must be a date such as 2026-01-01, or '2 days' for as long ago, not {text!r}"
    )
    raise GeneratorError(place, msg)


def _ago(text: str) -> timedelta | None:
    words = text.removesuffix(" ago").split()
    pairs = list(zip(words[::2], words[1::2], strict=False))
    if not pairs or len(words) % 2:
        return None

    total = timedelta()
    for number, unit in pairs:
        name = unit.lower().removesuffix("s")
        if not number.isdecimal() or name not in _UNITS:
            return None

        total += timedelta(**{f"{name}s": int(number)})

    return total


def _warn_of_defaults(
    config: Mapping[str, Any], tasks: Iterable[BaseOperator], place: Place
) -> None:
    """Warn of a default that looks misspelt: Airflow drops what no task takes."""
    known = frozenset({"timezone"}).union(*(arguments_of(type(each)) for each in tasks))
    for key in _mapping(config, "default_args", place):
        meant = "" if key in known else did_you_mean(str(key), known)
        if meant:
            at = place.at("default_args", key)
            log.warning("%s: no task takes it, so it has no effect. %s", at, meant)


def _without_operator(name: str, entry: Any, place: Place) -> GeneratorError:
    msg = f"{name!r} has neither an operator nor a generator: give it one"
    for key in entry if isinstance(entry, Mapping) else ():
        if meant := did_you_mean(str(key), ("operator", "generator")):
            return GeneratorError(place.at(key), f"{msg}. {meant}")

    return GeneratorError(place, msg)


def _made_no_task(
    entry: Mapping[str, Any], place: Place, why: str = ""
) -> GeneratorError:
    msg = f"{entry['operator']!r} made no task{why}. Name the class of an operator"
    return GeneratorError(place.at("operator"), msg)


def _of_task(
    error: Exception, entry: Mapping[str, Any], place: Place, operator: Any
) -> GeneratorError:
    """Name the place of an operator's error, and what may be meant by an unknown key.

    An operator may take more than its constructors say; only one that fails is doubted.
    """
    found = _wrapped(error, entry, place)
    if not isinstance(operator, type) or not issubclass(operator, BaseOperator):
        return _made_no_task(entry, place, f": {found.message}")

    known = (arguments_of(operator) | _NOT_FOR_OPERATORS) - _NOT_FROM_YAML
    for key in entry:
        meant = "" if key in known else did_you_mean(str(key), known - set(entry))
        if meant:
            msg = f"unknown key. {meant} {found.message}"
            return GeneratorError(place.at(key), msg)

    return found


def _wrapped(
    error: Exception, entry: Mapping[str, Any], place: Place
) -> GeneratorError:
    """Name the place of an error, and the key where the error names one."""
    text = str(error)
    for key in entry:
        if f"'{key}'" in text:
            place = place.at(key)
            break

    return GeneratorError(place, f"{type(error).__name__}: {text}")
