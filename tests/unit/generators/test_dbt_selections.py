"""Every selection is answered as dbt answers it, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from async_triggers.generators.errors import Unanswered
from async_triggers.generators.selector import (
    project_around,
    read_arguments,
    select_sources,
)
from tests.unit.generators.recorded import FILE
from tests.unit.generators.selections import REFUSED, SELECTIONS
from tests.unit.generators.shop import write_shop

RECORD = json.loads(FILE.read_text())
MANIFEST: dict[str, Any] = RECORD["manifest"]
ANSWERS: list[tuple[list[str], list[str] | None]] = RECORD["answers"]


def answer(arguments: list[str], project: Path | None = None) -> list[str] | None:
    unmatched: list[str] = []
    try:
        found = select_sources(
            MANIFEST,
            read_arguments(arguments),
            unmatched=unmatched.append,
            project=project,
        )
    except Unanswered:
        return None
    return [each.unique_id for each in found]


def test_all_selections_are_recorded() -> None:
    assert [arguments for arguments, _ in ANSWERS] == SELECTIONS
    assert len(SELECTIONS) > 150


def test_selections_are_answered_as_dbt_does_or_refused() -> None:
    refused = []
    for arguments, expected in ANSWERS:
        found = answer(arguments)
        if found is None and expected is not None:
            refused.append(arguments)
        else:
            assert found == expected, arguments

    # No more than these: a selector that refuses is of no use.
    assert sorted(refused) == sorted(REFUSED)


def test_the_projects_folder_settles_which_paths_exist(tmp_path: Path) -> None:
    project = write_shop(tmp_path / "shop")
    manifest = project / "target" / "manifest.json"
    manifest.parent.mkdir()
    doubtful = [
        each for each in REFUSED if "models/" in each[-1] and ".." not in each[-1]
    ]
    settled = [each for each in doubtful if not each[-1].endswith("/")]
    assert len(settled) > 2

    around = project_around(manifest, MANIFEST)

    assert around == project
    for arguments, expected in ANSWERS:
        if arguments in settled:
            assert answer(arguments, project=around) == expected, arguments


@pytest.mark.parametrize(
    "text", ["name: other\n", "name: 'shop' # ours\nname2: x\n", "", None]
)
def test_another_project_around_a_manifest_is_not_its_own(
    tmp_path: Path, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "dbt_project.yml").write_text(text)

    found = project_around(tmp_path / "target" / "manifest.json", MANIFEST)

    assert found == (tmp_path if text and "'shop'" in text else None)


def test_a_default_selector_is_not_passed_over() -> None:
    selectors = {"usual": {"name": "usual", "default": True, "definition": "tag:daily"}}
    manifest = {**MANIFEST, "selectors": selectors}

    with pytest.raises(Unanswered, match=r"default selector 'usual'.*--select"):
        select_sources(manifest, read_arguments([]))
    assert select_sources(manifest, read_arguments(["--select", "tag:daily"]))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--select", "tag:dialy"], "'tag:dialy'"),
        (["--select", "tag:daily,source:nowhere"], "'tag:daily,source:nowhere'"),
        (["--select", "tag:daily", "--exclude", "tag:dialy"], "--exclude 'tag:dialy'"),
        (["--select", ""], "--select is empty"),
        (["--exclude", " "], "--exclude is empty"),
        (["--select", "+nothing"], "'\\+nothing'"),
    ],
)
def test_a_word_that_names_nothing_is_an_error_by_default(
    arguments: list[str], word: str
) -> None:
    with pytest.raises(Unanswered, match=f"{word}.* names nothing in the manifest"):
        select_sources(MANIFEST, read_arguments(arguments))


def test_two_blanks_are_no_word() -> None:
    criteria = read_arguments(["--select", "tag:daily  tag:hourly"])

    assert len(select_sources(MANIFEST, criteria)) == 6
