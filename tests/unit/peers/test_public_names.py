"""Each public name of the other providers is here, and takes what it takes there.

What theirs offer was recorded by ``describe.py``; a stack test records it again.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.unit.peers.compare import PAGE, differences, left_out
from tests.unit.peers.describe import MODULES, OURS, Described, describe_module

RECORDED: Described = json.loads((Path(__file__).parent / "recorded.json").read_text())


def differences_of(theirs: str) -> dict[str, str]:
    ours = describe_module(f"async_triggers.{MODULES[theirs]}", OURS)
    return differences(RECORDED[theirs], ours)


@pytest.mark.parametrize("theirs", MODULES)
def test_nothing_is_missing_that_the_page_does_not_list(theirs: str) -> None:
    listed = left_out()

    assert {
        name: problem
        for name, problem in differences_of(theirs).items()
        if listed.isdisjoint(name.split("."))
    } == {}


def test_the_list_of_what_is_left_out_is_short_and_true() -> None:
    found = {
        part
        for theirs in MODULES
        for name in differences_of(theirs)
        for part in name.split(".")
    }

    listed = left_out()

    assert 0 < len(listed) <= 16
    assert listed <= found


@pytest.mark.parametrize("theirs", MODULES)
def test_the_page_names_the_module_to_import_from(theirs: str) -> None:
    row = f"| `{theirs}` | `async_triggers.{MODULES[theirs]}` |"

    assert row in PAGE.read_text().splitlines()


def test_the_page_begins_with_the_airflow_and_the_python_that_are_needed() -> None:
    project = tomllib.loads((PAGE.parents[2] / "pyproject.toml").read_text())["project"]
    needed = next(
        re.fullmatch(r"apache-airflow>=(.+),<(\d+)", each)
        for each in project["dependencies"]
        if each.startswith("apache-airflow>")
    )
    assert needed is not None
    python = project["requires-python"].removeprefix(">=")

    first = " ".join(PAGE.read_text().split("\n\n")[1].split())

    assert first.startswith(
        f"This package needs Airflow {needed[1]} or later, below {needed[2]}, and Python"
        f" {python} or later."
    )


def hook_of_dbt_cloud() -> Any:
    return copy.deepcopy(RECORDED["airflow.providers.dbt.cloud.hooks.dbt"])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda hook: hook["members"].pop("get_job"), "DbtCloudHook.get_job"),
        (
            lambda hook: hook["members"]["get_job"]["signature"].reverse(),
            "DbtCloudHook.get_job",
        ),
        (
            lambda hook: hook["members"]["get_job_details"].update(kind="method"),
            "DbtCloudHook.get_job_details",
        ),
        (
            lambda hook: hook["signature"][2]["default"].update(value=4),
            "DbtCloudHook",
        ),
        (
            lambda hook: hook["members"]["conn_type"].update(value="http"),
            "DbtCloudHook.conn_type",
        ),
        (
            lambda hook: hook["signature"][0].pop("default"),
            "DbtCloudHook",
        ),
    ],
)
def test_the_comparison_sees(change: Any, name: str) -> None:
    theirs, ours = hook_of_dbt_cloud(), hook_of_dbt_cloud()
    for each in ours.values():
        each.setdefault("inherited", [])

    assert differences(theirs, ours) == {}
    change(ours["DbtCloudHook"])
    assert list(differences(theirs, ours)) == [name]
