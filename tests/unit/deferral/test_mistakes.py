"""What new users get wrong: each mistake names the field, early, and repeats no secret."""

from __future__ import annotations

import json
import math
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, Connection

from async_triggers.airbyte.operators import AirbyteTriggerSyncOperator
from async_triggers.airbyte.sensors import AirbyteJobSensor, AirbyteSyncSensor
from async_triggers.dbt_cloud.operators import (
    DbtCloudGetJobRunArtifactOperator,
    DbtCloudListJobRunsOperator,
    DbtCloudListJobsOperator,
    DbtCloudRunJobOperator,
)
from async_triggers.dbt_cloud.sensors import DbtCloudJobRunSensor, DbtCloudJobSensor
from async_triggers.deferral.arguments import LONGEST, ArgumentUnusable
from async_triggers.deferral.compat import AirflowNotFoundException
from async_triggers.deferral.errors import ConnectionUnusable
from async_triggers.deferral.sensor import JobSensor
from async_triggers.fivetran.operators import FivetranOperator, FivetranResyncOperator
from async_triggers.fivetran.sensors import FivetranSensor, FivetranSyncSensor
from tests.unit.deferral.stage import Task, deferred
from tests.unit.deferral.vendors import make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor

if TYPE_CHECKING:
    from tests.vendors import Entry as Case

# Arguments -------------------------------------------------------------------------------

GOOD: dict[type[BaseOperator], dict[str, Any]] = {
    AirbyteTriggerSyncOperator: {"connection_id": "7f0d"},
    AirbyteJobSensor: {"airbyte_job_id": 7},
    AirbyteSyncSensor: {"connection_id": "7f0d"},
    FivetranOperator: {"connector_id": "orders"},
    FivetranResyncOperator: {"connector_id": "orders"},
    FivetranSensor: {"connector_id": "orders"},
    FivetranSyncSensor: {"connector_id": "orders"},
    DbtCloudRunJobOperator: {"job_id": 7},
    DbtCloudJobRunSensor: {"run_id": 7},
    DbtCloudJobSensor: {"job_id": 7},
    DbtCloudGetJobRunArtifactOperator: {"run_id": 7, "path": "a.json"},
    DbtCloudListJobRunsOperator: {},
    DbtCloudListJobsOperator: {},
}
HOOK_PARAMS: tuple[object, ...] = (
    "x",
    {"retry_limit": "x"},
    {"retry_limit": 0},
    {"timeout_seconds": "soon"},
)
NO_COUNTS: tuple[object, ...] = ("3", None, -1, 1.5, float("nan"), 10**400, [])
NO_TIMES: tuple[object, ...] = (
    "yesterday",
    "None",
    "2026-13-01",
    "2026-02-30",
    5,
    True,
    ["2026-01-01"],
)
NO_IDS: tuple[object, ...] = (
    4.0,
    b"7",
    UUID(int=7),
    ["7"],
    {},
    {"a": "7"},
    "-3",
    -3,
    0,
    "٣",
    "1_000",
    "²",
)

AT_PARSE_TIME: list[tuple[type[BaseOperator], str, object]] = [
    *((cls, "deferrable", "False") for cls in GOOD if "Cloud" not in cls.__name__),
    (DbtCloudRunJobOperator, "deferrable", "no"),
    (DbtCloudRunJobOperator, "wait_for_termination", "false"),
    (DbtCloudJobRunSensor, "deferrable", ""),
    (DbtCloudListJobRunsOperator, "latest_only", "False"),
    (AirbyteTriggerSyncOperator, "cancel_on_kill", "{{ params.cancels }}"),
    (AirbyteJobSensor, "end_from_trigger", "False"),
    (AirbyteJobSensor, "start_from_trigger", "False"),
    (FivetranOperator, "start_in_trigger", "False"),
    (FivetranOperator, "end_from_trigger", "no"),
    (FivetranSensor, "fail_if_paused", "no"),
    *(
        (cls, "fivetran_retry_limit", value)
        for cls in (FivetranOperator, FivetranResyncOperator, FivetranSensor)
        for value in NO_COUNTS
    ),
    *(
        (cls, "hook_params", value)
        for cls in GOOD
        if "Cloud" in cls.__name__
        for value in HOOK_PARAMS
    ),
    *(
        (cls, "completed_after_time", value)
        for cls in (AirbyteSyncSensor, FivetranSensor, FivetranSyncSensor)
        for value in NO_TIMES
    ),
    (DbtCloudJobSensor, "completed_after_time", "yesterday"),
    *((DbtCloudRunJobOperator, "job_id", value) for value in NO_IDS),
    *((DbtCloudRunJobOperator, "account_id", value) for value in NO_IDS),
    *((AirbyteJobSensor, "airbyte_job_id", value) for value in NO_IDS),
    *((AirbyteTriggerSyncOperator, "connection_id", value) for value in NO_IDS[:6]),
    *((FivetranOperator, "connector_id", value) for value in NO_IDS[:6]),
    (AirbyteTriggerSyncOperator, "api_version", "../x"),
    (AirbyteSyncSensor, "api_version", 1),
    (AirbyteTriggerSyncOperator, "wait_seconds", 10**400),
    (AirbyteTriggerSyncOperator, "wait_seconds", timedelta.max),
    (FivetranOperator, "poll_frequency", 1e300),
    (DbtCloudRunJobOperator, "check_interval", sys.maxsize),
    (FivetranResyncOperator, "scope", "orders"),
    (FivetranResyncOperator, "scope", ["orders"]),
    (FivetranResyncOperator, "scope", {"sales": "orders"}),
    (FivetranResyncOperator, "scope", {"sales": [1]}),
    (DbtCloudRunJobOperator, "steps_override", "dbt run"),
    (DbtCloudRunJobOperator, "steps_override", ["dbt run", None]),
    (DbtCloudRunJobOperator, "additional_run_config", "threads"),
    (DbtCloudRunJobOperator, "additional_run_config", {"a": float("nan")}),
    (DbtCloudRunJobOperator, "schema_override", 5),
    (DbtCloudRunJobOperator, "trigger_reason", ["why"]),
    (DbtCloudListJobRunsOperator, "status_filter", "success"),
    (DbtCloudListJobRunsOperator, "include_related", "job"),
    (DbtCloudGetJobRunArtifactOperator, "step", "one"),
]


@pytest.mark.parametrize(("cls", "name", "value"), AT_PARSE_TIME)
def test_a_mistake_that_the_dag_shows_is_an_import_error(
    cls: type[BaseOperator], name: str, value: object
) -> None:
    with pytest.raises(ArgumentUnusable, match=name):
        cls(task_id="sync", **{**GOOD[cls], name: value})


TAKEN: list[tuple[type[BaseOperator], str, object]] = [
    (AirbyteTriggerSyncOperator, "asynchronous", 1),
    (AirbyteTriggerSyncOperator, "deferrable", None),
    (AirbyteTriggerSyncOperator, "connection_id", "{{ params.id }}"),
    (AirbyteTriggerSyncOperator, "timeout", sys.maxsize),
    (AirbyteTriggerSyncOperator, "timeout", 10**400),
    (FivetranOperator, "timeout", timedelta.max),
    (FivetranOperator, "fivetran_retry_limit", 0),
    (FivetranResyncOperator, "scope", {"sales": ("orders",)}),
    *(
        (FivetranSensor, "completed_after_time", value)
        for value in (
            None,
            "",
            "now",
            "2026-02-28",
            "2026-01-01 14:00",
            "2026-01-01T14:00:00.5Z",
            "2026-01-31T00:00:00+02:00",
            "{{ ds }}",
        )
    ),
    (DbtCloudRunJobOperator, "steps_override", "{{ params.steps }}"),
    (DbtCloudRunJobOperator, "steps_override", ("dbt run",)),
    (DbtCloudRunJobOperator, "steps_override", ["dbt run -s {{ params.what }}"]),
    (DbtCloudRunJobOperator, "additional_run_config", "{{ params.config }}"),
    (DbtCloudRunJobOperator, "job_id", " 7 "),
    (DbtCloudListJobRunsOperator, "status_filter", {10, 20}),
]


@pytest.mark.parametrize(("cls", "name", "value"), TAKEN)
def test_what_may_be_right_is_taken(
    cls: type[BaseOperator], name: str, value: object
) -> None:
    assert cls(task_id="sync", **{**GOOD[cls], name: value}).task_id == "sync"


@every_vendor
@pytest.mark.parametrize("never", [sys.maxsize, timedelta.max, 1e300])
def test_a_limit_that_no_date_can_hold_is_none(
    monkeypatch: pytest.MonkeyPatch, case: Case, never: object
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.add_target(case.life("success"))
    task = Task(world, case.sync(deferrable=True, timeout=never))

    deferral = deferred(task.execute())

    assert deferral.timeout is None
    task.go_on(deferral)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("additional_run_config", {"threads_override": {1}}),
        ("schema_override", 5),
        ("trigger_reason", 5),
    ],
)
def test_what_is_rendered_to_another_type_is_an_error_before_a_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    world = make_vendor_world(monkeypatch, DBT_CLOUD)
    world.add_target(DBT_CLOUD.life())
    task = Task(world, DBT_CLOUD.sync())
    make = task.make

    def rendered() -> BaseOperator:
        operator = make()
        setattr(operator, name, value)
        return operator

    task.make = rendered
    with pytest.raises(ArgumentUnusable, match=name):
        task.execute()

    assert world.requests == []


# Connections -----------------------------------------------------------------------------

PLANTED = "S3cret-planted"


def account_of(
    monkeypatch: pytest.MonkeyPatch, case: Case, **fields: str | None
) -> Any:
    """Read a connection some of whose fields are changed."""
    given: dict[str, Any] = {
        "conn_type": case.name,
        "host": "http://localhost:8000",
        **case.connection,
        **fields,
    }
    connection = Connection(conn_id="mine", **given)
    monkeypatch.setattr(
        BaseHook, "get_connection", staticmethod(lambda _id: connection)
    )
    return case.hook_class("mine").account()


HUGE = "1" + "0" * 400


@every_vendor
@pytest.mark.parametrize(
    ("extra", "field"),
    [
        (f'{{"timeout": {HUGE}}}', "extra.timeout"),
        ('{"timeout": Infinity}', "extra.timeout"),
        ('{"requests_per_minute": Infinity}', "extra.requests_per_minute"),
        (f'{{"requests_per_minute": {HUGE}}}', "extra.requests_per_minute"),
        ('{"concurrent_polls": 1e999}', "extra.concurrent_polls"),
        ('{"doubt_seconds": Infinity}', "extra.doubt_seconds"),
        (json.dumps({"proxies": f"http://u:{PLANTED}@proxy:x"}), "extra.proxies"),
        (json.dumps({"proxies": f"http://u:{PLANTED}@"}), "extra.proxies"),
        (json.dumps({"ca_bundle": [PLANTED]}), "extra.ca_bundle"),
        (json.dumps({"ca_bundle": f"-----BEGIN KEY-----\n{PLANTED}"}), "extra.ca_b"),
        (json.dumps({"verify": f"/-----BEGIN KEY-----\n{PLANTED}"}), "extra.verify"),
        ('{"ca_bundle": "a\\u0000b"}', "extra.ca_bundle"),
    ],
)
def test_a_wrong_extra_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, case: Case, extra: str, field: str
) -> None:
    with pytest.raises(ConnectionUnusable) as refused:
        account_of(monkeypatch, case, extra=extra)

    assert field in str(refused.value)
    assert "(connection 'mine')" in str(refused.value)
    assert PLANTED not in str(refused.value)
    assert len(str(refused.value)) < 400


@every_vendor
@pytest.mark.parametrize("extra", [None, "", "  \n", "null"])
def test_an_extra_of_nothing_is_none(
    monkeypatch: pytest.MonkeyPatch, case: Case, extra: str | None
) -> None:
    assert account_of(monkeypatch, case, extra=extra)


@pytest.mark.parametrize("case", [AIRBYTE, FIVETRAN, DBT_CLOUD], ids=lambda e: e.name)
@pytest.mark.parametrize(
    "host",
    [
        "http:/localhost:8000",
        "https:/localhost",
        "http://local host:8000",
        "http://local\0host",
        "http://a.example,http://b.example",
        "http://a..example",
        f"http://{'a' * 64}.example",
        "http://<your-host>",
    ],
)
def test_a_host_that_no_name_can_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, case: Case, host: str
) -> None:
    with pytest.raises(ConnectionUnusable, match=r"host.*write it as"):
        account_of(monkeypatch, case, host=host)


@every_vendor
def test_a_connection_that_is_not_there_is_named_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    world = make_vendor_world(monkeypatch, case)
    world.connections.clear()

    with pytest.raises(AirflowNotFoundException) as refused:
        Task(world, case.sync()).execute()

    assert f"`{case.name}_default` isn't defined. Add it to" in str(refused.value)
    assert str(refused.value).endswith(f"correct {case.conn_key}")


# Times ----------------------------------------------------------------------------------

INTERVALS: list[tuple[type[BaseOperator], dict[str, Any], str]] = [
    (AirbyteTriggerSyncOperator, {"connection_id": "c"}, "wait_seconds"),
    (FivetranOperator, {"connector_id": "c"}, "poll_frequency"),
    (FivetranOperator, {"connector_id": "c"}, "reschedule_wait_time"),
    (FivetranResyncOperator, {"connector_id": "c"}, "poll_frequency"),
    (DbtCloudRunJobOperator, {"job_id": 1}, "check_interval"),
    (FivetranSensor, {"connector_id": "c"}, "reschedule_wait_time"),
]
SENSORS: list[tuple[type[BaseOperator], dict[str, Any]]] = [
    (AirbyteJobSensor, {"airbyte_job_id": 1}),
    (AirbyteSyncSensor, {"connection_id": "c"}),
    (FivetranSensor, {"connector_id": "c"}),
    (FivetranSyncSensor, {"connector_id": "c"}),
    (DbtCloudJobRunSensor, {"run_id": 1}),
    (DbtCloudJobSensor, {"job_id": 1}),
]
EVERY_INTERVAL = [*INTERVALS, *((*each, "poke_interval") for each in SENSORS)]
NO_TIME = [math.nan, -math.inf, -1, -timedelta(seconds=1), "5"]
TOO_LONG = [math.inf, 1e300, 10**400, timedelta.max]


@pytest.mark.parametrize("value", [*NO_TIME, *TOO_LONG], ids="{!r:.12}".format)
@pytest.mark.parametrize(("task", "given", "field"), EVERY_INTERVAL)
@pytest.mark.parametrize("deferrable", [True, False])
def test_an_interval_that_cannot_pass_is_an_error_that_names_it(
    task: type[BaseOperator],
    given: dict[str, Any],
    field: str,
    value: object,
    *,
    deferrable: bool,
) -> None:
    with pytest.raises(ArgumentUnusable, match=rf"^{field} (must be|is longer)"):
        task(task_id="t", deferrable=deferrable, **{**given, field: value})


TIMED = [*((task, given) for task, given, _ in INTERVALS), *SENSORS]


@pytest.mark.parametrize("value", NO_TIME, ids="{!r:.12}".format)
@pytest.mark.parametrize(("task", "given"), TIMED)
def test_a_timeout_that_is_no_time_is_an_error_that_names_it(
    task: type[BaseOperator], given: dict[str, Any], value: object
) -> None:
    with pytest.raises(ArgumentUnusable, match=r"^timeout must be a number of seconds"):
        task(task_id="t", timeout=value, **given)


@pytest.mark.parametrize("value", TOO_LONG, ids="{!r:.12}".format)
@pytest.mark.parametrize(("task", "given"), TIMED)
def test_a_timeout_that_never_passes_is_taken(
    task: type[BaseOperator], given: dict[str, Any], value: object
) -> None:
    limit = task(task_id="t", timeout=value, **given).timeout  # type: ignore[attr-defined]

    assert limit == (LONGEST if issubclass(task, BaseSensorOperator) else None)


@pytest.mark.parametrize("field", ["poke_interval", "timeout", "max_wait"])
@pytest.mark.parametrize(("task", "given"), SENSORS)
def test_the_times_of_a_sensor_may_be_defaults_of_the_dag(
    task: type[BaseOperator], given: dict[str, Any], field: str
) -> None:
    with DAG("d", schedule=None, default_args={field: 7}):
        shared = task(task_id="shared", **given)
        own = task(task_id="own", **{**given, field: 8})

    with (
        DAG("e", schedule=None, default_args={field: math.nan}),
        pytest.raises(ArgumentUnusable, match=f"^{field} must be"),
    ):
        task(task_id="t", **given)

    assert [seconds_of(getattr(each, field)) for each in (shared, own)] == [7, 8]


def seconds_of(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


@pytest.mark.parametrize(("task", "given"), SENSORS)
def test_a_sensor_with_the_longest_timeout_can_begin_on_the_triggerer(
    task: type[BaseOperator], given: dict[str, Any]
) -> None:
    sensor = task(
        task_id="t",
        timeout=math.inf,
        deferrable=True,
        start_from_trigger=True,
        **given,
    )

    assert isinstance(sensor, JobSensor)
    limit = sensor.describe_start().timeout
    assert limit is not None
    assert limit.total_seconds() > LONGEST
