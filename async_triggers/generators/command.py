"""What ``async-triggers generate`` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from async_triggers.generators.building import build_dag
from async_triggers.generators.cache import default_cache
from async_triggers.generators.errors import GeneratorError
from async_triggers.generators.loading import Loaded, expand_file
from async_triggers.generators.lookup import Lookup
from async_triggers.generators.refreshing import AT_LEISURE

if TYPE_CHECKING:
    from async_triggers.generators.expansion import Expansion, Report


def generate(
    file: Path, *, dry_run: bool, refresh: bool, console: Console | None = None
) -> int:
    """Expand the generators of a file and print what comes of it.

    With ``dry_run`` as a tree with reasons, else as YAML, except that ``refresh`` alone
    prints only what went wrong. Return the exit code: 0 if all DAGs can be built.
    """
    # Connections that are stored in Airflow's database are found by its servers only,
    # and by those that say that they are one.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    shown = console or Console(soft_wrap=True, highlight=False)
    lookup = Lookup(cache=default_cache(), seconds=AT_LEISURE, renew=refresh)
    path = file.resolve()
    loaded = expand_file(path, lookup)
    for dag_id, expansion in loaded.expansions.items():
        try:
            build_dag(dag_id, expansion.config, loaded.place.at(dag_id), path.parent)
        except GeneratorError as error:
            loaded.errors[dag_id] = error

    if dry_run:
        shown.print(tree(file, loaded), crop=False)
    elif not refresh:
        shown.print(
            Text(_as_yaml({key: x.config for key, x in loaded.expansions.items()}))
        )

    for _said in lookup.warnings:
        pass

    for _error in loaded.errors.values():
        pass

    return 1 if loaded.errors else 0


def tree(file: Path, loaded: Loaded) -> Tree:
    """Draw the tasks that the generators of a file make, and why."""
    root = Tree(_line(str(file)))
    for dag_id in [*loaded.expansions, *loaded.errors]:
        if dag_id in loaded.errors and dag_id in loaded.expansions:
            continue

        branch = root.add(_line(dag_id))
        if dag_id in loaded.errors:
            branch.add(_line(f"cannot be built: {loaded.errors[dag_id]}"))
        else:
            _add_dag(branch, loaded.expansions[dag_id])

    return root


def _add_dag(branch: Tree, expansion: Expansion) -> None:
    made = set()
    for report in expansion.reports:
        _add_report(branch, report)
        made |= {task for each in report.made for task in each.tasks}

    for name, entry in (expansion.config.get("tasks") or {}).items():
        if name not in made:
            branch.add(_line(f"{name}: {_operator(entry)}{_after(entry)}"))


def _add_report(branch: Tree, report: Report) -> None:
    group = f" in {report.group}" if report.group else ""
    told = "; ".join(report.remarks[:1])
    node = branch.add(_line(f"{report.name}: {report.generator}{group} ({told})"))
    for each in report.made:
        task = node.add(
            _line(f"{', '.join(each.tasks)} <- {each.loader.name} ({each.loader.id})")
        )
        for reason in each.because:
            task.add(_line(reason))

    for remark in report.remarks[1:]:
        node.add(_line(remark))


def _operator(entry: Any) -> str:
    return str(entry.get("operator", "?")).rpartition(".")[2]


def _after(entry: Any) -> str:
    upstream = entry.get("dependencies")
    return f", after {', '.join(upstream)}" if upstream else ""


def _as_yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _line(text: str) -> Text:
    """Keep a line whole, however narrow the terminal: it is to be searched."""
    return Text(text, no_wrap=True, overflow="ignore")
