"""The keys of a generator in YAML: what they mean, and which there are."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.deferral.unknown import did_you_mean
from async_triggers.fivetran.operators import FivetranOperator
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.generators.errors import GeneratorError, Place, brief, unknown_key

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

REPOSITORY = "DATACOVES__REPO_PATH"
ON_UNMATCHED = ("error", "warn", "ignore")
TASK_ID_FROM = ("name", "id")
POKE_INTERVAL = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """What the generators of a vendor make.

    ``reserved`` are the arguments of the operator that the generator itself gives.
    """

    name: str
    conn_key: str
    operator: type[BaseOperator]
    sensor: type[BaseOperator]
    reserved: frozenset[str]


AIRBYTE = Vendor(
    name="airbyte",
    conn_key="airbyte_conn_id",
    operator=AirbyteTriggerSyncOperator,
    sensor=AirbyteJobSensor,
    reserved=frozenset(
        {
            "task_id",
            "connection_id",
            "connection_name",
            "workspace_name",
            "workspace_id",
            "airbyte_job_id",
            "asynchronous",
            "wait_seconds",
        }
    ),
)
FIVETRAN = Vendor(
    name="fivetran",
    conn_key="fivetran_conn_id",
    operator=FivetranOperator,
    sensor=FivetranSensor,
    reserved=frozenset(
        {
            "task_id",
            "connector_id",
            "connector_name",
            "destination_name",
            "completed_after_time",
            "poll_frequency",
            "xcom",
        }
    ),
)
VENDORS = {each.name: each for each in (AIRBYTE, FIVETRAN)}

_GENERATORS = {
    "AirbyteDbtGenerator": (AIRBYTE, True),
    "AirbyteGenerator": (AIRBYTE, False),
    "FivetranDbtGenerator": (FIVETRAN, True),
    "FivetranGenerator": (FIVETRAN, False),
}
_PACKAGES = ("", "dagfactory")

_SHARED_KEYS = frozenset(
    {
        "generator",
        "airflow_connection_id",
        "task_group_name",
        "dependencies",
        "wait_for_completion",
        "poke_interval",
        "sensor",
        "on_unmatched",
        "task_id_from",
        "emit_assets",
    }
)
_ID_KEYS = ("connections_ids", "connection_ids")
_DBT_KEYS = frozenset(
    {
        "dbt_project_path",
        "manifest_path",
        "virtualenv_path",
        "dbt_list_args",
        "run_dbt_deps",
        "run_dbt_compile",
        "deploy_path",
    }
)
SECONDS = {
    f"{name}_{unit}": name
    for name in ("retry_delay", "max_retry_delay", "execution_timeout")
    for unit in ("sec", "secs")
}
"""Spellings of a task's arguments that are given in seconds."""

TASK_KEYS = frozenset({*SECONDS, "custom_callbacks", "sla", "sla_secs"})
"""What any task of the dialect may have, and no operator takes by this name."""

NODES = (
    "Nodes are the format of dbt-coves, one DAG to a file, which is not read here: put the"
    " DAG's keys below its id, and write task_groups and tasks for its nodes"
)
"""What a person reads whose YAML is for another tool of Datacoves'."""

_CREDENTIALS = frozenset({"host", "port", "api_key", "api_secret"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtSelection:
    """Which sources of which dbt project; either ``project`` or ``manifest`` is set."""

    project: Path | None
    manifest: Path | None
    dbt: str
    arguments: tuple[str, ...]
    run_deps: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """A generator as YAML describes it.

    ``selection`` is set for those that run dbt, ``ids`` for the others. ``arguments`` go
    to every task that it makes.
    """

    name: str
    place: Place
    vendor: Vendor
    conn_id: str
    group: str | None
    dependencies: tuple[str, ...]
    selection: DbtSelection | None
    ids: tuple[str, ...]
    wait: bool
    poke_interval: float
    sensor: bool
    on_unmatched: str
    names_by_id: bool
    emits_assets: bool
    arguments: Mapping[str, Any]


def read_generator(
    name: str, entry: Mapping[str, Any], place: Place, folder: Path
) -> Generator:
    """Read an entry that has the key ``generator``.

    ``folder`` is where relative paths begin. Raise :class:`GeneratorError` that names the
    key for a key that is missing, unknown or unusable.
    """
    vendor, asks_dbt = _which(entry, place)
    known = _SHARED_KEYS | {vendor.conn_key}
    known |= _DBT_KEYS if asks_dbt else set(_ID_KEYS)
    arguments = {key: value for key, value in entry.items() if key not in known}
    _check_arguments(arguments, vendor, known, place)
    return Generator(
        name=name,
        place=place,
        vendor=vendor,
        conn_id=_connection(entry, vendor, place),
        group=_text(entry, "task_group_name", place) or None,
        dependencies=names(entry.get("dependencies"), place.at("dependencies")),
        selection=_selection(entry, place, folder) if asks_dbt else None,
        ids=() if asks_dbt else _ids(entry, place),
        wait=_flag(entry, "wait_for_completion", place, default=True),
        poke_interval=_seconds(entry, "poke_interval", place),
        sensor=_flag(entry, "sensor", place, default=False),
        on_unmatched=_one_of(entry, "on_unmatched", ON_UNMATCHED, place),
        names_by_id=_one_of(entry, "task_id_from", TASK_ID_FROM, place) == "id",
        emits_assets=_flag(entry, "emit_assets", place, default=False),
        arguments=arguments,
    )


def names(value: Any, place: Place) -> tuple[str, ...]:
    """Read a list of names; nothing is an empty one."""
    if value is None:
        return ()

    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        msg = f"must be a list of names, such as [first, second], not {brief(value)}"
        if isinstance(value, list):
            other = next(each for each in value if not isinstance(each, str))
            msg += f". {brief(other)} is not a name: write it in quotes if it is one"
        raise GeneratorError(place, msg)

    return tuple(dict.fromkeys(value))


def find(text: str, folder: Path, place: Place, what: str) -> Path:
    """Find what a path names: beside the YAML file, else below the repository."""
    given = Path(text).expanduser()
    repository = os.environ.get(REPOSITORY, "")
    tried = [folder / given]
    if repository and not given.is_absolute():
        tried.append(Path(repository) / given)

    for path in tried:
        if path.exists():
            return path.resolve()

    places = " nor at ".join(map(str, tried))
    hint = "" if repository or given.is_absolute() else f" ({REPOSITORY} is not set)"
    msg = (
        f"there is no {what} at {places}{hint}: give an absolute path, or one relative to"
        f" the YAML file or to ${REPOSITORY}"
    )
    raise GeneratorError(place, msg)


@cache
def arguments_of(operator: type) -> frozenset[str]:
    """Return what a task of an operator may be given by name."""
    found = set(TASK_KEYS)
    for each in operator.__mro__:
        # What is written in C need not say what it takes.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            found |= set(inspect.signature(vars(each)["__init__"]).parameters)

    return frozenset(found - {"self", "args", "kwargs"})


def takes(operator: type, argument: str) -> bool:
    """Return whether an operator, or what it is made from, takes an argument by name."""
    return argument in arguments_of(operator)


def _which(entry: Mapping[str, Any], place: Place) -> tuple[Vendor, bool]:
    text = str(entry["generator"])
    package, _, name = text.rpartition(".")
    found = _GENERATORS.get(name)
    if found is None or package.partition(".")[0] not in _PACKAGES:
        msg = (
            f"there is no generator {text!r}. There are: {', '.join(_GENERATORS)}, each"
            " also with 'dagfactory.' before it"
        )
        raise GeneratorError(place.at("generator"), msg)

    return found


def _check_arguments(
    arguments: Mapping[str, Any], vendor: Vendor, known: frozenset[str], place: Place
) -> None:
    for key in arguments:
        if key in _CREDENTIALS:
            msg = (
                "is read from the Airflow connection: make one with these values, and name"
                " it with airflow_connection_id"
            )
            raise GeneratorError(place.at(key), msg)

        if key in vendor.reserved:
            msg = "is given by the generator itself: leave it out"
            if meant := did_you_mean(key, known.intersection(_ID_KEYS)):
                msg = f"{msg}. {meant}"

            raise GeneratorError(place.at(key), msg)

        if not any(takes(each, key) for each in (vendor.operator, vendor.sensor)):
            raise unknown_key(
                place,
                key,
                (known | arguments_of(vendor.operator)) - vendor.reserved,
                f"A {entry_name(vendor)} has: {', '.join(sorted(known))}; and any"
                f" argument of {vendor.operator.__name__}",
            )


def entry_name(vendor: Vendor) -> str:
    """Name the generators of a vendor."""
    return f"generator of {vendor.name} tasks"


def _connection(entry: Mapping[str, Any], vendor: Vendor, place: Place) -> str:
    given = [
        key for key in ("airflow_connection_id", vendor.conn_key) if entry.get(key)
    ]
    if len(given) == 1:
        return _text(entry, given[0], place)

    msg = (
        "airflow_connection_id is missing: set it to the id of the Airflow connection to"
        f" {vendor.name}"
    )
    if given:
        msg = f"airflow_connection_id and {vendor.conn_key} are the same: keep one"

    raise GeneratorError(place, msg)


def _selection(entry: Mapping[str, Any], place: Place, folder: Path) -> DbtSelection:
    project = _text(entry, "dbt_project_path", place)
    manifest = _text(entry, "manifest_path", place)
    if not project and not manifest:
        msg = (
            "dbt_project_path is missing: set it to the folder of dbt_project.yml, or"
            " set manifest_path to a manifest.json"
        )
        raise GeneratorError(place, msg)

    arguments = _arguments(entry, place)
    if manifest:
        at = place.at("manifest_path")
        return DbtSelection(
            project=None,
            manifest=find(manifest, folder, at, "dbt manifest"),
            dbt="",
            arguments=arguments,
            run_deps=False,
        )

    at = place.at("dbt_project_path")
    found = find(project, folder, at, "dbt project")
    if not (found / "dbt_project.yml").is_file():
        msg = f"there is no dbt_project.yml in {found}: give the folder that it is in"
        raise GeneratorError(at, msg)

    # Compiling is for what the original read from the manifest, and a place to copy the
    # project to is for folders that cannot be written: neither is needed.
    _flag(entry, "run_dbt_compile", place, default=False)
    return DbtSelection(
        project=found,
        manifest=None,
        dbt=_dbt(entry, place, folder),
        arguments=arguments,
        run_deps=_flag(entry, "run_dbt_deps", place, default=False),
    )


def _dbt(entry: Mapping[str, Any], place: Place, folder: Path) -> str:
    given = _text(entry, "virtualenv_path", place)
    if not given:
        return "dbt"

    at = place.at("virtualenv_path")
    found = find(given, folder, at, "virtualenv")
    dbt = found / "bin" / "dbt"
    if not dbt.exists():
        msg = f"there is no bin/dbt in {found}: install dbt into that virtualenv"
        raise GeneratorError(at, msg)

    return str(dbt)


def _arguments(entry: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    value = entry.get("dbt_list_args") or ""
    at = place.at("dbt_list_args")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        # A word may stand there twice: once selected, once excluded.
        return tuple(value)

    if not isinstance(value, str):
        msg = f"must be a text such as '--select tag:daily', or a list, not {brief(value)}"
        raise GeneratorError(at, msg)

    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        msg = f"cannot be split into arguments: {error}"
        raise GeneratorError(at, msg) from None


def _ids(entry: Mapping[str, Any], place: Place) -> tuple[str, ...]:
    given = [key for key in _ID_KEYS if key in entry]
    if len(given) != 1:
        which = " and ".join(_ID_KEYS)
        msg = (
            f"{which} are the same: keep one" if given else f"{_ID_KEYS[0]} is missing"
        )
        raise GeneratorError(place, msg)

    found = names(entry[given[0]], place.at(given[0]))
    if not found:
        msg = "is empty: name at least one connection"
        raise GeneratorError(place.at(given[0]), msg)

    return found


def _checked(
    entry: Mapping[str, Any],
    key: str,
    place: Place,
    is_right: Callable[[Any], bool],
    what: str,
) -> Any:
    value = entry.get(key)
    if value is not None and not is_right(value):
        msg = f"must be {what}, not {brief(value)}"
        raise GeneratorError(place.at(key), msg)

    return value


def _one_of(
    entry: Mapping[str, Any], key: str, values: Sequence[str], place: Place
) -> str:
    """Read one of some words, of which the first is the default."""
    value = entry.get(key, values[0])
    if value not in values:
        msg = f"must be one of {', '.join(values)}, not {brief(value)}"
        raise GeneratorError(place.at(key), msg)

    return str(value)


def _text(entry: Mapping[str, Any], key: str, place: Place) -> str:
    value = _checked(entry, key, place, lambda each: isinstance(each, str), "a text")
    return value or ""


def _flag(entry: Mapping[str, Any], key: str, place: Place, *, default: bool) -> bool:
    value = _checked(
        entry, key, place, lambda each: isinstance(each, bool), "true or false"
    )
    return default if value is None else bool(value)


def _seconds(entry: Mapping[str, Any], key: str, place: Place) -> float:
    value = _checked(
        entry,
        key,
        place,
        lambda each: (
            isinstance(each, int | float)
            and not isinstance(each, bool)
            and 0 < each < math.inf
        ),
        "a number of seconds greater than 0",
    )
    return POKE_INTERVAL if value is None else value
