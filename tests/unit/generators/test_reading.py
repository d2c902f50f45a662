from __future__ import annotations

from pathlib import Path

import pytest

from async_triggers.generators.dialect import names
from async_triggers.generators.errors import GeneratorError, Place
from async_triggers.generators.loading import merge
from async_triggers.generators.reading import read_yaml


def write(folder: Path, text: str) -> Path:
    path = folder / "some.yml"
    path.write_text(text)
    return path


def test_every_key_knows_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a:\n  tasks:\n    x: {y: 1}\n  tags:\n    - one\n    - two\n"
    )

    content, place = read_yaml(path)

    assert content == {"a": {"tasks": {"x": {"y": 1}}, "tags": ["one", "two"]}}
    assert str(place.at("a", "tasks", "x", "y")) == f"{path}:3: a.tasks.x.y"
    assert place.at("a", "tags", 1).line == 6
    assert place.at("a", "tasks", "x", "no", "such").line == 3


def test_a_merged_key_has_the_line_where_it_stands(tmp_path: Path) -> None:
    path = write(tmp_path, "base: &b\n  tags: [x]\nd:\n  <<: *b\n  doc: y\n")

    content, place = read_yaml(path)

    assert content["d"] == {"tags": ["x"], "doc": "y"}
    assert place.at("d", "tags").line == 2
    assert place.at("d", "doc").line == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", r"some\.yml:2: this is not YAML"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r"some\.yml:3: b\.c: .* twice; again in line 4"),
        ("- a\n", "top level must map DAG ids"),
        ("a: !!python/object:os.system {}\n", "for the tag .* Only plain YAML is read"),
        ("a: &x [*x]\n", "an anchor holds itself"),
        ("a: \x01\n", "this is not YAML"),
        ("a:\n  b: 2026-02-30\n", r"yml:2: .*'2026-02-30' has no value: day is out"),
        ("a: 2026-01-01 25:00:00\n", r"yml:1: .* has no value: hour must be in"),
        (f"a: {'9' * 5000}\n", r"yml:1: .* has no value: "),
        ("a: !!int many\n", r"yml:1: .*'many' has no value: "),
        ("a: !!bool perhaps\n", r"yml:1: .*'perhaps' has no value: "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(GeneratorError, match=message):
        read_yaml(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"none\.yml: the file cannot be read"):
        read_yaml(tmp_path / "none.yml")


def test_an_empty_file_has_no_dags(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path, "# nothing\n"))[0] == {}


LAUGHS = "a0: &a0 {k: v, l: w}\n" + "".join(
    f"a{n}: &a{n} {{k: *a{n - 1}, l: *a{n - 1}}}\n" for n in range(1, 60)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}], k{n}: 1}}\n" for n in range(1, 60)
)
LISTS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
)


@pytest.mark.parametrize("text", [LAUGHS, MERGES, LISTS])
def test_aliases_are_not_walked_once_for_each_way_that_leads_to_them(
    tmp_path: Path, text: str
) -> None:
    """Two to the power of sixty ways."""
    content, place = read_yaml(write(tmp_path, text))

    assert len(content) == 60
    assert place.at("a59").line == 60
    if text is LAUGHS:
        assert place.at("a59", "k", "l", "k").line == 58


@pytest.mark.parametrize("text", [LAUGHS, MERGES, LISTS])
def test_defaults_with_many_aliases_are_merged_and_told_in_brief(
    tmp_path: Path, text: str
) -> None:
    path = write(
        tmp_path,
        text
        + "default: {doc: *a59}\nd: {doc: *a59, tasks: {x: {dependencies: *a59}}}\n",
    )
    content, _ = read_yaml(path)

    merged = merge(content["default"], content["d"])
    with pytest.raises(GeneratorError) as told:
        names({"deep": merged["doc"]}, Place("d"))

    assert len(str(told.value)) < 2_000


def test_a_key_twice_below_an_alias_is_told_once_with_its_line(tmp_path: Path) -> None:
    text = "a: &a\n  b: 1\n  b: 2\nc: *a\n"

    with pytest.raises(GeneratorError, match=r"some\.yml:2: a\.b: .*again in line 3"):
        read_yaml(write(tmp_path, text))


def test_items_of_lists_have_the_lines_of_their_names(tmp_path: Path) -> None:
    text = "d:\n  tasks:\n    - task_id: x\n      a: 1\n    - task_id: y\n      b: 1\n"

    _, place = read_yaml(write(tmp_path, text))

    assert place.at("d", "tasks", "y", "b").line == 6
    assert place.at("d", "tasks", 0, "a").line == 4


def test_what_stands_below_default_has_its_line_there(tmp_path: Path) -> None:
    text = "default:\n  tasks:\n    x:\n      a: 1\nd:\n  tasks:\n    x:\n      b: 1\n"

    _, place = read_yaml(write(tmp_path, text))

    assert place.at("d", "tasks", "x", "a").line == 4
    assert place.at("d", "tasks", "x", "b").line == 8
    assert place.at("d", "tasks", "x", "c").line == 7
