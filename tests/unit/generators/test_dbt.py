from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from async_triggers.generators import dbt as module
from async_triggers.generators.errors import OutOfReach, TookTooLong, Unanswered
from tests.unit.generators.stage import FakeDbt, row


def list_sources(
    dbt: FakeDbt,
    project: Path,
    *arguments: str,
    run_deps: bool = False,
    seconds: float = 20,
) -> list[str]:
    found = module.list_sources(
        str(dbt.virtualenv / "bin" / "dbt"),
        project,
        arguments,
        scratch=project.parent / "scratch",
        run_deps=run_deps,
        seconds=seconds,
    )
    return [str(each) for each in found]


def test_arguments_reach_dbt_without_a_shell(dbt: FakeDbt, project: Path) -> None:
    arguments = ["--select", "tag:a b", "--vars", "{'it''s': \"$HOME; rm -rf /\"}"]

    assert list_sources(dbt, project, *arguments) == ["RAW.shop.orders"]

    (call,) = dbt.calls
    begin = call.index("ls")
    assert call[begin + 3 : begin + 7] == arguments
    assert call.index("--output") > begin + 6
    assert str(project.parent / "scratch" / "target") in call


def test_log_lines_and_models_are_no_sources(dbt: FakeDbt, project: Path) -> None:
    model = '{"unique_id": "model.shop.x", "name": "x"}'
    dbt.says(out=f"12:00 Running\n{row('b.b.b')}\n{model}\n[1]\n{row('a.a.a')}")

    assert list_sources(dbt, project) == ["a.a.a", "b.b.b"]


def test_nothing_selected_is_no_error(dbt: FakeDbt, project: Path) -> None:
    dbt.says(out="")

    assert list_sources(dbt, project) == []


@pytest.mark.parametrize(
    ("out", "err", "message"),
    [
        ('1 packages missing. Run "dbt deps" to install', "", r"run \"dbt deps\" in"),
        ("", "Usage: dbt ls\nError: No such option: --x", "correct dbt_list_args"),
        ("Could not find profile named 'shop'", "", "DBT_PROFILES_DIR"),
        ("Env var required but not provided: 'X'", "", "set the variable"),
        ("Compilation Error\n  in source.yml", "", "Compilation Error"),
        ("", "", "said nothing: a folder that it writes to is read-only"),
    ],
)
def test_every_failure_is_told_in_dbts_words_and_with_a_next_step(
    dbt: FakeDbt, project: Path, out: str, err: str, message: str
) -> None:
    dbt.says(out=out, err=err, code=2)

    with pytest.raises(Unanswered, match=message) as told:
        list_sources(dbt, project)

    assert not isinstance(told.value, OutOfReach)
    assert all(word in str(told.value) for word in (out + err).split())


def test_a_dbt_that_takes_too_long_is_ended(dbt: FakeDbt, project: Path) -> None:
    dbt.says(seconds=3600)

    with pytest.raises(TookTooLong, match="did not finish in 0 s"):
        list_sources(dbt, project, seconds=0.2)


def test_no_dbt_at_all_is_told(project: Path) -> None:
    with pytest.raises(OutOfReach, match="set virtualenv_path"):
        module.list_sources(
            "no-such-dbt",
            project,
            (),
            scratch=project.parent / "scratch",
            run_deps=False,
            seconds=1,
        )


def test_packages_are_installed_first_where_asked(dbt: FakeDbt, project: Path) -> None:
    list_sources(dbt, project, run_deps=True)

    assert ["deps" in call for call in dbt.calls] == [True, False]


def test_a_read_only_project_is_enough(dbt: FakeDbt, project: Path) -> None:
    project.chmod(0o555)
    try:
        assert list_sources(dbt, project) == ["RAW.shop.orders"]
    finally:
        project.chmod(0o755)


def test_our_python_and_airflows_secrets_are_kept_out_of_dbts(dbt: FakeDbt) -> None:
    inherited = {
        "PYTHONPATH": "/x",
        "DBT_LOG_FORMAT": "json",
        "AIRFLOW_CONN_X": "{}",
        "AIRFLOW__CORE__FERNET_KEY": "x",
        "HOME": "/h",
        "PATH": "/p",
    }

    found = module.environment(inherited, str(dbt.virtualenv / "bin" / "dbt"))

    assert found == {
        "HOME": "/h",
        "PATH": f"{dbt.virtualenv / 'bin'}{os.pathsep}/p",
        "VIRTUAL_ENV": str(dbt.virtualenv),
    }


def test_the_fingerprint_follows_the_content_alone(project: Path) -> None:
    first = module.fingerprint(project)
    (project / "target").mkdir()
    (project / "target" / "x.sql").write_text("made by dbt")
    (project / "README.md").write_text("prose")
    os.utime(project / "dbt_project.yml", (1, 1))
    assert module.fingerprint(project) == first

    copy = shutil.copytree(project, project.parent / "copy")
    assert module.fingerprint(copy) == first

    (project / "models").mkdir()
    (project / "models" / "sources.yml").write_text("sources: []")
    assert module.fingerprint(project) != first
