"""The setup tests of a connection, which connect or break it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from async_triggers.simulator.fivetran.model import (
    RECONNECT,
    TEST_FAILURES,
    test_run,
)
from async_triggers.simulator.fivetran.replies import data, flag, refuse
from async_triggers.simulator.fivetran.rows import connection_row

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimReply, SimRequest
    from async_triggers.simulator.fivetran.model import FivetranConnection, TestRun
    from async_triggers.simulator.fivetran.scene import FivetranScene

# https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests
TRUSTS: Final = ("trust_certificates", "trust_fingerprints")


class SetupTests:
    """The operation that runs them.

    A run without a failure connects the connection, any other breaks it.
    """

    def __init__(self, scene: FivetranScene) -> None:
        self._scene = scene

    def post(self, request: SimRequest, connection_id: str) -> SimReply:
        """Run the setup tests of a connection."""
        scene = self._scene
        # https://fivetran.com/docs/rest-api/api-reference/connections/run-setup-tests:
        # an empty object is a body, and no body at all is refused.
        connection = scene.connection(connection_id)
        if not request.body:
            raise refuse(400, "The request has no body; send {} at least")
        sent = scene.body(request)
        for name in TRUSTS:
            flag(sent, name)
        tests = self.run(connection)
        reply = self.answer(connection, tests, "Setup tests have been completed")
        return reply.after(scene.settings.setup_tests_take)

    def run(self, connection: FivetranConnection) -> TestRun:
        """Run the setup tests: they connect the connection, or break it."""
        scene = self._scene
        scene.record.facts["setup_tests"] += 1
        runs, state = connection.test_runs, connection.state
        is_connected = state.setup_state == "connected"
        if not runs:
            tests = test_run("PASSED" if is_connected else "FAILED")
        else:
            tests = runs.pop(0) if len(runs) > 1 else runs[0]
        failed = any(test.status in TEST_FAILURES for test in tests)
        if failed and is_connected:
            tasks = (*state.tasks, RECONNECT)
            connection.change(scene.now(), setup_state="broken", tasks=tasks)
        elif not failed and not is_connected:
            connection.change(scene.now(), setup_state="connected", tasks=())
        return tests

    def answer(
        self, connection: FivetranConnection, tests: TestRun | None, message: str
    ) -> SimReply:
        """Answer with the connection, and with the tests where they were run."""
        row = connection_row(self._scene, connection, connection.state)
        if tests is not None:
            row["setup_tests"] = [test.shown() for test in tests]
        return data(row, message)
