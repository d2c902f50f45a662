"""Connections and syncs as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from async_triggers.simulator.fivetran.model import (
        FivetranConnection,
        FivetranState,
        FivetranSync,
    )
    from async_triggers.simulator.fivetran.scene import FivetranScene


def connection_row(
    scene: FivetranScene, one: FivetranConnection, state: FivetranState
) -> dict[str, Any]:
    """Return a connection as it was in a state."""
    padding = "x" * scene.settings.config_padding
    more = {"padding": {"text": padding}} if padding else {}
    return {
        "id": one.connection_id,
        "service": one.service,
        "schema": one.schema,
        "paused": state.paused,
        "status": {
            "tasks": _notes(state.tasks),
            "warnings": _notes(state.warnings),
            "setup_state": state.setup_state,
            "schema_status": "ready",
            "sync_state": state.sync_state,
            "update_state": state.update_state,
            "is_historical_sync": state.is_historical_sync,
            "rescheduled_for": scene.instant(state.rescheduled_for),
        },
        "config": {**one.config, **more},
        "group_id": one.group_id,
        "service_version": 1,
        "connected_by": "simulator",
        "created_at": scene.instant(one.created_at),
        "succeeded_at": scene.instant(state.succeeded_at),
        "failed_at": scene.instant(state.failed_at),
        "pause_after_trial": False,
        "sync_frequency": state.sync_frequency,
        "data_delay_threshold": 0,
        "data_delay_sensitivity": "NORMAL",
        "daily_sync_time": None,
        "schedule_type": state.schedule_type,
        "networking_method": "Directly",
    }


def sync_row(scene: FivetranScene, sync: FivetranSync) -> dict[str, Any]:
    """Return an entry of the sync history."""
    volume = None if sync.end is None else 1.5
    row: dict[str, Any] = {
        "sync_id": sync.sync_id,
        "start": scene.instant(sync.start),
        "end": scene.instant(sync.end),
        "status": sync.status or scene.settings.running_history,
        "stages": {
            stage: {
                "start": scene.instant(sync.start),
                "end": scene.instant(sync.end),
                "volume": volume,
            }
            for stage in ("extract", "process", "load")
        },
    }
    if sync.reason is not None:
        row["reason"] = sync.reason
    return row


def _notes(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [
        {"code": code, "message": message, "details": f"{message}: see the dashboard"}
        for code, message in pairs
    ]
