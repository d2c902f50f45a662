"""The simulator's control API for other processes."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from async_triggers.simulator.vendor import CONTROL_PREFIX


class SimulatorControl:
    """Arranges one simulated vendor from another process, and reads its record.

    :param url: The vendor's address as the simulator prints it.
    :param timeout: Seconds to wait for an answer.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._base = url.rstrip("/") + CONTROL_PREFIX
        self._timeout = timeout
        # The simulator is on loopback: a proxy of the environment is not for it.
        self._opener = build_opener(ProxyHandler({}))

    def arrange(self, **things: Any) -> None:
        """Change settings and quirks, add faults, connections and jobs.

        :raises ValueError: The simulator does not know something in it.
        """
        self._call("POST", "arrange", things)

    def fault(self, **fault: Any) -> None:
        """Arm one fault; the keywords are the fields of ``Fault``.

        :raises ValueError: A field is unknown.
        """
        self._call("POST", "faults", fault)

    def clear_faults(self) -> None:
        """Disarm all faults."""
        self._call("DELETE", "faults")

    def reset(self) -> None:
        """Return the vendor to its state at the beginning."""
        self._call("POST", "reset")

    def record(self, *, exchanges: bool = False) -> dict[str, Any]:
        """Return what was sent, as ``Record.as_dict`` does."""
        found: dict[str, Any] = self._call("GET", f"record?exchanges={exchanges:d}")
        return found

    def jobs(self, *, finished: bool = False) -> list[dict[str, Any]]:
        """Return the jobs that run now; the finished ones too where requested."""
        found: list[dict[str, Any]] = self._call("GET", f"jobs?finished={finished:d}")
        return found

    def finish(self, job: object, state: str) -> None:
        """Let a job be in a state from now on.

        :raises ValueError: There is no such job.
        """
        self._call("POST", "finish", {"job": str(job), "state": state})

    def _call(self, method: str, action: str, body: object = None) -> Any:
        request = Request(  # noqa: S310 - the caller's own address on loopback
            f"{self._base}/{action}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return json.load(response)
        except HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace")
            raise ValueError(f"{method} {action}: {text}") from None
