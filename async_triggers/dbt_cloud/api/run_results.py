"""What ``run_results.json`` says of the nodes of a run, cut to fit an XCom.

https://docs.getdbt.com/reference/artifacts/run-results-json
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from async_triggers.engine.wire import Row, number_of, short_text, text_of, words_of

# What is no success of a node, and not the consequence of another's.
FAILED_NODES = frozenset({"error", "fail", "runtime error", "partial success"})
MOST_NODES = 10
"""Nodes that each list of a summary names at most."""
LONGEST_WORDS = 500
"""Characters of a node's message that are kept."""


def results_of(body: Mapping[str, Any]) -> list[Row]:
    """Return what the artifact says of each node."""
    results = body.get("results")
    return [
        each
        for each in (results if isinstance(results, list) else [])
        if isinstance(each, dict)
    ]


def summarize(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return counts by status, the slowest nodes, and what failed and why.

    Plain JSON: ``counts`` by dbt's own words, ``elapsed_time`` in seconds, ``slowest`` with
    ``unique_id`` and ``execution_time`` in seconds, ``failed_tests`` and ``failed_nodes``
    with ``unique_id``, ``status``, ``message`` and, for tests, ``failures``.
    """
    results = results_of(body)
    failed = [row for row in results if text_of(row.get("status")) in FAILED_NODES]
    tests = [row for row in failed if _is_test(row)]
    others = [row for row in failed if not _is_test(row)]
    slowest = sorted(results, key=_seconds, reverse=True)[:MOST_NODES]
    return {
        "counts": dict(Counter(text_of(row.get("status")) or "" for row in results)),
        "elapsed_time": _float(body.get("elapsed_time")),
        "slowest": [
            {"unique_id": _name(row), "execution_time": _seconds(row)}
            for row in slowest
            if _seconds(row)
        ],
        "failed_tests": [
            {**_failure(row), "failures": number_of(row.get("failures"))}
            for row in tests[:MOST_NODES]
        ],
        "failed_nodes": [_failure(row) for row in others[:MOST_NODES]],
    }


def _is_test(row: Row) -> bool:
    return _name(row).startswith(("test.", "unit_test."))


def _name(row: Row) -> str:
    return short_text(row.get("unique_id")) or ""


def _failure(row: Row) -> dict[str, Any]:
    return {
        "unique_id": _name(row),
        "status": text_of(row.get("status")) or "",
        "message": words_of(row.get("message"), longest=LONGEST_WORDS),
    }


def _seconds(row: Row) -> float:
    return _float(row.get("execution_time")) or 0.0


def _float(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]
