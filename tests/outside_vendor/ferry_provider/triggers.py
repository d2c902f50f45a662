"""Waits for a crossing on the triggerer."""

from __future__ import annotations

from async_triggers.deferral.plain_job import PlainTrigger
from ferry_provider.jobs import Crossing


class FerryTrigger(PlainTrigger):
    """Yields one event when a crossing has ended or a deadline has passed."""

    job_class = Crossing
