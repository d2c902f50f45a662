"""Which files and folders of a dbt project a path selects, as far as a manifest shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Self

_ANY_DEPTH = "**"


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths of the project itself, and those that only its packages are known to have.

    dbt looks for a path in the project's folder, and compares it with the paths of all
    nodes, each below its own package.
    """

    own: frozenset[str]
    others: frozenset[str]
    files: frozenset[str]

    @classmethod
    def of(
        cls, manifest: Mapping[str, Any], project_name: str | None, project: Path | None
    ) -> Self:
        """Collect the paths of a manifest; ``project`` settles whether a path exists."""
        own: set[str] = set()
        every: set[str] = set()
        files: set[str] = set()
        for entry in _entries(manifest):
            package = entry.get("package_name")
            _, _, patch = str(entry.get("patch_path") or "").partition("://")
            patch_package = str(entry.get("patch_path") or "").partition("://")[0]
            for path, whose in (
                (str(entry.get("original_file_path") or ""), package),
                (patch, patch_package),
            ):
                if not path:
                    continue

                above = cls.above(path)
                files.add(above[0])
                every.update(above)
                if project_name is None or whose == project_name:
                    own.update(above)

        others = every - own
        if project is not None:
            there = {path for path in others if (project / path).exists()}
            own, others = own | there, set()

        return cls(frozenset(own), frozenset(others), frozenset(files))

    @staticmethod
    @lru_cache(maxsize=2**16)
    def above(path: str) -> tuple[str, ...]:
        """Return a path, and the folders that it is in but for the project's own."""
        pure = PurePosixPath(path)
        return (str(pure), *(str(each) for each in pure.parents if each.name))

    @staticmethod
    def is_everything(pattern: str) -> bool:
        """Return whether a pattern fits the project's folder, which all nodes are in."""
        parts = PurePosixPath(pattern).parts
        return bool(parts) and set(parts) == {_ANY_DEPTH}

    def matching(self, pattern: str) -> tuple[set[str], set[str]]:
        """Return the paths that fit: the project's, and those that may not be there.

        Raise :class:`ValueError` with the reason where releases of Python differ, or dbt
        fails.
        """
        parts = PurePosixPath(pattern).parts
        if not parts or pattern.startswith("/"):
            msg = "a path is relative to the project, and not empty"
            raise ValueError(msg)

        for part in parts:
            if part == ".." or (_ANY_DEPTH in part and part != _ANY_DEPTH):
                msg = f"{part!r} means nothing certain in a path"
                raise ValueError(msg)

        own, others = (
            {path for path in paths if _fits(PurePosixPath(path).parts, parts)}
            for paths in (self.own, self.others)
        )
        if pattern.endswith("/") and not self.files.isdisjoint(own | others):
            msg = "it is a file, and ends like a folder"
            raise ValueError(msg)

        return own, others


def _entries(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for collection in manifest.values():
        if not isinstance(collection, Mapping):
            continue

        for entry in collection.values():
            # What is disabled is listed, for one id may stand for several of them.
            for each in entry if isinstance(entry, list) else [entry]:
                if isinstance(each, Mapping):
                    yield each


def _fits(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if not pattern:
        return not path

    if pattern[0] == _ANY_DEPTH:
        return any(_fits(path[at:], pattern[1:]) for at in range(len(path) + 1))

    return (
        bool(path) and fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])
    )
