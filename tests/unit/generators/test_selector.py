from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from async_triggers.generators.errors import Unanswered
from async_triggers.generators.selector import (
    read_arguments,
    read_manifest,
    select_sources,
)


def table(name: str, *tags: str, package: str = "shop") -> dict[str, Any]:
    source, _, last = name.partition(".")
    return {
        "package_name": package,
        "source_name": source,
        "name": last,
        "database": "raw",
        "schema": source,
        "identifier": last,
        "tags": list(tags),
        "resource_type": "source",
    }


MANIFEST: dict[str, Any] = {
    "sources": {
        "source.shop.crm.people": table("crm.people", "daily", "crm"),
        "source.shop.crm.deals": table("crm.deals", "hourly"),
        "source.shop.web.hits": table("web.hits", "daily"),
        "source.ads.ads.clicks": table("ads.clicks", package="ads"),
    },
    "nodes": {
        "model.shop.stg_people": {
            "name": "stg_people",
            "package_name": "shop",
            "tags": ["nightly"],
            "resource_type": "model",
        },
        "model.shop.people": {
            "name": "people",
            "package_name": "shop",
            "tags": "mart",
            "resource_type": "model",
        },
    },
    "parent_map": {
        "model.shop.stg_people": ["source.shop.crm.people"],
        "model.shop.people": ["model.shop.stg_people", "source.shop.web.hits"],
    },
}


def chosen(*arguments: str) -> list[str]:
    criteria = read_arguments(arguments)
    return [
        each.unique_id.split(".", 2)[2] for each in select_sources(MANIFEST, criteria)
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "ads.clicks crm.deals crm.people web.hits"),
        ("--select tag:daily", "crm.people web.hits"),
        ("-s tag:daily tag:hourly", "crm.deals crm.people web.hits"),
        ("--select tag:daily,source:crm", "crm.people"),
        ("--select=source:crm.deals", "crm.deals"),
        ("--models source:shop.*.hits", "web.hits"),
        ("--select package:ads", "ads.clicks"),
        ("--select tag:d*", "crm.people web.hits"),
        ("--select tag:daily --exclude source:web", "crm.people"),
        ("--exclude tag:daily tag:hourly", "ads.clicks"),
        ("--select tag:daily+", "crm.people web.hits"),
        ("--select +tag:nightly", "crm.people"),
        ("--select +people", "crm.people web.hits"),
        ("--select 1+people", "web.hits"),
        ("--select people", ""),
        ("--select source:crm source:crm", "crm.deals crm.people"),
        ("--select resource_type:source,source:web", "web.hits"),
        ("--resource-type source --select source:web", "web.hits"),
    ],
)
def test_selections(arguments: str, expected: str) -> None:
    # The manifest's own ids sort by package first.
    assert sorted(chosen(*arguments.split())) == expected.split()


def test_a_selection_may_be_one_quoted_argument() -> None:
    assert chosen("--select", "tag:daily tag:hourly") == [
        "crm.deals",
        "crm.people",
        "web.hits",
    ]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("tag:daly", ""),
        ("tag:daily,tag:hourly", ": each of its parts names something, and nothing"),
        ("tag:hourly,source:web", ": each of its parts names something, and nothing"),
        ("source:crm,tag:daily,source:web", ": each of its parts names something"),
        ("package:ads,tag:daily+", ": each of its parts names something, and nothing"),
        ("tag:daily,tag:hurly", ": 'tag:hurly' names nothing"),
        ("tag:daly,tag:hourly", ": 'tag:daly' names nothing"),
        ("tag:daly,tag:hurly", ": 'tag:daly' and 'tag:hurly' name nothing"),
        ("tag:daily,", ": '' names nothing"),
    ],
)
@pytest.mark.parametrize("option", ["--select", "--exclude"])
def test_a_word_that_names_nothing_is_reported_with_the_reason(
    word: str, why: str, option: str
) -> None:
    said: list[str] = []

    select_sources(MANIFEST, read_arguments([option, word]), unmatched=said.append)

    (text,) = said
    assert f"{option} {word!r} names nothing in the manifest{why}" in text
    assert text.endswith("manifest") == (not why)


@pytest.mark.parametrize(
    "arguments",
    ["--vars {}", "--target prod", "tag:daily", "--select state:new", "-s @people+"],
)
def test_what_needs_dbt_is_refused(arguments: str) -> None:
    with pytest.raises(Unanswered, match="dbt_list_args"):
        chosen(*arguments.split())


@pytest.mark.parametrize("text", ["", "[]", '{"nodes": {}}'])
def test_what_is_no_manifest_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)

    with pytest.raises(Unanswered, match=r"manifest\.json"):
        read_manifest(path)


def test_a_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))

    assert read_manifest(path) == MANIFEST
