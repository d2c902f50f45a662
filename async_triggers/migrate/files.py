"""Finds the files to migrate, and the git work trees that they lie in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

_NEXT = "Nothing is written: commit or stash first, or add --allow-dirty"
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_PYTHON = {".py", ".pyi", ".pyw"}
_LONGEST = 256
"""Bytes. What is longer is no line that names an interpreter."""


def is_python(file: Path) -> bool:
    """Return whether a file holds Python: scripts often have no suffix."""
    return file.suffix in _PYTHON or not file.suffix


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield each file that is named, and the files below each directory.

    Hidden directories and virtual environments are skipped, and so is a link to a file
    that lies elsewhere: what it leads to belongs to others. Raise FileNotFoundError for a
    path that does not exist.
    """
    named = list(paths)
    for path in named:
        if not path.exists():
            msg = f"{path} does not exist"
            raise FileNotFoundError(msg)

    seen: set[Path] = set()
    for path in named:
        root = path.resolve()
        for file in _below(path) if path.is_dir() else [path]:
            real = file.resolve()
            if real not in seen and (file == path or real.is_relative_to(root)):
                seen.add(real)
                yield file


def _below(directory: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(directory, onerror=_raise):
        here = Path(folder)
        below[:] = sorted(
            each
            for each in below
            if each[0] != "."
            and each not in _SKIPPED
            and not (here / each / "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            file = here / name
            if file.is_file() and (file.suffix or _is_script(file)):
                yield file


def _is_script(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            first = opened.readline(_LONGEST)
    except OSError:
        return False

    return first.startswith(b"#!") and b"python" in first


def _raise(error: OSError) -> None:
    raise error


class WorkTreeError(Exception):
    """The work tree has changes that would mix with those of the migration."""


def check_work_trees(files: Iterable[Path]) -> None:
    """Raise :class:`WorkTreeError` unless git can undo a change of these files alone.

    That is where a work tree has changes that are not committed, or where git does not
    track one of the files. A file outside of any work tree passes.
    """
    trees: dict[Path, list[Path]] = {}
    for file in files:
        real = file.resolve()
        for folder in real.parents:
            if (folder / ".git").exists():
                trees.setdefault(folder, []).append(real)
                break

    for tree, within in trees.items():
        changed = _git(tree, "status", "--porcelain", "-z", "--untracked-files=no")
        tracked = set(_git(tree, "ls-files", "-z"))
        if changed:
            msg = (
                f"{tree} has changes that are not committed, among them"
                f" {changed[0][3:]}. {_NEXT}"
            )
            raise WorkTreeError(msg)

        for file in within:
            if str(file.relative_to(tree)) not in tracked:
                msg = f"{file} is not tracked by git. {_NEXT}"
                raise WorkTreeError(msg)


def _git(tree: Path, *arguments: str) -> list[str]:
    """Return what git answers, in its parts."""
    # What a hook has set in the environment is about another work tree.
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_")
    }
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=tree,
            env=environment,
            capture_output=True,
            check=True,
        )
    except FileNotFoundError:
        msg = f"git is not installed and {tree} needs it. {_NEXT}"
        raise WorkTreeError(msg) from None
    except subprocess.CalledProcessError as error:
        said = os.fsdecode(error.stderr).strip()
        msg = f"git cannot read the state of {tree}: {said}. {_NEXT}"
        raise WorkTreeError(msg) from None

    return [each for each in os.fsdecode(done.stdout).split("\0") if each]
