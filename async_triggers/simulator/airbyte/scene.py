"""The state of a simulated Airbyte, and how it is arranged."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Literal

from async_triggers.simulator.airbyte.model import (
    DEFAULT_WORKSPACE,
    TERMINAL,
    AirbyteConnection,
    AirbyteEndpoint,
    AirbyteJob,
    derived,
)
from async_triggers.simulator.airbyte.replies import refuse
from async_triggers.simulator.airbyte.settings import AirbyteSettings
from async_triggers.simulator.lives import Life, Timeline, as_life, as_lives, next_life
from async_triggers.simulator.vendor import (
    JobView,
    VendorSimulator,
    as_integer_id,
    check_text_id,
    is_text_id,
    not_an_id,
)

# https://docs.airbyte.com/platform/operator-guides/manage-data-workers
# https://docs.airbyte.com/platform/operator-guides/manage-data-workers
_LONGEST_QUEUE: Final = 8 * 3600.0

# https://reference.airbyte.com/reference/getdestination: airbyte-api reads an answer only
# if its configuration is complete and says of what type it is.
_SNOWFLAKE: Final = {
    "destinationType": "snowflake",
    "host": "simulated.snowflakecomputing.com",
    "role": "AIRBYTE",
    "warehouse": "AIRBYTE",
    "database": "SIMULATED",
    "schema": "PUBLIC",
    "username": "AIRBYTE",
}


class AirbyteScene(VendorSimulator[AirbyteSettings]):
    """The workspaces, connections and jobs that an Airbyte has, and how to arrange them."""

    name: ClassVar[str] = "airbyte"

    def __init__(
        self,
        settings: AirbyteSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.workspaces: dict[str, str] = {}
        self.connections: dict[str, AirbyteConnection] = {}
        self.sources: dict[str, AirbyteEndpoint] = {}
        self.destinations: dict[str, AirbyteEndpoint] = {}
        self.all_jobs: dict[int, AirbyteJob] = {}
        self._next_job = 1
        super().__init__(settings or AirbyteSettings(), clock=clock, seed=seed)

    def clear(self) -> None:
        """Forget every connection and job; one workspace is left."""
        self.workspaces = {DEFAULT_WORKSPACE: "Simulated workspace"}
        self.connections = {}
        self.sources = {}
        self.destinations = {}
        self.all_jobs = {}
        self._next_job = 1

    def add_workspace(self, workspace_id: str, *, name: str = "Workspace") -> None:
        """Add a workspace."""
        with self.lock:
            self.workspaces[workspace_id] = name

    def add_source(
        self,
        source_id: str,
        *,
        name: str,
        source_type: str = "postgres",
        workspace_id: str = DEFAULT_WORKSPACE,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a source, or replace it."""
        with self.lock:
            self.sources[source_id] = self._endpoint(
                source_id, workspace_id, name, source_type, configuration
            )

    def add_destination(
        self,
        destination_id: str,
        *,
        name: str,
        destination_type: str = "snowflake",
        workspace_id: str = DEFAULT_WORKSPACE,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a destination, or replace it."""
        with self.lock:
            self.destinations[destination_id] = self._endpoint(
                destination_id, workspace_id, name, destination_type, configuration
            )

    def _endpoint(
        self,
        endpoint_id: str,
        workspace_id: str,
        name: str,
        kind: str,
        configuration: Mapping[str, Any] | None,
    ) -> AirbyteEndpoint:
        if workspace_id not in self.workspaces:
            self.add_workspace(workspace_id)
        return AirbyteEndpoint(
            endpoint_id, workspace_id, name, kind, configuration or {}, self.now()
        )

    def add_connection(
        self,
        connection_id: str | None = None,
        *,
        workspace_id: str = DEFAULT_WORKSPACE,
        name: str | None = None,
        status: Literal["active", "inactive", "deprecated", "locked"] = "active",
        schedule_type: Literal["manual", "cron", "basic"] = "manual",
        lives: Iterable[Life | str] = (),
        source_id: str | None = None,
        destination_id: str | None = None,
        namespace_definition: str = "destination",
        namespace_format: str | None = None,
        prefix: str = "",
        streams: Iterable[str | Mapping[str, Any]] = (),
    ) -> str:
        """Add a connection, or replace it, and return its id.

        :param lives: The lives of its next jobs, in order; the last one is used again
            and again. Without any, jobs have the life of the settings.
        :param source_id: A source that was added; without it, the connection names one
            that springs into being when it is requested. Likewise ``destination_id``.
        :param streams: What it replicates: names, or objects with ``name``,
            ``namespace``, ``destinationObjectName`` and so on; those with ``selected``
            false are not shown.
        :raises ValueError: The id is no text.
        """
        with self.lock:
            if connection_id is None:
                connection_id = str(uuid.UUID(int=self.random.getrandbits(128)))
            check_text_id("connection_id", connection_id)
            if workspace_id not in self.workspaces:
                self.add_workspace(workspace_id)
            self.connections[connection_id] = AirbyteConnection(
                connection_id,
                workspace_id,
                name or f"Connection {len(self.connections) + 1}",
                status,
                schedule_type,
                as_lives(lives),
                self.now(),
                source_id=source_id or derived("source", connection_id),
                destination_id=destination_id or derived("target", connection_id),
                namespace_definition=namespace_definition,
                namespace_format=namespace_format,
                prefix=prefix,
                streams=tuple(
                    {"name": stream} if isinstance(stream, str) else dict(stream)
                    for stream in streams
                ),
            )
            return connection_id

    def can_start(self, target: Any) -> bool:
        """Whether there is such a connection."""
        return target in self.connections

    def start_by_itself(self, target: Any, at: float) -> None:
        """Let a connection sync, unless it does already."""
        connection = self.connections[target]
        if connection.status == "active" and self.running(connection) is None:
            life = self.next_life(connection)
            self.create(connection, "sync", life, at - self.now())

    def add_job(
        self,
        connection_id: str,
        life: Life | str | None = None,
        *,
        job_type: str = "sync",
        age: float = 0.0,
        job_id: int | None = None,
    ) -> int:
        """Let a job run that no client here has started, and return its id.

        :param age: How many seconds ago it was created.
        :raises ValueError: There is no such connection.
        """
        with self.lock:
            connection = self.connections.get(connection_id)
            if connection is None:
                raise ValueError(f"there is no connection {connection_id!r}")
            chosen = self.next_life(connection) if life is None else as_life(life)
            return self.create(connection, job_type, chosen, -age, job_id).job_id

    def set_connection_status(self, connection_id: str, status: str) -> None:
        """Change a connection's status: active, inactive, deprecated or locked."""
        with self.lock:
            self.connections[connection_id].status = status

    def arrangeable(self) -> Mapping[str, Callable[..., object]]:
        """Return what can be arranged: workspaces, what they hold, and jobs."""
        return {
            "workspaces": self.add_workspace,
            "sources": self.add_source,
            "destinations": self.add_destination,
            "connections": self.add_connection,
            "jobs": self.add_job,
        }

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the jobs that run now; the finished ones too where requested."""
        with self.lock:
            self.run_schedules()
            now = self.now()
            return [
                JobView(
                    str(job.job_id),
                    job.connection.connection_id,
                    moment.word,
                    moment.since,
                    job.timeline.start,
                )
                for job in self.all_jobs.values()
                if (moment := job.timeline.at(now)) is not None
                and (finished or moment.word not in TERMINAL)
            ]

    def finish(self, job: str, state: str) -> None:
        """Let a job be in a state from now on."""
        with self.lock:
            number = as_integer_id(job)
            found = None if number is None else self.all_jobs.get(number)
            if found is None:
                raise ValueError(f"there is no job {job!r}")
            found.timeline.end(self.now(), state)

    def next_life(self, connection: AirbyteConnection) -> Life:
        """Return the life of the next job of a connection."""
        return next_life(connection.lives, self.settings.life)

    def create(
        self,
        connection: AirbyteConnection,
        job_type: str,
        life: Life,
        offset: float,
        job_id: int | None = None,
    ) -> AirbyteJob:
        """Add a job that begins some seconds from now."""
        if job_id is None:
            job_id = self._next_job
        self._next_job = max(self._next_job, job_id + 1)
        first, seconds = life.steps[0]
        if first == "queued" and seconds > _LONGEST_QUEUE:
            life = Life((("queued", _LONGEST_QUEUE), ("cancelled", float("inf"))))
        job = AirbyteJob(
            job_id,
            connection,
            job_type,
            Timeline(self.now() + offset, life),
            self.settings.bytes_synced,
            self.settings.rows_synced,
        )
        self.all_jobs[job_id] = job
        connection.jobs.append(job)
        return job

    def running(self, connection: AirbyteConnection) -> AirbyteJob | None:
        """Return the job that a connection runs now, if it runs one."""
        now = self.now()
        return next(
            (job for job in reversed(connection.jobs) if not job.is_over(now)), None
        )

    def connection(self, connection_id: str) -> AirbyteConnection:
        """Return a connection that a request names.

        :raises RefusalError: There is none.
        """
        found = self.connections.get(connection_id)
        if found is None:
            if not self.settings.accept_unknown:
                raise refuse(404, f"connection {connection_id}")
            if not is_text_id(connection_id):
                raise refuse(404, f"connection: {not_an_id(connection_id)}")
            self.add_connection(connection_id)
            found = self.connections[connection_id]
            self.add_endpoints(found)
        return found

    def add_endpoints(self, connection: AirbyteConnection) -> None:
        """Add the source and the destination of a connection that has its own ones."""
        connection_id, name = connection.connection_id, connection.name
        workspace_id = connection.workspace_id
        source_id = derived("source", connection_id)
        if connection.source_id == source_id and source_id not in self.sources:
            self.add_source(
                source_id, name=f"{name} (source)", workspace_id=workspace_id
            )
        target_id = derived("target", connection_id)
        if (
            connection.destination_id == target_id
            and target_id not in self.destinations
        ):
            self.add_destination(
                target_id,
                name=f"{name} (destination)",
                workspace_id=workspace_id,
                configuration=_SNOWFLAKE,
            )
