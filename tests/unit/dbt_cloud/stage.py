"""A clock that jumps, and a task instance driven through its attempts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from async_triggers.deferral.compat import TaskDeferred
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.trigger import JobTrigger
from tests.clock import VirtualClockLoop

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

T = TypeVar("T")

START = 1_774_402_200.0
ACCOUNT = 70_403_103_916_001
JOB = 70_403_103_950_007


class Clock:
    """The time of the day, which goes on with the virtual loop that runs, if one does."""

    def __init__(self) -> None:
        self.base = START

    def __call__(self) -> float:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.base

        return self.base + (loop.time() if isinstance(loop, VirtualClockLoop) else 0.0)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner() as runner:
            return runner.run(main)


class Store(dict[str, Any]):
    """Airflow's task state store, which holds JSON."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class TaskRun:
    """One task instance through its attempts, as Airflow would drive it."""

    clock: Clock
    make: Callable[[], BaseOperator]
    store: Store = field(default_factory=Store)
    xcoms: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    try_number: int = 1
    max_tries: int = 2
    deferred: TaskDeferred | None = None
    operator: Any = None

    @property
    def context(self) -> Context:
        ti = SimpleNamespace(
            dag_id="a_dag",
            task_id="a_task",
            run_id="manual__1",
            map_index=-1,
            try_number=self.try_number,
            max_tries=self.max_tries,
            start_date=None,
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
        )
        return cast("Context", {"ti": ti, "task_state_store": self.store})

    def retry(self) -> TaskRun:
        """Begin the next attempt, as after a failure."""
        self.try_number += 1
        return self

    def clear(self) -> TaskRun:
        """Begin an attempt as after a user's clear, which allows for more tries."""
        self.max_tries += self.try_number
        self.try_number += 1
        return self

    def work(self, method: str = "execute", **arguments: Any) -> Any:
        """Run the task in a worker; return its result, or what it deferred for."""
        self.operator = self.make()
        self.deferred = None
        try:
            return getattr(self.operator, method)(context=self.context, **arguments)
        except TaskDeferred as deferred:
            self.deferred = deferred
            return deferred

    def wait(self) -> dict[str, Any]:
        """Run the trigger as a triggerer would, and return its event."""
        assert self.deferred is not None, "the task has not deferred"
        trigger = self.deferred.trigger
        if isinstance(trigger, MomentTrigger):
            self.clock.base = max(self.clock.base, trigger.moment)
            return {}

        assert isinstance(trigger, JobTrigger)
        classpath, arguments = trigger.serialize()
        module, _, name = classpath.rpartition(".")
        copy = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))

        async def first() -> Any:
            async for event in copy.run():
                return event.payload

            return None

        payload = self.clock.run(first())
        event: dict[str, Any] = json.loads(json.dumps(payload))
        self.events.append(event)
        return event

    def resume(self, event: Mapping[str, Any] | None = None) -> Any:
        """Wait for the event, if none is given, and resume the task with it."""
        assert self.deferred is not None, "the task has not deferred"
        deferred = self.deferred
        event = self.wait() if event is None else event
        kwargs = {**(deferred.kwargs or {}), "event": event}
        return self.work(
            "resume_execution",
            next_method=deferred.method_name,
            next_kwargs=kwargs,
        )

    def finish(self) -> Any:
        """Run the attempt to its end, however often it defers."""
        result = self.work()
        while self.deferred is not None:
            result = self.resume()

        return result


Runs = Callable[[Callable[[], "BaseOperator"]], TaskRun]
