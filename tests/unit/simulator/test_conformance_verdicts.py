"""The conformance suite is opt-in; what it lets pass is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.proxy import Exchange, Specification
from tests.conformance.test_specifications import judge
from tests.conformance.verdicts import Verdicts


def exchange(reply: Any, *location: str) -> Exchange:
    violation = {"location": list(location), "message": "must be string"}
    return Exchange("GET /jobs", 200, [violation], reply)


def test_a_null_is_noted_and_a_missing_field_is_wrong() -> None:
    location = ("response", "body", "data", "0", "name")
    [null] = judge("x", [exchange({"data": [{"name": None}]}, *location)])
    assert (null.wrong, null.note) == ("", "null where nothing is known")
    [number] = judge("x", [exchange({"data": [{"name": 5}]}, *location)])
    assert number.wrong == "response.body.data.*.name: must be string"
    [missing] = judge("x", [exchange({"data": [{}]}, *location)])
    assert missing.wrong


@pytest.mark.parametrize(
    ("name", "wrong"), [("pk__in", False), ("limit", True), ("order_by", True)]
)
def test_only_the_deviations_of_the_table_are_tolerated(name: str, wrong: bool) -> None:
    [verdict] = judge("x", [exchange({}, "request", "query", name, "0")])
    assert bool(verdict.wrong) is wrong


def test_a_table_cannot_be_broken_by_what_a_client_says() -> None:
    verdicts = Verdicts(judge("a|b", [exchange({}, "request", "query", "limit")]))
    header, _, row = verdicts.as_table().splitlines()
    assert row.count("|") == header.count("|")


def test_the_most_exact_operation_describes_a_request(tmp_path: Any) -> None:
    file = tmp_path / "spec.yaml"
    paths = ("/runs/{id}", "/runs/latest", "/files/{remainder}")
    file.write_text(
        json.dumps({"paths": {path: {"get": {}, "summary": ""} for path in paths}})
    )
    known = Specification(file)
    assert known.find("GET", "/runs/latest") == "GET /runs/latest"
    assert known.find("GET", "/runs/5") == "GET /runs/{id}"
    assert known.find("GET", "/files/a/b.json") == "GET /files/{remainder}"
    assert known.find("POST", "/runs/5") == ""
    assert known.find("GET", "/runs/5/steps") == ""
