"""Loads the DAGs of YAML files into a DAG file of Airflow's."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from slugify import slugify

from async_triggers.generators.building import build_dag
from async_triggers.generators.dialect import NODES
from async_triggers.generators.errors import DEFAULT, GeneratorError, Place
from async_triggers.generators.expansion import (
    Expansion,
    by_name,
    expand_dag,
    has_generators,
)
from async_triggers.generators.lookup import Lookup
from async_triggers.generators.reading import read_yaml

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Loaded:
    """What a file holds: its DAGs without generators, and what is wrong with others."""

    place: Place
    expansions: dict[str, Expansion] = field(default_factory=dict)
    errors: dict[str, GeneratorError] = field(default_factory=dict)


def load_yaml_dags(globals_dict: MutableMapping[str, Any], *files: str | Path) -> None:
    """Build the DAGs of YAML files and put them where Airflow finds them.

    ``globals_dict`` is ``globals()`` of the DAG file; relative paths begin at its folder.
    A DAG that cannot be built takes no other with it: Airflow shows an import error that
    names the YAML file, the DAG and the key.
    """
    own = globals_dict.get("__file__")
    here = Path(str(own)).resolve().parent if own else Path.cwd()
    lookup = Lookup()
    try:
        for file in files:
            _load(globals_dict, (here / file).resolve(), lookup)
    finally:
        lookup.finish()


def expand_generators(
    config: Mapping[str, Any], *, file: str | Path | None = None
) -> dict[str, Any]:
    """Put plain operator entries where a configuration of DAGs has generators.

    ``config`` maps DAG ids to their configuration, as in a YAML file; it is left as it is.
    ``file`` is the YAML file that it came from, for messages and for relative paths, which
    else begin at the current directory. All else is left as it stands, for a DAG factory of
    your choice. Raise :class:`GeneratorError` for the first generator that cannot be
    expanded.
    """
    place = Place("the configuration")
    folder = Path.cwd()
    if file is not None:
        folder = Path(file).resolve().parent
        _, place = read_yaml(Path(file))

    if _is_of_dbt_coves(config):
        raise GeneratorError(place.at("nodes"), NODES)

    config, inherited = _handed_down(config, place)
    lookup = Lookup()
    try:
        return {
            dag_id: _expanded(entry, inherited, place.at(dag_id), folder, lookup)
            for dag_id, entry in config.items()
        }
    finally:
        lookup.finish()


def _handed_down(
    config: Mapping[str, Any], place: Place
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Take tasks and groups from under all DAGs, where there are generators among them.

    What these make differs from DAG to DAG, as do the dependencies on them, so that each
    DAG gets them as its own.
    """
    default = config.get(DEFAULT)
    if not isinstance(default, Mapping):
        return config, {}

    if not has_generators(default):
        return config, {}

    named = by_name(default, place.at(DEFAULT))
    inherited = {key: named[key] for key in ("tasks", "task_groups") if key in named}
    rest = {key: value for key, value in default.items() if key not in inherited}
    return {**config, DEFAULT: rest}, inherited


def _expanded(
    entry: Any, inherited: Mapping[str, Any], place: Place, folder: Path, lookup: Lookup
) -> Any:
    if not isinstance(entry, Mapping) or place.keys == (DEFAULT,):
        return entry

    if not inherited and not has_generators(entry):
        return entry

    whole = merge(inherited, by_name(entry, place))
    return expand_dag(whole, place, folder, lookup).config


def expand_file(path: Path, lookup: Lookup) -> Loaded:
    """Read a YAML file and expand its generators, each DAG by itself."""
    try:
        content, place = read_yaml(path)
    except GeneratorError as error:
        return Loaded(error.place, errors={path.name: error})

    loaded = Loaded(place)
    if _is_of_dbt_coves(content):
        loaded.errors[path.stem] = GeneratorError(place.at("nodes"), NODES)
        return loaded

    default = content.pop(DEFAULT, None) or {}
    for dag_id, config in content.items():
        at = place.at(dag_id)
        for where, found in ((place.at(DEFAULT), default), (at, config)):
            if not isinstance(found, Mapping):
                msg = "must be an object with the DAG's configuration"
                loaded.errors[dag_id] = GeneratorError(where, msg)

        if dag_id in loaded.errors:
            continue

        try:
            whole = merge(*_named_tasks(default, config, at))
            loaded.expansions[dag_id] = expand_dag(whole, at, path.parent, lookup)
        except GeneratorError as error:
            loaded.errors[dag_id] = error
        except Exception as error:  # noqa: BLE001 - no other DAG is to suffer from it
            loaded.errors[dag_id] = unforeseen(error, at)

    return loaded


def _is_of_dbt_coves(content: Mapping[str, Any]) -> bool:
    """Return whether a file is one DAG of dbt-coves: its nodes stand at the top."""
    nodes = content.get("nodes")
    return isinstance(nodes, Mapping) and "tasks" not in nodes


def unforeseen(error: Exception, place: Place) -> GeneratorError:
    """Add the place of its DAG to an unforeseen error."""
    log.error("%s", place, exc_info=error)
    return GeneratorError(place, f"{type(error).__name__}: {error}")


def merge(
    below: Mapping[str, Any],
    above: Mapping[str, Any],
    _done: dict[tuple[int, int], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Merge two objects, and objects in them; elsewhere the one above wins."""
    done = {} if _done is None else _done
    pair = id(below), id(above)
    if pair in done:
        # Aliases lead to one object by many ways.
        return done[pair]

    done[pair] = found = copy.deepcopy(dict(below))
    for key, value in above.items():
        under = below.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            found[key] = merge(under, value, done)
        else:
            found[key] = copy.deepcopy(value)

    return found


def _named_tasks(
    default: Mapping[str, Any], config: Mapping[str, Any], place: Place
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Write lists of tasks and groups by name in both, so that they can be merged."""
    return by_name(default, replace(place, keys=(DEFAULT,))), by_name(config, place)


def _load(globals_dict: MutableMapping[str, Any], path: Path, lookup: Lookup) -> None:
    loaded = expand_file(path, lookup)
    for dag_id, expansion in loaded.expansions.items():
        at = loaded.place.at(dag_id)
        try:
            globals_dict[dag_id] = build_dag(dag_id, expansion.config, at, path.parent)
        except GeneratorError as error:
            loaded.errors[dag_id] = error
        except Exception as error:  # noqa: BLE001 - as above
            loaded.errors[dag_id] = unforeseen(error, at)

    if loaded.errors:
        messages = [str(error) for error in loaded.errors.values()]
        for message in messages:
            log.error(message)

        broken = BrokenFile(path, messages)
        globals_dict[broken.dag_id] = broken


class BrokenFileError(ValueError):
    """DAGs of a YAML file that cannot be built, and why."""


class BrokenFile(DAG):
    """Shows as an import error what is wrong in a YAML file.

    Airflow files an import error under a path, and stops all DAGs of that path. Were it
    the DAG file's, the good DAGs beside the broken one would stop too; so this error comes
    up where Airflow writes DAGs down, and under the path of the YAML file. Outside of
    Airflow's processes, as in a test with a DagBag, it comes up at once.
    """

    def __init__(self, path: Path, messages: Sequence[str]) -> None:
        self._yaml = path
        self._messages = messages
        self._given: str | None = None
        super().__init__(f"cannot_be_built__{slugify(path.stem)}", schedule=None)

    @property
    def relative_fileloc(self) -> str:
        """The path of the YAML file, below the bundle's folder where it is there."""
        # Airflow gives the DAG file's path, whole and relative: the rest is the bundle's.
        whole = str(self.fileloc or "")
        if self._given and whole.endswith(self._given):
            root = Path(whole.removesuffix(self._given))
            if self._yaml.is_relative_to(root):
                return str(self._yaml.relative_to(root))

        return str(self._yaml)

    @relative_fileloc.setter
    def relative_fileloc(self, value: str | None) -> None:
        self._given = value

    def validate(self) -> None:
        """Raise the error where no DAG takes it."""
        if getattr(task_runner, "SUPERVISOR_COMMS", None) is None:
            self._raise()

    def get_serialized_fields(self) -> frozenset[str]:  # type: ignore[override]
        """Raise the error in the place of being written down."""
        self._raise()

    def _raise(self) -> NoReturn:
        raise BrokenFileError("\n\n".join(self._messages))
