"""Ids that are missing, empty, or rendered to nothing; for every operator and sensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, BaseOperator, TaskGroup
from airflow.sdk.definitions.mappedoperator import MappedOperator

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor
from async_triggers.dbt_cloud.operators import (
    DbtCloudGetJobRunArtifactOperator,
    DbtCloudListJobRunsOperator,
    DbtCloudListJobsOperator,
    DbtCloudRunJobOperator,
)
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.fivetran.operators import FivetranOperator, FivetranResyncOperator
from async_triggers.fivetran.sensors import FivetranSensor
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import make_vendor_world
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

NAMES = {"project_name": "Shop", "environment_name": "Prod", "job_name": "Nightly"}
CONNECTOR = {"connector_name": "crm", "destination_name": "lake"}

GOOD: dict[str, tuple[type[BaseOperator], dict[str, Any]]] = {
    "airbyte": (AirbyteTriggerSyncOperator, {"connection_id": "7f0d-2f4c"}),
    "airbyte sensor": (AirbyteJobSensor, {"airbyte_job_id": 7}),
    "fivetran": (FivetranOperator, {"connector_id": "orders"}),
    "fivetran by name": (FivetranOperator, CONNECTOR),
    "fivetran resync": (FivetranResyncOperator, {"connector_id": "orders"}),
    "fivetran sensor": (FivetranSensor, {"connector_id": "orders"}),
    "fivetran sensor by name": (FivetranSensor, CONNECTOR),
    "dbt": (DbtCloudRunJobOperator, {"job_id": 7}),
    "dbt by name": (DbtCloudRunJobOperator, NAMES),
    "dbt sensor": (DbtCloudJobRunSensor, {"run_id": "7"}),
    "dbt artifact": (
        DbtCloudGetJobRunArtifactOperator,
        {"run_id": 7, "path": "a.json"},
    ),
    "dbt jobs": (DbtCloudListJobsOperator, {}),
    "dbt runs": (DbtCloudListJobRunsOperator, {}),
}
REQUIRED = [
    ("airbyte", "connection_id"),
    ("airbyte", "airbyte_conn_id"),
    ("airbyte sensor", "airbyte_job_id"),
    ("airbyte sensor", "airbyte_conn_id"),
    ("fivetran", "connector_id"),
    ("fivetran", "fivetran_conn_id"),
    ("fivetran by name", "connector_name"),
    ("fivetran by name", "destination_name"),
    ("fivetran resync", "connector_id"),
    ("fivetran sensor", "connector_id"),
    ("fivetran sensor by name", "destination_name"),
    ("dbt", "job_id"),
    ("dbt", "dbt_cloud_conn_id"),
    ("dbt by name", "project_name"),
    ("dbt by name", "environment_name"),
    ("dbt by name", "job_name"),
    ("dbt sensor", "run_id"),
    ("dbt sensor", "dbt_cloud_conn_id"),
    ("dbt artifact", "run_id"),
    ("dbt artifact", "path"),
    ("dbt jobs", "dbt_cloud_conn_id"),
    ("dbt runs", "dbt_cloud_conn_id"),
]
OPTIONAL = [
    ("dbt", "account_id"),
    ("dbt sensor", "account_id"),
    ("dbt artifact", "account_id"),
    ("dbt jobs", "account_id"),
    ("dbt jobs", "project_id"),
    ("dbt runs", "account_id"),
    ("dbt runs", "job_id"),
]
WRONG = [
    ("airbyte", "connection_id", "a/b"),
    ("airbyte", "connection_id", "None"),
    ("airbyte sensor", "airbyte_job_id", "seven"),
    ("airbyte sensor", "airbyte_job_id", "None"),
    ("fivetran", "connector_id", "a/b"),
    ("fivetran sensor", "connector_id", "None"),
    ("dbt", "job_id", "my job"),
    ("dbt", "account_id", "None"),
    ("dbt by name", "job_name", "None"),
    ("dbt sensor", "run_id", "seven"),
    ("dbt runs", "job_id", "seven"),
]

every_required = pytest.mark.parametrize(("kind", "name"), REQUIRED)


def make(kind: str, **changes: Any) -> Any:
    """Make a task of a kind, some arguments of which are changed."""
    cls, good = GOOD[kind]
    return cls(task_id="sync", **{**good, **changes})


# What stands in the DAG -----------------------------------------------------------------


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_right_is_taken(kind: str) -> None:
    assert make(kind).task_id == "sync"


@every_required
@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_required_id_that_is_empty_is_an_import_error(
    kind: str, name: str, value: str | None
) -> None:
    with pytest.raises(ArgumentUnusable, match=name):
        make(kind, **{name: value})


@pytest.mark.parametrize(("kind", "name", "value"), WRONG)
def test_a_literal_that_is_no_id_is_an_import_error(
    kind: str, name: str, value: str
) -> None:
    with pytest.raises(ArgumentUnusable, match=name):
        make(kind, **{name: value})


@pytest.mark.parametrize(
    ("cls", "given", "told"),
    [
        (FivetranOperator, {}, r"Give connector_id, or both connector_name and"),
        (FivetranSensor, {}, r"Give connector_id, or both connector_name and"),
        (FivetranOperator, {"connector_name": "x"}, r": destination_name is missing"),
        (DbtCloudRunJobOperator, {}, r"Give job_id, or all of project_name,"),
        (
            DbtCloudRunJobOperator,
            {"job_id": ""},
            r"Give job_id, or all of project_name",
        ),
        (
            DbtCloudRunJobOperator,
            {"project_name": "Shop", "job_name": "{{ params.job }}"},
            r": environment_name is missing",
        ),
    ],
)
def test_names_that_are_not_complete_are_an_import_error(
    cls: Any, given: dict[str, str], told: str
) -> None:
    with pytest.raises(ArgumentUnusable, match=told):
        cls(task_id="sync", **given)


@pytest.mark.parametrize(("kind", "name"), OPTIONAL)
@pytest.mark.parametrize("value", [None, "", "7", 7])
def test_an_id_that_may_be_left_out_may_be_empty(
    kind: str, name: str, value: object
) -> None:
    task = make(kind, **{name: value})

    task.settle_ids()

    assert getattr(task, name) == value


@every_required
@pytest.mark.parametrize(
    "template", ["{{ params.x }}", "{% if x %}1{% endif %}", "{{ none }}", "[[ x ]]"]
)
def test_a_template_is_judged_when_it_is_rendered(
    kind: str, name: str, template: str
) -> None:
    assert getattr(make(kind, **{name: template}), name) == template


@every_required
def test_the_output_of_a_task_is_judged_when_it_is_there(kind: str, name: str) -> None:
    with DAG("a_dag", schedule=None):
        before = BaseOperator(task_id="before")

        assert getattr(make(kind, **{name: before.output}), name) is not None


@every_required
@pytest.mark.parametrize("value", ["", None])
def test_what_many_tasks_share_is_judged_at_run_time(
    kind: str, name: str, value: str | None
) -> None:
    cls, good = GOOD[kind]
    rest = {key: val for key, val in good.items() if key != name}

    shared: Any = {name: value}
    with DAG("a_dag", schedule=None, default_args=shared):
        task: Any = cls(task_id="in_dag", **rest)
        with TaskGroup("group", default_args=shared):
            cls(task_id="in_group", **rest)

    cls(task_id="of_its_own", default_args=shared, **rest)
    with pytest.raises(ArgumentUnusable, match=name):
        task.settle_ids()


@pytest.mark.parametrize("kind", GOOD)
def test_what_many_tasks_share_completes_a_task(kind: str) -> None:
    cls, good = GOOD[kind]

    with DAG("a_dag", schedule=None, default_args=good):
        task = cls(task_id="sync")

    assert task.task_id == "sync"


def test_a_part_of_the_names_may_be_shared() -> None:
    """A task that lacks the rest is judged at run time, as what it shares is."""
    shared = {"project_name": "Shop", "environment_name": "Prod"}
    with DAG("a_dag", schedule=None, default_args=shared):
        DbtCloudRunJobOperator(task_id="named", job_name="Nightly").settle_ids()
        DbtCloudRunJobOperator(task_id="numbered", job_id=7).settle_ids()
        lacking = DbtCloudRunJobOperator(task_id="lacking")

    with pytest.raises(ArgumentUnusable, match="job_name is missing"):
        lacking.settle_ids()


def test_mapped_tasks_are_made_when_their_ids_are_there() -> None:
    with DAG("a_dag", schedule=None):
        before = BaseOperator(task_id="before")
        mapped: list[Any] = [
            AirbyteTriggerSyncOperator.partial(task_id="a").expand(
                connection_id=before.output
            ),
            AirbyteJobSensor.partial(task_id="b").expand(airbyte_job_id=[1, 2]),
            FivetranOperator.partial(task_id="c").expand(connector_id=["x", "y"]),
            FivetranSensor.partial(task_id="d").expand_kwargs([{"connector_id": "x"}]),
            DbtCloudRunJobOperator.partial(
                task_id="e", project_name="Shop", environment_name="Prod"
            ).expand(job_name=before.output),
            DbtCloudJobRunSensor.partial(task_id="f").expand(run_id=before.output),
        ]

    assert all(isinstance(each, MappedOperator) for each in mapped)


def test_a_constructor_of_a_user_may_fill_in_what_is_missing() -> None:
    class Own(FivetranOperator):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.connector_id = "orders"

    class Plain(FivetranOperator):
        pass

    own = Own(task_id="sync")
    own.settle_ids()
    with pytest.raises(ArgumentUnusable, match="Give connector_id"):
        Plain(task_id="sync")


# What was rendered ----------------------------------------------------------------------

TEMPLATES: list[tuple[str, str]] = [
    ("{{ none }}", "None"),
    ("{{ params.missing }}", "an empty text"),
    ("  {{ '' }}\n", "an empty text"),
    ("{{ params.nothing }}", "None"),
    (" {{ none }} ", "None"),
]
TEMPLATED = [
    (kind, name)
    for kind, name in [*REQUIRED, *OPTIONAL]
    if name in GOOD[kind][0].template_fields
]


def rendered(task: Any) -> Any:
    """Render a task as Airflow does."""
    environment = None if task.has_dag() else jinja2.Environment(autoescape=False)
    task.render_template_fields({"params": {"nothing": None}}, environment)
    return task


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(("kind", "name"), TEMPLATED)
@pytest.mark.parametrize(("template", "what"), TEMPLATES)
def test_an_id_that_is_rendered_to_nothing_is_named(
    kind: str, name: str, template: str, what: str, *, native: bool
) -> None:
    with DAG(
        "a_dag",
        schedule=None,
        render_template_as_native_obj=native,
        template_undefined=jinja2.Undefined,  # type: ignore[arg-type] # Airflow takes any
    ):
        task = make(kind, **{name: template})

    rendered(task)

    with pytest.raises(ArgumentUnusable, match=f"{name} is {what} at run time"):
        task.settle_ids()


@every_vendor
@pytest.mark.parametrize("kind", ["operator", "sensor"])
@pytest.mark.parametrize(
    "how", [{}, {"deferrable": False}, {"on_triggerer": True}], ids=str
)
def test_nothing_is_asked_then(
    case: Any, kind: str, how: Mapping[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target()
    arguments = {key: val for key, val in how.items() if key != "on_triggerer"}
    if "on_triggerer" in how:
        switch = "start_in_trigger" if kind == "operator" else "start_from_trigger"
        arguments[switch] = True

    made: Callable[[], Any]
    if kind == "operator":
        name = case.target_key
        made = case.sync(**{name: "{{ none }}"}, **arguments)
    else:
        name = case.job_key
        made = case.sensor("{{ none }}", **arguments)

    with pytest.raises(ArgumentUnusable, match=f"{name} is None at run time"):
        Task(world, lambda: rendered(made())).run()

    assert world.requests == []


@pytest.mark.parametrize(("kind", "name"), TEMPLATED)
def test_blanks_around_an_id_are_left_out(kind: str, name: str) -> None:
    task = rendered(make(kind, **{name: " {{ '7' }}\r\n"}))

    task.settle_ids()

    assert getattr(task, name) == "7"


@pytest.mark.parametrize("start_in_trigger", [False, True])
@pytest.mark.parametrize("kind", ["operator", "sensor"])
@pytest.mark.parametrize("value", [None, "", "None", "a/b"])
@every_vendor
def test_the_end_of_a_job_fails_for_no_id_that_has_come_to_nothing_since(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    value: object,
    kind: str,
    *,
    start_in_trigger: bool,
) -> None:
    """As when the task upstream is cleared, and its output is gone with that."""
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("success"))
    if kind == "operator":
        make = case.sync(start_in_trigger=start_in_trigger)
    else:
        make = case.sensor(world.add_foreign(case.life("success")))

    task = Task(world, make)
    deferral = deferred(task.execute())
    event = task.wait(deferral)

    def render() -> BaseOperator:
        operator = make()
        for name in type(operator).ids.given(operator):  # type: ignore[attr-defined]
            setattr(operator, name, value)

        return operator

    task.make = render
    task.resume(deferral, event)


@every_vendor
def test_airflow_s_own_timeout_cancels_the_job_of_an_id_with_blanks(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life())
    name = case.target_key
    task = Task(world, case.sync(**{name: f" {case.target}\n"}))
    deferred(task.execute())

    task.expire()

    assert world.vendor.jobs() == []


@pytest.mark.parametrize(
    "cls",
    [
        AirbyteTriggerSyncOperator,
        AirbyteJobSensor,
        DbtCloudRunJobOperator,
        DbtCloudJobRunSensor,
        DbtCloudGetJobRunArtifactOperator,
        DbtCloudListJobsOperator,
        DbtCloudListJobRunsOperator,
        FivetranOperator,
        FivetranResyncOperator,
        FivetranSensor,
    ],
    ids=lambda cls: cls.__name__,
)
def test_a_mapped_task_has_airflows_own_defaults(cls: type[BaseOperator]) -> None:
    """None where Airflow expects a list ends a mapped task before it has begun."""
    ours, airflows = mapped_with(cls), mapped_with(BaseOperator)

    assert {name: ours[name] for name in airflows} == airflows


def mapped_with(cls: type[BaseOperator]) -> dict[str, Any]:
    """Return what each task of a mapped one is made with where a DAG gives nothing."""
    partial = cls.partial(task_id="t")
    # It complains when it goes that it was never mapped.
    partial._expand_called = True
    return partial.kwargs
