"""``async-triggers prune``, with Airflow's own tables in memory."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from airflow.models import import_all_models
from airflow.models.taskinstance import TaskInstance
from airflow.models.variable import Variable
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from async_triggers.cli import main
from async_triggers.deferral.compat.store import variable_name
from async_triggers.pruning.leftovers import DAY, END_STATES, judge

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_800_000_000.0


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    import_all_models()
    engine = create_engine("sqlite://", poolclass=StaticPool)
    tables: Any = [Variable.__table__, TaskInstance.__table__]
    TaskInstance.metadata.create_all(engine, tables=tables)
    with Session(engine) as session:

        @contextmanager
        def create_session() -> Iterator[Session]:
            yield session

        monkeypatch.setattr("airflow.utils.session.create_session", create_session)
        yield session

    engine.dispose()


def held(task: str, *, age: float = 40.0, map_index: int = -1) -> dict[str, Any]:
    return {
        "v": 1,
        "dag_id": "d",
        "run_id": "r",
        "task_id": task,
        "map_index": map_index,
        "try": 1,
        "written_at": time.time() - age * DAY,
        "values": {"async_triggers": {"job_id": "1"}},
    }


def left_behind(session: Session, task: str, **what: Any) -> str:
    value = held(task, **what)
    name = variable_name("d", "r", task, value["map_index"])
    session.add(Variable(key=name, val=json.dumps(value)))
    return name


def add_task(
    session: Session, task: str, state: str | None, map_index: int = -1
) -> None:
    table: Any = TaskInstance.__table__
    needed = {
        column.name: "{}" if "json" in str(column.type).lower() else 0
        for column in table.columns
        if not column.nullable and column.default is None and not column.server_default
    }
    values = {
        **needed,
        "id": table.c.id.type.python_type(str(uuid4())),
        "dag_id": "d",
        "run_id": "r",
        "task_id": task,
        "map_index": map_index,
        "state": state,
    }
    session.execute(table.insert().values(**values))


def names(session: Session) -> set[str]:
    return set(session.scalars(select(Variable.key)))


def test_only_what_nobody_needs_is_deleted(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    states = {
        "failed": "failed",
        "done": "success",
        "waits": "deferred",
        "cleared": None,
    }
    left = {task: left_behind(session, task) for task in (*states, "gone")}
    left["young"] = left_behind(session, "young", age=29.0)
    left["mapped"] = left_behind(session, "mapped", map_index=3)
    for task, state in {**states, "young": "failed"}.items():
        add_task(session, task, state)

    add_task(session, "mapped", "deferred", 2)
    add_task(session, "mapped", "failed", 3)
    session.add(Variable(key="async_triggers.by_hand", val="{}"))
    session.add(Variable(key="async_triggersX.mine", val="1"))
    session.add(Variable(key="mine", val="1"))
    before = names(session)

    assert main(["prune"]) == 0
    assert names(session) == before
    assert "4 Variables to delete" in capsys.readouterr().out

    assert main(["prune", "--delete"]) == 0
    deleted = {left[task] for task in ("failed", "done", "gone", "mapped")}
    assert before - names(session) == deleted
    out = capsys.readouterr().out
    assert "4 Variables deleted, 4 kept" in out
    assert "d.mapped in r [3], 40 days old" in out
    assert "its task is to be run" in out


def test_the_age_is_a_choice(session: Session) -> None:
    left_behind(session, "young", age=2.0)

    assert main(["prune", "--delete", "--days", "1"]) == 0

    assert names(session) == set()


@pytest.mark.parametrize("chosen", [[], ["--delete"]])
def test_a_database_that_cannot_be_used_is_said_in_one_line(
    session: Session, capsys: pytest.CaptureFixture[str], chosen: list[str]
) -> None:
    Variable.__table__.drop(session.connection())

    assert main(["prune", *chosen]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "async-triggers prune: Airflow's database cannot be used (OperationalError),"
        " nothing was deleted. Run this where `airflow variables list` works\n"
    )


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "week"])
def test_no_other_age(days: str) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "--days", days])


@pytest.mark.parametrize(
    "state",
    [
        None,
        "scheduled",
        "queued",
        "running",
        "deferred",
        "restarting",
        "up_for_retry",
        "up_for_reschedule",
        "a state of tomorrow",
    ],
)
def test_the_variable_of_a_task_that_may_go_on_is_kept(state: str | None) -> None:
    assert state not in END_STATES
    assert judge("n", held("t"), state, now=time.time(), days=0.0).kept


def test_a_variable_of_another_release_is_kept() -> None:
    assert judge("n", None, None, now=NOW, days=0.0).kept
