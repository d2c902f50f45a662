"""What a task and its trigger exchange with Airflow: XComs, task states, configuration.

On a triggerer every exchange is a coroutine that nothing cancels: in Airflow 3.1 a
request whose answer is never read breaks the channel to the supervisor, and with it the
triggerer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from airflow.sdk.bases.xcom import BaseXCom

from async_triggers.deferral.compat.names import conf
from async_triggers.deferral.kill import NO_STATUS

if TYPE_CHECKING:
    from airflow.sdk import Context

T = TypeVar("T")

# What decodes an XCom: Airflow 3.2 would load it at the first one, on the triggerer's loop.
with contextlib.suppress(ModuleNotFoundError):
    import_module("airflow.sdk.serde")

MIN_HEARTBEAT_DEFAULT = 5.0


@cache
def earliest_event() -> float:
    """Return how many seconds after a deferral its trigger may fire.

    A worker ends a deferred task's process only at its next heartbeat, and only then does
    the executor report the process as done. A task that is running again by then is taken
    for one that ended without a word, and failed (apache/airflow#71580, open in 3.3.2).
    The report itself is late on a busy scheduler, even with short heartbeats: never less
    than with Airflow's own default.

    Airflow's configuration is read once in a process: that costs each of ten thousand
    triggers as much as all the rest of its start.
    """
    beat: float = conf.getfloat(
        "workers", "min_heartbeat_interval", fallback=MIN_HEARTBEAT_DEFAULT
    )
    return max(beat, MIN_HEARTBEAT_DEFAULT) + 2.5


@cache
def stats() -> Any:
    """Return what Airflow's metrics are sent with.

    Tags are given by keyword. ``airflow.sdk.observability`` is there from 3.2 on, its
    functions from 3.3 on.
    """
    # Loads the backend that is set up, which not every process needs.
    try:
        found = import_module("airflow.sdk.observability.stats")
    except ImportError:
        found = import_module("airflow.stats")

    return found if hasattr(found, "incr") else found.Stats


OWNER_KEY = "async_triggers_owner"
"""XCom key of the token that says which attempt owns which job.

Where the trigger makes the start, the token is also its claim: ``by`` names the trigger's
run that wrote it, ``record`` is what a worker keeps in the state store. ``address`` is a
hash of where the vendor has answered this task, in this run or in an earlier one.
"""


def push_owner_token(
    context: Context, job_id: str, moment: float | None = None, *, address: str = ""
) -> None:
    """Write down that this attempt of the task waits for ``job_id``, or for a moment.

    Pushed past a custom XCom backend, whose references a trigger could not read back.
    The server wipes a task's XComs at each new attempt, not when it resumes.
    """
    ti = context["ti"]
    token: dict[str, Any] = {"try": ti.try_number, "job_id": job_id}
    if moment is not None:
        token["moment"] = moment

    if address:
        token["address"] = address

    BaseXCom.set(OWNER_KEY, token, **_place_of(ti))


def earlier_address(context: Context) -> str:
    """Return, on a worker, where the vendor has last answered this task; else empty.

    Airflow returns the token of this run if there is one, else that of the run before
    (3.3.2: the newest by logical date that is not later than this run's). So a token that
    is pushed before the vendor has answered must carry the address on.
    """
    value = BaseXCom.get_one(
        key=OWNER_KEY, include_prior_dates=True, **_place_of(context["ti"])
    )
    return _address_in(value)


async def earlier_address_of(ti: Any) -> str:
    """Return the same from a trigger."""
    value = await _read_xcom(key=OWNER_KEY, include_prior_dates=True, **_place_of(ti))
    return _address_in(value)


def _address_in(token: Any) -> str:
    address = token.get("address") if isinstance(token, dict) else None
    return address if isinstance(address, str) else ""


async def is_waited_for(ti: Any, moment: float) -> bool:
    """Return whether the attempt waits for a moment, as far as it has written down."""
    value = await _read_xcom(key=OWNER_KEY, **_place_of(ti))
    return (
        isinstance(value, dict)
        and value.get("try") == ti.try_number
        and value.get("moment") == moment
    )


async def owner_token(ti: Any) -> tuple[int, str] | None:
    """Read the owner token of a task from a trigger: (attempt, job id), or None."""
    value = await _read_xcom(key=OWNER_KEY, **_place_of(ti))
    if not isinstance(value, dict):
        return None

    attempt, job_id = value.get("try"), value.get("job_id")
    if not isinstance(attempt, int) or not isinstance(job_id, str):
        return None

    return attempt, job_id


async def read_claim(ti: Any) -> tuple[str, Any] | None:
    """Read from a trigger who claimed this attempt's start, and the record; or None."""
    value = await _read_xcom(key=OWNER_KEY, **_place_of(ti))
    return _claim_in(value, ti.try_number)


async def write_claim(
    ti: Any, by: str, job_id: str, record: Any, *, address: str = ""
) -> None:
    """Write a claim from a trigger, which is the owner token as well."""
    claim = {"try": ti.try_number, "job_id": job_id, "by": by, "record": record}
    if address:
        claim["address"] = address

    await _write_xcom(OWNER_KEY, claim, **_place_of(ti))


def claim_left_behind(context: Context) -> Any:
    """Return, on a worker, the record of a claim by this attempt's trigger, or None."""
    ti = context["ti"]
    value = BaseXCom.get_one(key=OWNER_KEY, **_place_of(ti))
    claim = _claim_in(value, ti.try_number)
    return None if claim is None else claim[1]


def _claim_in(value: Any, attempt: int) -> tuple[str, Any] | None:
    if not isinstance(value, dict) or value.get("try") != attempt:
        return None

    by = value.get("by")
    return (by, value.get("record")) if isinstance(by, str) else None


RETURN_KEY: str = BaseXCom.XCOM_RETURN_KEY
"""XCom key of what a task returns."""


async def push_from_trigger(ti: Any, key: str, value: Any) -> None:
    """Write an XCom of a task from its trigger, past a custom backend.

    Raise what Airflow's supervisor raises where its database is down.
    """
    await _write_xcom(key, value, **_place_of(ti))


async def _read_xcom(**what: Any) -> Any:
    read = getattr(BaseXCom, "aget_one", None) or _get_one
    return await undisturbed(read(**what))


async def _write_xcom(key: str, value: Any, **place: Any) -> None:
    write = getattr(BaseXCom, "aset", None) or _set
    await undisturbed(write(key, value, **place))


async def _get_one(**what: Any) -> Any:
    """Do what ``BaseXCom.aget_one`` does where there is one."""
    from airflow.sdk.execution_time.comms import (  # noqa: PLC0415 - as below
        GetXCom,
        XComResult,
    )

    answer = await send(GetXCom(**what))
    if not isinstance(answer, XComResult):
        raise _no_answer(answer)

    return None if answer.value is None else BaseXCom.deserialize_value(answer)


async def _set(key: str, value: Any, **place: Any) -> None:
    """Do what ``BaseXCom.aset`` does where there is one."""
    from airflow.sdk.execution_time.comms import SetXCom  # noqa: PLC0415 - as below

    written: Any = BaseXCom.serialize_value(value=value, key=key, **place)
    answer = await send(SetXCom(key=key, value=written, **place))
    # The supervisor answers a request that has failed with what has failed.
    if answer is not None and type(answer).__name__ == "ErrorResponse":
        raise _no_answer(answer)


async def send(message: Any) -> Any:
    """Send a request to the triggerer's supervisor and return its answer."""
    # Heavy, and needed on the triggerer alone, which has it loaded.
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    return await undisturbed(task_runner.SUPERVISOR_COMMS.asend(message))


def _no_answer(answer: object) -> RuntimeError:
    return RuntimeError(f"the supervisor answered {type(answer).__name__}")


_exchanges: set[asyncio.Task[Any]] = set()
"""Strong references to exchanges that must go on when no task waits for them."""
_answered: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""The loops on which an exchange has been answered."""


async def undisturbed(exchange: Coroutine[Any, Any, T]) -> T:
    """Do an exchange with Airflow to its end, also where the caller is cancelled."""
    task = asyncio.get_running_loop().create_task(exchange)
    _exchanges.add(task)
    task.add_done_callback(_exchanged)
    return await asyncio.shield(task)


def _exchanged(task: asyncio.Task[Any]) -> None:
    _exchanges.discard(task)
    # Reading the exception says that it was seen, should the caller have gone.
    if not task.cancelled() and task.exception() is None:
        _answered.add(task.get_loop())


def has_answered() -> bool:
    """Return whether Airflow has answered anything on the running loop."""
    return asyncio.get_running_loop() in _answered


def _place_of(ti: Any) -> dict[str, Any]:
    return {
        "dag_id": ti.dag_id,
        "task_id": ti.task_id,
        "run_id": ti.run_id,
        "map_index": -1 if ti.map_index is None else ti.map_index,
    }


def has_own_xcom_backend() -> bool:
    """Return whether XComs are kept elsewhere than in Airflow's database."""
    # Resolved when it is imported, which may load a backend's libraries.
    from airflow.sdk.bases import xcom as own  # noqa: PLC0415
    from airflow.sdk.execution_time import xcom as used  # noqa: PLC0415

    return used.XCom is not own.BaseXCom


def has_listeners() -> bool:
    """Return whether a plugin listens to the states of tasks."""
    # Loads all plugins, which a process that parses or runs DAGs does in any case.
    # ``airflow.sdk.listener`` is there from 3.2 on.
    try:
        listening = import_module("airflow.sdk.listener")
    except ModuleNotFoundError:
        listening = import_module("airflow.listeners.listener")

    return bool(listening.get_listener_manager().has_listeners)


def clears_state_on_success() -> bool:
    """Return whether a worker clears the state store of a task that succeeds."""
    return bool(conf.getboolean("state_store", "clear_on_success", fallback=False))


def has_mapped_downstream(task: Any) -> bool:
    """Return whether a mapped task, or a mapped group, expands over what a task returns."""
    return task.has_dag() and next(task.iter_mapped_dependants(), None) is not None


async def task_state(ti: Any) -> str | None:
    """Request the state of its task now from a trigger.

    None when there is no such task any more, ``no_status`` when Airflow has put it back.
    Raise RuntimeError when the supervisor does not know.
    """
    return _state_in(ti, await send(_question(ti)))


def task_state_on_worker(ti: Any) -> str | None:
    """Request the state of its task now from a worker (blocking).

    None when there is no such task any more, or no Airflow around the operator;
    ``no_status`` when Airflow has put it back. Waits for its turn while another thread
    queries Airflow. Raise RuntimeError when the supervisor does not know.
    """
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 - as below

    supervisor = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if supervisor is None:
        return None

    return _state_in(ti, supervisor.send(_question(ti)))


def _is_mapped(ti: Any) -> bool:
    return ti.map_index is not None and ti.map_index >= 0


def _question(ti: Any) -> Any:
    from airflow.sdk.execution_time.comms import GetTaskStates  # noqa: PLC0415

    return GetTaskStates(
        dag_id=ti.dag_id,
        task_ids=[ti.task_id],
        run_ids=[ti.run_id],
        map_index=ti.map_index if _is_mapped(ti) else None,
    )


def _state_in(ti: Any, answer: object) -> str | None:
    from airflow.sdk.execution_time.comms import TaskStatesResult  # noqa: PLC0415

    if not isinstance(answer, TaskStatesResult):
        raise _no_answer(answer)

    states: Mapping[str, Any] = answer.task_states.get(ti.run_id, {})
    key = f"{ti.task_id}_{ti.map_index}" if _is_mapped(ti) else str(ti.task_id)
    if key not in states:
        return None

    return NO_STATUS if states[key] is None else str(states[key])
