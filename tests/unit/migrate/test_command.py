"""What the command shows, writes, refuses and returns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from async_triggers.cli import main

BEFORE = "from fivetran_provider_async.operators import FivetranOperator\n"
AFTER = "from async_triggers.fivetran.operators import FivetranOperator\n"

Git = Callable[..., str]


@pytest.fixture
def dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a DAG, in a directory outside of any work tree."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "sync.py").write_text(BEFORE)
    return folder


@pytest.fixture
def git(dags: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """Make a work tree of it, in which all is committed; return git."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@localhost")

    def call(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "commit.gpgsign=false", *arguments],
            cwd=dags.parent,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    call("init", "-q")
    call("add", "-A")
    call("commit", "-qm", "Start")
    return call


def test_a_diff_is_shown_that_git_can_apply(
    dags: Path, git: Git, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    sources = {
        "sync.py": BEFORE.encode(),
        "windows.py": BEFORE.encode().replace(b"\n", b"\r\n") + b"x = 1\r\n",
        "latin.py": b"# coding: latin-1\n" + BEFORE.encode() + b'x = "\xe9"\n',
        "short.py": BEFORE.encode().rstrip() + b"  # \x0c the end",
    }
    for name, source in sources.items():
        (dags / name).write_bytes(source)

    assert main(["migrate", "dags"]) == 1

    shown = capfdbinary.readouterr()
    assert {name: (dags / name).read_bytes() for name in sources} == sources
    assert b"4 files to change: add --write." in shown.err
    patch = dags.parent / "patch"
    patch.write_bytes(shown.out)
    git("apply", "patch")
    for name, source in sources.items():
        expected = source.replace(BEFORE.encode().rstrip(), AFTER.encode().rstrip())
        assert (dags / name).read_bytes() == expected


def test_the_diff_is_unified(dags: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["migrate", "dags/sync.py"])

    assert capfd.readouterr().out == (
        f"--- a/dags/sync.py\n+++ b/dags/sync.py\n@@ -1 +1 @@\n-{BEFORE}+{AFTER}"
    )


def test_the_report_stands_beside_the_diff(
    dags: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (dags / "sync.py").write_text(BEFORE.rstrip() + ", Absent\n")

    main(["migrate", "dags"])

    said = capfd.readouterr().err
    assert "dags/sync.py: would change\n" in said
    assert "  differs, line 1: FivetranOperator: a retry attaches" in said
    assert "  left, line 1: Absent stays with fivetran_provider_async" in said


def test_written_files_are_changed_once(
    dags: Path, git: Git, capfd: pytest.CaptureFixture[str]
) -> None:
    (dags / "sync.py").chmod(0o755)
    git("commit", "-qam", "Make it executable")

    assert main(["migrate", "dags", "--write"]) == 0
    assert (dags / "sync.py").read_text() == AFTER
    assert (dags / "sync.py").stat().st_mode & 0o777 == 0o755
    first = capfd.readouterr()
    assert first.out == ""
    assert "dags/sync.py: changed\n" in first.err
    assert "keep the other provider installed" in first.err

    # The work tree has changes now, and there is nothing to write.
    assert main(["migrate", "dags", "--write"]) == 0
    assert main(["migrate", "dags"]) == 0
    assert (dags / "sync.py").read_text() == AFTER
    assert capfd.readouterr().err == "Nothing to change.\n" * 2


def modified(dags: Path, git: Git) -> None:
    (dags / "other.py").write_text("")
    git("add", "-A")
    git("commit", "-qm", "More")
    (dags / "other.py").write_text("x = 1\n")


def staged(dags: Path, git: Git) -> None:
    (dags / "other.py").write_text("")
    git("add", "-A")


def deleted(dags: Path, git: Git) -> None:
    modified(dags, git)
    (dags / "other.py").unlink()


def untracked(dags: Path, git: Git) -> None:
    git("rm", "-q", "--cached", "dags/sync.py")
    git("commit", "-qm", "Forget it")


def broken(dags: Path, git: Git) -> None:
    (dags.parent / ".git" / "HEAD").write_text("nonsense")


@pytest.mark.parametrize("make_dirty", [modified, staged, deleted, untracked, broken])
def test_a_work_tree_that_git_could_not_restore_is_refused(
    dags: Path,
    git: Git,
    capfd: pytest.CaptureFixture[str],
    make_dirty: Callable[[Path, Git], None],
) -> None:
    make_dirty(dags, git)

    assert main(["migrate", "dags", "--write"]) == 2
    assert (dags / "sync.py").read_text() == BEFORE
    assert "Nothing is written: commit or stash first, or add --allow-dirty" in (
        capfd.readouterr().err
    )

    assert main(["migrate", "dags", "--write", "--allow-dirty"]) == 0
    assert (dags / "sync.py").read_text() == AFTER


def test_a_file_that_nobody_changes_may_be_untracked(dags: Path, git: Git) -> None:
    (dags / "new.py").write_text("x = 1\n")

    assert main(["migrate", "dags", "--write"]) == 0
    assert (dags / "sync.py").read_text() == AFTER


def test_another_work_tree_in_the_environment_does_not_matter(
    dags: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True, capture_output=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))

    assert main(["migrate", "dags", "--write"]) == 0
    assert (dags / "sync.py").read_text() == AFTER


def test_without_git_a_work_tree_is_refused(
    dags: Path,
    git: Git,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "")

    assert main(["migrate", "dags", "--write"]) == 2
    assert "git is not installed" in capfd.readouterr().err


def test_files_outside_of_any_work_tree_are_written(dags: Path) -> None:
    assert main(["migrate", "dags", "--write"]) == 0
    assert (dags / "sync.py").read_text() == AFTER


def test_a_file_that_does_not_parse_is_reported_and_left(
    dags: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (dags / "old.py").write_text("print 'fivetran_provider'\n")

    assert main(["migrate", "dags"]) == 2
    shown = capfd.readouterr()
    assert "dags/old.py: not read, line 1 does not parse" in shown.err
    assert "dags/sync.py" in shown.out

    assert main(["migrate", "dags", "--write"]) == 2
    assert (dags / "old.py").read_text() == "print 'fivetran_provider'\n"
    assert (dags / "sync.py").read_text() == AFTER


def test_a_file_of_other_things_need_not_parse(dags: Path) -> None:
    (dags / "sync.py").write_text("print 'old'\n")

    assert main(["migrate", "dags"]) == 0


def test_a_file_that_cannot_be_written_is_reported(
    dags: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (dags / "a.py").write_text(BEFORE)
    write = Path.write_bytes

    def refuse(path: Path, data: bytes) -> int:
        if path.name == "a.py":
            raise PermissionError(13, os.strerror(13))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)

    assert main(["migrate", "dags", "--write"]) == 2
    assert "dags/a.py: not written, Permission denied" in capfd.readouterr().err
    assert (dags / "sync.py").read_text() == AFTER


def test_a_path_that_does_not_exist_is_an_error(
    dags: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", "dags", "absent"]) == 2

    shown = capfd.readouterr()
    assert shown.out == ""
    assert "absent does not exist" in shown.err


def test_no_path_at_all_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["migrate"])

    assert exited.value.code == 2


@pytest.mark.parametrize(
    "folder",
    [".venv", "__pycache__", "node_modules", "lib/site-packages", "environment"],
)
def test_what_belongs_to_others_is_skipped(dags: Path, folder: str) -> None:
    other = dags / folder
    other.mkdir(parents=True)
    (other / "theirs.py").write_text(BEFORE)
    (dags / "environment").mkdir(exist_ok=True)
    (dags / "environment" / "pyvenv.cfg").write_text("")
    (dags / "notes.txt").write_text(BEFORE)

    assert main(["migrate", ".", "--write"]) == 0
    assert (other / "theirs.py").read_text() == BEFORE
    assert (dags / "notes.txt").read_text() == BEFORE
    assert (dags / "sync.py").read_text() == AFTER


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        (
            "a.yml",
            "x:\n  operator: fivetran_provider_async.operators.FivetranOperator\n",
            "line 2: fivetran_provider_async.operators.FivetranOperator stays: this",
        ),
        (
            "a.ipynb",
            '{"source": ["from airflow.providers.dbt.cloud.hooks.dbt import x\\n"]}',
            "line 1: airflow.providers.dbt.cloud.hooks.dbt stays: this",
        ),
        (
            "README.md",
            f"{BEFORE}\n{BEFORE}",
            "line 1: fivetran_provider_async.operators stays, here and on 1 more line: ",
        ),
        (
            "setup.cfg",
            "apache-airflow-providers-airbyte\nfivetran_provider_async_2",
            "",
        ),
        ("x.db", f"\0{BEFORE}", ""),
        ("big.json", BEFORE * 20_000, ""),
    ],
)
def test_a_file_of_another_kind_stays_and_is_reported(
    dags: Path, capfd: pytest.CaptureFixture[str], name: str, text: str, left: str
) -> None:
    (dags / "sync.py").unlink()
    (dags / name).write_text(text)

    for path in ("dags", f"dags/{name}"):
        assert main(["migrate", path, "--write"]) == 0
        shown = capfd.readouterr().err
        assert shown == "Nothing to change.\n" if not left else left in shown

    assert (dags / name).read_text() == text


@pytest.mark.parametrize("name", ["run", "stub.pyi", "window.pyw"])
def test_any_python_that_is_named_is_changed(dags: Path, name: str) -> None:
    (dags / name).write_text(BEFORE)

    assert main(["migrate", f"dags/{name}", "--write"]) == 0
    assert (dags / name).read_text() == AFTER


@pytest.mark.parametrize(
    ("first", "changes"),
    [
        ("#!/usr/bin/env python3\n", True),
        ("#!/usr/bin/python\n", True),
        ("#!/bin/sh\n", False),
        ("", False),
    ],
)
def test_a_script_without_a_suffix_is_found(
    dags: Path, first: str, *, changes: bool
) -> None:
    (dags / "backfill").write_text(first + BEFORE)

    assert main(["migrate", "dags", "--write"]) == 0
    assert (dags / "backfill").read_text() == first + (AFTER if changes else BEFORE)


def test_a_link_is_followed_within_the_path_only(
    dags: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere.py").write_text(BEFORE)
    (dags / "outside.py").symlink_to(tmp_path / "elsewhere.py")
    (dags / "again.py").symlink_to(dags / "sync.py")
    (dags / "gone.py").symlink_to(dags / "absent.py")

    assert main(["migrate", "dags", "dags/sync.py", "--write"]) == 0
    assert (tmp_path / "elsewhere.py").read_text() == BEFORE
    assert (dags / "sync.py").read_text() == AFTER
    assert (dags / "again.py").is_symlink()
    assert capfd.readouterr().err.count(": changed") == 1


def test_without_libcst_the_extra_is_named(
    dags: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "libcst" or name.startswith("async_triggers.migrate"):
            monkeypatch.delitem(sys.modules, name)

    monkeypatch.setitem(sys.modules, "libcst", None)

    assert main(["migrate", "dags"]) == 2
    assert (
        "pip install 'airflow-provider-async-triggers[migrate]'"
        in capfd.readouterr().err
    )
