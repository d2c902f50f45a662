"""Loads what this package's tasks need, before Airflow forks their processes.

An executor's worker forks a process for each task, which loads what the worker has not
loaded yet: of this package and of aiohttp, for more than a tenth of a second at a start.
So a process that forks tasks loads it all before its first fork, see ``[async_triggers]
preload``. By then Airflow has read its settings, and the user's ``airflow_local_settings``.

Airflow loads the entry points of ``airflow.policy`` whenever one of its processes begins,
before it forks any other: this module is one of them, and has no policy.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import PurePath
from typing import Final

log = logging.getLogger(__name__)

AUTO: Final = "auto"
MODULES: Final = (
    *(
        f"async_triggers.{vendor}.{kind}"
        for vendor in ("airbyte", "fivetran", "dbt_cloud")
        for kind in ("operators", "sensors", "hooks", "triggers")
    ),
    "async_triggers.deferral.attempt",
    "async_triggers.deferral.conclusion",
    "async_triggers.deferral.segment",
    "async_triggers.deferral.start_trigger",
    "async_triggers.engine.accounts",
)
"""What loads, with all that these import, what a task loads at its start and later."""


@cache
def preload() -> None:
    """Load it where it is wanted. Raises nothing: no process would be forked."""
    try:
        if not is_wanted(sys.orig_argv):
            return

        for name in MODULES:
            import_module(name)
    except Exception:
        # What cannot be loaded here fails where it is used, and says why.
        log.exception("async_triggers could not be loaded before the tasks that use it")


def is_wanted(command: Sequence[str]) -> bool:
    """Return whether a process that was begun by ``command`` is to load it.

    A value of the option that has no meaning warns and counts as False.
    """
    from airflow.configuration import conf  # noqa: PLC0415 - loaded by then

    value = str(conf.get("async_triggers", "preload", fallback=AUTO)).strip()
    if value.lower() in {AUTO, ""}:
        return forks_tasks(command, str(conf.get("core", "executor", fallback="")))

    from async_triggers.deferral.fields import flag_of  # noqa: PLC0415 - few need it

    flag = flag_of(value)
    if flag is None:
        log.warning(
            "[async_triggers] preload must be auto, True or False, not %.50r: nothing is"
            " loaded in advance",
            value,
        )

    return bool(flag)


def forks_tasks(command: Sequence[str], executor: str) -> bool:
    """Return whether a command begins a process of Airflow that forks those of tasks.

    ``executor`` is Airflow's own option. A scheduler forks the workers of the
    LocalExecutor; a pod of Kubernetes runs a single task, so it is none of these.
    """
    names = [PurePath(word).name for word in command]
    if "airflow" not in names:
        return False

    words = names[names.index("airflow") + 1 :]
    if words[:1] == ["scheduler"]:
        return "LocalExecutor" in executor

    return words[:2] in (["celery", "worker"], ["edge", "worker"])


os.register_at_fork(before=preload)
