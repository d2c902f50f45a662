"""What the engine's metrics look like at the backends that Airflow sends them to."""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from async_triggers.engine import accounts, reporter
from async_triggers.engine.observer import DETECTION, METRICS, Kind
from async_triggers.simulator import Fault
from tests.runner.airflow_metrics import (
    TIMING_IN_OTEL,
    SafeOtelLogger,
    a_statsd_logger,
    metrics_sent_with,
)
from tests.runner.test_every_vendor import begin
from tests.vendors import VENDORS, every_vendor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.simulator import Simulator
    from tests.runner.harness import Triggerer
    from tests.vendors import Entry as Case

pytestmark = pytest.mark.runner

CASE = VENDORS[0]
LINE = re.compile(r"airflow\.async_triggers\.(?P<name>\w+)(?P<tags>.*):(?P<value>.+)")


class StatsD:
    """A StatsD server: a UDP socket, and what came to it."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.lines: list[str] = []

    def read(self) -> list[str]:
        """Return all lines so far."""
        while True:
            try:
                self.lines += self._server.recv(65_536).decode().splitlines()
            except BlockingIOError:
                return self.lines

    def values(self, name: str, *tags: str) -> list[str]:
        """Return what was sent of a metric with certain tags."""
        found = [LINE.fullmatch(line) for line in self.read()]
        return [
            match["value"]
            for match in found
            if match is not None
            and match["name"] == name
            and set(tags) <= set(match["tags"].split(","))
        ]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "REPORT_EVERY", 0.3)
    monkeypatch.setattr(accounts, "LINGER", 0.5)


@pytest.fixture
def statsd_server() -> Iterator[StatsD]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0)
        logger = a_statsd_logger(server.getsockname()[1])
        with metrics_sent_with(logger):
            yield StatsD(server)
        logger.statsd.close()


@pytest.mark.asyncio
@every_vendor
async def test_statsd_shows_what_waits_and_what_was_requested(
    triggerer: Triggerer, simulator: Simulator, case: Case, statsd_server: StatsD
) -> None:
    triggers = [
        begin(simulator, case, case.life("success", lasts=2))[1] for _ in range(5)
    ]
    ids = [
        triggerer.add(trigger, task_id=f"t{number}")
        for number, trigger in enumerate(triggers)
    ]
    service = f"service={case.vendor.name.lower().replace(' ', '_')}"
    account = f"account={triggers[0].remote_job.make_hook().alias}"

    await triggerer.until(lambda: statsd_server.values("jobs", service, account))
    await triggerer.until(lambda: triggerer.supervisor.finished >= set(ids))
    await triggerer.until(
        lambda: statsd_server.values("jobs", service, account)[-1] == "0|g"
    )

    values = statsd_server.values
    assert "5|g" in values("jobs", service, account)
    assert "5|g" in values("waiters", service, account)
    assert set(values("in_trouble", service, account)) == {"0|g"}
    paused = values("paused_seconds", service, account)
    assert {float(each.removesuffix("|g")) for each in paused} == {0}
    assert any(
        0 < float(each.removesuffix("|g")) <= 1
        for each in values("budget_left", service, account)
    )
    assert any(
        float(each.removesuffix("|g")) > 0
        for each in values("oldest_job_seconds", service, account)
    )
    sent = sum(
        int(each.removesuffix("|c"))
        for each in values("requests", service, account, "status=200")
    )
    assert sent == case.part(simulator).record.total
    assert all(each.endswith("|ms") for each in values("round_seconds", service))
    assert values("round_seconds", service, account)
    assert values("round_late_seconds", service, account)


@pytest.mark.asyncio
@every_vendor
async def test_an_end_is_measured_once_a_job(
    triggerer: Triggerer, simulator: Simulator, case: Case, statsd_server: StatsD
) -> None:
    _, trigger = begin(simulator, case, case.life("success", lasts=2))

    await triggerer.event(triggerer.add(trigger))
    await triggerer.until(lambda: statsd_server.values(DETECTION.name))

    (took,) = statsd_server.values(DETECTION.name)
    assert 0 <= float(took.removesuffix("|ms")) < 3000


@pytest.mark.asyncio
async def test_trouble_and_rate_limits_show(
    triggerer: Triggerer, simulator: Simulator, statsd_server: StatsD
) -> None:
    _, trigger = begin(simulator, CASE, CASE.life())
    triggerer.add(trigger)
    await triggerer.until(lambda: CASE.part(simulator).record.count("GET"))

    CASE.part(simulator).faults.add(Fault(kind="status", status=429, retry_after=50))
    await triggerer.until(lambda: "1|g" in statsd_server.values("in_trouble"))
    await triggerer.until(lambda: statsd_server.values("rate_limited"))

    assert statsd_server.values("requests", "status=429") == ["1|c"]
    assert statsd_server.values("rate_limited") == ["1|c"]
    paused = statsd_server.values("paused_seconds")[-1].removesuffix("|g")
    assert 40 < float(paused) <= 50


@pytest.mark.asyncio
async def test_no_secret_is_in_a_tag(
    triggerer: Triggerer, simulator: Simulator, statsd_server: StatsD
) -> None:
    _, trigger = begin(simulator, CASE, CASE.life("success", lasts=1))
    await triggerer.event(triggerer.add(trigger))

    lines = "\n".join(statsd_server.read())

    secrets = {CASE.connection.get("login"), CASE.connection.get("password")} - {None}
    assert lines
    assert secrets
    assert not any(secret in lines for secret in secrets if secret)


@pytest.mark.asyncio
async def test_opentelemetry_gets_the_same(
    triggerer: Triggerer, simulator: Simulator
) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    _, trigger = begin(simulator, CASE, CASE.life("success", lasts=1))
    trigger_id = triggerer.add(trigger)
    seen: dict[str, set[str]] = defaultdict(set)
    kinds: dict[str, str] = {}

    def collect() -> bool:
        data = reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    name = metric.name.removeprefix("airflow.async_triggers.")
                    kinds[name] = type(metric.data).__name__
                    for point in metric.data.data_points:
                        seen[name] |= set(point.attributes or {})

        return "round_seconds" in seen

    with metrics_sent_with(SafeOtelLogger(provider)):
        await triggerer.event(trigger_id)
        await triggerer.until(collect)

    as_otel = {Kind.COUNTER: "Sum", Kind.GAUGE: "Gauge", Kind.TIMING: TIMING_IN_OTEL}
    known = {metric.name: metric for metric in METRICS}
    assert {"jobs", "requests", "round_seconds"} <= set(seen)
    assert kinds == {name: as_otel[known[name].kind] for name in kinds}
    for name, tags in seen.items():
        own = {"hostname"} if known[name].kind is Kind.GAUGE else set()
        assert tags == {"service", "account", *known[name].tags, *own}

    provider.shutdown()
