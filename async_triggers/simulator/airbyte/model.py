"""What a simulated Airbyte knows: connections, what they join, and their jobs."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from async_triggers.simulator.lives import Life, Timeline

# https://github.com/airbytehq/airbyte-platform
# https://github.com/airbytehq/airbyte-platform
TERMINAL: Final = frozenset({"failed", "succeeded", "cancelled"})
STATUSES: Final = frozenset(
    {"pending", "queued", "running", "incomplete", "failed", "succeeded", "cancelled"}
)
JOB_TYPES: Final = frozenset({"sync", "reset", "clear", "refresh"})

DEFAULT_WORKSPACE: Final = "11111111-1111-4111-8111-111111111111"


@dataclass(slots=True)
class AirbyteConnection:
    """One connection; ``lives`` are used up by its next jobs, the last one stays."""

    connection_id: str
    workspace_id: str
    name: str
    status: str = "active"
    schedule_type: str = "manual"
    lives: list[Life] = field(default_factory=list)
    created_at: float = 0.0
    jobs: list[AirbyteJob] = field(default_factory=list)
    source_id: str = ""
    destination_id: str = ""
    namespace_definition: str = "destination"
    namespace_format: str | None = None
    prefix: str = ""
    streams: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class AirbyteEndpoint:
    """A source or a destination of a workspace, with what it is configured to."""

    endpoint_id: str
    workspace_id: str
    name: str
    kind: str
    configuration: Mapping[str, Any]
    created_at: float


@dataclass(slots=True)
class AirbyteJob:
    """One job and its whole life, the part that is still to come included."""

    job_id: int
    connection: AirbyteConnection
    job_type: str
    timeline: Timeline
    bytes_synced: int
    rows_synced: int

    def is_over(self, at: float) -> bool:
        """Return whether the job has ended; one that does not exist yet has not."""
        moment = self.timeline.at(at)
        return moment is not None and moment.word in TERMINAL


def derived(kind: str, name: str) -> str:
    """Return the id of what goes with a name, the same every time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{kind}/{name}"))
