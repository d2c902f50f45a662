"""The command line by itself: versions, completion, and what it imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from async_triggers import __version__, cli
from async_triggers.commands import check, completion

NOT_LOADED = """
import sys
from async_triggers import cli
cli._parser()
heavy = {"airflow", "aiohttp", "httpx", "orjson", "rich", "tenacity", "yaml"}
print(*sorted(heavy & sys.modules.keys()))
"""


def test_the_command_line_starts_without_airflow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOT_LOADED], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == []


def test_the_versions_are_printed_without_airflow() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "async_triggers", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[0] == f"async-triggers {__version__}"
    assert done.stdout.splitlines()[1].startswith("apache-airflow ")
    assert " airflow\n" not in done.stderr


@pytest.mark.parametrize("words", [["check"], ["list", "jobs", "x"], ["jobs"]])
def test_a_missing_package_is_named(words: list[str]) -> None:
    script = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"airflow", "httpx"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from async_triggers import cli
sys.exit(cli.main(sys.argv[1:]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.endswith(
        "which is not installed; run: pip install airflow-provider-async-triggers\n"
    )


def test_ctrl_c_ends_a_command_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupted)

    assert cli.main(["check"]) == 130
    assert capsys.readouterr().err == "async-triggers: interrupted\n"


# Completion -------------------------------------------------------------------------


def test_every_subcommand_and_option_is_completed() -> None:
    words = completion.words_of(cli._parser())

    assert {"check", "jobs", "list", "demo", "--version"} <= {*words[""]}
    assert set(words) - {""} == {each for each in words[""] if each[0] != "-"}
    assert {"--json", "--vendor", "--help"} <= {*words["check"]}
    assert {"connections", "jobs", "--contains"} <= {*words["list"]}


@pytest.mark.parametrize("shell", completion._SCRIPTS)
def test_the_help_says_how_each_shell_reads_its_script(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["completion", "--help"])

    shown = " ".join(capsys.readouterr().out.split())
    # What is wrapped may break at the hyphen.
    assert f"triggers completion {shell}" in shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["async-triggers", "che"], "check"),
        (["async-triggers", "list", "conn"], "connections"),
        (["async-triggers", "check", "some_id", "--js"], "--json"),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(line: list[str], expected: str, tmp_path: Path) -> None:
    script = completion._bash(cli._parser())
    (tmp_path / "completion").write_text(script)
    words = " ".join(line)
    call = f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _async_triggers"
    done = subprocess.run(
        ["bash", "-c", f". {tmp_path}/completion; {call}; echo ${{COMPREPLY[@]}}"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == expected


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_each_shell_has_a_script(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0

    printed = capsys.readouterr().out
    assert "async-triggers" in printed
    assert "--vendor" in printed
