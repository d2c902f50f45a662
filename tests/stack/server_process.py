"""A server in a process of the test run, with a folder that goes with it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from async_triggers.demo.deployment import free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_READY = 30.0


class ServerProcess(ABC):
    """A server on a free port of loopback, for the length of a ``with`` block.

    What it is given is there again when it has been killed and started again.
    """

    name: ClassVar[str]
    """What messages call it."""

    def __init__(self) -> None:
        prefix = f"async-triggers-{self.name.lower()}-"
        self._folder = Path(tempfile.mkdtemp(prefix=prefix))
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self._folder / "server.log"
        (self.port,) = free_ports(1)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    @abstractmethod
    def start(self) -> None:
        """Start the server on its data, and wait until it takes connections."""

    @abstractmethod
    def _answers(self) -> bool:
        """Return whether the server takes connections."""

    @property
    def pid(self) -> int | None:
        """The process of the server, None while there is none."""
        return None if self._process is None else self._process.pid

    def kill(self) -> None:
        """Kill the server: every client loses its connection, and gets no other."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _run(self, command: Sequence[str | Path], *, user: str | None = None) -> None:
        """Start the server's process, and wait until it answers."""
        if self._process is not None:
            message = f"{self.name} runs already"
            raise RuntimeError(message)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline, pause = time.monotonic() + _READY, threading.Event()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = f"{self.name} did not start:\n{self.log.read_text()}"
                raise RuntimeError(message)
            pause.wait(0.05)

    def _remove(self) -> None:
        """End the server, with all that it holds."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
