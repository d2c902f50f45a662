"""Classes of users that override the method which resumes a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.deferral.stage import Deferral, Task, deferred
from tests.unit.deferral.vendors import make_vendor_world
from tests.vendors import AIRBYTE, every_vendor
from tests.vendors import Entry as Case

EVENTS: list[Any] = []


def _base(task: Any) -> Any:
    """Return the package's class below that of the user."""
    return type(task).__mro__[1]


def _required(self: Any, context: Any, event: Any) -> Any:
    EVENTS.append(event)
    return _base(self).execute_complete(self, context, event)


def _optional(self: Any, context: Any, event: Any = None) -> Any:
    EVENTS.append(event)
    return _base(self).execute_complete(self, context, event=event)


def _keywords(self: Any, context: Any, **more: Any) -> Any:
    EVENTS.append(more.pop("event"))
    assert more == {}
    return _base(self).execute_complete(self, context, EVENTS[-1])


def _keywords_only(self: Any, context: Any, *, event: Any, **more: Any) -> Any:
    EVENTS.append(event)
    assert more == {}
    return _base(self).execute_complete(self, context, event)


def _alone(self: Any, context: Any, event: Any) -> Any:
    EVENTS.append(event)
    return event["status"]


every_signature = pytest.mark.parametrize(
    "method", [_required, _optional, _keywords, _keywords_only, _alone]
)
every_kind = pytest.mark.parametrize("kind", ["operator", "sensor"])


def overriding(case: Case, method: Callable[..., Any]) -> Case:
    """Return a vendor whose classes have the method of a user."""
    EVENTS.clear()
    body = {"execute_complete": method, "__module__": "dags.own"}
    classes = {
        "operator_class": type("MyRun", (case.operator_class,), body),
        "sensor_class": type("MySensor", (case.sensor_class,), body),
    }
    own: type[Case] = type("Own", (type(case),), classes)
    return own()


@every_vendor
@every_kind
@every_signature
def test_the_method_is_called_as_airflow_documents_it(
    case: Case,
    kind: str,
    method: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = overriding(case, method)
    world = make_vendor_world(monkeypatch, own)
    world.add_target(case.life("success"))
    if kind == "operator":
        task = Task(world, own.sync())
    else:
        task = Task(world, own.sensor(world.add_foreign(case.life("success"))))

    result = task.go_on(deferred(task.execute()))

    assert [each["status"] for each in EVENTS] == ["success"]
    if method is _alone:
        assert result == "success"


@every_vendor
def test_what_is_carried_is_there_all_the_same(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of another job, which a triggerer may send, is told from one's own."""
    own = overriding(case, _required)
    world = make_vendor_world(monkeypatch, own)
    world.add_target(case.life("success"))
    task = Task(world, own.sync())
    deferral = deferred(task.execute())
    other = {**task.wait(deferral), "job_id": "999"}

    again = task.resume(deferral, other)

    assert isinstance(again, Deferral)
    assert again.kwargs == deferral.kwargs


def test_what_a_class_of_a_user_defers_with_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = AIRBYTE
    given: list[dict[str, Any]] = []

    def execute_complete(self: Any, context: Any, event: Any, **more: Any) -> Any:
        given.append(more)
        return super(type(self), self).execute_complete(context, event)

    own = overriding(case, execute_complete)
    world = make_vendor_world(monkeypatch, own)
    world.add_target(case.life("success"))
    task = Task(world, own.sync())
    deferral = deferred(task.execute())

    task.resume(
        replace(deferral, kwargs={**deferral.kwargs, "note": "x"}), task.wait(deferral)
    )

    assert given == [{"note": "x"}]


@every_vendor
def test_the_method_is_called_after_a_start_on_the_triggerer_was_set_aside(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = overriding(case, _required)
    world = make_vendor_world(monkeypatch, own)
    world.add_target(case.life("success"))

    Task(world, own.sync(start_in_trigger=True)).run()

    assert [each["status"] for each in EVENTS] == ["success"]
