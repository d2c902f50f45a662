from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from async_triggers.generators import dbt as module
from async_triggers.generators.errors import OutOfReach, TookTooLong, Unanswered
from tests.unit.generators.stage import FakeDbt, make_project, row


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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-m", "tag:a"], ["--select", "tag:a"]),
        (["--models=tag:a", "tag:b"], ["--select", "tag:a", "tag:b"]),
        (["-mtag:a"], ["--select", "tag:a"]),
        (["--model", "a", "--exclude", "b"], ["--select", "a", "--exclude", "b"]),
        (["--vars", "-m", "-s", "a"], ["--vars", "-m", "-s", "a"]),
        (["--target-path", "x", "-s", "a", "--log-path=y"], ["-s", "a"]),
        (["--vars"], ["--vars"]),
    ],
)
def test_arguments_are_written_as_dbt_takes_them_for_sources(
    dbt: FakeDbt, project: Path, arguments: list[str], expected: list[str]
) -> None:
    list_sources(dbt, project, *arguments)

    (call,) = dbt.calls
    assert call[call.index("ls") + 3 : call.index("--resource-type")] == expected


def test_select_and_models_at_once_are_refused(dbt: FakeDbt, project: Path) -> None:
    with pytest.raises(Unanswered, match="either --select or --models: keep one"):
        list_sources(dbt, project, "-s", "a", "-m", "b")

    assert dbt.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--selector", "nightly", "--select", "tag:a"],
        ["--selector=nightly", "-stag:a"],
        ["-m", "tag:a", "--selector", "nightly"],
        ["--exclude", "tag:a", "--selector=nightly"],
    ],
)
def test_what_dbt_ignores_beside_a_selector_is_refused(
    dbt: FakeDbt, project: Path, arguments: list[str]
) -> None:
    with pytest.raises(Unanswered, match=r"dbt ignores --select.*beside --selector"):
        list_sources(dbt, project, *arguments)

    assert dbt.calls == []


def test_a_selector_by_itself_is_for_dbt(dbt: FakeDbt, project: Path) -> None:
    # The second is a value, however it looks.
    list_sources(dbt, project, "--selector", "--select", "--vars", "{}")

    (call,) = dbt.calls
    assert call[call.index("--selector") + 1] == "--select"


def test_the_advice_shows_the_command_without_the_variables(
    dbt: FakeDbt, project: Path
) -> None:
    dbt.says(out="Compilation Error", code=2)

    with pytest.raises(Unanswered) as told:
        list_sources(dbt, project, "-m", "a b", "--vars", "{token: hush}")

    shown = "dbt ls --select 'a b' --vars ... --resource-type source"
    assert f"run {shown} in {project}" in str(told.value)
    assert "hush" not in str(told.value)


def test_dbt_is_kept_from_writing_a_cookie(dbt: FakeDbt, project: Path) -> None:
    dbt.says(out="", code=0)
    list_sources(dbt, project)

    (environment,) = dbt.environments
    assert environment["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"
    assert environment["DBT_ENGINE_SEND_ANONYMOUS_USAGE_STATS"] == "false"


def test_log_lines_and_models_are_no_sources(dbt: FakeDbt, project: Path) -> None:
    model = '{"unique_id": "model.shop.x", "name": "x"}'
    dbt.says(out=f"12:00 Running\n{row('b.b.b')}\n{model}\n[1]\n{row('a.a.a')}")

    assert list_sources(dbt, project) == ["a.a.a", "b.b.b"]


def test_nothing_selected_is_no_error(dbt: FakeDbt, project: Path) -> None:
    dbt.says(out="")

    assert list_sources(dbt, project) == []


MISSING_IN_1_11 = """\
  dbt found 1 package(s) specified in packages.yml, but only 0 package(s) installed in
dbt_packages. Run "dbt deps" to install package dependencies."""
MISSING_IN_1_12 = """\
  dbt expects 1 package(s) based on packages specified in packages.yml, but found only 0
package(s) installed in dbt_packages. Run "dbt deps" to install package dependencies."""


@pytest.mark.parametrize(
    ("out", "err", "message"),
    [
        (MISSING_IN_1_11, "", r"run \"dbt deps\" in"),
        (MISSING_IN_1_12, "", r"run \"dbt deps\" in"),
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


def content(project: Path) -> str:
    return module.survey(project, "dbt", (), {}).content


@pytest.mark.parametrize(
    ("name", "matters"),
    [
        (".user.yml", False),
        ("models/logs/a.sql", True),
        ("models/env/sources.yml", True),
        ("logs/a.sql", False),
        ("venv/lib/a.py", False),
        (".git/a.sql", False),
        ("seeds/a.csv", True),
        (".dbtignore", True),
        ("dbt_packages/x/models/sources.yml", True),
    ],
)
def test_the_content_is_what_dbt_parses(
    project: Path, name: str, matters: bool
) -> None:
    before = content(project)
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("something")

    assert (content(project) != before) is matters


def test_packages_that_are_links_are_content_and_circles_end(project: Path) -> None:
    shared = make_project(project.parent / "shared")
    (project / "dbt_packages").mkdir()
    (project / "dbt_packages" / "shared").symlink_to(shared)
    (project / "dbt_packages" / "round").symlink_to(project)
    before = content(project)

    (shared / "sources.yml").write_text("sources: []")

    assert content(project) != before


def environment(
    project: Path, *arguments: str, dbt: str = "dbt", **variables: str
) -> str:
    return module.survey(project, dbt, arguments, variables).environment


@pytest.mark.parametrize(
    ("text", "variable", "matters"),
    [
        ("{{ env_var('RAW_DB') }}", "RAW_DB", True),
        ('{{ env_var( "RAW_DB", "x") }}', "RAW_DB", True),
        ("{{ env_var('RAW_DB') }}", "OTHER", False),
        ("{{ env_var('RAW_' ~ target.name) }}", "RAW_PROD", True),
        ("{{ env_var(name) }}", "ANY", True),
        ("{{ env_var(name) }}", "AIRFLOW_CTX_DAG_ID", False),
        ("{{ env_var(name) }}", "PWD", False),
        ("{% set read = env_var %}", "ANY", True),
        ("no variable", "DBT_TARGET", True),
        ("no variable", "DBT_ENGINE_TARGET", True),
        ("no variable", "DBT_LOG_FORMAT", False),
        ("{{ env_var('DBT_ENV_SECRET_PW') }}", "DBT_ENV_SECRET_PW", False),
        ("no variable", "ANY", False),
    ],
)
def test_the_environment_is_what_the_project_reads_of_it(
    project: Path, text: str, variable: str, matters: bool
) -> None:
    (project / "models.yml").write_text(text)

    raw = environment(project, **{variable: "RAW"})
    prod = environment(project, **{variable: "PROD"})

    assert (raw != prod) is matters


def test_the_environment_is_the_profile_wherever_it_lies(
    project: Path, tmp_path: Path
) -> None:
    home, named, given = (tmp_path / name for name in ("home/.dbt", "named", "given"))
    found = set()
    for folder in (home, named, given, project):
        folder.mkdir(parents=True, exist_ok=True)
    for text in ("raw", "prod"):
        (home / "profiles.yml").write_text(text)
        found.add(environment(project, HOME=str(home.parent)))
        (named / "profiles.yml").write_text(text)
        found.add(environment(project, DBT_PROFILES_DIR=str(named)))
        (given / "profiles.yml").write_text(text)
        found.add(environment(project, "--profiles-dir", str(given)))
        found.add(environment(project, f"--profiles-dir={given}"))
    for text in ("raw", "prod"):
        (project / "profiles.yml").write_text(text)
        found.add(environment(project, HOME=str(home.parent)))

    assert len(found) == 2 * 4
    (home / "profiles.yml").write_text("not read any more")
    assert environment(project, HOME=str(home.parent)) in found


def test_the_environment_is_the_state_the_dotenv_file_and_the_release(
    project: Path, tmp_path: Path
) -> None:
    dbt = FakeDbt(tmp_path / "other")
    packages = dbt.virtualenv / "lib" / "python3.11" / "site-packages"
    program = str(dbt.virtualenv / "bin" / "dbt")
    found = [environment(project, "--state", "../state", dbt=program)]
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "manifest.json").write_text("{}")
    found.append(environment(project, "--state", "../state", dbt=program))
    (tmp_path / ".env").write_text("RAW_DB=x")
    found.append(environment(project, "--state", "../state", dbt=program))
    (packages / "dbt_core-1.12.6.dist-info").mkdir(parents=True)
    found.append(environment(project, "--state", "../state", dbt=program))

    assert len(set(found)) == len(found)
