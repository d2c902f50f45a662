"""The server's threads: a request waits until one is free."""

from __future__ import annotations

from heapq import heapify, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_triggers.simulator.airbyte.scene import AirbyteScene


class Threads:
    """When each thread is free again, in epoch seconds."""

    def __init__(self, scene: AirbyteScene) -> None:
        self._scene = scene
        self._free: list[float] = []

    def clear(self) -> None:
        """Let every thread be free."""
        self._free = []

    def occupy(self, seconds: float) -> float:
        """Return how long a request waits until one of the threads is free.

        https://github.com/airbytehq/airbyte-platform (PUBLIC_API_EXECUTOR_THREADS):
        five threads a pod, and a start or cancel holds one while it blocks.
        """
        scene = self._scene
        count = scene.settings.threads
        if count <= 0:
            return 0.0
        now = scene.now()
        if len(self._free) != count:
            self._free = sorted(self._free)[-count:]
            self._free += [now] * (count - len(self._free))
            heapify(self._free)
        begin = max(now, self._free[0])
        heapreplace(self._free, begin + seconds + scene.settings.service_time)
        return begin - now + scene.settings.service_time
