"""Functions that a DAG's YAML names: callbacks, and what writes documentation."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from async_triggers.deferral.unknown import did_you_mean
from async_triggers.generators.errors import GeneratorError, Place, brief, unknown_key
from async_triggers.generators.moved import advice, advice_on_name

EVENTS = (
    "on_success_callback",
    "on_failure_callback",
    "on_retry_callback",
    "on_execute_callback",
)
_KEYS = ("module", "callable", "args")


def imported(path: str, place: Place) -> Any:
    """Import what a dotted path names."""
    module, _, name = path.rpartition(".")
    if not module:
        msg = f"{path!r} is not the path of a class: write it with its module"
        if said := advice_on_name(path):
            msg = f"{msg}, {said}"

        raise GeneratorError(place, msg)

    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        msg = f"{path!r} cannot be imported: {type(error).__name__}: {error}"
        if said := advice(path) or _nearest(name, module):
            msg = f"{msg}. {said}"

        raise GeneratorError(place, msg) from error


def _nearest(name: str, module: str) -> str:
    """Return a question that names what the module has instead; empty without."""
    offered = dir(sys.modules[module]) if module in sys.modules else ()
    near = difflib.get_close_matches(name, offered, 1)
    return f"Did you mean {near[0]!r}?" if near else ""


def from_file(path: str, name: str, place: Place) -> Callable[..., Any]:
    """Return a function of a Python file."""
    file = Path(path)
    # The name is the file's own, so that its objects differ from those of others.
    mark = hashlib.blake2b(str(file.resolve()).encode(), digest_size=6).hexdigest()
    module_name = f"async_triggers_yaml_{file.stem}_{mark}"
    try:
        spec = importlib.util.spec_from_file_location(module_name, file)
        if spec is None or spec.loader is None:
            msg = f"{path} is no Python file"
            raise ImportError(msg)  # noqa: TRY301 - one message for all

        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        found = getattr(module, name)
    except Exception as error:
        msg = f"{name!r} of {path} cannot be used: {type(error).__name__}: {error}"
        raise GeneratorError(place, msg) from error

    return _callable(found, place)


def read_custom(value: Any, place: Place) -> dict[str, Callable[..., Any]]:
    """Read ``custom_callbacks``: for each event a module, a callable, and arguments.

    The callable gets Airflow's context first, then the arguments.
    """
    if not isinstance(value, Mapping):
        msg = "must map events such as on_failure_callback to a module and a callable"
        raise GeneratorError(place, msg)

    found = {}
    for event, entry in value.items():
        at = place.at(event)
        if event not in EVENTS:
            meant = did_you_mean(str(event), EVENTS)
            words = filter(None, ("unknown event.", meant, "There are:"))
            msg = f"{' '.join(words)} {', '.join(EVENTS)}"
            raise GeneratorError(at, msg)

        for key in entry if isinstance(entry, Mapping) else ():
            if key not in _KEYS:
                raise unknown_key(at, key, _KEYS, f"There are: {', '.join(_KEYS)}")

        if not isinstance(entry, Mapping) or not {"module", "callable"} <= set(entry):
            msg = "needs the keys module and callable, and may have args"
            raise GeneratorError(at, msg)

        function = imported(f"{entry['module']}.{entry['callable']}", at)
        found[event] = _bound(_callable(function, at), entry.get("args") or [], at)

    return found


def _bound(
    function: Callable[..., Any], given: Any, place: Place
) -> Callable[..., Any]:
    if not isinstance(given, list):
        msg = "must be a list of values, and of objects for arguments by name"
        raise GeneratorError(place.at("args"), msg)

    by_place = [each for each in given if not isinstance(each, Mapping)]
    by_name = {
        str(key): value
        for each in given
        if isinstance(each, Mapping)
        for key, value in each.items()
    }

    def callback(context: Any) -> Any:
        return function(context, *by_place, **by_name)

    return callback


def _callable(found: Any, place: Place) -> Callable[..., Any]:
    if not callable(found):
        msg = f"{brief(found)} cannot be called"
        raise GeneratorError(place, msg)

    return found  # type: ignore[no-any-return]
