"""A vendor of another package has all rights, and little to write."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Final

import pytest
from ferry_provider import get_provider_info
from ferry_provider.hooks import FerryHook
from ferry_provider.simulator import FerrySimulator

from async_triggers.provider_info import field_label
from async_triggers.simulator import Simulator, others
from async_triggers.simulator.connections import connection_variables

ROOT: Final = Path(__file__).parents[2]
OUTSIDE: Final = ROOT / "tests" / "outside_vendor"
FILES: Final = sorted((OUTSIDE / "ferry_provider").glob("*.py"))
HOW_TO: Final = (ROOT / "docs" / "how-to" / "add-a-vendor.md").read_text()
ENGINE: Final = (ROOT / "docs" / "reference" / "engine.md").read_text()

MOST_LINES = 400
MOST_OF_THE_MINIMUM = 125


def is_counted(file: Path) -> bool:
    return file.name != "simulator.py"


def test_the_package_is_short() -> None:
    lines = sum(
        len(file.read_text().splitlines()) for file in filter(is_counted, FILES)
    )

    assert lines <= MOST_LINES


# What the guide shows -------------------------------------------------------------------


def blocks(text: str) -> list[tuple[Path, dict[str, str]]]:
    """Return the included files of a page, each with its options."""
    found = re.findall(r"```{literalinclude} (\S+)\n(.*?)```", text, re.DOTALL)
    return [
        (
            (ROOT / "docs" / "how-to" / path).resolve(),
            dict(re.findall(r"^:([\w-]+): \"?(.*?)\"?$", options, re.MULTILINE)),
        )
        for path, options in found
    ]


def shown(file: Path, options: dict[str, str]) -> str:
    """Return the part of a file that a block shows, as Sphinx does."""
    text = file.read_text()
    if name := options.get("pyobject"):
        body: list[ast.stmt] = ast.parse(text).body
        node: ast.stmt | None = None
        for part in name.split("."):
            node = next(each for each in body if getattr(each, "name", "") == part)
            body = getattr(node, "body", [])

        text = ast.get_source_segment(text, node) or "" if node is not None else ""

    begin = options.get("start-at")
    lines = text.splitlines()
    if begin is not None:
        first = next(index for index, line in enumerate(lines) if begin in line)
        lines = lines[first:]

    if "end-at" in options:
        last = next(n for n, line in enumerate(lines) if options["end-at"] in line)
        lines = lines[: last + 1]

    return "\n".join(lines)


def test_every_part_that_the_guide_shows_is_there() -> None:
    parts = [shown(*block) for block in blocks(HOW_TO)]

    assert len(parts) > 20
    assert all(parts)


def test_the_guide_shows_every_file() -> None:
    included = {file for file, _ in blocks(HOW_TO)}

    assert {each for each in FILES if is_counted(each)} <= included


def test_the_minimum_is_about_a_hundred_lines() -> None:
    (minimum,) = re.findall(
        r"^## The minimum.*?(?=^## )", HOW_TO, re.MULTILINE | re.DOTALL
    )
    lines = sum(len(shown(*each).splitlines()) for each in blocks(minimum))

    assert 60 <= lines <= MOST_OF_THE_MINIMUM


# What it imports ------------------------------------------------------------------------


def imported(file: Path) -> list[str]:
    return [
        f"{node.module}.{each.name}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("async_triggers")
        for each in node.names
    ]


@pytest.mark.parametrize("name", sorted({n for file in FILES for n in imported(file)}))
def test_every_name_that_it_uses_is_in_the_reference(name: str) -> None:
    assert f"`~{name}`" in ENGINE


def test_nothing_private_is_imported() -> None:
    assert not [n for file in FILES for n in imported(file) if "._" in n]


# What it declares -----------------------------------------------------------------------


def test_its_entry_points_lead_somewhere() -> None:
    project = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]
    groups = project["entry-points"]

    read = {
        group: [EntryPoint(name, value, group).load() for name, value in named.items()]
        for group, named in groups.items()
    }

    assert read == {
        "apache_airflow_provider": [get_provider_info],
        others.GROUP: [FerrySimulator],
    }


def test_its_metadata_names_what_there_is() -> None:
    info = get_provider_info()
    paths = [*info["extra-links"], info["connection-types"][0]["hook-class-name"]]
    for path in paths:
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name)


def test_messages_name_the_fields_as_its_form_does() -> None:
    # A hook's class makes its form known.
    assert FerryHook.conn_type == "ferry"
    assert field_label("ferry", "password") == "Boarding pass (password)"
    assert field_label("ferry", "extra.timeout") == "Timeout (s) (extra.timeout)"
    assert field_label("unheard-of", "password") == "password"


def test_an_installed_simulator_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("ferry", "ferry_provider.simulator:FerrySimulator", others.GROUP)

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point] if group == others.GROUP else []

    monkeypatch.setattr(others, "entry_points", entry_points)

    assert others.installed() == [FerrySimulator]


@pytest.mark.asyncio
async def test_a_simulator_of_others_listens_beside_ours() -> None:
    async with Simulator(others=[FerrySimulator]) as simulator:
        variables = connection_variables(simulator)

        assert simulator.urls["ferry"] in variables["AIRFLOW_CONN_FERRY_DEFAULT"]
        assert simulator.vendor("ferry") in simulator.vendors
        assert len(variables) == len(simulator.urls) == 4
