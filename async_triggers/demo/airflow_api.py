"""What the demo and the tests need of a running Airflow, over its public REST API.

Blocking and meant for scripts and tests, never for code that runs inside Airflow.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""The states in which Airflow leaves a task alone."""

T = TypeVar("T")

_SERVER_ERROR = 500
_READ_TRIES = 4
_CHANGE_TIMEOUT = 120.0
"""Seconds for a change, which is not made again where no answer comes."""
_DATABASE_TRIES = 5
_DATABASE_PAUSE = 1.0

_NOT_MAPPED = -1
_PAGE = 100


class AirflowApiError(RuntimeError):
    """Airflow refused a request; ``status`` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class DeadlinePassedError(TimeoutError):
    """What was waited for did not come; the message says what was there instead."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a DAG."""

    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        """The path of this run in the REST API."""
        return f"/dags/{quote(self.dag_id, safe='')}/dagRuns/{quote(self.run_id)}"


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """One task of a run, as Airflow showed it. ``map_index`` is -1 if not mapped."""

    id: str
    run: Run
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    max_tries: int
    start_date: str | None
    end_date: str | None
    operator: str | None
    trigger_id: int | None
    triggerer_host: str | None

    @property
    def label(self) -> str:
        """The task's name, with its index if it is a mapped one."""
        mapped = "" if self.map_index == _NOT_MAPPED else f"[{self.map_index}]"
        return f"{self.task_id}{mapped}"


class AirflowApi:
    """A client of one Airflow whose users are all admins (the simple auth manager).

    ``interrupted`` ends every wait with `KeyboardInterrupt` once it is set. ``watch``
    is called at each step of a wait; what it raises ends the wait. A read that has no
    answer after ``patience`` seconds is tried again: a busy machine may be slow.
    """

    def __init__(
        self,
        url: str,
        *,
        interrupted: threading.Event | None = None,
        watch: Callable[[], None] | None = None,
        patience: float = 30.0,
    ) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(
            # The environment's proxies are for other hosts than this one.
            trust_env=False,
            timeout=patience,
            # The server may be killed at any time, and another answer in its place.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._token: str | None = None
        self._interrupted = interrupted or threading.Event()
        self._watch = watch

    def request(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        query: Mapping[str, object] | None = None,
    ) -> Any:
        """Return the decoded answer to a request below ``/api/v2``.

        Raises `AirflowApiError` on any refusal and `OSError` if nothing answers.
        """
        if self._token is None:
            self._token = str(self._send("GET", "/auth/token", None)["access_token"])
        target = f"/api/v2{path}"
        if query:
            target += f"?{httpx.QueryParams(dict(query))}"  # type: ignore[arg-type]
        for _ in range(_DATABASE_TRIES):
            try:
                return self._send(method, target, body)
            except AirflowApiError as error:
                # Airflow on SQLite has one writer at a time and gives up on a second one
                # after some seconds. What it gave up has not happened.
                if error.status != _SERVER_ERROR or "Database error" not in str(error):
                    raise
                if self._interrupted.wait(_DATABASE_PAUSE):
                    raise
        return self._send(method, target, body)

    def _send(self, method: str, target: str, body: object | None) -> Any:
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        request = self._client.build_request(
            method,
            self.url + target,
            headers=headers,
            json=body,
            timeout=httpx.USE_CLIENT_DEFAULT if method == "GET" else _CHANGE_TIMEOUT,
        )
        try:
            response = self._read(request) if method == "GET" else self._once(request)
        except httpx.TimeoutException as error:
            raise TimeoutError(f"{method} {target}: no answer: {error}") from error
        except httpx.TransportError as error:
            raise ConnectionError(f"{method} {target}: {error}") from error
        if response.is_error:
            said = response.text[:1000]
            message = f"{method} {target}: {response.status_code} {said}"
            raise AirflowApiError(response.status_code, message)
        return response.json() if response.content else None

    def _once(self, request: httpx.Request) -> httpx.Response:
        return self._client.send(request)

    def _read(self, request: httpx.Request) -> httpx.Response:
        """Send a request that changes nothing, again where its answer does not come.

        Not where the port is closed: the caller waits for it with its own deadline.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(
                (
                    httpx.ReadTimeout,
                    httpx.ConnectTimeout,
                    httpx.ReadError,
                    httpx.RemoteProtocolError,
                )
            ),
            wait=wait_random_exponential(multiplier=0.5, max=5.0),
            stop=stop_after_attempt(_READ_TRIES)
            | stop_when_event_set(self._interrupted),
            sleep=sleep_using_event(self._interrupted),
            reraise=True,
        )
        return retrying(self._once, request)

    def health(self) -> dict[str, str | None]:
        """Return each component's health as Airflow reports it, ``healthy`` if so."""
        answer = self._send("GET", "/api/v2/monitor/health", None)
        return {name: (shown or {}).get("status") for name, shown in answer.items()}

    def wait_until(
        self,
        probe: Callable[[], T | None],
        *,
        what: str,
        timeout: float,
        every: float = 0.25,
        instead: Callable[[], str] | None = None,
    ) -> T:
        """Return the first answer of ``probe`` that is neither None nor False.

        Raises `DeadlinePassedError` after ``timeout`` seconds, with ``what`` was waited
        for and what ``instead`` says there was.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = probe()
            if found is not None and found is not False:
                return found
            if self._watch is not None:
                self._watch()
            if time.monotonic() > deadline:
                seen = f" Instead: {instead()}" if instead is not None else ""
                message = f"Waited {timeout:g} s for {what}.{seen}"
                raise DeadlinePassedError(message)
            if self._interrupted.wait(every):
                raise KeyboardInterrupt

    def wait_for_dag(self, dag_id: str, *, timeout: float = 600) -> None:
        """Wait until Airflow has parsed the DAG; if not, raise its import errors."""
        self.wait_until(
            lambda: self._dag_is_there(dag_id),
            what=f"DAG {dag_id!r} to be parsed",
            timeout=timeout,
            instead=lambda: f"import errors: {self.import_errors() or 'none'}",
        )

    def _dag_is_there(self, dag_id: str) -> bool:
        try:
            dag = self.request("GET", f"/dags/{quote(dag_id, safe='')}")
        except AirflowApiError as error:
            if error.status == 404:  # noqa: PLR2004 - HTTP's own number
                return False
            raise
        return not dag["is_stale"]

    def import_errors(self) -> dict[str, str]:
        """Return the stack trace of each DAG file that could not be imported."""
        answer = self.request("GET", "/importErrors")
        return {
            error["filename"]: error["stack_trace"] for error in answer["import_errors"]
        }

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG, waiting until it is parsed, and have it parsed again.

        When Airflow parses an unpaused DAG, it begins to run its asset watchers.
        """
        self.wait_for_dag(dag_id)
        path = f"/dags/{quote(dag_id, safe='')}"
        token = self.request("PATCH", path, {"is_paused": False})["file_token"]
        try:
            self.request("PUT", f"/parseDagFile/{token}")
        except AirflowApiError as error:
            # Another DAG of the same file was unpaused, and it is not parsed yet.
            if error.status != 409:  # noqa: PLR2004 - HTTP's own number
                raise

    def trigger_run(self, dag_id: str, conf: Mapping[str, object] | None = None) -> Run:
        """Unpause the DAG, waiting until it is parsed, and start a run of it."""
        self.wait_for_dag(dag_id)
        path = f"/dags/{quote(dag_id, safe='')}"
        self.request("PATCH", path, {"is_paused": False})
        body = {"logical_date": None, "conf": dict(conf or {})}
        started = self.request("POST", f"{path}/dagRuns", body)
        return Run(dag_id, started["dag_run_id"])

    def run_states(self, dag_id: str) -> list[str]:
        """Return the states of a DAG's runs, the first run first."""
        path = f"/dags/{quote(dag_id, safe='')}/dagRuns"
        answer = self.request("GET", path, query={"order_by": "run_after"})
        return [str(each["state"]) for each in answer["dag_runs"]]

    def run_state(self, run: Run) -> str:
        """Return the state of a run: queued, running, success or failed."""
        return str(self.request("GET", run.path)["state"])

    def run_seconds(self, run: Run) -> float:
        """Return how long a run that has ended took, by Airflow's own clock."""
        shown = self.request("GET", run.path)
        began, ended = (
            datetime.fromisoformat(shown[name]) for name in ("start_date", "end_date")
        )
        return (ended - began).total_seconds()

    def set_run_state(self, run: Run, state: str) -> None:
        """Do what "mark run as …" does in the UI; ``state`` is failed or success."""
        self.request("PATCH", run.path, {"state": state})

    def delete_run(self, run: Run) -> None:
        """Delete a run with its task instances; 409 if Airflow has it running."""
        self.request("DELETE", run.path)

    def wait_for_run(
        self,
        run: Run,
        *states: str,
        timeout: float = 120,
        every: float = 0.25,
    ) -> str:
        """Return the run's state once it is in ``states`` (success or failed)."""
        wanted = states or ("success", "failed")

        def probe() -> str | None:
            state = self.run_state(run)
            return state if state in wanted else None

        return self.wait_until(
            probe,
            what=f"run {run.run_id!r} of {run.dag_id!r} to be {' or '.join(wanted)}",
            timeout=timeout,
            every=every,
            instead=lambda: self._describe(run),
        )

    def task_instances(self, run: Run) -> list[TaskInstance]:
        """Return all task instances of a run, mapped ones each by itself."""
        found: list[TaskInstance] = []
        while True:
            answer = self.request(
                "GET",
                f"{run.path}/taskInstances",
                query={"limit": _PAGE, "offset": len(found), "order_by": "id"},
            )
            rows = answer["task_instances"]
            found += [_task_instance(run, row) for row in rows]
            if not rows or len(found) >= answer["total_entries"]:
                return sorted(found, key=lambda ti: (ti.task_id, ti.map_index))

    def task_instance(
        self, run: Run, task_id: str, *, map_index: int = _NOT_MAPPED
    ) -> TaskInstance:
        """Return one task instance as it is now."""
        row = self.request("GET", _task_path(run, task_id, map_index))
        return _task_instance(run, row)

    def wait_for(
        self,
        run: Run,
        task_id: str,
        *states: str,
        map_index: int = _NOT_MAPPED,
        try_number: int | None = None,
        timeout: float = 60,
    ) -> TaskInstance:
        """Return the task instance once it is in one of ``states``.

        Without ``states``: once it is finished. With ``try_number``, only that attempt
        counts. Raises `DeadlinePassedError` with all states of the run if it does not
        get there.
        """
        wanted = frozenset(states) or FINISHED

        def probe() -> TaskInstance | None:
            ti = self.task_instance(run, task_id, map_index=map_index)
            if try_number is not None and ti.try_number != try_number:
                return None
            return ti if ti.state in wanted else None

        attempt = "" if try_number is None else f" (attempt {try_number})"
        return self.wait_until(
            probe,
            what=f"{run.dag_id}.{task_id}{attempt} to be {' or '.join(sorted(wanted))}",
            timeout=timeout,
            instead=lambda: self._describe(run),
        )

    def set_state(
        self, run: Run, task_id: str, state: str, *, map_index: int = _NOT_MAPPED
    ) -> None:
        """Do what "mark as …" does in the UI; ``state`` is failed or success."""
        self.request("PATCH", _task_path(run, task_id, map_index), {"new_state": state})

    def clear(
        self, run: Run, task_ids: Iterable[str | tuple[str, int]], **options: object
    ) -> None:
        """Clear tasks of a run, in any state; a pair names one mapped index.

        ``options`` go into the request as they are, for example
        ``reset_dag_runs=False`` or ``include_downstream=True``.
        """
        body: dict[str, object] = {
            "dry_run": False,
            "only_failed": False,
            "dag_run_id": run.run_id,
            "task_ids": list(task_ids),
            **options,
        }
        path = f"/dags/{quote(run.dag_id, safe='')}/clearTaskInstances"
        self.request("POST", path, body)

    def log(
        self,
        run: Run,
        task_id: str,
        *,
        try_number: int = 1,
        map_index: int = _NOT_MAPPED,
    ) -> str:
        """Return the log of one attempt, the triggerer's part included, as lines."""
        answer = self.request(
            "GET",
            f"{run.path}/taskInstances/{quote(task_id)}/logs/{try_number}",
            query={"map_index": map_index, "full_content": True},
        )
        return "\n".join(
            line if isinstance(line, str) else _log_line(line)
            for line in answer["content"]
        )

    def xcom(
        self,
        run: Run,
        task_id: str,
        key: str = "return_value",
        *,
        map_index: int = _NOT_MAPPED,
    ) -> Any:
        """Return one XCom value; raises `AirflowApiError` 404 if there is none."""
        path = f"{run.path}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key)}"
        answer = self.request(
            "GET", path, query={"map_index": map_index, "deserialize": True}
        )
        return answer["value"]

    def xcom_keys(
        self, run: Run, task_id: str, *, map_index: int = _NOT_MAPPED
    ) -> set[str]:
        """Return the keys of all XComs of a task instance."""
        path = f"{run.path}/taskInstances/{quote(task_id)}/xcomEntries"
        answer = self.request("GET", path, query={"map_index": map_index})
        return {entry["key"] for entry in answer["xcom_entries"]}

    def state_store(
        self, run: Run, task_id: str, *, map_index: int = _NOT_MAPPED
    ) -> dict[str, Any]:
        """Return what a task instance keeps in its task state store."""
        path = f"{run.path}/taskInstances/{quote(task_id)}/state-store"
        answer = self.request("GET", path, query={"map_index": map_index})
        return {entry["key"]: entry["value"] for entry in answer["task_state_store"]}

    def _describe(self, run: Run) -> str:
        states = ", ".join(
            f"{ti.label}={ti.state} (attempt {ti.try_number})"
            for ti in self.task_instances(run)
        )
        return f"run is {self.run_state(run)}; {states}"

    def add_connection(self, conn_id: str, **fields: object) -> None:
        """Store a connection in Airflow's database.

        ``fields`` are those of the REST API: conn_type, host, login, password, schema,
        port, extra (a JSON string). One that is there already is replaced.
        """
        self.delete_connection(conn_id)
        self.request("POST", "/connections", {"connection_id": conn_id, **fields})

    def delete_connection(self, conn_id: str) -> None:
        """Delete a connection from Airflow's database, if it is there."""
        try:
            self.request("DELETE", f"/connections/{quote(conn_id)}")
        except AirflowApiError as error:
            if error.status != 404:  # noqa: PLR2004 - HTTP's own number
                raise

    def running_slots(self) -> int:
        """Return how many worker slots of all pools tasks hold at this moment."""
        answer = self.request("GET", "/pools")
        return sum(int(pool["running_slots"]) for pool in answer["pools"])


def _task_path(run: Run, task_id: str, map_index: int) -> str:
    path = f"{run.path}/taskInstances/{quote(task_id)}"
    return path if map_index == _NOT_MAPPED else f"{path}/{map_index}"


def _task_instance(run: Run, row: Mapping[str, Any]) -> TaskInstance:
    trigger = row["trigger"] or {}
    triggerer = row["triggerer_job"] or {}
    return TaskInstance(
        id=row["id"],
        run=run,
        task_id=row["task_id"],
        map_index=row["map_index"],
        state=row["state"],
        try_number=row["try_number"],
        max_tries=row["max_tries"],
        start_date=row["start_date"],
        end_date=row["end_date"],
        operator=row["operator_name"],
        trigger_id=trigger.get("id"),
        triggerer_host=triggerer.get("hostname"),
    )


def _log_line(line: Mapping[str, Any]) -> str:
    shown = [str(line[part]) for part in ("timestamp", "level") if line.get(part)]
    shown.append(str(line.get("event", "")))
    details = line.get("error_detail")
    if details:
        shown += [f"{each['exc_type']}: {each['exc_value']}" for each in details]
    return " ".join(shown)
