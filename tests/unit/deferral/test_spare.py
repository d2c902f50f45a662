"""From where a process takes its spare share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.hooks import BUDGET as AIRBYTE
from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.dbt_cloud.hooks import BUDGET as DBT_CLOUD
from async_triggers.deferral.connection import EXTRA_KEYS
from async_triggers.deferral.errors import ConnectionUnusable
from async_triggers.fivetran.hooks import BUDGET as FIVETRAN
from async_triggers.provider_info import get_provider_info
from tests.unit.deferral.stage import World, make_world

if TYPE_CHECKING:
    from async_triggers.engine.wire import Budget

SETTING = "AIRFLOW__ASYNC_TRIGGERS__SPARE_SHARE"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(monkeypatch)


def budget_of(world: World, **extra: Any) -> Budget:
    world.connect(
        "airbyte_default", host="http://localhost:8000", extra=json.dumps(extra)
    )
    return AirbyteHook("airbyte_default").account().budget


def test_where_no_limit_is_documented_one_must_be_set(world: World) -> None:
    assert budget_of(world, spare_share=0.2).spare == 0.0
    assert budget_of(world, spare_share=0.2, requests_per_minute=600).spare == 0.2


def test_the_limit_may_stand_in_the_configuration(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ASYNC_TRIGGERS__AIRBYTE_REQUESTS_PER_MINUTE", "300")
    monkeypatch.setenv(SETTING, "0.1")

    assert budget_of(world).spare == 0.1
    assert budget_of(world, spare_share=0).spare == 0.0, "the connection wins"


def test_it_is_off_unless_it_is_set(world: World) -> None:
    assert budget_of(world, requests_per_minute=600).spare == 0.0


@pytest.mark.parametrize(("share", "spare"), [(1, 1.0), (7, 1.0), ("0.25", 0.25)])
def test_it_is_no_more_than_all(world: World, share: Any, spare: float) -> None:
    given = budget_of(world, spare_share=share, requests_per_minute=600)

    assert given.spare == spare


def test_what_is_no_share_is_refused(world: World) -> None:
    with pytest.raises(ConnectionUnusable, match="spare_share"):
        budget_of(world, spare_share=-1)


def test_how_close_rounds_may_come() -> None:
    assert (AIRBYTE.fastest, DBT_CLOUD.fastest, FIVETRAN.fastest) == (2.0, 1.5, 3.2)


def test_the_setting_is_one_that_airflow_lists() -> None:
    options = get_provider_info()["config"]["async_triggers"]["options"]

    assert options["spare_share"]["type"] == "float"
    assert "spare_share" in EXTRA_KEYS
