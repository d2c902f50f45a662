"""Connections: polling, listing and changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from async_triggers.simulator.fivetran.replies import (
    data,
    error,
    flag,
    items,
    not_found,
    page_of,
    refuse,
)
from async_triggers.simulator.fivetran.rows import connection_row
from async_triggers.simulator.fivetran.setup_tests import TRUSTS

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.model import FivetranConnection
    from async_triggers.simulator.fivetran.scene import FivetranScene
    from async_triggers.simulator.fivetran.setup_tests import SetupTests

# https://fivetran.com/docs/rest-api/api-reference/connections/modify-connection
_TEST_CONTROLS: Final = frozenset({"run_setup_tests", *TRUSTS})
_FLAGS: Final = ("paused", "is_historical_sync", "pause_after_trial", *_TEST_CONTROLS)
_FREQUENCIES: Final = (1, 5, 15, 30, 60, 120, 180, 360, 480, 720, 1440)


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
        for name in _FLAGS:
            flag(sent, name)
        schedule = sent.get("schedule_type", connection.state.schedule_type)
        if schedule not in ("auto", "manual"):
            raise refuse(400, f"schedule_type {schedule!r} is unknown")
        frequency = _frequency(sent, connection.state.sync_frequency)
        scene.record.facts["patches"] += 1
        was_busy = connection.is_busy
        self._apply(connection, sent, schedule, frequency)
        tests, blocks = None, 0.0
        if flag(sent, "run_setup_tests", default=True):
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
        self,
        connection: FivetranConnection,
        sent: dict[str, Any],
        schedule: str,
        frequency: int,
    ) -> None:
        scene = self._scene
        now = scene.now()
        changes: dict[str, Any] = {
            "schedule_type": schedule,
            "sync_frequency": frequency,
            "is_historical_sync": flag(
                sent,
                "is_historical_sync",
                default=connection.state.is_historical_sync,
            ),
        }
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


def _frequency(sent: dict[str, Any], default: int) -> int:
    """Return the minutes between two syncs; the definition lists them as texts."""
    value = sent.get("sync_frequency")
    if value is None:
        return default
    for minutes in _FREQUENCIES:
        if value is not True and value in (minutes, str(minutes)):
            return minutes
    raise refuse(400, f"sync_frequency {value!r} is unknown")
