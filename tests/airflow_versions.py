"""What tests take from Airflow that another version has elsewhere, or not at all."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pendulum
import pytest
from airflow import settings
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.serialization import serialized_objects

from async_triggers.deferral import compat
from async_triggers.deferral.compat.kills import LOOP_WATCH
from benchmarks.workloads import RunTrigger, TaskInstanceDTO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

try:
    from airflow.dag_processing.dagbag import DagBag
except ModuleNotFoundError:
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

try:
    from airflow.sdk.execution_time.comms import (
        AssetStateStoreResult,
        GetAssetStateStoreByName,
        SetAssetStateStoreByName,
    )

    HAS_ASSET_STORE = True
except ImportError:
    HAS_ASSET_STORE = False

try:
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
except ImportError:
    from airflow.serialization.serialized_objects import (  # type: ignore[attr-defined, no-redef]
        smart_decode_trigger_kwargs,
    )

DagSerialization: Any = getattr(serialized_objects, "DagSerialization", None) or (
    serialized_objects.SerializedDAG  # type: ignore[attr-defined]
)

__all__ = [
    "HAS_ASSET_STORE",
    "DagBag",
    "DagSerialization",
    "RunTrigger",
    "TaskInstanceDTO",
    "answer_of_asset_store",
    "call_on_kill",
    "end_with_the_loop",
    "in_time_zone",
    "needs_asset_store",
    "needs_on_kill",
    "needs_retry_policy",
    "needs_start_from_trigger",
    "needs_task_state_store",
    "needs_variables",
    "smart_decode_trigger_kwargs",
]

needs_task_state_store = pytest.mark.skipif(
    not compat.HAS_OWN_STORE, reason="this Airflow has no task state store"
)
needs_asset_store = pytest.mark.skipif(
    not HAS_ASSET_STORE, reason="this Airflow stores nothing for assets"
)
needs_variables = pytest.mark.skipif(
    compat.HAS_OWN_STORE, reason="this Airflow has a task state store"
)
needs_start_from_trigger = pytest.mark.skipif(
    not compat.STARTS_FROM_TRIGGER,
    reason="this Airflow starts no task from its trigger",
)
needs_on_kill = pytest.mark.skipif(
    not compat.CALLS_ON_KILL, reason="this Airflow calls no on_kill of triggers"
)
needs_retry_policy = pytest.mark.skipif(
    not compat.HAS_RETRY_POLICY, reason="this Airflow's operators have no retry_policy"
)


async def call_on_kill(trigger: Any) -> None:
    """Do what Airflow does once it has cancelled the trigger of a stopped task.

    Before 3.3 that is nothing: ``run()`` finds out what has happened, and calls it.
    """
    if compat.CALLS_ON_KILL:
        await asyncio.wait_for(trigger.on_kill(), 30)


async def end_with_the_loop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel running triggers as a triggerer does that ends, and its loop with it."""
    tasks = [*tasks]
    watches = [task for task in asyncio.all_tasks() if task.get_name() == LOOP_WATCH]
    for task in (*tasks, *watches):
        task.cancel()

    await asyncio.gather(*tasks, return_exceptions=True)


def answer_of_asset_store(message: Any, marks: dict[str, Any]) -> Any:
    """Answer as the supervisor does about what is stored for assets, by their names."""
    if HAS_ASSET_STORE and isinstance(message, GetAssetStateStoreByName):
        return AssetStateStoreResult(value=marks.get(message.name, {}).get(message.key))

    if HAS_ASSET_STORE and isinstance(message, SetAssetStateStoreByName):
        marks.setdefault(message.name, {})[message.key] = message.value
        return None

    return ErrorResponse()


@contextmanager
def in_time_zone(name: str) -> Iterator[None]:
    """Have ``[core] default_timezone`` be another one than UTC."""
    try:
        from airflow.sdk._shared.timezones.timezone import initialize
    except ImportError:
        # Before Airflow 3.2 each question goes to the settings.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(settings, "TIMEZONE", pendulum.timezone(name))
            yield
            return

    initialize(name)
    yield
    initialize("UTC")
