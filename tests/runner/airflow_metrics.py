"""What Airflow sends its metrics with, in each shape that it has had."""

from __future__ import annotations

import inspect
import os
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
import statsd

from async_triggers.deferral import compat

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACE = "airflow.sdk._shared.observability.metrics"
try:
    import_module(_PLACE)
except ModuleNotFoundError:
    _PLACE = "airflow.metrics"

NoStatsLogger: Any = import_module(f"{_PLACE}.base_stats_logger").NoStatsLogger
SafeStatsdLogger: Any = import_module(f"{_PLACE}.statsd_logger").SafeStatsdLogger
otel_logger: Any = import_module(f"{_PLACE}.otel_logger")
SafeOtelLogger: Any = otel_logger.SafeOtelLogger
TIMING_IN_OTEL = "Histogram" if hasattr(otel_logger, "InternalHistogram") else "Gauge"
"""What Airflow makes of a duration for OpenTelemetry: before 3.3 its last value alone."""
INFLUXDB = "statsd_influxdb_enabled"


def a_statsd_logger(port: int) -> Any:
    """Return what sends metrics with their tags to a StatsD server on this machine."""
    client = statsd.StatsClient("127.0.0.1", port, prefix="airflow")
    # Before Airflow 3.2 the configuration alone says it.
    takes_it = INFLUXDB in inspect.signature(SafeStatsdLogger).parameters
    more: dict[str, Any] = {INFLUXDB: True} if takes_it else {}
    return SafeStatsdLogger(client, influxdb_tags_enabled=True, **more)


@contextmanager
def metrics_sent_with(logger: Any) -> Iterator[None]:
    """Let Airflow send its metrics with a logger of the test."""
    stats = compat.stats()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"AIRFLOW__METRICS__{INFLUXDB.upper()}", "True")
        if not isinstance(stats, type):
            stats.initialize(factory=lambda: logger, export_legacy_names=False)
            yield
            stats.initialize(factory=NoStatsLogger, export_legacy_names=True)
            return

        patch.setattr(stats, "instance", logger)
        patch.setattr(stats, "_instance_pid", os.getpid())
        yield
