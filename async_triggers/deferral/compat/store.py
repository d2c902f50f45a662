"""Where a task remembers its job, for a retry, after a crash and after a clear.

Airflow 3.3 keeps a task state store. Earlier versions keep nothing of a task that
survives its next attempt but what lies outside of it, such as Variables.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from async_triggers.deferral.compat.names import AirflowException, conf
from async_triggers.deferral.compat.talk import send

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

HAS_OWN_STORE = find_spec("airflow.sdk.bases.resumablejobmixin") is not None
"""Whether Airflow has a task state store, which its class here needs."""
SECTION = "async_triggers"
OPTION = "remember_in"
PREFIX = "async_triggers."
"""What the names of our Variables begin with."""
VERSION = 1
"""The version of what a Variable holds."""


class RememberIn(StrEnum):
    """The setting ``[async_triggers] remember_in``."""

    AUTO = "auto"
    TASK_STATE_STORE = "task_state_store"
    VARIABLES = "variables"
    NOTHING = "nothing"


class Store(Protocol):
    """What a task instance keeps beyond an attempt, as plain JSON, by key."""

    def get(self, key: str) -> Any:
        """Return a value, None where there is none."""
        ...

    def set(self, key: str, value: Any) -> None:
        """Replace a value."""
        ...

    def delete(self, key: str) -> None:
        """Delete a value, if there is one."""
        ...


class StoreUnreadable(AirflowException):
    """What the task has remembered cannot be read now."""


class VariableStore:
    """The values of one task instance in one Airflow Variable.

    Read and written past the secrets backends of workers, which have nothing to do with
    it. A Variable that cannot be written is logged once; the task goes on, and remembers
    only as long as its process lives.
    """

    def __init__(self, ti: Any, log: Logger) -> None:
        self.name = variable_name(ti.dag_id, ti.run_id, ti.task_id, _index_of(ti))
        self._ti = ti
        self._log = log
        self._values: dict[str, Any] | None = None
        self._is_kept = True

    def get(self, key: str) -> Any:
        """Return a value, None where there is none.

        Raise :class:`StoreUnreadable` where Airflow does not say.
        """
        return self._known().get(key)

    def set(self, key: str, value: Any) -> None:
        """Replace a value."""
        values = self._known()
        values[key] = value
        self._write(values)

    def delete(self, key: str) -> None:
        """Delete a value, if there is one."""
        values = self._known()
        if key in values:
            del values[key]
            self._write(values)

    def clear(self) -> None:
        """Delete the Variable: the task has succeeded."""
        if self._known():
            self._values = {}
            self._write({})

    def _known(self) -> dict[str, Any]:
        if self._values is None:
            self._values = self._read()

        return self._values

    def _read(self) -> dict[str, Any]:
        from airflow.sdk.exceptions import ErrorType  # noqa: PLC0415 - loaded by then
        from airflow.sdk.execution_time.comms import (  # noqa: PLC0415
            ErrorResponse,
            GetVariable,
        )

        answer = _send(GetVariable(key=self.name))
        if isinstance(answer, ErrorResponse):
            if answer.error is ErrorType.VARIABLE_NOT_FOUND:
                return {}

            msg = (
                f"The Variable {self.name}, where the task remembers its job, could not be"
                f" read: {answer.error.value}"
            )
            raise StoreUnreadable(msg)

        held = read_variable(getattr(answer, "value", None))
        return {} if held is None else dict(held["values"])

    def _write(self, values: Mapping[str, Any]) -> None:
        from airflow.sdk.execution_time.comms import (  # noqa: PLC0415 - as above
            DeleteVariable,
            PutVariable,
        )

        if not self._is_kept:
            return

        try:
            if values:
                ti = self._ti
                held = {
                    "v": VERSION,
                    "dag_id": ti.dag_id,
                    "run_id": ti.run_id,
                    "task_id": ti.task_id,
                    "map_index": _index_of(ti),
                    "try": ti.try_number,
                    "written_at": time.time(),
                    "values": values,
                }
                _send(
                    PutVariable(
                        key=self.name,
                        value=json.dumps(held),
                        description="What a task of async-triggers remembers",
                    )
                )
            else:
                _send(DeleteVariable(key=self.name))
        except Exception as error:  # noqa: BLE001 - a platform may forbid it in any way
            self._is_kept = False
            self._log.warning(
                "The Variable %s could not be written (%s): a retry, or a clear, will not"
                " know what this attempt has started. Set [%s] %s to nothing where tasks"
                " may not write Variables",
                self.name,
                type(error).__name__,
                SECTION,
                OPTION,
            )


def variable_name(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the name of the Variable of a task instance."""
    place = json.dumps([dag_id, run_id, task_id, map_index])
    return PREFIX + hashlib.sha256(place.encode()).hexdigest()[:32]


def read_variable(value: object) -> Mapping[str, Any] | None:
    """Read the text of a Variable; None where it is none of ours, or of another release."""
    if not isinstance(value, str):
        return None

    try:
        held = json.loads(value)
    except ValueError:
        return None

    is_ours = isinstance(held, dict) and held.get("v") == VERSION
    return held if is_ours and isinstance(held.get("values"), dict) else None


async def forget_from_trigger(ti: Any, log: Any) -> None:
    """Delete the Variable of a task that its trigger ends well."""
    if not uses_variables():
        return

    from airflow.sdk.execution_time.comms import DeleteVariable  # noqa: PLC0415

    name = variable_name(ti.dag_id, ti.run_id, ti.task_id, _index_of(ti))
    try:
        await send(DeleteVariable(key=name))
    except Exception as error:  # noqa: BLE001 - there may be none
        log.debug("The Variable %s was not deleted: %s", name, error)


def uses_variables() -> bool:
    """Return whether tasks remember their jobs in Variables."""
    setting = remember_in()
    if setting is not RememberIn.AUTO:
        return setting is RememberIn.VARIABLES

    return not (HAS_OWN_STORE or has_own_secrets_backend())


def _index_of(ti: Any) -> int:
    return -1 if ti.map_index is None else int(ti.map_index)


def _send(message: Any) -> Any:
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 - loaded by then

    return task_runner.SUPERVISOR_COMMS.send(message)


def remember_in() -> RememberIn:
    """Return the setting; raise AirflowException for a word that it does not know."""
    word = (
        str(conf.get(SECTION, OPTION, fallback=RememberIn.AUTO.value)).strip().lower()
    )
    try:
        return RememberIn(word)
    except ValueError:
        known = ", ".join(each.value for each in RememberIn)
        msg = f"[{SECTION}] {OPTION} is {word!r}: set it to one of {known}"

    raise AirflowException(msg)


def has_own_secrets_backend() -> bool:
    """Return whether Airflow reads Variables from another backend before its database."""
    return any(
        conf.get(section, option, fallback="")
        for section, option in (
            ("secrets", "backend"),
            ("workers", "secrets_backend"),
        )
    )


def airflows_store(context: Context) -> Store | None:
    """Return Airflow's own store of the task, None where there is none or it is off."""
    if remember_in() in {RememberIn.NOTHING, RememberIn.VARIABLES}:
        return None

    own: Store | None = context.get("task_state_store")
    return own


def store_of(context: Context, log: Logger) -> Store | None:
    """Return where the task remembers its job, None for nowhere."""
    setting = remember_in()
    if setting is RememberIn.NOTHING:
        return None

    own = airflows_store(context)
    if own is not None or setting is RememberIn.TASK_STATE_STORE:
        return own

    # dag.test() of an old Airflow, and tests of a DAG's code, have no supervisor.
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    if getattr(task_runner, "SUPERVISOR_COMMS", None) is None:
        return None

    if setting is RememberIn.AUTO and has_own_secrets_backend():
        return None

    return VariableStore(context["ti"], log)


def why_forgetful(context: Context) -> str | None:
    """Say, for the log of a task, why it remembers less than Airflow 3.3 lets it.

    None where Airflow's own store is used.
    """
    setting = remember_in()
    if setting is RememberIn.NOTHING:
        return (
            f"[{SECTION}] {OPTION} is nothing: a retry or a clear does not know the job of"
            " this attempt and may start a second one"
        )

    if airflows_store(context) is not None:
        return None

    if setting is RememberIn.TASK_STATE_STORE:
        return (
            f"[{SECTION}] {OPTION} is task_state_store, which this Airflow lacks: a retry"
            " or a clear does not know the job of this attempt and may start a second one"
        )

    if setting is RememberIn.AUTO and has_own_secrets_backend():
        return (
            "A secrets backend is configured, which Airflow would query for each read, so"
            " the job of this attempt is not kept: a retry or a clear may start a second"
            f" one. Set [{SECTION}] {OPTION} to variables to keep it all the same"
        )

    return (
        "This Airflow has no task state store: the job of this attempt is kept in an"
        " Airflow Variable until the task has succeeded"
    )
