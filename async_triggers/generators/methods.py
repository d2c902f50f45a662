"""The nodes that one word of a selection names, for each of dbt's methods."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from async_triggers.generators.errors import refuse
from async_triggers.generators.globbing import Folders

Node = Mapping[str, Any]

_WILDCARDS = frozenset("*?[]")
_COLLECTIONS = (
    "nodes",
    "sources",
    "exposures",
    "metrics",
    "unit_tests",
    "semantic_models",
    "saved_queries",
    "functions",
)
_FILES = (".sql", ".py", ".csv")
RESOURCE_TYPES = frozenset(
    {
        "analysis",
        "exposure",
        "function",
        "metric",
        "model",
        "saved_query",
        "seed",
        "semantic_model",
        "snapshot",
        "source",
        "test",
        "unit_test",
    }
)
# What dbt accepts too: hooks, and what is no node.
_OTHER_TYPES = frozenset(
    {"operation", "rpc", "sql_operation", "doc", "macro", "group", "fixture"}
)
# A word of a `config.` path that dbt would take for a method of its classes.
_NOT_KEYS = frozenset(
    {
        "ADDITIONAL_PROPERTIES",
        "Config",
        "compare_key",
        "exceeded",
        "extra",
        "final_validate",
        "finalize_and_validate",
        "from_dict",
        "from_msgpack",
        "get",
        "json_schema",
        "mergebehavior",
        "merged",
        "meta_get",
        "replace",
        "same_contents",
        "snapshot_table_column_names",
        "status",
        "to_dict",
        "to_msgpack",
        "update_from",
        "validate",
    }
)
_NEED_DBT = frozenset({"state", "result", "source_status", "selector"})
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?")


class Graph:
    """The enabled nodes of a manifest, and what is made from what."""

    def __init__(self, manifest: Mapping[str, Any], project: Path | None) -> None:
        self.collections: dict[str, dict[str, Node]] = {
            name: {
                key: node
                for key, node in (manifest.get(name) or {}).items()
                if (node.get("config") or {}).get("enabled", True)
            }
            for name in _COLLECTIONS
        }
        self.nodes = {
            key: node
            for collection in self.collections.values()
            for key, node in collection.items()
        }
        self.sources = self.collections["sources"]
        self.parents: dict[str, list[str]] = {
            key: [each for each in parents if each in self.nodes]
            for key, parents in (manifest.get("parent_map") or {}).items()
            if key in self.nodes
        }
        self.project_name = (manifest.get("metadata") or {}).get("project_name")
        self._manifest = manifest
        self._project = project

    @cached_property
    def children(self) -> Mapping[str, Sequence[str]]:
        """What is made from each node."""
        found: dict[str, list[str]] = defaultdict(list)
        for child, parents in self.parents.items():
            for parent in parents:
                found[parent].append(child)

        return found

    @cached_property
    def folders(self) -> Folders:
        """The files and folders of the project and of its packages."""
        return Folders.of(self._manifest, self.project_name, self._project)

    def walk(
        self,
        start: set[str],
        edges: Mapping[str, Sequence[str]],
        depth: int | None = None,
    ) -> set[str]:
        """Return what lies up to ``depth`` steps away from a set of nodes."""
        reached: set[str] = set()
        edge = start
        while edge and (depth is None or depth > 0):
            edge = {
                each
                for key in edge
                for each in edges.get(key, ())
                if each not in reached
            }
            reached |= edge
            depth = None if depth is None else depth - 1

        return reached


class Search:
    """Finds the nodes that one method of dbt's selects."""

    def __init__(self, graph: Graph, word: str) -> None:
        self._graph = graph
        self._word = word

    def matches(self, method: str | None, value: str) -> Iterable[str]:
        """Return the ids of the nodes that a method selects by a value."""
        name, *arguments = (method or self._default(value)).split(".")
        if name in _NEED_DBT:
            refuse(
                f"{self._word!r} needs dbt itself: the method {name!r} needs more than a"
                " manifest. Set dbt_project_path instead"
            )

        if name == "config":
            return self._config(arguments, value)

        search = self._METHODS.get(name)
        if search is None:
            known = ", ".join(sorted({*self._METHODS, "config"}))
            refuse(
                f"{self._word!r} has no method that dbt knows; with manifest_path there"
                f" are {known}"
            )

        return search(self, value)

    @staticmethod
    def _default(value: str) -> str:
        if "/" in value:
            return "path"

        return "file" if value.lower().endswith(_FILES) else "fqn"

    def _within(self, *names: str) -> Iterator[tuple[str, Node]]:
        for name in names:
            yield from self._graph.collections[name].items()

    def _all(self) -> Iterator[tuple[str, Node]]:
        return self._within(*_COLLECTIONS)

    # The methods, by their names in dbt -----------------------------------------------

    def _fqn(self, value: str) -> Iterator[str]:
        wanted = value.split(".")
        for key, node in self._all():
            if key in self._graph.sources:
                continue

            fqn = _fqn_of(node)
            versioned = (
                _type_of(key, node) == "model" and node.get("version") is not None
            )
            if any(
                _is_named(part, wanted, versioned) for part in (fqn, fqn[1:]) if part
            ):
                yield key

    def _tag(self, value: str) -> Iterator[str]:
        for key, node in self._all():
            if any(fnmatchcase(tag, value) for tag in _tags_of(key, node)):
                yield key

    def _group(self, value: str) -> Iterator[str]:
        for key, node in self._within("nodes", "metrics"):
            group = (node.get("config") or {}).get("group")
            if group and fnmatchcase(group, value):
                yield key

    def _access(self, value: str) -> Iterator[str]:
        for key, node in self._within("nodes"):
            if _type_of(key, node) == "model" and node.get("access") == value:
                yield key

    def _source(self, value: str) -> Iterator[str]:
        package, source, table = self._parts(value, "source", "source", "table")
        for key, node in self._within("sources"):
            if (
                fnmatchcase(str(node.get("package_name")), package)
                and fnmatchcase(str(node.get("source_name")), source)
                and fnmatchcase(str(node.get("name")), table)
            ):
                yield key

    def _named(self, collection: str, value: str) -> Iterator[str]:
        package, name = self._parts(value, collection, "name")
        for key, node in self._within(collection):
            if fnmatchcase(str(node.get("package_name")), package) and fnmatchcase(
                str(node.get("name")), name
            ):
                yield key

    def _parts(self, value: str, what: str, *names: str) -> list[str]:
        """Split ``package.first.second``, of which the first part alone is required."""
        given = value.split(".")
        if len(given) > len(names) + 1:
            refuse(
                f"dbt refuses {self._word!r}: a {what} has at most the parts"
                f" package.{'.'.join(names)}"
            )

        if len(given) > len(names):
            return given

        return ["*", *given, *("*" for _ in names[len(given) :])]

    def _path(self, value: str) -> Iterable[str]:
        if Folders.is_everything(value):
            return self._graph.nodes

        try:
            known, doubtful = self._graph.folders.matching(value)
        except ValueError as error:
            refuse(f"{self._word!r} needs dbt itself: {error}")

        found = set(self._below(known))
        if doubtful and found != set(self._below(known | doubtful)):
            refuse(
                f"{self._word!r} needs dbt itself, or the project's folder around the"
                " manifest: only a package's path is known to fit, and dbt looks for paths"
                " in the project"
            )

        return found

    def _below(self, paths: set[str]) -> Iterator[str]:
        for key, node in self._all():
            own = Folders.above(str(node.get("original_file_path") or ""))
            _, _, patch = str(node.get("patch_path") or "").partition("://")
            if not paths.isdisjoint(own) or patch in paths:
                yield key

    def _file(self, value: str) -> Iterator[str]:
        for key, node in self._all():
            path = Path(str(node.get("original_file_path") or ""))
            if fnmatchcase(path.name, value) or fnmatchcase(path.stem, value):
                yield key

    def _package(self, value: str) -> Iterator[str]:
        if value == "this" and self._graph.project_name is not None:
            value = self._graph.project_name

        for key, node in self._all():
            if fnmatchcase(str(node.get("package_name")), value):
                yield key

    def _config(self, path: Sequence[str], value: str) -> Iterator[str]:
        for at, part in enumerate(path):
            own = part in _NOT_KEYS if at == 0 else hasattr(dict, part)
            own |= path[0] != "meta" and part in _NOT_KEYS
            if own or part.startswith("_"):
                refuse(
                    f"{self._word!r} needs dbt itself: {part!r} is one of its keywords"
                )

        for key, node in self._within("nodes", "sources"):
            found = _descend(node.get("config") or {}, path)
            if _DATE.match(value) and value in (found, *_items(found)):
                refuse(
                    f"{self._word!r} needs dbt itself: a manifest does not show whether"
                    " it is a date or a text"
                )

            if _is_configured(found, value, fold=list(path) == ["severity"]):
                yield key

    def _resource_type(self, value: str) -> Iterator[str]:
        if value not in RESOURCE_TYPES | _OTHER_TYPES:
            refuse(
                f"dbt refuses {self._word!r}: the resource types are"
                f" {', '.join(sorted(RESOURCE_TYPES))}"
            )

        return (key for key, node in self._all() if _type_of(key, node) == value)

    def _test_name(self, value: str) -> Iterator[str]:
        for key, node in self._within("nodes", "unit_tests"):
            kind = _type_of(key, node)
            name = None
            if kind == "test":
                name = (node.get("test_metadata") or {}).get("name")
            elif kind == "unit_test":
                name = node.get("name")

            if name is not None and fnmatchcase(name, value):
                yield key

    def _test_type(self, value: str) -> Iterator[str]:
        # dbt takes any part of these words for the word.
        if value in {"generic", "schema"}:
            wanted = {"generic"}
        elif value in "data":
            wanted = {"generic", "singular"}
        elif value in "singular":
            wanted = {"singular"}
        elif value in "unit":
            wanted = {"unit"}
        else:
            refuse(
                f"dbt refuses {self._word!r}: the types of tests are generic, singular,"
                " unit and data"
            )

        for key, node in self._within("nodes", "unit_tests"):
            kind = {"test": "singular", "unit_test": "unit"}.get(_type_of(key, node))
            if kind == "singular" and node.get("test_metadata"):
                kind = "generic"

            if kind in wanted:
                yield key

    def _version(self, value: str) -> Iterator[str]:
        if value not in {"latest", "prerelease", "old", "none"}:
            refuse(
                f"dbt refuses {self._word!r}: the versions are latest, prerelease, old"
                " and none"
            )

        for key, node in self._within("nodes"):
            if _type_of(key, node) == "model" and _is_of_version(node, value):
                yield key

    _METHODS: Mapping[str, Callable[[Search, str], Iterable[str]]] = {
        "fqn": _fqn,
        "tag": _tag,
        "group": _group,
        "access": _access,
        "source": _source,
        "path": _path,
        "file": _file,
        "package": _package,
        "resource_type": _resource_type,
        "test_name": _test_name,
        "test_type": _test_type,
        "version": _version,
        "exposure": lambda self, value: self._named("exposures", value),
        "metric": lambda self, value: self._named("metrics", value),
        "semantic_model": lambda self, value: self._named("semantic_models", value),
        "saved_query": lambda self, value: self._named("saved_queries", value),
        "unit_test": lambda self, value: self._named("unit_tests", value),
    }


# Single nodes -------------------------------------------------------------------------


def _type_of(key: str, node: Node) -> str:
    return str(node.get("resource_type") or key.partition(".")[0])


def _fqn_of(node: Node) -> list[str]:
    found = node.get("fqn")
    if isinstance(found, list) and found:
        return [str(part) for part in found]

    return [str(node.get("package_name")), str(node.get("name"))]


def _tags_of(key: str, node: Node) -> Sequence[str]:
    holder = node.get("config") or {} if _type_of(key, node) == "unit_test" else node
    tags = holder.get("tags") or []
    return [tags] if isinstance(tags, str) else tags


def _is_named(fqn: Sequence[str], wanted: Sequence[str], versioned: bool) -> bool:
    """Return whether a name of dbt's stands for a node: its own, or a folder above it."""
    text = ".".join(wanted)
    leaf = fqn[-2] if versioned and len(fqn) > 1 else fqn[-1]
    if leaf == text:
        return True

    # A version is written with a dot or with an underscore.
    if versioned and "_".join(fqn[-2:]) == "_".join(wanted[-2:]):
        return True

    flat = [item for part in fqn for item in part.split(".")]
    if len(flat) < len(wanted):
        return False

    for at, part in enumerate(wanted):
        if not _WILDCARDS.isdisjoint(part):
            rest, pattern = ".".join(flat[at:]), ".".join(wanted[at:])
            return fnmatchcase(rest, pattern) or (
                len(wanted) == 1 and fnmatchcase(leaf, text)
            )

        if flat[at] != part:
            return False

    return True


def _descend(config: Any, path: Sequence[str]) -> Any:
    for part in path:
        if not isinstance(config, Mapping) or part not in config:
            return None

        config = config[part]

    return config


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_configured(found: Any, value: str, *, fold: bool) -> bool:
    """Return whether a setting, or one of a list of them, is what a selection names."""
    booleans = {"true": True, "false": False}
    wanted = booleans.get(value.lower())
    if isinstance(found, list):
        # As in dbt, 1 in a list counts as true.
        return any(_same(each, value, fold=fold) for each in found) or (
            wanted is not None and wanted in found
        )

    return _same(found, value, fold=fold) or (wanted is not None and found is wanted)


def _same(found: Any, value: str, *, fold: bool) -> bool:
    if not isinstance(found, str):
        return False

    return found.upper() == value.upper() if fold else found == value


def _is_of_version(node: Node, value: str) -> bool:
    version, latest = node.get("version"), node.get("latest_version")
    if value == "none":
        return version is None

    if value == "latest":
        return version is not None and version == latest

    if not version or not latest:
        return False

    low, high = (version, latest) if value == "old" else (latest, version)
    try:
        return float(low) < float(high)
    except ValueError:
        return str(low) < str(high)
