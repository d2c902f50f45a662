"""What Airflow renders lazily: the outputs of mapped tasks, at any depth of an argument."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import orjson
import pytest

from async_triggers.dbt_cloud.operators import DbtCloudListJobRunsOperator
from async_triggers.deferral.arguments import ArgumentUnusable, plain
from async_triggers.fivetran.operators import FivetranResyncOperator
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import DBT_CLOUD, FIVETRAN, every_vendor

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest


class Lazy(Sequence[Any]):
    """A sequence that is read one element at a time, by a blocking request each."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    def _ask_airflow(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return

        raise RuntimeError("a blocking request on a running event loop")

    def __iter__(self) -> Iterator[Any]:
        self._ask_airflow()
        return iter(self._values)

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        self._ask_airflow()
        return self._values[index]

    def __len__(self) -> int:
        self._ask_airflow()
        return len(self._values)


class Params(Mapping[str, Any]):
    """A mapping that is no dict, as Airflow's params are."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Lazy("a", "b"), ["a", "b"]),
        (Lazy(Lazy(1), (Lazy(2), "x")), [[1], ([2], "x")]),
        ({"a": [Lazy(1)], "b": {"c": Lazy()}}, {"a": [[1]], "b": {"c": []}}),
        (Params(a=Lazy(1)), {"a": [1]}),
        ("text", "text"),
        (b"bytes", b"bytes"),
        (None, None),
    ],
)
def test_plain_containers_are_left_at_every_depth(value: Any, expected: Any) -> None:
    made = plain(value)

    assert made == expected
    assert orjson.dumps(made) if not isinstance(made, bytes) else True


Make = Callable[[], dict[str, Any]]

ARGUMENTS: dict[str, tuple[Make, dict[str, Any]]] = {
    "steps": (
        lambda: {"steps_override": Lazy("dbt seed", "dbt run")},
        {"steps_override": ["dbt seed", "dbt run"]},
    ),
    "nested": (
        lambda: {"additional_run_config": {"steps_override": Lazy("dbt run")}},
        {"steps_override": ["dbt run"]},
    ),
    "mapping": (
        lambda: {"additional_run_config": Params(steps_override=Lazy("dbt run"))},
        {"steps_override": ["dbt run"]},
    ),
}
MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": False},
    "deferrable": {},
    "start_in_trigger": {"start_in_trigger": True},
}


def body_of_start(world: VendorWorld) -> dict[str, Any]:
    """Return the body of the one start."""
    starts = [each for each in world.requests if each.path.endswith("/run/")]
    assert len(starts) == 1
    body: dict[str, Any] = orjson.loads(starts[0].body)
    return body


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_run_starts_with_the_output_of_a_mapped_task(
    name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, expected = ARGUMENTS[name]
    world = make_vendor_world(monkeypatch, DBT_CLOUD)
    world.add_target("running:60 success")
    task = Task(world, DBT_CLOUD.sync(**make(), **MODES[mode]))

    task.run()

    assert expected.items() <= body_of_start(world).items()


def test_a_retry_knows_the_request_again(monkeypatch: pytest.MonkeyPatch) -> None:
    make, _ = ARGUMENTS["steps"]
    world = make_vendor_world(monkeypatch, DBT_CLOUD)
    world.add_target("running:600 success")
    task = Task(world, DBT_CLOUD.sync(**make()))
    task.execute()

    task.retry()
    task.run()

    assert world.starts == 1


def test_a_start_that_must_wait_is_written_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, expected = ARGUMENTS["nested"]
    world = make_vendor_world(monkeypatch, DBT_CLOUD)
    world.add_target("running:60 success")
    start = Fault(kind="reset", takes_effect=True, method="POST", path="*/run/")
    world.vendor.faults.add(start)

    def cut_off(asked: SimRequest) -> None:
        if asked.path.endswith("/run/"):
            outage = Fault(kind="status", status=502, method="GET", times=None)
            world.vendor.faults.add(outage)

    world.on_request.append(cut_off)
    task = Task(world, DBT_CLOUD.sync(**make()))

    deferral = deferred(task.execute())

    assert deferral.classpath.endswith(".StartLaterTrigger")
    assert deferral.arguments["request"]["fields"]["overrides"] == expected


@pytest.mark.parametrize("mode", MODES)
def test_a_resync_takes_its_tables_from_a_mapped_task(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_vendor_world(monkeypatch, FIVETRAN)
    world.add_target("syncing:60 succeeded")
    task = Task(
        world,
        lambda: FivetranResyncOperator(
            task_id="sync",
            connector_id="orders",
            scope={"sales": Lazy("orders", "customers")},
            **{"deferrable": True, **MODES[mode]},
        ),
    )

    task.execute() if mode == "deferrable" else task.run()

    (asked,) = [each for each in world.requests if each.path.endswith("/resync")]
    assert orjson.loads(asked.body) == {"scope": {"sales": ["orders", "customers"]}}


@every_vendor
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_list_is_no_id_and_is_shown_as_it_is(
    case: Any, monkeypatch: pytest.MonkeyPatch, *, deferrable: bool
) -> None:
    world = make_vendor_world(monkeypatch, case)
    task = Task(world, case.sensor(Lazy("7", "8"), deferrable=deferrable))

    with pytest.raises(ArgumentUnusable, match=r"not \['7', '8'\]"):
        task.run()


def test_what_is_related_to_runs_may_come_from_a_mapped_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = make_vendor_world(monkeypatch, DBT_CLOUD)
    world.add_target("running:60 success")
    task = Task(
        world,
        lambda: DbtCloudListJobRunsOperator(
            task_id="sync",
            include_related=Lazy("job", "trigger"),  # type: ignore[arg-type]
        ),
    )

    assert task.run() == []
    assert ("include_related", "job,trigger") in world.requests[-1].query
