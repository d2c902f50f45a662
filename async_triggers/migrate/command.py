"""What ``async-triggers migrate`` does."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from async_triggers.migrate.files import (
    WorkTreeError,
    check_work_trees,
    files_of,
    is_python,
)
from async_triggers.migrate.modules import may_name
from async_triggers.migrate.other_files import places_in, read_text
from async_triggers.migrate.rewriting import CannotRewriteError, Rewritten, rewrite

if TYPE_CHECKING:
    from async_triggers.migrate.tree import Remark

NOTHING_LEFT, DIFFERENCES, ERROR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    before: bytes
    rewritten: Rewritten

    @property
    def changes(self) -> bool:
        return self.before != self.rewritten.source


def migrate(paths: Sequence[Path], *, write: bool, allow_dirty: bool) -> int:
    """Show how the files' imports change, or change them; report what to know.

    The diff goes to the standard output, everything else to the standard error. Return
    the exit code: 0 if nothing is left to change, 1 if there are differences that were not
    written, 2 if something could not be done.
    """
    files: list[_File] = []
    failures = 0
    try:
        for path in files_of(paths):
            try:
                files.extend(_read(path))
            except (OSError, CannotRewriteError) as error:
                failures += 1
                _say(f"{path}: not read, {_reason(error)}")

        changing = [each for each in files if each.changes]
        if write and not allow_dirty:
            check_work_trees(each.path for each in changing)
    except (OSError, WorkTreeError) as error:
        _say(f"async-triggers migrate: {error}")
        return ERROR

    failures += _write(files) if write else _show(files)
    _sum_up(len(changing), failures, write=write)
    if failures:
        return ERROR

    return DIFFERENCES if changing and not write else NOTHING_LEFT


def _read(path: Path) -> Iterator[_File]:
    if not is_python(path):
        source = read_text(path)
        yield _File(path, source, Rewritten(source, left=tuple(places_in(source))))
        return

    source = path.read_bytes()
    if may_name(source):
        yield _File(path, source, rewrite(source))


def _show(files: Sequence[_File]) -> int:
    for each in files:
        sys.stdout.buffer.writelines(_diff(each))

    sys.stdout.buffer.flush()
    for each in files:
        _report(each, "would change")

    return 0


def _write(files: Sequence[_File]) -> int:
    """Write the files that change; return how many could not be written."""
    failures = 0
    for each in files:
        try:
            if each.changes:
                each.path.write_bytes(each.rewritten.source)
        except OSError as error:
            failures += 1
            _say(f"{each.path}: not written, {_reason(error)}")
        else:
            _report(each, "changed")

    return failures


def _report(file: _File, change: str) -> None:
    rewritten = file.rewritten
    lines = [*_lines("differs", rewritten.differs), *_lines("left", rewritten.left)]
    if lines or file.changes:
        said = change if file.changes else "unchanged"
        _say("\n".join([f"{file.path}: {said}", *lines]))


def _lines(kind: str, remarks: Sequence[Remark]) -> Iterator[str]:
    for each in remarks:
        yield f"  {kind}, line {each.line}: {each.text}"


def _sum_up(changing: int, failures: int, *, write: bool) -> None:
    if failures:
        _say(f"{_count(failures)} could not be migrated, see above.")

    if not changing:
        _say("Nothing to change.")
    elif write:
        _say(
            "Let tasks that are deferred now end before you deploy the change, or keep the"
            " other provider installed until they have; see the guide to moving over."
        )
    else:
        _say(f"{_count(changing)} to change: add --write.")


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _diff(file: _File) -> Iterator[bytes]:
    """Yield a unified diff in the file's own encoding and line endings."""
    name = os.fsencode(file.path.as_posix().lstrip("/"))
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _split(file.before),
        _split(file.rewritten.source),
        b"a/" + name,
        b"b/" + name,
    )
    for line in lines:
        yield (
            line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
        )


def _split(source: bytes) -> list[bytes]:
    """Split at line feeds alone, as patch and git do."""
    *whole, rest = source.split(b"\n")
    return [*(line + b"\n" for line in whole), *([rest] if rest else [])]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
