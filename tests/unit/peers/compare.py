"""Finds what ours lacks of what another provider offers; both as ``describe`` has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.unit.peers.describe import Described

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "moving-over.md"
LEFT_OUT = "### Left out"
POSITIONAL = {"POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD"}


def left_out() -> set[str]:
    """Return the names that the page for users lists as left out, or as different."""
    table = PAGE.read_text().partition(LEFT_OUT)[2].partition("\n#")[0]
    return {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall("`([^`]+)`", row.split("|")[1])
    }


def differences(theirs: Described, ours: Described) -> dict[str, str]:
    """Say what is missing or different in a module of ours, by name."""
    found: dict[str, str] = {}
    for name, wanted in theirs.items():
        if name not in ours:
            found[name] = "cannot be imported"
        elif wanted["kind"] == "class":
            for member, problem in _of_class(wanted, ours[name]):
                found[f"{name}.{member}" if member else name] = problem
        elif wanted["kind"] == "function":
            problem = _of_call(wanted["signature"], ours[name]["signature"])
            if problem:
                found[name] = problem
        elif wanted["kind"] == "constant" and not _same(wanted, ours[name]):
            found[name] = f"{ours[name]} instead of {wanted}"

    return found


def _of_class(theirs: Described, ours: Described) -> Iterator[tuple[str, str]]:
    if theirs["raised"]:
        # It may be one of ours under another name, and is made by what raises it.
        if not ours["raised"]:
            yield "", "is no exception"

        return

    problem = _of_call(theirs["signature"], ours["signature"])
    if problem:
        yield "", problem

    for name, value in theirs.get("values", {}).items():
        if ours["values"].get(name) != value:
            yield name, f"{ours['values'].get(name)} instead of {value}"

    # Each argument of a constructor is kept in an attribute of its name.
    arguments = {each["name"] for each in ours["signature"] or ()}
    there = {*ours["attributes"], *ours["members"], *ours["inherited"], *arguments}
    for name in theirs["attributes"]:
        if name not in there:
            yield name, "is no attribute"

    for name, wanted in theirs["members"].items():
        given = ours["members"].get(name)
        problem = _of_member(wanted, given)
        if problem and (given is not None or name not in ours["attributes"]):
            yield name, problem


def _of_member(theirs: Described, ours: Described | None) -> str:
    if ours is None:
        return "is missing"

    if theirs["kind"] != ours["kind"]:
        return f"is a {ours['kind']} and not a {theirs['kind']}"

    if theirs["kind"] == "value" and not _holds(theirs, ours):
        return f"{ours} instead of {theirs}"

    return _of_call(theirs.get("signature"), ours.get("signature"))


def _of_call(theirs: list[Described] | None, ours: list[Described] | None) -> str:
    """Say why what calls theirs might not call ours; empty if it does."""
    if theirs is None:
        return ""

    if ours is None:
        return "cannot be called"

    known = {each["name"]: each for each in ours}
    for wanted in theirs:
        given = known.pop(wanted["name"], None)
        if given is None or not _takes_the_same(wanted, given):
            return f"takes {given} where {wanted} is wanted"

    orders = [
        [each["name"] for each in signature if each["kind"] in POSITIONAL]
        for signature in (theirs, ours)
    ]
    if orders[1][: len(orders[0])] != orders[0]:
        return f"takes {orders[1]} in the order {orders[0]}"

    needed = [name for name, each in known.items() if "default" not in each]
    return f"needs {needed} as well" if needed else ""


def _takes_the_same(theirs: Described, ours: Described) -> bool:
    """Compare two arguments of one name: their kinds and their defaults.

    What is needed there may be left out here.
    """
    if theirs["kind"] != ours["kind"]:
        return False

    if "default" not in theirs:
        return True

    return "default" in ours and _same(theirs["default"], ours["default"])


def _holds(theirs: Described, ours: Described) -> bool:
    """Compare values; a sequence may go on after what theirs has, as template fields do."""
    if "value" not in theirs or not isinstance(theirs["value"], list):
        return _same(theirs, ours)

    own = ours.get("value")
    begins_alike = (
        isinstance(own, list) and own[: len(theirs["value"])] == theirs["value"]
    )
    return begins_alike and theirs["type"] == ours["type"]


def _same(theirs: Described, ours: Described) -> bool:
    """Compare values; those that JSON cannot hold by their types."""
    if "value" not in theirs:
        return bool(theirs["type"] == ours["type"])

    same_container = theirs["type"] == ours["type"] or not isinstance(
        theirs["value"], list
    )
    return same_container and "value" in ours and bool(theirs["value"] == ours["value"])
