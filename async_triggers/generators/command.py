"""What ``async-triggers generate`` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from async_triggers.generators.building import build_dag
from async_triggers.generators.errors import GeneratorError
from async_triggers.generators.loading import Loaded, expand_file
from async_triggers.generators.lookup import Lookup
from async_triggers.generators.refreshing import AT_LEISURE

if TYPE_CHECKING:
    from async_triggers.generators.expansion import Expansion, Report


def generate(file: Path, *, dry_run: bool, refresh: bool) -> int:
    """Expand the generators of a file and print what comes of it.

    With ``dry_run`` as a tree with reasons, else as YAML, except that ``refresh`` alone
    prints only what went wrong. Return the exit code: 0 if all DAGs can be built.
    """
    # Connections that are stored in Airflow's database are found by its servers only,
    # and by those that say that they are one.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    lookup = Lookup(seconds=AT_LEISURE, renew=refresh)
    path = file.resolve()
    loaded = expand_file(path, lookup)
    for dag_id, expansion in loaded.expansions.items():
        try:
            build_dag(dag_id, expansion.config, loaded.place.at(dag_id), path.parent)
        except GeneratorError as error:
            loaded.errors[dag_id] = error

    if dry_run:
        print("\n".join(tree(file, loaded).lines()))
    elif not refresh and (loaded.expansions or not loaded.errors):
        config = {key: each.config for key, each in loaded.expansions.items()}
        print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), end="")

    for said in lookup.warnings:
        print(f"Warning: {said}", file=sys.stderr)

    for trouble in loaded.errors.values():
        print(f"Error: {trouble}", file=sys.stderr)

    return 1 if loaded.errors else 0


@dataclass(frozen=True, slots=True)
class Node:
    """A line of a tree, and those below it."""

    text: str
    below: list[Node] = field(default_factory=list)

    def add(self, text: str) -> Node:
        """Add a line below."""
        node = Node(text)
        self.below.append(node)
        return node

    def lines(self) -> Iterator[str]:
        """Draw the tree; a line is never cut, for it is to be searched."""
        yield from self.text.splitlines()
        for node in self.below:
            last = node is self.below[-1]
            lead, rest = ("└── ", "    ") if last else ("├── ", "│   ")
            for line in node.lines():
                yield lead + line
                lead = rest


def tree(file: Path, loaded: Loaded) -> Node:
    """Draw the tasks that the generators of a file make, and why."""
    root = Node(str(file))
    for dag_id in dict.fromkeys([*loaded.expansions, *loaded.errors]):
        branch = root.add(dag_id)
        if dag_id in loaded.errors:
            branch.add(f"cannot be built: {loaded.errors[dag_id].message}")
        else:
            _add_dag(branch, loaded.expansions[dag_id])

    return root


def _add_dag(branch: Node, expansion: Expansion) -> None:
    made = set()
    for report in expansion.reports:
        _add_report(branch, report)
        made |= {task for each in report.made for task in each.tasks}

    for name, entry in (expansion.config.get("tasks") or {}).items():
        if name not in made:
            branch.add(f"{name}: {_operator(entry)}{_after(entry)}")


def _add_report(branch: Node, report: Report) -> None:
    group = f" in {report.group}" if report.group else ""
    first: Sequence[str] = report.remarks[:1]
    node = branch.add(f"{report.name}: {report.generator}{group} ({'; '.join(first)})")
    for each in report.made:
        task = node.add(
            f"{', '.join(each.tasks)} <- {each.loader.name} ({each.loader.id})"
        )
        for reason in each.because:
            task.add(reason)

    for remark in report.remarks[1:]:
        node.add(remark)


def _operator(entry: Any) -> str:
    return str(entry.get("operator", "?")).rpartition(".")[2]


def _after(entry: Any) -> str:
    upstream = entry.get("dependencies")
    return f", after {', '.join(upstream)}" if upstream else ""
