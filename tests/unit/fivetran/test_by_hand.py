"""The other provider's calls, made by hand: they block, on a virtual clock."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.sdk import Connection

from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.errors import JobFailed, VendorRefused
from async_triggers.fivetran.hooks import FivetranHook, FivetranHookAsync
from async_triggers.fivetran.operators import FivetranOperator, FivetranResyncOperator
from async_triggers.fivetran.sensors import FivetranSensor
from async_triggers.simulator.exchange import SimReply, SimRequest, json_reply
from tests.unit.fivetran.stage import HOUR, C, FivetranWorld, resync


def when(text: str) -> pendulum.DateTime:
    moment = pendulum.parse(text)
    assert isinstance(moment, pendulum.DateTime)
    return moment


def test_what_there_is(world: FivetranWorld) -> None:
    world.add("other", schema="other.name", group_id="group2")
    world.add(C, tables={"shop": ["orders"]})
    hook = FivetranHook()

    assert hook.get_connector(C)["schema"] == "sheets.orders"
    assert "shop" in hook.get_connector_schemas(C)["schemas"]
    groups: Any = hook.get_groups()
    assert {each["id"] for each in groups} >= {"group2"}
    assert hook.get_groups("group2")["id"] == "group2"  # type: ignore[index]
    assert [each["id"] for each in hook.get_connectors("group2")] == ["other"]
    assert hook.get_connector_id("other.name", "group2") == "other"


def test_a_destination(world: FivetranWorld) -> None:
    world.fivetran.add_group("group2", name="Warehouse", service="snowflake")

    assert FivetranHook().get_destinations("group2")["service"] == "snowflake"


def answer(world: FivetranWorld, end: str, answers: list[dict[str, Any]]) -> None:
    """Answer requests to paths with an end in the simulator's place."""
    real = world.fivetran.respond

    def respond(request: SimRequest) -> SimReply:
        if request.path.endswith(end):
            return json_reply(200, {"code": "Success", "data": answers.pop(0)})

        return real(request)

    world.airbyte = SimpleNamespace(respond=respond)  # type: ignore[assignment]


def test_metadata(world: FivetranWorld) -> None:
    answer(world, f"/v1/metadata/connectors/{C}/tables", [{"items": [{"id": "t"}]}])

    assert FivetranHook().get_metadata(C, "tables") == {"items": [{"id": "t"}]}
    with pytest.raises(ValueError, match="metadata must be one of"):
        FivetranHook().get_metadata(C, "schemas")


def test_setup_tests_may_heal_a_connection(world: FivetranWorld) -> None:
    healed = world.shown()
    world.add(C, setup_state="broken")
    answer(world, f"/{C}/test", [healed, healed])

    assert FivetranHook().check_connector(C)["status"]["setup_state"] == "connected"
    assert FivetranHook().test_connector(C)["id"] == C
    assert world.times_asked("POST", "/test") == 2


def test_setup_tests_may_fail(world: FivetranWorld) -> None:
    world.add(C, setup_state="broken", tasks=[("reconnect", "Enter the password")])
    answer(world, f"/{C}/test", [world.shown()])

    with pytest.raises(VendorRefused, match=r"broken \(Enter the password\)"):
        FivetranHook().prep_connector(C, "auto")

    assert world.facts.get("patches", 0) == 0


def test_a_connection_that_is_set_up_is_not_tested(world: FivetranWorld) -> None:
    assert FivetranHook().check_connector(C)["id"] == C
    assert world.times_asked("POST", "/test") == 0


def test_the_schedule_type(world: FivetranWorld) -> None:
    hook = FivetranHook()

    hook.prep_connector(C, "manual")
    assert world.facts.get("patches", 0) == 0
    hook.prep_connector(C, "auto")
    assert world.shown()["schedule_type"] == "auto"
    told = hook.set_schedule_type(C, "manual")
    assert told["code"] == "Success"
    assert told["data"]["schedule_type"] == "manual"
    with pytest.raises(ValueError, match="schedule_type must be one of"):
        hook.set_schedule_type(C, "never")


def test_a_sync(world: FivetranWorld) -> None:
    hook = FivetranHook()
    before = hook.start_fivetran_sync(C)

    assert before == world.shown()["succeeded_at"]
    assert world.starts == 1
    assert hook.get_last_sync(C) == when(before)
    assert not hook.is_synced_after_target_time(C, when(before))
    world.pass_time(30)
    # One that is under way is not stopped.
    assert hook.start_fivetran_sync(C) == before
    assert all(not each.path.endswith("/force") for each in world.requests)
    world.pass_time(60)
    assert hook.is_synced_after_target_time(C, when(before))
    assert hook.get_last_sync(C) > when(before)
    with pytest.warns(FutureWarning, match="is_synced_after_target_time"):
        assert hook.get_sync_status(C, when(before))


def test_a_time_may_be_the_text_that_a_start_returns(world: FivetranWorld) -> None:
    hook = FivetranHook()
    before = hook.start_fivetran_sync(C)

    assert not hook.is_synced_after_target_time(C, before)
    world.pass_time(90)
    assert hook.is_synced_after_target_time(C, before)


@pytest.mark.parametrize("time", [None, "", "tomorrow", 5])
def test_what_is_no_time_is_refused_by_its_name(time: Any) -> None:
    with pytest.raises(ArgumentUnusable, match="completed_after_time must be a time"):
        FivetranHook().is_synced_after_target_time(C, time)


def test_the_first_sync_of_a_paused_connection(world: FivetranWorld) -> None:
    world.add(C, succeeded_ago=None, paused=True, lives=["syncing:60 succeeded"])
    hook = FivetranHook()
    assert hook.get_last_sync(C).timestamp() < 0

    before = hook.start_fivetran_sync(C)

    assert abs(when(before).timestamp() - world.now()) <= 2
    world.pass_time(90)
    assert hook.is_synced_after_target_time(C, when(before))


def test_a_resync(world: FivetranWorld) -> None:
    hook = FivetranHook()
    with pytest.raises(ValueError, match="payload needs mode='resync'"):
        hook.start_fivetran_sync(C, payload={"scope": {"s": ["t"]}})

    hook.start_fivetran_sync(C, mode="resync", payload={"scope": {"s": ["t"]}})

    assert world.requests[-1].path.endswith("/resync")
    assert json.loads(world.requests[-1].body) == {"scope": {"s": ["t"]}}


@pytest.mark.parametrize(
    ("succeeded", "failed", "after", "strict", "fails"),
    [
        (300, None, 400, True, False),
        (300, 200, 400, True, False),
        (300, 200, 250, False, True),
        (300, 200, 100, True, True),
        (300, 200, 100, False, None),
        (200, 300, 100, True, None),
    ],
)
def test_how_times_are_judged(
    world: FivetranWorld,
    succeeded: int,
    failed: int | None,
    after: int,
    strict: bool,
    fails: bool | None,
) -> None:
    world.add(C, succeeded_ago=succeeded, failed_ago=failed)
    moment = datetime.fromtimestamp(world.now() - after, tz=UTC)
    hook = FivetranHook()

    def judge() -> bool:
        return hook.is_synced_after_target_time(
            C, moment, propagate_failures_forward=strict
        )

    if fails:
        with pytest.raises(JobFailed, match=f"The sync of {C} failed at"):
            judge()
    else:
        assert judge() is (fails is False)


def test_while_it_syncs_nothing_counts_if_that_is_wanted(world: FivetranWorld) -> None:
    world.add(C, lives=["syncing:60 succeeded"])
    hook = FivetranHook()
    hook.start_fivetran_sync(C)
    moment = datetime.fromtimestamp(world.now() - 2 * HOUR, tz=UTC)

    assert hook.is_synced_after_target_time(C, moment)
    assert not hook.is_synced_after_target_time(
        C, moment, always_wait_when_syncing=True
    )


def test_a_sync_that_is_put_off_is_started_again(world: FivetranWorld) -> None:
    world.add(C, lives=["syncing:10 rescheduled:600", "syncing:10 succeeded"])
    hook = FivetranHook()
    before = hook.start_fivetran_sync(C)
    world.pass_time(20)
    began = world.elapsed()

    assert not hook.is_synced_after_target_time(C, when(before), 45)

    assert world.elapsed() - began == pytest.approx(45, abs=1)
    assert world.starts == 2


def test_a_restart_waits_until_the_time_that_fivetran_names(
    world: FivetranWorld,
) -> None:
    until = datetime.fromtimestamp(world.now() + 120, tz=UTC).isoformat()
    hook = FivetranHook()

    hook.pause_and_restart(C, until)
    assert world.elapsed() == pytest.approx(180, abs=1)
    with pytest.warns(FutureWarning, match="reschedule_wait_time"):
        hook.pause_and_restart(C, "", reschedule_time=300)

    assert world.starts == 2
    with pytest.raises(ValueError, match="reschedule_for must be a time"):
        hook.pause_and_restart(C, "soon")


def test_a_time_that_is_given(world: FivetranWorld) -> None:
    with pytest.warns(FutureWarning, match="xcom"):
        assert FivetranHook().get_last_sync(C, "2026-01-01") == when("2026-01-01")

    assert not world.requests


@pytest.mark.parametrize(
    "call",
    [
        lambda hook: hook.get_connector(""),
        lambda hook: hook.get_destinations(""),
        lambda hook: hook.start_fivetran_sync("a/b"),
        lambda hook: hook.get_connector_id("", "group2"),
        lambda hook: hook.get_connector_id("unknown", "simulated_warehouse"),
        lambda hook: hook.get_connector_id("sheets.orders", "unknown"),
    ],
)
def test_what_is_not_there_is_a_value_error(world: FivetranWorld, call: Any) -> None:
    with pytest.raises(ValueError, match=r"connect|group|destination"):
        call(FivetranHook())


def test_errors_are_airflows(world: FivetranWorld) -> None:
    with pytest.raises(VendorRefused, match="unknown"):
        FivetranHook().get_connector("unknown")


def test_a_connection_may_be_given_itself(world: FivetranWorld) -> None:
    given = Connection(conn_id="x", login="simulator-key", password="simulator-secret")
    hook = FivetranHook("none", given)

    assert hook.get_connector(C)["id"] == C
    assert world.connection_reads == 0
    assert hook.key != FivetranHook("none").key
    assert hook.key == FivetranHook("none", given).key


def test_a_subclass_may_name_the_host() -> None:
    class Elsewhere(FivetranHook):
        api_host = "fivetran.test"

    given = Connection(conn_id="x", login="key", password="secret")

    assert Elsewhere().read(given).base_url == "https://fivetran.test"


@pytest.mark.parametrize(
    ("own", "extra", "total"),
    [(180, "", 60), (5, "", 5), (5, '{"timeout": 9}', 5), (20, '{"timeout": 9}', 9)],
)
def test_the_fewer_seconds_hold(own: int, extra: str, total: int) -> None:
    given = Connection(conn_id="x", login="key", password="secret", extra=extra)

    assert FivetranHook(timeout_seconds=own).read(given).route.total == total


# From a running loop ------------------------------------------------------------------


def test_calls_from_a_loop(world: FivetranWorld) -> None:
    hook = FivetranHookAsync("fivetran_default")
    before = hook.start_fivetran_sync(C)

    async def calls() -> tuple[Any, ...]:
        return (
            (await hook.get_connector_async(C))["id"],
            await hook.get_last_sync_async(C),
            await hook.get_last_sync_async(C, "2026-01-01"),
            await hook.is_synced_after_target_time_async(C, when(before)),
        )

    assert asyncio.run(calls()) == (C, when(before), when("2026-01-01"), "pending")
    world.pass_time(90)
    with pytest.warns(FutureWarning, match="is_synced_after_target_time_async"):
        assert asyncio.run(hook.get_sync_status_async(C, when(before))) == "success"

    with pytest.raises(VendorRefused, match="unknown"):
        asyncio.run(hook.get_connector_async("unknown"))


def test_a_restart_does_not_block_the_loop(world: FivetranWorld) -> None:
    world.add(C, lives=["syncing:10 rescheduled:600", "syncing:10 succeeded"])
    hook = FivetranHookAsync()
    before = when(hook.start_fivetran_sync(C))
    world.pass_time(20)

    async def both() -> str:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(
                hook.is_synced_after_target_time_async(C, before, 45)
            )
            await asyncio.sleep(20)
            assert not task.done()

        return task.result()

    assert asyncio.run(both()) == "pending"
    assert world.starts == 2


# Tasks ------------------------------------------------------------------------------


def test_template_fields_are_lists_that_can_be_added_to() -> None:
    assert [*FivetranOperator.template_fields, "x"] == (
        FivetranOperator.template_fields + ["x"]  # noqa: RUF005
    )
    assert "x" in FivetranResyncOperator.template_fields + ["x"]  # noqa: RUF005
    assert "x" in FivetranSensor.template_fields + ["x"]  # noqa: RUF005


def test_tasks_have_hooks(world: FivetranWorld) -> None:
    operator = resync(fivetran_retry_limit=7)()
    sensor = FivetranSensor(task_id="s", connector_id=C, fivetran_retry_limit=8)

    assert operator.hook.retry_limit == 7
    assert sensor.hook.retry_limit == 8
    assert operator.hook.get_connector(C)["id"] == C


def test_the_older_name_of_a_sensors_baseline(world: FivetranWorld) -> None:
    sensor = FivetranSensor(task_id="s", connector_id=C)
    assert sensor.previous_completed_at is None

    with pytest.warns(FutureWarning, match="completed_after_time"):
        sensor.xcom = "2026-01-01T00:00:00Z"

    with pytest.warns(FutureWarning, match="completed_after_time"):
        assert sensor.xcom == sensor.completed_after_time == "2026-01-01T00:00:00Z"

    assert sensor.poke({"ti": None}).is_done  # type: ignore[typeddict-item]
    assert sensor.previous_completed_at == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_form_of_connections() -> None:
    assert FivetranHook.get_ui_field_behaviour()["relabeling"]["login"] == "API Key"
