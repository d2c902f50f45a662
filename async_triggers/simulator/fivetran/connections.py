"""Connections: polling, listing and changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from async_triggers.simulator.fivetran.replies import (
    data,
    error,
    items,
    not_found,
    page_of,
    refuse,
)
from async_triggers.simulator.fivetran.rows import connection_row

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.model import FivetranConnection
    from async_triggers.simulator.fivetran.scene import FivetranScene
    from async_triggers.simulator.fivetran.setup_tests import SetupTests

# https://fivetran.com/docs/rest-api/api-reference/connections/modify-connection
_TEST_CONTROLS: Final = frozenset(
    {"run_setup_tests", "trust_certificates", "trust_fingerprints"}
)


class Connections:
    """The operations on connections."""

    def __init__(self, scene: FivetranScene, tests: SetupTests) -> None:
        self._scene = scene
        self._tests = tests

    def get(self, request: SimRequest, connection_id: str) -> SimReply:
        """Answer with one connection."""
        connection = self._scene.connection(connection_id)
        return data(connection_row(self._scene, connection, connection.state))

    def list_all(self, request: SimRequest, group_id: str | None = None) -> SimReply:
        """Answer with a page of connections."""
        scene = self._scene
        if group_id is None:
            group_id = scene.filter(request, "group_id")
        elif group_id not in scene.groups:
            raise not_found("Group", group_id)
        schema = scene.filter(request, "schema")
        seen = scene.now() - scene.quirks.lag
        found = []
        for one in list(scene.connections.values()):
            if group_id not in (None, one.group_id) or schema not in (None, one.schema):
                continue
            scene.settle(one)
            state = one.at(seen)
            if state is not None:
                found.append((one, state))
        page, cursor = page_of(scene.settings, request, found)
        rows = [connection_row(scene, one, state) for one, state in page]
        for one, _ in page[: scene.quirks.churn]:
            # It leaves its place and comes back as the last one of the list.
            known = scene.connections
            known[one.connection_id] = known.pop(one.connection_id)
        rows = scene.quirks.spoil(rows, scene.random)
        return items(scene.settings, rows, cursor)

    def patch(self, request: SimRequest, connection_id: str) -> SimReply:
        """Change a connection; that it is paused stops its sync."""
        scene = self._scene
        connection = scene.connection(connection_id)
        sent = scene.body(request)
        if not set(sent) - _TEST_CONTROLS:
            raise refuse(400, "No persistent parameter was given")
        schedule = sent.get("schedule_type", connection.state.schedule_type)
        if schedule not in ("auto", "manual"):
            raise refuse(400, f"schedule_type {schedule!r} is unknown")
        scene.record.facts["patches"] += 1
        was_busy = connection.is_busy
        self._apply(connection, sent, schedule)
        tests, blocks = None, 0.0
        if sent.get("run_setup_tests", True):
            tests = self._tests.run(connection)
            blocks = scene.settings.setup_tests_take
        if was_busy and sent.get("paused") is True:
            blocks += scene.settings.stop_blocks
            if scene.settings.pause_answers_500:
                # https://fivetran.com/docs/rest-api/troubleshooting
                return error(500).after(max(60.0, blocks))
        reply = self._tests.answer(connection, tests, "Connection has been updated")
        return reply.after(blocks)

    def _apply(
        self, connection: FivetranConnection, sent: dict[str, Any], schedule: str
    ) -> None:
        scene = self._scene
        now = scene.now()
        changes: dict[str, Any] = {"schedule_type": schedule}
        for name in ("is_historical_sync", "sync_frequency"):
            if name in sent:
                changes[name] = sent[name]
        if sent.get("paused") is True:
            scene.stop(connection, scene.settings.paused_history)
            connection.waiting = None
            changes |= {"paused": True, "sync_state": "paused", "rescheduled_for": None}
        elif sent.get("paused") is False and connection.state.paused:
            changes |= {"paused": False, "sync_state": "scheduled"}
            connection.wait_from(now)
        connection.change(now, **changes)
        if connection.waiting and schedule == "auto":
            due = connection.state.rescheduled_for or now
            connection.schedule(max(now, due), connection.waiting)
            connection.waiting = None
        if connection.resync_wanted and not connection.state.paused:
            connection.resync_wanted = False
            connection.change(now, is_historical_sync=True)
            scene.begin(connection, now)
