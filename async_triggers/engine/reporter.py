"""Reports an account to its observer, by one timer for all its jobs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from async_triggers.engine import observer as metrics

if TYPE_CHECKING:
    from async_triggers.engine.observer import Metric, Observer
    from async_triggers.engine.state import PollingState

log = logging.getLogger(__name__)

REPORT_EVERY = 10.0
"""Seconds between two reports of an account."""


class Reporter:
    """Reports the state of one account, and what has happened in it.

    ``name`` returns what to call the account. Where that changes, the gauges under the old
    name become idle: most backends show the last value of a gauge for ever.
    """

    def __init__(self, state: PollingState, name: Callable[[], str]) -> None:
        self._state = state
        self._name = name
        self._timer: asyncio.TimerHandle | None = None
        self._shown: dict[str, str] = {}
        """The tags under which gauges were reported last."""

    def start(self) -> None:
        """Report from now on."""
        if self._timer is None and self._observer is not None:
            self._wait()

    def stop(self) -> None:
        """Report what is left, and that nothing is there any more."""
        if self._timer is None:
            return

        self._timer.cancel()
        self._timer = None
        self._safely(self._report_last)

    @property
    def _observer(self) -> Observer | None:
        return self._state.transport.tally.observer

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        # It belongs to no waiter, so it carries no waiter's context.
        self._timer = loop.call_later(
            REPORT_EVERY, self._ring, context=contextvars.Context()
        )

    def _ring(self) -> None:
        self._safely(self._report)
        self._wait()

    def _safely(self, report: Callable[[], None]) -> None:
        try:
            report()
        except Exception:
            # A backend of metrics that fails must not end polling.
            log.exception("%s could not be reported", self._state.account)

    def _tags(self) -> dict[str, str]:
        service = self._state.vendor.name.lower().replace(" ", "_")
        return {"service": service, "account": self._name()}

    def _report(self) -> None:
        tags = self._tags()
        if self._shown not in ({}, tags):
            self._clear(self._shown)

        self._shown = tags
        self._gauge(tags, self._gauges())
        self._state.transport.tally.report(tags)

    def _report_last(self) -> None:
        self._state.transport.tally.report(self._shown or self._tags())
        if self._shown:
            self._clear(self._shown)

    def _clear(self, tags: Mapping[str, str]) -> None:
        self._gauge(tags, {metric: metric.idle for metric in self._gauges()})

    def _gauge(self, tags: Mapping[str, str], gauges: Mapping[Metric, float]) -> None:
        observer = self._observer
        if observer is not None:
            for metric, value in gauges.items():
                observer.gauge(metric.name, value, tags)

    def _gauges(self) -> dict[Metric, float]:
        state = self._state
        waiters, limiter = state.waiters, state.transport.limiter
        in_trouble = (
            state.trouble.error is not None
            or state.transport.trust.doubt is not None
            or bool(state.doubts)
        )
        return {
            metrics.JOBS: len(waiters.watched),
            metrics.WAITERS: waiters.count,
            metrics.WATCHERS: len(state.watchers),
            metrics.OLDEST_JOB: waiters.oldest(asyncio.get_running_loop().time()),
            metrics.BUDGET_LEFT: limiter.left,
            metrics.PAUSED: limiter.paused_for,
            metrics.IN_TROUBLE: int(in_trouble),
        }
