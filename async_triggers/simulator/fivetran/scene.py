"""The state of a simulated Fivetran by time, and how it is arranged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from async_triggers.simulator.exchange import micro_instant
from async_triggers.simulator.fivetran.model import (
    DEFAULT_GROUP,
    HISTORY,
    RECONNECT,
    FivetranConnection,
    FivetranState,
    FivetranSync,
    pairs,
    test_run,
)
from async_triggers.simulator.fivetran.replies import missing, not_found
from async_triggers.simulator.fivetran.settings import FivetranSettings
from async_triggers.simulator.lives import Life, as_life, as_lives, next_life
from async_triggers.simulator.vendor import (
    JobView,
    VendorSimulator,
    check_text_id,
    is_text_id,
    not_an_id,
)


class FivetranScene(VendorSimulator[FivetranSettings]):
    """The groups and connections that a Fivetran has, and what becomes of their syncs."""

    name: ClassVar[str] = "fivetran"

    def __init__(
        self,
        settings: FivetranSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.groups: dict[str, str] = {}
        self.destinations: dict[str, tuple[str, dict[str, Any]]] = {}
        self.connections: dict[str, FivetranConnection] = {}
        self._next_sync = 1
        super().__init__(settings or FivetranSettings(), clock=clock, seed=seed)

    def clear(self) -> None:
        """Forget every connection and group; one group is left."""
        self.groups = {DEFAULT_GROUP: "simulated_warehouse"}
        self.destinations = {}
        self.connections = {}
        self._next_sync = 1

    # Arranging

    def add_group(
        self,
        group_id: str,
        *,
        name: str,
        service: str = "snowflake",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a group, which is a destination too, with the name that users know.

        :param service: The kind of its destination.
        :param config: The destination's, such as ``{"database": "RAW"}``.
        """
        with self.lock:
            self.groups[group_id] = name
            self.destinations[group_id] = (service, dict(config or {}))

    def add_connection(
        self,
        connection_id: str | None = None,
        *,
        group_id: str = DEFAULT_GROUP,
        service: str = "google_sheets",
        schema: str | None = None,
        schedule_type: Literal["auto", "manual"] = "manual",
        paused: bool = False,
        setup_state: Literal["connected", "incomplete", "broken"] = "connected",
        succeeded_ago: float | None = None,
        failed_ago: float | None = None,
        tasks: Sequence[Sequence[str]] = (),
        warnings: Sequence[Sequence[str]] = (),
        sync_frequency: int = 360,
        lives: Iterable[Life | str] = (),
        tables: Mapping[str, Sequence[str | Mapping[str, Any]]] | None = None,
        setup_tests: Iterable[str | Sequence[Mapping[str, Any]]] = (),
    ) -> str:
        """Add a connection, or replace it, and return its id.

        :param schema: The connection's name as users know it.
        :param succeeded_ago: Seconds since its last success, or None; as ``failed_ago``.
        :param tasks: Pairs of code and message, as ``warnings`` are.
        :param lives: The lives of its next syncs, in order; the last one stays.
        :param tables: The names of its tables in the destination, by schema; an object
            with ``name`` and ``enabled`` false is not synced. None for no schema config.
        :param setup_tests: What the next runs of its setup tests result in, in order; the
            last one stays. Each is a status such as ``FAILED``, or a list of the fields of
            a :class:`FivetranTest`. Without any, those of a connected connection pass.
        :raises ValueError: The id is no text, or the status of a setup test is unknown.
        """
        with self.lock:
            connection_id = self._new_id(connection_id)
            self.groups.setdefault(group_id, group_id)
            now = self.now()
            state = FivetranState(
                "paused" if paused else "scheduled",
                paused,
                schedule_type,
                setup_state,
                None if succeeded_ago is None else now - succeeded_ago,
                None if failed_ago is None else now - failed_ago,
                tasks=pairs(tasks),
                warnings=pairs(warnings),
                sync_frequency=sync_frequency,
            )
            self.connections[connection_id] = FivetranConnection(
                connection_id,
                group_id,
                service,
                schema or connection_id,
                now,
                as_lives(lives),
                [state],
                tables=tables,
                test_runs=[test_run(results) for results in setup_tests],
            )
            return connection_id

    def _new_id(self, connection_id: str | None) -> str:
        if connection_id is None:
            return f"sim_{len(self.connections) + 1}"
        check_text_id("connection_id", connection_id)
        return connection_id

    def can_start(self, target: Any) -> bool:
        """Whether there is such a connection."""
        return target in self.connections

    def start_by_itself(self, target: Any, at: float) -> None:
        """Let a connection sync, unless it does already or is paused."""
        connection = self._known(target)
        if not connection.is_busy and not connection.state.paused:
            self.begin(connection, at)

    def start_sync(self, connection_id: str, life: Life | str | None = None) -> None:
        """Let a sync run that no client here has started, such as a scheduled one.

        :raises ValueError: There is no such connection.
        """
        with self.lock:
            connection = self._known(connection_id)
            self.begin(connection, self.now(), None if life is None else as_life(life))

    def change(self, connection_id: str, **changes: Any) -> None:
        """Change what a connection's row shows, such as ``setup_state="broken"``.

        :raises ValueError: There is no such connection or field.
        """
        with self.lock:
            connection = self._known(connection_id)
            for name in ("tasks", "warnings"):
                if name in changes:
                    changes[name] = pairs(changes[name])
            try:
                connection.change(self.now(), **changes)
            except TypeError as error:
                raise ValueError(f"bad change of {connection_id!r}: {error}") from error

    def arrangeable(self) -> Mapping[str, Callable[..., object]]:
        """Return what can be arranged: groups, connections, syncs, changes of a row."""
        return {
            "groups": self.add_group,
            "connections": self.add_connection,
            "syncs": self.start_sync,
            "changes": self.change,
        }

    def jobs(self, *, finished: bool = False) -> list[JobView]:
        """Return the connections that sync now; the others too where requested."""
        with self.lock:
            self.run_schedules()
            for connection in self.connections.values():
                self.settle(connection)
            return [
                JobView(
                    one.connection_id,
                    one.connection_id,
                    one.state.sync_state,
                    one.times[-1] if len(one.times) > 1 else one.created_at,
                    one.history[-1].start if one.history else one.created_at,
                )
                for one in self.connections.values()
                if finished or one.is_busy
            ]

    def finish(self, job: str, state: str) -> None:
        """Let the sync of a connection come to a state now, such as ``failed``."""
        with self.lock:
            connection = self._known(job)
            connection.plan.clear()
            self._enter(connection, self.now(), state)

    def _known(self, connection_id: str) -> FivetranConnection:
        found = self.connections.get(connection_id)
        if found is None:
            raise ValueError(f"there is no connection {connection_id!r}")
        self.settle(found)
        return found

    def connection(self, connection_id: str) -> FivetranConnection:
        """Return a connection that a request names.

        :raises RefusalError: There is none.
        """
        if connection_id not in self.connections:
            if not self.settings.accept_unknown:
                raise not_found("Connector", connection_id)
            if not is_text_id(connection_id):
                message = not_an_id(connection_id)
                raise missing("Connector", message)
            self.add_connection(connection_id)
        found = self.connections[connection_id]
        self.settle(found)
        return found

    def instant(self, at: float | None) -> str | None:
        """Return a time as the API shows it."""
        return None if at is None else micro_instant(self.shown(at))

    # What happens by time

    def settle(self, connection: FivetranConnection) -> None:
        """Let everything happen that is due by now."""
        now = self.now()
        while True:
            if connection.plan:
                at, word = connection.plan[0]
                if at > now:
                    return
                connection.plan.popleft()
                self._enter(connection, at, word)
                continue
            state = connection.state
            runs = self.settings.run_schedules and state.schedule_type == "auto"
            if not runs or state.paused or connection.due > now:
                return
            self.begin(connection, connection.due)

    def _enter(self, connection: FivetranConnection, at: float, word: str) -> None:
        state = connection.state
        idle = "paused" if state.paused else "scheduled"
        if word in HISTORY:
            self._open(connection, at)
            self._close(connection, at, HISTORY[word], word)
            connection.plan.clear()
            connection.wait_from(at)
            ended: dict[str, Any] = {"sync_state": idle, "rescheduled_for": None}
            if word == "succeeded":
                ended |= {"succeeded_at": at, "is_historical_sync": False}
            elif word == "failed":
                ended |= {"failed_at": at}
            elif word == "broken":
                # https://fivetran.com/docs/using-fivetran/fivetran-dashboard/alerts:
                # a connection that breaks has a task to solve, and no later time.
                ended |= {"setup_state": "broken", "tasks": (*state.tasks, RECONNECT)}
            connection.change(at, **ended)
        elif word == "rescheduled":
            self._reschedule(connection, at)
        else:
            if word != "scheduled":
                self._open(connection, at)
            connection.change(at, sync_state=word, rescheduled_for=None)

    def _open(self, connection: FivetranConnection, at: float) -> None:
        if connection.running is None:
            connection.history.append(FivetranSync(f"sync-{self._next_sync:06d}", at))
            self._next_sync += 1

    def _close(
        self, connection: FivetranConnection, at: float, status: str, word: str
    ) -> None:
        sync = connection.running
        if sync is None:
            return
        sync.end, sync.status = at, status
        if status != "COMPLETED":
            sync.reason = f"The simulated sync has {word}"

    def _reschedule(self, connection: FivetranConnection, at: float) -> None:
        plan = connection.plan
        again = plan[0][0] if plan else at + self.settings.reschedule_after
        self._close(connection, at, "RESCHEDULED", "been rescheduled")
        connection.change(at, sync_state="rescheduled", rescheduled_for=again)
        connection.due = again
        if connection.state.schedule_type == "manual":
            # https://fivetran.com/docs/rest-api/tutorials/trigger-syncs-manually:
            # nothing but a start through the API runs it again.
            connection.waiting = connection.rest()
            plan.clear()
        elif not plan:
            connection.schedule(again, self._next_life(connection))

    def begin(
        self, connection: FivetranConnection, at: float, life: Life | None = None
    ) -> None:
        """Let a sync begin at a time, with the life that is due where none is given."""
        if life is None:
            rescheduled = connection.state.sync_state == "rescheduled"
            rest = connection.rest() if rescheduled else None
            life = connection.waiting or rest or self._next_life(connection)
        connection.waiting = None
        connection.plan.clear()
        connection.due = math.inf
        connection.schedule(at, life)
        self.settle(connection)

    def _next_life(self, connection: FivetranConnection) -> Life:
        return next_life(connection.lives, self.settings.life)

    def stop(self, connection: FivetranConnection, status: str) -> None:
        """Stop the sync that runs, if one does."""
        if connection.is_busy:
            self.record.cancels[connection.connection_id] += 1
        connection.plan.clear()
        self._close(connection, self.now(), status, "been stopped")
