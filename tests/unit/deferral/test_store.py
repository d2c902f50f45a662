"""Where a task remembers its job, by what Airflow has and by the setting."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    DeleteVariable,
    ErrorResponse,
    GetVariable,
    OKResponse,
    PutVariable,
    VariableResult,
)

from async_triggers.deferral import compat
from async_triggers.deferral.compat import store as module
from async_triggers.deferral.compat.store import (
    StoreUnreadable,
    VariableStore,
    read_variable,
    variable_name,
)
from async_triggers.deferral.notes import Notes
from async_triggers.deferral.record import Intent, Record

log: Any = logging.getLogger("task")


class Variables:
    """Airflow's Variables, behind the supervisor."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.refuses: ErrorType | None = None
        self.forbids = False
        self.writes = 0

    def send(self, message: Any) -> Any:
        if isinstance(message, GetVariable):
            if self.refuses is not None:
                return ErrorResponse(error=self.refuses)

            if message.key not in self.values:
                return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)

            return VariableResult(key=message.key, value=self.values[message.key])

        self.writes += 1
        if self.forbids:
            raise PermissionError("403")

        if isinstance(message, PutVariable):
            self.values[message.key] = str(message.value)
        else:
            assert isinstance(message, DeleteVariable)
            self.values.pop(message.key, None)

        return OKResponse(ok=True)

    async def asend(self, message: Any) -> Any:
        return self.send(message)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    variables = Variables()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", variables, raising=False)
    return variables


def instance(**changes: Any) -> Any:
    given = {
        "dag_id": "d",
        "run_id": "r",
        "task_id": "t",
        "map_index": -1,
        "try_number": 1,
        "max_tries": 1,
    }
    return SimpleNamespace(**{**given, **changes})


def setting(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__REMEMBER_IN", word)


def test_what_one_attempt_writes_the_next_one_reads(variables: Variables) -> None:
    VariableStore(instance(), log).set("job", {"id": "1"})

    assert VariableStore(instance(try_number=2), log).get("job") == {"id": "1"}
    assert VariableStore(instance(), log).get("other") is None


@pytest.mark.parametrize(
    "other",
    [{"dag_id": "e"}, {"run_id": "s"}, {"task_id": "u"}, {"map_index": 0}],
    ids=lambda change: next(iter(change)),
)
def test_each_task_instance_has_its_own(
    variables: Variables, other: dict[str, Any]
) -> None:
    VariableStore(instance(), log).set("job", 1)

    assert VariableStore(instance(**other), log).get("job") is None


def test_names_are_short_and_say_nothing() -> None:
    name = variable_name("a dag", "manual__2026-01-01T00:00:00+00:00", "ü" * 250, 3)

    assert name.startswith("async_triggers.")
    assert len(name) < 250
    assert name.replace("async_triggers.", "").isalnum()
    # No two places share one, however their names run together.
    assert variable_name("a", "b", "c", -1) != variable_name("a", "bc", "", -1)


def test_a_value_names_its_task_for_the_command_line(variables: Variables) -> None:
    VariableStore(instance(map_index=None), log).set("job", 1)

    (text,) = variables.values.values()
    held = read_variable(text)
    assert held is not None
    assert {key: held[key] for key in ("dag_id", "run_id", "task_id", "map_index")} == {
        "dag_id": "d",
        "run_id": "r",
        "task_id": "t",
        "map_index": -1,
    }
    assert held["try"] == 1
    assert held["written_at"] > 1.7e9


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"v": 2, "values": {}}', '{"v": 1}', 7]
)
def test_what_is_not_ours_is_not_read(text: object) -> None:
    assert read_variable(text) is None


def test_the_last_value_deleted_deletes_the_variable(variables: Variables) -> None:
    store = VariableStore(instance(), log)
    store.set("one", 1)
    store.set("two", 2)

    store.delete("one")
    assert json.loads(*variables.values.values())["values"] == {"two": 2}
    store.delete("two")
    store.delete("two")

    assert variables.values == {}


def test_an_outage_is_not_taken_for_nothing_remembered(variables: Variables) -> None:
    variables.refuses = ErrorType.API_SERVER_ERROR

    with pytest.raises(StoreUnreadable, match="could not be read: API_SERVER_ERROR"):
        VariableStore(instance(), log).get("job")


def test_where_variables_are_forbidden_the_task_says_so_once_and_goes_on(
    variables: Variables, caplog: pytest.LogCaptureFixture
) -> None:
    variables.forbids = True
    store = VariableStore(instance(), log)

    store.set("job", 1)
    store.set("job", 2)

    assert store.get("job") == 2
    assert variables.writes == 1
    (line,) = [each.getMessage() for each in caplog.records]
    assert "could not be written (PermissionError)" in line
    assert "remember_in" in line


OWN = object()


@pytest.mark.parametrize(
    ("word", "own", "backend", "kind"),
    [
        ("auto", OWN, "", "own"),
        ("auto", OWN, "some.Backend", "own"),
        ("auto", None, "", "variables"),
        ("auto", None, "some.Backend", "nothing"),
        ("task_state_store", OWN, "", "own"),
        ("task_state_store", None, "", "nothing"),
        ("variables", OWN, "some.Backend", "variables"),
        ("variables", None, "", "variables"),
        (" Variables ", None, "", "variables"),
        ("nothing", OWN, "", "nothing"),
        ("nothing", None, "", "nothing"),
    ],
)
def test_the_setting_chooses_the_store(
    monkeypatch: pytest.MonkeyPatch,
    variables: Variables,
    word: str,
    own: Any,
    backend: str,
    kind: str,
) -> None:
    setting(monkeypatch, word)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", backend)
    context: Any = {"ti": instance(), "task_state_store": own}

    found = compat.store_of(context, log)

    kinds = {id(OWN): "own", id(None): "nothing"}
    assert kinds.get(id(found), "variables") == kind
    assert kind != "variables" or isinstance(found, VariableStore)
    said = compat.why_forgetful(context)
    assert (said is None) == (found is OWN)
    assert kind != "nothing" or "a second one" in str(said) or "a second" in str(said)


def test_a_word_that_is_no_setting_fails_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting(monkeypatch, "vault")

    with pytest.raises(compat.AirflowException, match="'vault': set it to one of auto"):
        compat.store_of({"ti": instance()}, log)


def test_outside_of_airflow_nothing_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting(monkeypatch, "variables")
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)

    context: Any = {"ti": instance()}
    assert compat.store_of(context, log) is None


def test_a_record_survives_the_attempt_and_goes_with_success(
    monkeypatch: pytest.MonkeyPatch, variables: Variables
) -> None:
    setting(monkeypatch, "variables")
    context: Any = {"ti": instance()}
    record = Record(
        fingerprint="f", max_tries=1, job_id="7", intent=Intent(at=1.0, baseline="6")
    )

    Notes(context, log, lambda: "job").write(record)
    assert Notes(context, log, lambda: "job").read() == record

    Notes(context, log, lambda: "job").end_well()
    assert variables.values == {}


def test_airflows_own_store_is_kept_at_success(variables: Variables) -> None:
    class Own:
        def __init__(self) -> None:
            self.values: dict[str, Any] = {}
            self.get, self.set = self.values.get, self.values.__setitem__

    own = Own()
    context: Any = {"ti": instance(), "task_state_store": own}
    notes = Notes(context, log, lambda: "job")
    notes.write(Record(fingerprint="f", max_tries=1))

    notes.end_well()

    assert len(own.values) == 1


@pytest.mark.parametrize("word", ["variables", "nothing"])
def test_a_trigger_that_ends_its_task_well_deletes_the_variable(
    monkeypatch: pytest.MonkeyPatch, variables: Variables, word: str
) -> None:
    setting(monkeypatch, word)
    VariableStore(instance(), log).set("job", 1)

    asyncio.run(compat.forget_from_trigger(instance(), log))

    assert bool(variables.values) == (word == "nothing")


@pytest.mark.parametrize(("has_own", "uses"), [(True, False), (False, True)])
def test_variables_are_used_by_themselves_only_where_airflow_has_no_store(
    monkeypatch: pytest.MonkeyPatch, *, has_own: bool, uses: bool
) -> None:
    monkeypatch.setattr(module, "HAS_OWN_STORE", has_own)

    assert module.uses_variables() == uses
