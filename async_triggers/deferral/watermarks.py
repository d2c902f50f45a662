"""Where a watcher keeps up to which end it has reported, for the time after a restart.

Airflow 3.3 has a store for each asset. Equal watchers of several assets are one trigger
to Airflow, so the mark is written to every asset of it. Without such a store the mark
lives as long as the trigger.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from async_triggers.engine.watch import Mark

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger


class Watermarks:
    """The marks of one watcher, one for each asset; ``key`` is the watcher's."""

    def __init__(self, trigger: BaseEventTrigger, key: str) -> None:
        # Unknown before Airflow 3.3, and None where no asset is watched.
        self._stores = _stores_in(getattr(trigger, "asset_state_store", None))
        self._key = key

    @property
    def are_kept(self) -> bool:
        """True where a mark outlives the trigger."""
        return bool(self._stores)

    async def read(self) -> Mark | None:
        """Return the newest mark; raise what Airflow makes of a database that is down."""
        marks = [Mark.from_json(await each.aget(self._key)) for each in self._stores]
        known = [mark for mark in marks if mark is not None]
        return max(known, key=lambda mark: mark.at, default=None)

    async def write(self, mark: Mark) -> None:
        """Write a mark; raise as :meth:`read` does."""
        for each in self._stores:
            await each.aset(self._key, mark.to_json())


def _stores_in(accessors: Any) -> Sequence[Any]:
    """Return the store of each asset.

    Airflow gives no names of the assets to index with (3.3.2), and its short form is for a
    single asset.
    """
    if accessors is None:
        return ()

    found = [
        store
        for name in ("_by_name", "_by_uri")
        for store in getattr(accessors, name, {}).values()
    ]
    return found or [accessors]
