"""A trigger whose arguments cannot be used says so in its event, and never raises."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
from async_triggers.fivetran.triggers import FivetranTrigger
from tests.clock import VirtualClockLoop

if TYPE_CHECKING:
    from async_triggers.deferral.trigger import JobTrigger


def message(trigger: JobTrigger) -> str:
    """Return the message of the one event, which is an error."""

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    # An event never comes at once.
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        [payload] = runner.run(events())

    assert payload["status"] == "error"
    return str(payload["message"])


@pytest.mark.parametrize("connector_id", ["", " ", "a/b", "..", None])
def test_an_id_of_a_connection_that_is_none_is_named(connector_id: Any) -> None:
    text = message(FivetranTrigger("t", connector_id, "f", baseline=""))

    assert str(connector_id) in text


@pytest.mark.parametrize("before", ["garbage", "2026-13-01", 5, ["2026-01-01"]])
@pytest.mark.parametrize("name", ["previous_completed_at", "xcom"])
def test_a_time_that_is_none_is_named(name: str, before: Any) -> None:
    trigger = FivetranTrigger("t", "c1", "f", **{name: before})

    assert f"{name} is {before!r}: give a time in ISO 8601" in message(trigger)


@pytest.mark.parametrize(
    "before", [None, "", "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_a_time_is_taken_as_text_and_as_what_it_is(before: Any) -> None:
    trigger = FivetranTrigger("t", "c1", "f", before)

    assert trigger._problem(trigger.remote_job) is None


@pytest.mark.parametrize("account_id", ["x/y", "one", -1.5, [7]])
def test_an_account_that_is_none_is_named(account_id: Any) -> None:
    text = message(DbtCloudRunJobTrigger("d", 5, None, 10.0, account_id))

    assert "account_id" in text
    assert repr(account_id) in text
