"""A real Airflow on this machine: started, watched and stopped as one thing.

Each component runs in a session, so that nothing of it survives. The home
directory, the ports, the database and the secrets are made for this deployment alone;
no Airflow setting of the caller's environment reaches it.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import json
import os
import secrets
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from async_triggers.demo.airflow_api import AirflowApi, AirflowApiError, TaskInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

_HOST = "127.0.0.1"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SESSIONS = Path("processes", "sessions")
"""Where a deployment writes down the sessions of its processes, below its home."""
_PROCESSES = Path("/proc")
_SIGN_OF_LIFE = 60.0
"""Seconds for which a scheduler may show no sign of life; its start takes up to thirty."""
_GIVEN_UP = 180.0
"""The same where nothing starts it again: a busy machine must not look like a dead one."""
_PROBE_EVERY = 5.0
_LOCKED = 30.0
"""Seconds for which SQLite's one writer may keep the others waiting: a scheduler that gives
up ends, which on a busy machine happens after the five seconds of the default."""
_KILLED = 30.0
"""Seconds in which a process that was killed ends, however busy the machine is."""
_WORKER = "airflow worker --"
"""How Airflow calls the processes of an executor and those of its tasks."""
_HEALTHY_COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


class DeploymentError(RuntimeError):
    """Airflow could not be started, or a part of it died; the message ends its log."""


@dataclass(slots=True)
class Component:
    """One process of Airflow with everything it has forked.

    ``log`` is the file with all it has printed, as have those before it that had its
    ``name``. ``arguments`` are what follows ``airflow`` on its command line.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    arguments: tuple[str, ...]
    stopped_by_us: bool = field(default=False)

    @property
    def pid(self) -> int:
        """The process id, which is the id of its group and of its session as well."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the process and all it has forked, as far as they live.

        Airflow gives each task its process group; what they all share is the
        session. Where it cannot be searched, off Linux, tasks hear nothing.
        """
        if not self.alive and _exists(self.pid):
            # The id is another's by now, which it is only given when all of ours ended.
            return
        if not _PROCESSES.exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            return
        signalled: set[int] = set()
        # Until there is no new one: they may fork meanwhile.
        while new := _session(self.pid) - signalled:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= new

    def text(self) -> str:
        """Return everything the component has printed."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 25) -> str:
        """Return the last lines the component has printed."""
        return "\n".join(self.text().splitlines()[-lines:])


class Deployment:
    """One Airflow with its home directory, its database and its processes.

    As a context manager it is started on entry and stopped on exit, for any
    reason of the exit.

    ``dags`` are folders of DAG files. ``database`` is an SQLAlchemy URL; by default an
    SQLite file in the home. ``connections`` reach every process as environment
    variables: a URI, or a mapping of the fields of a connection. ``env`` are further
    variables, ``config`` further settings by section and option. ``part_env`` are variables
    of single components by their names, such as ``triggerer-0``. ``parallelism`` is the
    number of worker slots. ``template`` is where a migrated SQLite database is kept, so
    that the next deployment need not migrate one. ``say`` hears what is being done.

    A component that ends by itself is an error, which ends every wait of ``api``. With
    ``respawn`` it is started again instead, as a process manager would: Airflow's
    components end when they lose their database. So is a scheduler that lives and has
    shown no sign of it for a minute, as by a liveness probe: one that ends waits for its
    workers, at any length. Without, it is an error after three minutes. ``python`` is the
    interpreter of another environment that Airflow is to run in.
    """

    def __init__(
        self,
        home: Path,
        *,
        dags: Iterable[Path] = (),
        database: str | None = None,
        connections: Mapping[str, str | Mapping[str, object]] | None = None,
        env: Mapping[str, str] | None = None,
        part_env: Mapping[str, Mapping[str, str]] | None = None,
        config: Mapping[str, Mapping[str, str]] | None = None,
        parallelism: int = 4,
        triggerers: int = 1,
        template: Path | None = None,
        respawn: bool = False,
        python: Path | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home.resolve()
        self.dags = tuple(folder.resolve() for folder in dags)
        self.parallelism = parallelism
        self.triggerers: list[Component] = []
        self._sqlite = self.home / "airflow.db" if database is None else None
        self._database = database or f"sqlite:///{self._sqlite}?timeout={_LOCKED:g}"
        self._template = template
        self._triggerers_wanted = triggerers
        self._extra_config = config or {}
        self._part_env = part_env or {}
        self._components: dict[str, Component] = {}
        self._replaced: list[Component] = []
        self._starting = threading.RLock()
        self._respawn = respawn
        self._patience = _SIGN_OF_LIFE if respawn else _GIVEN_UP
        self._probed_at = 0.0
        self._silent_since: float | None = None
        # Not resolved: a virtualenv's interpreter is a link, by which it is known.
        self._python = str(python or sys.executable)
        self._say = say
        self._logs: list[IO[bytes]] = []
        self.interrupted = threading.Event()
        self._ports = free_ports(3)
        self.url = f"http://{_HOST}:{self._ports[0]}"
        self.api = AirflowApi(
            self.url, interrupted=self.interrupted, watch=self._look_after
        )
        self.env = _environment(
            self.home, connections or {}, env or {}, Path(self._python).parent
        )

    def __enter__(self) -> Self:
        """Start everything; stop it again if that fails."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.stop()

    def __repr__(self) -> str:
        """Return where it is and what of it runs."""
        running = [part.name for part in self.components if part.alive]
        return f"<Deployment {self.url} home={self.home} running={running}>"

    @property
    def components(self) -> list[Component]:
        """All processes started so far, triggerers last, dead ones included."""
        return [*self._components.values(), *self.triggerers]

    def component(self, name: str) -> Component:
        """Return ``api-server``, ``scheduler``, ``dag-processor`` or what was launched."""
        return self._components[name]

    def start(self, *, timeout: float = 120) -> None:
        """Migrate the database, start all components, wait until all are healthy.

        Raises `DeploymentError` with the end of a log if one dies, and
        `DeadlinePassedError` if they are not healthy after ``timeout`` seconds.
        """
        try:
            self.prepare()
            self._say("starting api-server, scheduler, dag-processor, triggerer")
            api_port = str(self._ports[0])
            self.launch("api-server", "api-server", "--host", _HOST, "--port", api_port)
            self.launch("scheduler", "scheduler")
            self.launch("dag-processor", "dag-processor")
            for _ in range(self._triggerers_wanted):
                self.start_triggerer()
            self.wait_healthy(timeout=timeout)
        except BaseException:
            self.stop(grace=0)
            raise

    def prepare(self) -> None:
        """Write the settings and migrate the database, which is enough for `airflow`."""
        self._prepare_home()
        self._migrate()

    def launch(self, name: str, *arguments: str) -> Component:
        """Start a process of Airflow under a name, such as a worker of Celery's.

        ``arguments`` are what follows ``airflow`` on its command line.
        """
        with self._starting:
            self._components[name] = self._spawn(name, *arguments)
            return self._components[name]

    def wait_healthy(self, *, timeout: float = 120) -> None:
        """Wait until Airflow itself calls all of its components healthy."""
        self.api.wait_until(
            self._is_healthy,
            what="all components of Airflow to be healthy",
            timeout=timeout,
            instead=self._describe_health,
        )

    def start_triggerer(self) -> Component:
        """Start one more triggerer and return it, without waiting for it."""
        with self._starting:
            number = len(self.triggerers)
            # Only the first serves logs: all of them write into the same folder, and
            # two servers cannot listen on the one port that the api-server knows.
            arguments = ["--skip-serve-logs"] if number else []
            name = f"triggerer-{number}"
            self.triggerers.append(self._spawn(name, "triggerer", *arguments))
            return self.triggerers[number]

    def kill_triggerer(self, index: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to a triggerer and all it has forked, SIGKILL by default.

        SIGSTOP freezes it and SIGCONT thaws it. SIGTERM goes to the supervisor alone,
        as a process manager would do it, and drains the triggerer.
        """
        triggerer = self.triggerers[index]
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            triggerer.stopped_by_us = True
        if number == signal.SIGTERM:
            triggerer.process.terminate()
        else:
            triggerer.signal(number)
        if number == signal.SIGKILL:
            triggerer.process.wait()

    def restart_triggerer(self, index: int, *, timeout: float = 60) -> Component:
        """Wait until a triggerer has ended, start another in its place, return it.

        End it with `kill_triggerer` before: one without a signal never ends.
        """
        triggerer = self.triggerers[index]
        triggerer.process.wait(timeout)
        with self._starting:
            if self.triggerers[index] is triggerer:
                self._start_again(triggerer)
            return self.triggerers[index]

    def kill_scheduler(
        self, number: int = signal.SIGKILL, *, workers: bool = True
    ) -> None:
        """Kill the scheduler: with its workers, as a machine is lost, or it alone.

        With ``workers``, every task that runs dies with it. Airflow learns of these by
        their missing heartbeats, after ``[scheduler] task_instance_heartbeat_timeout``
        seconds.

        Without, the workers of the LocalExecutor outlive it, as they do a plain
        ``kill -9`` of its process. They end the tasks they run, which report it to the
        api-server so themselves, and take no more. If a task still runs when the
        next scheduler finds the dead one's heartbeat older than ``[scheduler]
        scheduler_health_check_threshold``, Airflow starts it once more, and notifies the
        process that survives to stop at its next heartbeat. `stop` ends what is left.
        """
        scheduler = self._components["scheduler"]
        scheduler.stopped_by_us = True
        if workers:
            scheduler.signal(number)
        else:
            scheduler.process.send_signal(number)
        if number == signal.SIGKILL:
            scheduler.process.wait()

    def start_scheduler(self) -> Component:
        """Start another scheduler in the place of one that has ended."""
        with self._starting:
            scheduler = self._components["scheduler"]
            if scheduler.alive:
                message = "The scheduler still runs; end it with kill_scheduler first."
                raise DeploymentError(message)
            return self._start_again(scheduler)

    def restart_scheduler(self, *, workers: bool = True) -> Component:
        """Kill the scheduler as `kill_scheduler` does and start another."""
        self.kill_scheduler(workers=workers)
        return self.start_scheduler()

    def revive(self) -> list[str]:
        """Start every component again that has ended or hangs; return their names."""
        with self._starting:
            self._end_what_hangs()
            dead = [part for part in self.components if not part.alive]
            for part in dead:
                self._start_again(part)
        return [part.name for part in dead]

    def task_process(self, ti: TaskInstance) -> int | None:
        """Return the process id of a task that runs in a worker, None if it does not.

        Its parent is the executor's worker, which supervises it. Linux only: the
        process is found by its title.
        """
        return _pid_by_title(f"{_WORKER} {ti.id}")

    def kill_task(self, ti: TaskInstance, *, timeout: float = 30) -> None:
        """Kill a running task and its supervisor with SIGKILL, as a lost machine would.

        Airflow learns of it by the missing heartbeat, after
        ``[scheduler] task_instance_heartbeat_timeout`` seconds. The executor replaces
        the worker.
        """
        self.api.wait_until(
            lambda: self._kill_with_supervisor(ti),
            what=f"{ti.label} to run in a worker",
            timeout=timeout,
            every=0.05,
        )

    def _kill_with_supervisor(self, ti: TaskInstance) -> bool:
        """Kill a task that runs in a worker; False where it does not or has just ended.

        A worker without a task holds the lock of the queue that it reads, and dead it
        would hold it for ever: no other worker would get a task, and the scheduler could
        not end. So it is stopped, and killed only if it has the task even then.
        """
        pid = self.task_process(ti)
        if pid is None:
            return False
        with contextlib.suppress(OSError):
            supervisor = _parent(pid)
            if not _title(supervisor).startswith(_WORKER):
                # Its supervisor is dead already, and some other process its parent.
                _kill(pid)
                return True
            os.kill(supervisor, signal.SIGSTOP)
            if _still_has(supervisor, pid):
                _kill(pid, supervisor)
                return True
            os.kill(supervisor, signal.SIGCONT)
        return False

    def airflow(
        self, *arguments: str, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of Airflow's command line in this deployment."""
        return self.python("-m", "airflow", *arguments, timeout=timeout)

    def python(
        self, *arguments: str, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with the environment of this deployment and return its output."""
        return subprocess.run(
            [self._python, *arguments],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def stop(self, *, grace: float = 5) -> None:
        """Stop all processes: SIGTERM, ``grace`` seconds, SIGKILL to all they have forked.

        May be called at any time and more than once. It does not let itself be
        interrupted: a second signal does not leave processes behind.
        """
        # What was replaced may have left workers behind, in its session.
        parts = [*self._replaced, *self.components]
        with _interrupts_held():
            for part in parts:
                part.stopped_by_us = True
                if grace > 0 and part.alive:
                    part.process.terminate()
                    # One that a test has frozen could not hear it.
                    part.signal(signal.SIGCONT)
            deadline = time.monotonic() + grace
            for part in parts:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    part.process.wait(max(0, deadline - time.monotonic()))
            for part in parts:
                part.signal(signal.SIGKILL)
                part.process.wait()
            for log in self._logs:
                log.close()
            self._logs.clear()

    def _prepare_home(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "processes").mkdir(exist_ok=True)
        config = configparser.ConfigParser(interpolation=None)
        config.read_dict(self._settings())
        target = self.home / "airflow.cfg"
        target.touch(mode=0o600)
        with target.open("w") as file:
            config.write(file)

    def _settings(self) -> dict[str, dict[str, str]]:
        api, worker_logs, trigger_logs = self._ports
        bundles = [
            {
                "name": f"{number}-{folder.name}",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder), "refresh_interval": 300},
            }
            for number, folder in enumerate(self.dags)
        ]
        settings = {
            "core": {
                "dags_folder": str(self.home / "dags"),
                "load_examples": "False",
                "executor": "LocalExecutor",
                "parallelism": str(self.parallelism),
                "simple_auth_manager_all_admins": "True",
                "execution_api_server_url": f"http://{_HOST}:{api}/execution/",
                "fernet_key": _fernet_key(),
                "test_connection": "Enabled",
            },
            "database": {"sql_alchemy_conn": self._database},
            "api": {
                "host": _HOST,
                "port": str(api),
                "base_url": f"http://{_HOST}:{api}",
                "workers": "1",
                "secret_key": secrets.token_hex(16),
            },
            "api_auth": {"jwt_secret": secrets.token_hex(32)},
            "logging": {
                "base_log_folder": str(self.home / "logs"),
                "worker_log_server_port": str(worker_logs),
                "trigger_log_server_port": str(trigger_logs),
            },
            "dag_processor": {
                "dag_bundle_config_list": json.dumps(bundles),
                "refresh_interval": "300",
                # Each file is read in a new process: two dozen of them every half minute
                # keep half a core busy. One that changes is read at once all the same.
                "min_file_process_interval": "3600",
                "bundle_refresh_check_interval": "1",
                "parsing_processes": "1",
            },
            "scheduler": {
                # A killed worker is noticed by its missing heartbeat: in seconds, not
                # in the five minutes of the default.
                "task_instance_heartbeat_timeout": "20",
                "task_instance_heartbeat_timeout_detection_interval": "5",
                "trigger_timeout_check_interval": "5",
                # The tasks of a scheduler that was killed are started again by another
                # within seconds as well, not in five minutes.
                "scheduler_health_check_threshold": "20",
                "orphaned_tasks_check_interval": "10",
            },
            # On a busy machine the API server takes longer to let a task begin than the
            # five seconds after which Airflow tries again, and after four tries fails it.
            "workers": {"execution_api_timeout": "30"},
            "triggerer": {
                "capacity": "5000",
                "max_trigger_to_select_per_loop": "1000",
            },
            "usage_data_collection": {"enabled": "False"},
        }
        for section, options in self._extra_config.items():
            settings.setdefault(section, {}).update(options)
        return settings

    def _migrate(self) -> None:
        if self._sqlite is not None and self._sqlite.exists():
            return
        kept = self._kept_database()
        if self._sqlite is not None and kept is not None and kept.exists():
            self._say("copying a migrated database")
            _copy_sqlite(kept, self._sqlite)
            return
        self._say("migrating the database")
        done = self.airflow("db", "migrate")
        if done.returncode:
            message = f"`airflow db migrate` failed:\n{done.stdout}\n{done.stderr}"
            raise DeploymentError(message)
        if self._sqlite is not None and kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(f".{os.getpid()}")
            _copy_sqlite(self._sqlite, partial)
            partial.replace(kept)

    def _kept_database(self) -> Path | None:
        if self._template is None:
            return None
        return self._template / f"migrated-{version('apache-airflow')}.db"

    def _start_again(self, part: Component) -> Component:
        """Start a component that has ended once more, in its place."""
        self._replaced.append(part)
        another = self._spawn(part.name, *part.arguments)
        if self._components.get(part.name) is part:
            self._components[part.name] = another
        else:
            self.triggerers[self.triggerers.index(part)] = another
        return another

    def _spawn(self, name: str, *arguments: str) -> Component:
        log = self.home / "processes" / f"{name}.log"
        # The component writes into it for as long as it lives; `stop` closes it.
        output = log.open("ab")
        self._logs.append(output)
        process = subprocess.Popen(
            [self._python, "-m", "airflow", *arguments],
            env={**self.env, **self._part_env.get(name, {})},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _note_session(self.home, process.pid)
        return Component(name, process, log, arguments)

    def _is_healthy(self) -> bool:
        try:
            health = self.api.health()
        except (AirflowApiError, OSError, ValueError):
            return False
        return all(health.get(name) == "healthy" for name in _HEALTHY_COMPONENTS)

    def _describe_health(self) -> str:
        try:
            said = str(self.api.health())
        except (AirflowApiError, OSError, ValueError) as error:
            said = repr(error)
        tails = "\n".join(
            f"--- {part.name}\n{part.tail(8)}" for part in self.components
        )
        return f"{said}\n{tails}"

    def _look_after(self) -> None:
        """Raise what a component says that has ended by itself, or start it again."""
        with self._starting:
            self._end_what_hangs()
            for part in self.components:
                if part.alive or part.stopped_by_us:
                    continue
                if not self._respawn:
                    message = (
                        f"Airflow's {part.name} ended with {part.process.returncode}. "
                        f"The end of {part.log}:\n{part.tail()}"
                    )
                    raise DeploymentError(message)
                self._say(f"starting {part.name} again, which has ended")
                self._start_again(part)

    def _end_what_hangs(self) -> None:
        """Kill a scheduler that lives and has shown no sign of it for long.

        One whose loop has crashed waits for its tasks, at any length.
        """
        now = time.monotonic()
        if now < self._probed_at + _PROBE_EVERY:
            return
        self._probed_at = now
        scheduler = self._components.get("scheduler")
        if scheduler is None:
            return
        try:
            health = self.api.health()
        except (AirflowApiError, OSError, ValueError):
            health = {}
        silent = (
            scheduler.alive
            and health.get("metadatabase") == "healthy"
            and health.get("scheduler") != "healthy"
        )
        if not silent:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now >= self._silent_since + self._patience:
            self._silent_since = None
            self._say("killing a scheduler that shows no sign of life")
            scheduler.signal(signal.SIGKILL)
            scheduler.process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nothing listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _environment(
    home: Path,
    connections: Mapping[str, str | Mapping[str, object]],
    extra: Mapping[str, str],
    programs: Path,
) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW_", "PYTEST_", "COV_"))
        and name != "PYTHONWARNINGS"
    }
    loopback = f"{_HOST},localhost"
    kept |= {"AIRFLOW_HOME": str(home), "NO_PROXY": loopback, "no_proxy": loopback}
    # `airflow` itself may start a Python by name, for example to serve logs.
    kept["PATH"] = os.pathsep.join([str(programs), kept.get("PATH", os.defpath)])
    for conn_id, fields in connections.items():
        value = fields if isinstance(fields, str) else json.dumps(dict(fields))
        kept[f"AIRFLOW_CONN_{conn_id.upper()}"] = value
    return kept | dict(extra)


def _copy_sqlite(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as origin,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        origin.backup(copy)


def _pid_by_title(title: str) -> int | None:
    for process in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if _title(int(process.name)).startswith(title):
                return int(process.name)
    return None


def _title(pid: int) -> str:
    """Return the command line of a process, which a process may overwrite."""
    shown = (_PROCESSES / str(pid) / "cmdline").read_bytes()
    return shown.rstrip(b"\0").decode(errors="replace")


def _session(pid: int) -> set[int]:
    """Return the processes of a session, zombies included."""
    found = set()
    for process in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(_status(process)[3]) == pid:
                found.add(int(process.name))
    return found


def _kill(*pids: int) -> None:
    """Kill processes, and wait until they have ended: a signal only says that they will.

    One that a busy machine does not let run goes on to be seen as if it lived.
    """
    with contextlib.ExitStack() as opened:
        handles = [os.pidfd_open(pid) for pid in pids]
        for handle in handles:
            opened.callback(os.close, handle)
        for handle in handles:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        for handle in handles:
            select.select([handle], [], [], _KILLED)


def _still_has(supervisor: int, pid: int) -> bool:
    """Wait for a process to notice its SIGSTOP; return True if it has the child."""
    pause = threading.Event()
    while _status(_PROCESSES / str(supervisor))[0] not in "TZ":
        pause.wait(0.001)
    try:
        return _parent(pid) == supervisor
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(_status(_PROCESSES / str(pid))[1])


def _status(process: Path) -> list[str]:
    """Return state, parent, group, session and more of a process."""
    # The second field of `stat` is the command in brackets, which may hold anything.
    return (process / "stat").read_text().rpartition(")")[2].split()


def _exists(pid: int) -> bool:
    """Return whether a process has this id."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ignore what else would end the process. Only a main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, signal.SIG_IGN) for each in _ENDING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _note_session(home: Path, pid: int) -> None:
    """Write down which session was begun, for :func:`stop_leftovers`."""
    with (home / _SESSIONS).open("a") as file:
        file.write(f"{pid} {_started_at(pid)}\n")


def _started_at(pid: int) -> str:
    """Return when a process was started, in ticks since the machine was; "0" if gone."""
    try:
        return _status(_PROCESSES / str(pid))[19]
    except OSError:
        return "0"


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended and is only not taken note of yet."""
    try:
        return _status(_PROCESSES / str(pid))[0] in "ZX"
    except OSError:
        return True


def stop_leftovers(home: Path) -> int:
    """Kill what a deployment in that folder has left behind; return how many there were.

    One that was killed itself could stop nothing. A session's number is not given to
    another process for as long as the session has members.
    """
    try:
        lines = (home / _SESSIONS).read_text().splitlines()
    except OSError:
        return 0
    left = set()
    for line in lines:
        pid, _, started_at = line.partition(" ")
        if _started_at(int(pid)) in {started_at, "0"}:
            left |= {each for each in _session(int(pid)) if not _is_zombie(each)}
    for each in left:
        with contextlib.suppress(ProcessLookupError):
            _kill(each)
    return len(left)
