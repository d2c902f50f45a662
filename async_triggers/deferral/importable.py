"""Whether a class that a worker has can be imported on a triggerer.

A triggerer sees what is installed, and Airflow's plugins. It does not see the files of a
DAG bundle, not even those that a DAG file imports: on a worker they are on ``sys.path``,
on a triggerer they are not (Airflow 3.3).
"""

from __future__ import annotations

import json
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

from async_triggers.deferral.compat import conf

_DAG_FILE = "unusual_prefix_"
"""How Airflow names the module that it makes of a DAG file."""


def why_not_importable(cls: type) -> str | None:
    """Say why a triggerer cannot import a class; None where it can."""
    if "<locals>" in cls.__qualname__:
        return f"the triggerer cannot import {cls.__qualname__}, which a function makes"

    name = cls.__module__
    file = getattr(sys.modules.get(name), "__file__", None)
    is_in_bundle = file is not None and _is_in_bundle(Path(file).resolve())
    if name == "__main__" or name.startswith(_DAG_FILE) or is_in_bundle:
        return (
            f"the triggerer cannot import {cls.__name__}, which stands in a file of the"
            " DAGs: install its module on workers and triggerers"
        )

    return None


def _is_in_bundle(file: Path) -> bool:
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    if any(file.is_relative_to(Path(each).resolve()) for each in installed):
        return False

    return any(file.is_relative_to(root) for root in _bundle_roots())


@cache
def _bundle_roots() -> tuple[Path, ...]:
    """Return the folders in which the files of DAG bundles lie."""
    storage = conf.get("dag_processor", "dag_bundle_storage_path", fallback="")
    roots = [
        Path(conf.get("core", "dags_folder", fallback="/nonexistent")),
        Path(storage or Path(tempfile.gettempdir()) / "airflow" / "dag_bundles"),
    ]
    configured = conf.get("dag_processor", "dag_bundle_config_list", fallback="")
    try:
        bundles = json.loads(configured) if configured else []
    except ValueError:
        bundles = []

    paths = [(each.get("kwargs") or {}).get("path") for each in bundles]
    roots += [Path(path) for path in paths if path]
    return tuple(root.resolve() for root in roots)
