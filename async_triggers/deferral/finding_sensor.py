"""Sensors whose first look finds out what the later ones look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from async_triggers.deferral import compat
from async_triggers.deferral.record import KEY
from async_triggers.deferral.sensor import JobSensor

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.sensor import PokeReturnValue


class FindingSensor(JobSensor):
    """A sensor that finds its job, or the time after which an end counts, once."""

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; True when what is waited for has succeeded."""
        store = compat.airflows_store(context) if self.reschedule else None
        if not self.query.keeps_found or store is None:
            return super().poke(context)

        # Each look is a new process.
        attempt = context["ti"].try_number
        kept = store.get(KEY)
        if isinstance(kept, Mapping) and kept.get("try") == attempt:
            self.query = self.query.recalling(str(kept.get("run", "")))

        known = self.query.found
        try:
            return super().poke(context)
        finally:
            if self.query.found != known:
                store.set(KEY, {"try": attempt, "run": self.query.found})
