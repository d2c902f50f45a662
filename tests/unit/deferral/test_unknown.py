"""Keys that nobody reads, in the extra of a connection and in a dbt Cloud start."""

from __future__ import annotations

import json
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.bases import sensor as base

from async_triggers.deferral import hook as shared
from async_triggers.deferral.compat import AirflowRescheduleException
from async_triggers.deferral.connection import EXTRA_KEYS
from async_triggers.deferral.unknown import unknown_keys
from async_triggers.simulator import Fault
from tests.unit.deferral.stage import Deferral, Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor
from tests.vendors import Entry as Case


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing have been warned of in this process."""
    monkeypatch.setattr(shared, "_warned_keys", set())
    monkeypatch.setattr(shared, "_warned_types", set())


# The nearest one ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("time_out", "timeout"),
        ("Timeout", "timeout"),
        ("proxy", "proxies"),
        ("verfiy", "verify"),
        ("ca-bundle", "ca_bundle"),
        ("request_per_minute", "requests_per_minute"),
        ("extra__airbyte__timeout", "timeout"),
        (" verify", "verify"),
        ("doubt_second", "doubt_seconds"),
    ],
)
def test_the_nearest_key_is_named(key: str, nearest: str) -> None:
    told = unknown_keys([key, "timeout"], EXTRA_KEYS)

    assert list(told) == [key]
    assert f"the key {key!r} is unknown and has no effect" in told[key]
    assert f"Did you mean {nearest!r}?" in told[key]


@pytest.mark.parametrize("key", ["insecure_http", "token", "retries", "pool"])
def test_a_key_that_is_not_near_is_not_proposed(key: str) -> None:
    told = unknown_keys([key], EXTRA_KEYS)[key]

    assert "Did you mean" not in told
    assert "Known are: " in told


def test_where_none_is_near_all_are_named() -> None:
    told = unknown_keys(["qqq", 5], {"verify", "share"})

    assert told["qqq"].endswith("Known are: share, verify")
    assert "'5'" in told["5"]


def test_a_key_that_may_be_a_secret_is_cut() -> None:
    told = unknown_keys(["x" * 500], {"verify"})

    assert len(next(iter(told.values()))) < 200


# Connections ----------------------------------------------------------------------------


class Recorder(dict[str, Any]):
    """Remembers which of its keys were asked for."""

    asked: set[str]

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return default


@every_vendor
def test_what_is_known_is_what_is_read(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = case.hook_class
    module = import_module(hook.read.__module__)
    extra = Recorder()
    extra.asked = set()
    monkeypatch.setattr(module, "read_extra", lambda _: extra)

    fields: dict[str, Any] = {"host": "https://h.test", **case.connection}
    hook("c").read(Connection(conn_id="c", conn_type=case.name, **fields))

    assert extra.asked == hook.extra_keys


def world_with(
    monkeypatch: pytest.MonkeyPatch, case: Case, extra: dict[str, Any]
) -> VendorWorld:
    """Make a world whose connection has an extra."""
    world = make_vendor_world(monkeypatch, case)
    world.connect(
        f"{case.name}_default",
        conn_type=case.name,
        host="http://localhost:8000",
        extra=json.dumps(extra),
        **case.connection,
    )
    return world


def warned(caplog: pytest.LogCaptureFixture, key: str) -> list[str]:
    """Return the warnings that name a key."""
    return [
        each.getMessage() for each in caplog.records if repr(key) in each.getMessage()
    ]


@every_vendor
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_misspelt_key_is_warned_of_once(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    deferrable: bool,
) -> None:
    world = world_with(monkeypatch, case, {"verfy": "s3cret", "share": 0.5})
    world.add_target(case.life("success", lasts=1200))

    Task(world, case.sync(deferrable=deferrable)).run()

    (told,) = warned(caplog, "verfy")
    assert f"extra of the connection '{case.name}_default'" in told
    assert "Did you mean 'verify'?" in told
    assert "s3cret" not in caplog.text
    assert not warned(caplog, "share")


@every_vendor
def test_a_start_that_is_tried_again_does_not_repeat_it(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_with(monkeypatch, case, {"verfy": False})
    world.add_target(case.life("success"))
    world.vendor.faults.add(Fault(kind="status", status=503, times=None, lasts=400))
    task = Task(world, case.sync())

    outcome: Any = task.execute()
    segments = 1
    while isinstance(outcome, Deferral):
        event = task.wait(outcome)
        # Each segment is a process of its own.
        shared._warned_keys.clear()
        outcome = task.resume(outcome, event)
        segments += 1

    assert segments > 3
    # Once by the worker, once by the triggerer.
    assert len(warned(caplog, "verfy")) <= 2


@every_vendor
def test_a_sensor_that_is_rescheduled_does_not_repeat_it(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_with(monkeypatch, case, {"verfy": False})
    world.add_target()
    job = world.add_foreign(case.life("success", lasts=300))
    arguments = {"mode": "reschedule", "deferrable": False, **case.recent}

    task = Task(world, case.sensor(job, poke_interval=60, **arguments))
    start = task.instance.start_date
    task.first_reschedule = start
    monkeypatch.setattr(base, "timezone", SimpleNamespace(utcnow=lambda: start))
    looks = 0
    while True:
        looks += 1
        shared._warned_keys.clear()
        try:
            task.run()
            break
        except AirflowRescheduleException:
            world.pass_time(60)

    assert looks > 3
    assert len(warned(caplog, "verfy")) == 1


# Starts of dbt Cloud ---------------------------------------------------------------------


def test_a_misspelt_field_of_a_start_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = make_vendor_world(monkeypatch, DBT_CLOUD)
    world.add_target(DBT_CLOUD.life("success"))
    config = {"step_override": ["dbt run"], "git_branch": "main", "cause": "Mine"}
    task = Task(world, DBT_CLOUD.sync(additional_run_config=config))

    deferral = deferred(task.execute())
    task.go_on(deferral)

    (told,) = warned(caplog, "step_override")
    assert told.startswith("additional_run_config: the key 'step_override' is unknown")
    assert "Did you mean 'steps_override'?" in told
    assert not warned(caplog, "git_branch")
    assert not warned(caplog, "cause")


# The type of a connection ---------------------------------------------------------------


def world_of_type(
    monkeypatch: pytest.MonkeyPatch, case: Case, conn_type: str | None
) -> VendorWorld:
    """Make a world whose connection has a type."""
    world = make_vendor_world(monkeypatch, case)
    world.connect(
        f"{case.name}_default",
        conn_type=conn_type,
        host="http://localhost:8000",
        **case.connection,
    )
    return world


def warned_of_type(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about types of connections."""
    said = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    return [each for each in said if "has the type" in each]


@every_vendor
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("conn_type", ["http", "postgres"])
def test_a_type_that_is_another_s_is_warned_of_once_and_used(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    conn_type: str,
    *,
    deferrable: bool,
) -> None:
    world = world_of_type(monkeypatch, case, conn_type)
    world.add_target(case.life("success", lasts=1200))

    Task(world, case.sync(deferrable=deferrable)).run()

    (said,) = warned_of_type(caplog)
    assert f"connection '{case.name}_default' has the type {conn_type!r}" in said
    assert f"set its type to {case.hook_class.conn_type!r}" in said
    assert "It is used all the same" in said


@pytest.mark.parametrize(
    ("case", "conn_type"),
    [
        (AIRBYTE, "airbyte"),
        (AIRBYTE, "Airbyte"),
        (FIVETRAN, "fivetran"),
        (FIVETRAN, "Fivetran"),
        (DBT_CLOUD, "dbt_cloud"),
        (DBT_CLOUD, "dbt-cloud"),
        (AIRBYTE, "generic"),
        (FIVETRAN, ""),
        (DBT_CLOUD, None),
    ],
)
def test_a_type_of_the_vendor_s_or_of_none_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: Case,
    conn_type: str | None,
) -> None:
    world_of_type(monkeypatch, case, conn_type)

    case.hook_class(f"{case.name}_default").account()

    assert not warned_of_type(caplog)


@pytest.mark.parametrize(
    ("case", "uri"),
    [
        (FIVETRAN, "Fivetran://k:s@"),
        (FIVETRAN, "fivetran://k:s@"),
        (DBT_CLOUD, "dbt-cloud://1:s@"),
        (AIRBYTE, "airbyte://k:s@airbyte.test"),
    ],
)
def test_a_type_that_a_uri_makes_is_the_vendor_s(
    caplog: pytest.LogCaptureFixture, case: Case, uri: str
) -> None:
    hook = case.hook_class("by_uri")

    hook.account_of(Connection.from_uri(uri, conn_id="by_uri"))

    assert not warned_of_type(caplog)


def test_each_connection_and_each_type_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = world_of_type(monkeypatch, FIVETRAN, "http")
    hook = FIVETRAN.hook_class
    for conn_id, conn_type in [("a", "ftp"), ("b", "ftp"), ("b", "ssh"), ("b", "ssh")]:
        fields = {**FIVETRAN.connection, "conn_type": conn_type}
        world.connect(conn_id, host="http://localhost:8000", **fields)
        hook(conn_id).account()

    assert len(warned_of_type(caplog)) == 3
