"""A task's life on a virtual clock: worker, triggerer, metadata database and vendor.

All loops share one clock, the vendor is a simulator that is called and not connected to,
and between two segments of a task everything crosses the process border as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import airflow.sdk
import pytest
from airflow.sdk import BaseHook, BaseOperator, Connection
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.deferral import compat, hook, sensor_trigger
from async_triggers.deferral.carried import take_out
from async_triggers.deferral.compat import (
    AirflowNotFoundException,
    TaskDeferralTimeout,
    TaskDeferred,
    talk,
)
from async_triggers.deferral.moment import MomentTrigger
from async_triggers.deferral.sensor_trigger import SensorTrigger
from async_triggers.engine.errors import Unreachable
from async_triggers.engine.http import HttpSession
from async_triggers.engine.wire import Reply, Request, without_secrets
from async_triggers.simulator import AirbyteSimulator
from async_triggers.simulator.exchange import SimRequest
from tests.airflow_versions import DagSerialization, smart_decode_trigger_kwargs
from tests.clock import VirtualClockLoop

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger, TriggerEvent

T = TypeVar("T")

log = logging.getLogger("task")

EPOCH = 1_774_402_200.0
DAG, RUN = "dag", "run"
TARGET = "connection-uuid-123"


class SharedClockLoop(VirtualClockLoop):
    """A loop that begins when the ones before it stopped."""

    def begin_at(self, moment: float) -> None:
        """Set the clock."""
        self._virtual.now = moment

    def interrupt(self, check: Callable[[], float | None]) -> None:
        """Call ``check`` whenever the loop waits, as a signal handler is called.

        It returns the seconds until it is to be called again.
        """
        select = self._virtual.select

        def interrupted(timeout: float | None = None) -> Any:
            left = check()
            if left is not None:
                timeout = left if timeout is None else min(timeout, left)

            return select(timeout)

        self._virtual.select = interrupted  # type: ignore[method-assign]


class World:
    """Everything around a task."""

    def __init__(self) -> None:
        self._loops: list[SharedClockLoop] = []
        self.airbyte = AirbyteSimulator(clock=self.now)
        self.airbyte.add_connection(TARGET)
        self.connections: dict[str, Connection | Exception] = {}
        self.connection_reads = 0
        self.requests: list[SimRequest] = []
        self.on_request: list[Callable[[SimRequest], None]] = []
        self.signals: list[tuple[float, Callable[[], None]]] = []
        self.xcoms: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self.earlier_xcoms: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self.states: dict[tuple[str, int], str | Exception | None] = {}
        self.connect("airbyte_default", host="http://localhost:8000")

    # Time

    def elapsed(self) -> float:
        """Tell how many seconds have passed."""
        return max((loop.time() for loop in self._loops), default=0.0)

    def now(self) -> float:
        """Tell the time of the day."""
        return EPOCH + self.elapsed()

    def pass_time(self, seconds: float) -> None:
        """Let time pass while nothing of ours runs."""
        loop = self.new_loop()
        loop.begin_at(self.elapsed() + seconds)
        loop.close()

    def new_loop(self) -> SharedClockLoop:
        """Make an event loop of this world."""
        loop = SharedClockLoop()
        loop.begin_at(self.elapsed())
        loop.interrupt(self._deliver)
        self._loops.append(loop)
        return loop

    def _deliver(self) -> float | None:
        due = [each for each in self.signals if each[0] <= self.elapsed()]
        self.signals = [each for each in self.signals if each not in due]
        for _, handler in due:
            handler()

        moments = [moment for moment, _ in self.signals]
        return min(moments) - self.elapsed() if moments else None

    # Airflow's connections

    def connect(self, conn_id: str, **fields: Any) -> None:
        """Make an Airflow connection to the vendor."""
        given = {
            "conn_type": "airbyte",
            "login": "simulator-client",
            "password": "simulator-secret",
            **fields,
        }
        self.connections[conn_id] = Connection(conn_id=conn_id, **given)

    def get_connection(self, conn_id: str) -> Connection:
        """Look a connection up as Airflow does."""
        self.connection_reads += 1
        found = self.connections.get(conn_id)
        if found is None:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")

        if isinstance(found, Exception):
            raise found

        return found

    # The wire

    async def ask(self, session: HttpSession, request: Request, proof: Any) -> Reply:
        """Carry a request to the vendor, in the place of the network."""
        query = f"?{urlencode(request.params)}" if request.params else ""
        asked = SimRequest.to(
            request.method,
            f"{session.url(request)}{query}",
            headers={**request.headers, **proof},
            json_body=request.json,
        )
        self.requests.append(asked)
        for listener in list(self.on_request):
            listener(asked)

        reply = self.airbyte.respond(asked)
        try:
            async with asyncio.timeout(request.timeout or session.account.route.total):
                await asyncio.sleep(reply.delay + reply.drip)
                if reply.fault == "hang":
                    await asyncio.get_running_loop().create_future()
        except TimeoutError:
            raise Unreachable("The vendor did not answer", ambiguous=True) from None

        if reply.fault in {"reset", "close", "truncate"}:
            raise Unreachable("The connection was lost", ambiguous=True)

        headers = {name.lower(): value for name, value in reply.headers.items()}
        url = without_secrets(str(session.url(request)))
        return Reply(reply.status, headers, reply.body, url)

    # What the tests ask about

    @property
    def starts(self) -> int:
        """Tell how many jobs were started through the API."""
        return len(self.airbyte.record.started)

    @property
    def cancels(self) -> int:
        """Tell how many jobs were cancelled through the API."""
        return sum(self.airbyte.record.cancels.values())

    def state_of(self, job_id: object) -> str:
        """Tell what a job is doing."""
        return next(
            view.state
            for view in self.airbyte.jobs(finished=True)
            if view.job == str(job_id)
        )


class XCom:
    """Airflow's own XCom, without its backend."""

    def __init__(self, world: World) -> None:
        self._world = world

    def set(self, key: str, value: Any, **place: Any) -> None:
        self._world.xcoms[place["task_id"], place["map_index"]][key] = _crossed(value)

    def get_one(
        self, *, key: str, include_prior_dates: bool = False, **place: Any
    ) -> Any:
        where = place["task_id"], place["map_index"]
        own = self._world.xcoms[where].get(key)
        # As the server does: this run's comes first, and hides that of the run before.
        if own is None and include_prior_dates:
            return self._world.earlier_xcoms[where].get(key)

        return own

    async def aset(self, key: str, value: Any, **place: Any) -> None:
        self.set(key, value, **place)

    async def aget_one(self, **what: Any) -> Any:
        return self.get_one(**what)


def make_world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Make a world and put it into the place of the real one."""
    world = World()

    async def at_once(function: Callable[..., T], *args: Any) -> T:
        # A thread would need real time.
        return function(*args)

    async def ask(session: HttpSession, request: Request, proof: Any) -> Reply:
        return await world.ask(session, request, proof)

    async def task_state(ti: Any) -> str | None:
        state = world.states.get((ti.task_id, ti.map_index))
        if isinstance(state, Exception):
            raise state

        return state

    def task_state_on_worker(ti: Any) -> str | None:
        # Whoever is told to stop was marked failed, where a test says nothing else.
        state = world.states.get((ti.task_id, ti.map_index), "failed")
        if isinstance(state, Exception):
            raise state

        return state

    monkeypatch.setattr(asyncio.events, "new_event_loop", world.new_loop)
    monkeypatch.setattr(sensor_trigger, "in_thread", at_once)
    monkeypatch.setattr(hook, "in_thread", at_once)
    monkeypatch.setattr(hook, "time", SimpleNamespace(time=world.now))
    monkeypatch.setattr(BaseHook, "get_connection", world.get_connection)
    monkeypatch.setattr(HttpSession, "exchange", ask)
    monkeypatch.setattr(talk, "BaseXCom", XCom(world))
    monkeypatch.setattr(compat, "task_state", task_state)
    # What bridges kills does not go through the package.
    monkeypatch.setattr(talk, "task_state", task_state)
    monkeypatch.setattr(compat, "task_state_on_worker", task_state_on_worker)
    return world


def _crossed(value: T) -> T:
    """Return what is left of a value on the other side of a process border."""
    crossed: T = json.loads(json.dumps(value))
    return crossed


class StateStore:
    """Airflow's task state store, for the attempts of one task."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any) -> None:
        self.values[key] = _crossed(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


@dataclass(slots=True)
class StoreOfInstance:
    """The state store as a worker reaches it: by the id of its task instance.

    A retry and a clear give the task instance another id. By the one before, Airflow
    finds no task instance.
    """

    task: Task
    instance_id: int

    def get(self, key: str) -> Any:
        return self.task.store.get(key) if self._is_found else None

    def set(self, key: str, value: Any) -> None:
        self._check()
        self.task.store.set(key, value)

    def delete(self, key: str) -> None:
        self._check()
        self.task.store.delete(key)

    @property
    def _is_found(self) -> bool:
        return self.instance_id == self.task.instance_id

    def _check(self) -> None:
        if not self._is_found:
            detail = {"status_code": 404, "message": "Task instance not found"}
            raise AirflowRuntimeError(
                ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)
            )


@dataclass(slots=True)
class TaskInstance:
    """The part of a task instance that the package reads."""

    life: Task
    try_number: int
    max_tries: int
    start_date: datetime | None
    dag_id: str = DAG
    run_id: str = RUN
    task_id: str = "sync"
    map_index: int | None = -1

    def xcom_push(self, *, key: str, value: Any) -> None:
        place = self.task_id, -1 if self.map_index is None else self.map_index
        self.life.world.xcoms[place][key] = _crossed(value)

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.life.first_reschedule


@dataclass(slots=True, frozen=True)
class Deferral:
    """A task that has left its worker."""

    classpath: str
    arguments: dict[str, Any]
    method: str
    kwargs: dict[str, Any]
    timeout: timedelta | None
    moment: float | None = None
    """When a wait for a time is over."""


@dataclass(slots=True)
class Task:
    """One task of a DAG, through its attempts."""

    world: World
    make: Callable[[], BaseOperator]
    has_store: bool = True
    retries: int = 2
    try_number: int = 1
    max_tries: int = 2
    store: StateStore = field(default_factory=StateStore)
    instance_id: int = 1
    outlet_events: Any = field(default_factory=dict)
    first_reschedule: datetime | None = None
    operator: Any = None
    started: float = 0.0

    def __post_init__(self) -> None:
        self.started = self.world.now()

    @property
    def xcoms(self) -> dict[str, Any]:
        """The XComs of the task."""
        return self.world.xcoms["sync", -1]

    @property
    def instance(self) -> TaskInstance:
        """The task instance as it is now."""
        start = datetime.fromtimestamp(self.started, tz=UTC)
        return TaskInstance(self, self.try_number, self.max_tries, start)

    def context(self) -> dict[str, Any]:
        """Return the context of one segment."""
        given: dict[str, Any] = {
            "ti": self.instance,
            "outlet_events": self.outlet_events,
        }
        if self.has_store:
            given["task_state_store"] = StoreOfInstance(self, self.instance_id)

        return given

    # Segments

    def execute(self) -> Any:
        """Run the first segment: return the result, or a :class:`Deferral`."""
        operator = self._parse()
        key = f"{type(operator).__name__}__sentinel"
        safe = {key: ExecutorSafeguard.sentinel_value}
        return self._segment(lambda: operator.execute(self.context(), **safe))

    def resume(self, deferral: Deferral, event: Any) -> Any:
        """Run the next segment, on another worker."""
        operator = self._parse()
        kwargs = {**deferral.kwargs, "event": _crossed(event)}
        context: Any = self.context()
        return self._segment(
            lambda: operator.resume_execution(deferral.method, kwargs, context)
        )

    def expire(self) -> Any:
        """Run the segment that follows when Airflow's own timeout comes first."""
        operator = self._parse()
        context: Any = self.context()
        kwargs = {"error": "Trigger timeout"}
        with pytest.raises(TaskDeferralTimeout):
            operator.resume_execution("__fail__", kwargs, context)

    def _parse(self) -> Any:
        self.operator = self.make()
        # Airflow's own goes past pytest.
        self.operator._cached_logger = log
        return self.operator

    def _segment(self, work: Callable[[], Any]) -> Any:
        try:
            return _crossed(work())
        except TaskDeferred as deferred:
            trigger: Any = deferred.trigger
            is_moment = isinstance(trigger, MomentTrigger)
            classpath, arguments = trigger.serialize()
            timeout = deferred.timeout
            assert timeout is None or isinstance(timeout, timedelta)
            return Deferral(
                classpath,
                _crossed(arguments),
                deferred.method_name,
                _crossed(dict(deferred.kwargs or {})),
                timeout,
                trigger.moment if is_moment else None,
            )

    # On the triggerer

    def trigger(self, deferral: Deferral) -> Any:
        """Make the trigger of a deferral, as the triggerer does."""
        module, _, name = deferral.classpath.rpartition(".")
        cls = getattr(__import__(module, fromlist=[name]), name)
        trigger = cls(**deferral.arguments)
        trigger._log = log
        trigger.task_instance = self.instance
        return trigger

    def wait(self, deferral: Deferral) -> Any:
        """Let the triggerer wait, and return the payload of the event."""
        if deferral.moment is not None:
            left = deferral.moment - self.world.now()
            self.world.pass_time(max(0.0, left))
            return deferral.moment

        return _crossed(asyncio.run(the_event(self.trigger(deferral))))

    def end(self, deferral: Deferral) -> TriggerEvent:
        """Let the triggerer wait, and return the event as Airflow gets it."""
        return asyncio.run(the_whole_event(self.trigger(deferral)))

    def go_on(self, outcome: Any) -> Any:
        """Follow deferrals until there is a result."""
        while isinstance(outcome, Deferral):
            outcome = self.resume(outcome, self.wait(outcome))

        return outcome

    def run(self) -> Any:
        """Run the attempt to its end."""
        return self.go_on(self.execute())

    # New attempts

    def retry(self) -> None:
        """Begin the next attempt after a failure or a crash."""
        self.try_number += 1
        self.instance_id += 1
        self.started = self.world.now()
        self.first_reschedule = None
        self.xcoms.clear()

    def run_again(self) -> None:
        """Begin the task of the next run of its DAG."""
        self.world.earlier_xcoms["sync", -1] = dict(self.xcoms)
        self.xcoms.clear()
        self.store = StateStore()
        self.try_number, self.max_tries = 1, self.retries
        self.started = self.world.now()
        self.first_reschedule = None

    def clear(self) -> None:
        """Begin the next attempt because a user cleared the task."""
        self.retry()
        self.max_tries = self.try_number - 1 + self.retries

    def clear_on_worker(self) -> None:
        """Let a user clear the task while its worker runs it.

        The worker's signal comes seconds later. Once the worker has ended, the next
        attempt begins as after any :meth:`clear`.
        """
        self.instance_id += 1
        self.world.states["sync", -1] = "restarting"


def scheduled(task: Task, context: dict[str, Any] | None = None) -> SensorTrigger:
    """Return the trigger of a task that the scheduler has deferred by itself."""
    sensor = task.make()
    with airflow.sdk.DAG(
        "a_dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)
    ) as dag:
        dag.add_task(sensor)

    # What the scheduler knows of the task, and what it stores.
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    known = stored.get_task(sensor.task_id)
    assert known.start_from_trigger is True
    arguments = known.start_trigger_args
    assert arguments is not None
    kwargs = {
        name: smart_decode_trigger_kwargs(value)
        for name, value in smart_decode_trigger_kwargs(
            arguments.trigger_kwargs or {}
        ).items()
    }
    assert arguments.timeout is not None
    trigger: Any = task.trigger(
        Deferral(arguments.trigger_cls, kwargs, arguments.next_method, {}, None)
    )
    trigger._log = log
    now = datetime.fromtimestamp(task.world.now(), tz=UTC)
    limits = [arguments.timeout, known.execution_timeout]
    trigger.timeout_after = now + min(each for each in limits if each is not None)
    if context is not None:
        trigger.render_template_fields(context)

    assert isinstance(trigger, SensorTrigger)
    return trigger


def resumed(task: Task, payload: Any) -> Any:
    """Return what the worker makes of an event."""
    return task.resume(Deferral("", {}, "execute_complete", {}, None), payload)


async def the_event(trigger: BaseTrigger) -> Any:
    """Run a trigger to its end and return the payload of its one event."""
    return (await the_whole_event(trigger)).payload


async def the_whole_event(trigger: BaseTrigger) -> TriggerEvent:
    """Run a trigger to its end and return its one event."""
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    return events[0]


def sync(**arguments: Any) -> Callable[[], AirbyteTriggerSyncOperator]:
    """Return a maker of one and the same operator, as each worker parses it."""

    def make() -> AirbyteTriggerSyncOperator:
        return AirbyteTriggerSyncOperator(
            task_id="sync", **{"connection_id": TARGET, **arguments}
        )

    return make


def deferred(outcome: object) -> Deferral:
    """Return an outcome that must be a deferral."""
    assert isinstance(outcome, Deferral)
    return outcome


def waits_for(deferral: Deferral) -> str:
    """Return the job that a deferred task waits for."""
    return str(take_out(deferral.kwargs)[0]["job_id"])


def methods(requests: Iterable[SimRequest]) -> list[str]:
    """Return what was asked, without the asking for tokens."""
    return [
        f"{each.method} {each.path.removeprefix('/api/public/v1')}"
        for each in requests
        if "token" not in each.path
    ]
