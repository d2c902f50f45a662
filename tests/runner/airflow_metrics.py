"""What Airflow sends its metrics with, in each shape that it has had."""

from __future__ import annotations

import inspect
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import statsd

from async_triggers.deferral import compat

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from airflow.sdk._shared.observability.metrics import otel_logger
    from airflow.sdk._shared.observability.metrics.base_stats_logger import (
        NoStatsLogger,
    )
    from airflow.sdk._shared.observability.metrics.statsd_logger import (
        SafeStatsdLogger,
    )
except ModuleNotFoundError:
    from airflow.metrics import otel_logger  # type: ignore[no-redef]
    from airflow.metrics.base_stats_logger import (  # type: ignore[no-redef]
        NoStatsLogger,
    )
    from airflow.metrics.statsd_logger import SafeStatsdLogger  # type: ignore[no-redef]

SafeOtelLogger = otel_logger.SafeOtelLogger
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
