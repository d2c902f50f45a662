from __future__ import annotations

from pathlib import Path

import pytest

from async_triggers.generators.errors import GeneratorError
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
        ("a: !!python/object:os.system {}\n", "this is not YAML: could not determine"),
        ("a: &x [*x]\n", "an anchor holds itself"),
        ("a: \x01\n", "this is not YAML"),
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
