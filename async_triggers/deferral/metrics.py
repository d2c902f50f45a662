"""The engine's metrics as Airflow's: StatsD, Datadog or OpenTelemetry, as it is set up."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from datetime import timedelta
from functools import cache

from async_triggers.deferral import compat

PREFIX = "async_triggers."

# What StatsD, InfluxDB and Datadog do not all take in a tag.
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")


class AirflowMetrics:
    """Hands metrics to Airflow's stats, see :class:`~.observer.Observer`.

    ``has_gauges`` is for a process that waits for many: a gauge of each worker would take
    the place of the triggerer's. Gauges have the tag ``hostname``, as those of several
    triggerers would take each other's place.
    """

    def __init__(self, *, has_gauges: bool) -> None:
        self._host = {"hostname": tag_of(socket.gethostname())} if has_gauges else None

    def count(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Add to a counter."""
        compat.stats().incr(PREFIX + name, number, tags=_fit(tags))

    def gauge(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        """Set a gauge."""
        if self._host is not None:
            tags = {**_fit(tags), **self._host}
            compat.stats().gauge(PREFIX + name, value, tags=tags)

    def time(self, name: str, seconds: float, tags: Mapping[str, str]) -> None:
        """Take a measured duration in; Airflow sends milliseconds."""
        taken = timedelta(seconds=seconds)
        compat.stats().timing(PREFIX + name, taken, tags=_fit(tags))


@cache
def observer_of(*, has_gauges: bool) -> AirflowMetrics:
    """Return the one observer of its kind in a process."""
    return AirflowMetrics(has_gauges=has_gauges)


def tag_of(value: str) -> str:
    """Return a value as a tag holds it."""
    return _UNFIT.sub("_", value)


def _fit(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tag_of(value) for name, value in tags.items()}
