"""What a package index and Airflow's provider registry show."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import yaml

from async_triggers.deferral.connection import EXTRA_KEYS
from async_triggers.provider_info import get_provider_info

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
REGISTRY: dict[str, Any] = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())


def test_it_has_one_name_everywhere() -> None:
    # Airflow refuses a provider whose metadata names another distribution.
    name = PROJECT["project"]["name"]

    assert get_provider_info()["package-name"] == name
    assert REGISTRY["package-name"] == name
    assert f"pip install {name} " in README


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.split()) <= 450


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?://)([^)#]+)", README))
def test_each_link_of_the_readme_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_links_and_pictures_are_absolute_where_a_package_is_listed() -> None:
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    shown = README
    for each in hook["substitutions"]:
        shown = re.sub(each["pattern"], each["replacement"], shown)

    targets = re.findall(r"\]\(([^)]+)\)", shown)
    assert targets
    assert all(each.startswith("https://") for each in targets)
    pages = [each for each in targets if each.endswith(".html")]
    assert len(pages) > 10
    for page in pages:
        site, name = page.split("/en/v$HFPR_VERSION/")
        assert site == PROJECT["project"]["urls"]["Documentation"]
        assert (ROOT / "docs" / name).with_suffix(".md").exists()

    # Their source is no page: it has roles and includes.
    sources = [each for each in targets if each.endswith(".md") and "/docs/" in each]
    assert all("/docs/measured/" in each for each in sources)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", shown)
    assert all("raw.githubusercontent.com" in each for each in pictures)


def test_each_module_of_the_registry_is_there_and_none_is_missing() -> None:
    listed = {each["module"] for each in REGISTRY["operators"] + REGISTRY["sensors"]}
    info = get_provider_info()
    known = {
        module
        for kind in ("operators", "sensors")
        for each in info[kind]
        for module in each["python-modules"]
    }

    assert listed == known
    for module in listed:
        import_module(module)


def test_the_readme_names_what_the_package_needs() -> None:
    needs = PROJECT["project"]["dependencies"]
    [airflow] = [each for each in needs if each.startswith("apache-airflow>")]
    least = re.search(r">=([\d.]+)", airflow)

    assert least is not None
    assert f"Airflow {least[1]}" in README


VERSIONS = (ROOT / "docs" / "reference" / "airflow-versions.md").read_text()
SITUATIONS = re.findall(r"^\|[^|]+\| F \|.*", VERSIONS, re.MULTILINE)
"""All of them hold on the newest version."""


def known_tests() -> set[str]:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    names = (re.findall(r"def (test_\w+)\(", file.read_text()) for file in files)
    return {file.name for file in files}.union(*names)


def test_each_situation_on_each_version_has_tests_that_there_are() -> None:
    known = known_tests()

    assert len(SITUATIONS) > 30
    for line in SITUATIONS:
        named = set(re.findall(r"`(test_[\w.]+)`", line))
        assert named, line
        assert named <= known, named - known


def test_the_columns_of_the_situations_are_the_versions_of_the_constraints() -> None:
    versions = {file.stem for file in (ROOT / "constraints").glob("*.txt")}
    [head] = re.findall(r"\| situation \|(.*)\| test \|", VERSIONS)

    assert {each.strip() for each in head.split("|")} == versions


CONFIGURATION = (ROOT / "docs" / "reference" / "configuration.md").read_text()
OPTIONS: dict[str, Any] = get_provider_info()["config"]["async_triggers"]["options"]


def key_in_extra(option: str) -> str:
    keys = {option, re.sub("^(airbyte|fivetran|dbt_cloud)_", "", option)} & EXTRA_KEYS
    return keys.pop() if keys else ""


def test_the_reference_has_each_option_with_its_default_and_its_key_in_extra() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \|[^|]+\| ?`?(\w*)`? ?\|$", CONFIGURATION, re.MULTILINE
    )

    assert [name for name, _, _ in rows] == list(OPTIONS)
    for name, default, key in rows:
        declared = OPTIONS[name]["default"]
        if declared is None:
            # What holds then stands at the end of the description.
            assert f" {default} if not set" in OPTIONS[name]["description"]
        else:
            assert default == (declared or "empty")
        assert key == key_in_extra(name)


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize(
    "script", ["alone", "benchmark", "check", "demo", "screenshots", "test"]
)
def test_a_script_says_what_it_does_before_it_installs_anything(
    script: str, option: str, tmp_path: Path
) -> None:
    (tmp_path / "scripts").mkdir()
    for name in (script, "bootstrap.sh"):
        copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)

    done = subprocess.run(
        [tmp_path / "scripts" / script, option],
        capture_output=True,
        text=True,
        check=True,
    )

    head = (ROOT / "scripts" / script).read_text().splitlines()[1]
    assert done.stdout.splitlines()[0] == head.removeprefix("# ")
    assert "set -" not in done.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["scripts"]
