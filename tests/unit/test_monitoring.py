"""The dashboard, the alerts and the table against the names that the code emits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from async_triggers.deferral.metrics import PREFIX
from async_triggers.engine.observer import METRICS, Kind, Metric
from async_triggers.engine.reporter import REPORT_EVERY

DOCS = Path(__file__).parents[2] / "docs"
BY_NAME = {metric.name: metric for metric in METRICS}
SHOWN = "airflow_" + PREFIX.replace(".", "_")
USE = re.compile(rf"{SHOWN}(\w+)(?:{{([^}}]*)}})?")
COMMON = {"service", "account"}


def expressions() -> list[str]:
    """Return all queries of the dashboard and of the alerts."""
    dashboard = json.loads((DOCS / "monitoring/grafana.json").read_text())
    alerts = yaml.safe_load((DOCS / "monitoring/alerts.yaml").read_text())
    return [
        *(each["expr"] for panel in dashboard["panels"] for each in panel["targets"]),
        *(rule["expr"] for group in alerts["groups"] for rule in group["rules"]),
        *(
            each["query"]
            for each in dashboard["templating"]["list"]
            if each["type"] == "query"
        ),
    ]


def used(expression: str) -> list[tuple[Metric, str]]:
    """Return the metrics of a query, each with its selector."""
    return [(BY_NAME[name], labels) for name, labels in USE.findall(expression)]


@pytest.mark.parametrize("expression", expressions())
def test_a_query_asks_for_what_there_is(expression: str) -> None:
    found = used(expression)

    assert found
    known = COMMON | {tag for metric, _ in found for tag in metric.tags}
    labels = {name for _, labels in found for name in re.findall(r"(\w+)=", labels)}
    by = re.search(r"by \(([^)]*)\)", expression)
    grouped = set(by[1].split(", ")) if by else set()
    assert grouped <= known
    assert labels <= known | {"quantile"}
    for metric, _ in found:
        is_rate = "rate(" in expression or "increase(" in expression
        assert is_rate == (metric.kind is Kind.COUNTER)


def test_the_dashboard_shows_every_metric() -> None:
    shown = {metric.name for each in expressions() for metric, _ in used(each)}

    assert shown == set(BY_NAME)


def test_the_table_of_the_documentation_is_complete() -> None:
    text = (DOCS / "how-to/monitor.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", text, re.MULTILINE)

    told: dict[str, Any] = {
        name: (kind, tuple(re.findall(r"`(\w+)`", tags))) for name, kind, tags in rows
    }
    assert told == {name: (m.kind, m.tags) for name, m in BY_NAME.items()}


def test_there_are_two_alerts() -> None:
    alerts = yaml.safe_load((DOCS / "monitoring/alerts.yaml").read_text())

    names = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    assert names == ["PollingFails", "RateLimited"]


def test_the_exporter_lets_gauges_go_and_keeps_counters() -> None:
    """A counter that comes back shows no increase: it begins at its first number."""
    text = (DOCS / "monitoring/statsd-exporter.yaml").read_text()
    gauges, others = yaml.safe_load(text)["mappings"]

    assert gauges["match_metric_type"] == "gauge"
    assert int(gauges["ttl"].removesuffix("m")) * 60 >= 3 * REPORT_EVERY
    assert "ttl" not in others
    for mapping in (gauges, others):
        assert mapping["match"] == f"airflow.{PREFIX}*"
        assert mapping["name"] == f"{SHOWN}$1"
