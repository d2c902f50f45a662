"""The one place that knows which Airflow this is, and decides by what it has.

Everything the package takes from Airflow beyond its public classes comes through here, so
that a change in Airflow is met in one place. What a DAG file needs of it are names; the
rest is loaded by the task or the trigger that uses it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.deferral.compat.names import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
    TaskDeferralTimeout,
    TaskDeferred,
    conf,
)
from async_triggers.deferral.on_demand import on_demand

if TYPE_CHECKING:
    from async_triggers.deferral.compat.features import (
        HAS_RETRY_POLICY,
        STARTS_FROM_TRIGGER,
        has_retry_policy,
        has_setting,
        is_resumed,
        no_lineage,
        returns_dag_result,
        wants_lineage,
    )
    from async_triggers.deferral.compat.kills import (
        CALLS_ON_KILL,
        bridge_kill,
        expect_kills,
    )
    from async_triggers.deferral.compat.store import (
        HAS_OWN_STORE,
        Store,
        VariableStore,
        airflows_store,
        forget_from_trigger,
        store_of,
        why_forgetful,
    )
    from async_triggers.deferral.compat.talk import (
        OWNER_KEY,
        RETURN_KEY,
        claim_left_behind,
        clears_state_on_success,
        earlier_address,
        earlier_address_of,
        earliest_event,
        has_listeners,
        has_mapped_downstream,
        has_own_xcom_backend,
        is_waited_for,
        owner_token,
        push_from_trigger,
        push_owner_token,
        read_claim,
        stats,
        task_state,
        task_state_on_worker,
        write_claim,
    )
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            f"{__name__}.features": (
                "HAS_RETRY_POLICY",
                "STARTS_FROM_TRIGGER",
                "has_retry_policy",
                "has_setting",
                "is_resumed",
                "no_lineage",
                "returns_dag_result",
                "wants_lineage",
            ),
            f"{__name__}.kills": (
                "CALLS_ON_KILL",
                "bridge_kill",
                "expect_kills",
            ),
            f"{__name__}.store": (
                "HAS_OWN_STORE",
                "Store",
                "VariableStore",
                "airflows_store",
                "forget_from_trigger",
                "store_of",
                "why_forgetful",
            ),
            f"{__name__}.talk": (
                "OWNER_KEY",
                "RETURN_KEY",
                "claim_left_behind",
                "clears_state_on_success",
                "earlier_address",
                "earlier_address_of",
                "earliest_event",
                "has_listeners",
                "has_mapped_downstream",
                "has_own_xcom_backend",
                "is_waited_for",
                "owner_token",
                "push_from_trigger",
                "push_owner_token",
                "read_claim",
                "stats",
                "task_state",
                "task_state_on_worker",
                "write_claim",
            ),
        },
    )

__all__ = [
    "CALLS_ON_KILL",
    "HAS_OWN_STORE",
    "HAS_RETRY_POLICY",
    "OWNER_KEY",
    "RETURN_KEY",
    "STARTS_FROM_TRIGGER",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "Store",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "VariableStore",
    "airflows_store",
    "bridge_kill",
    "claim_left_behind",
    "clears_state_on_success",
    "conf",
    "earlier_address",
    "earlier_address_of",
    "earliest_event",
    "expect_kills",
    "forget_from_trigger",
    "has_listeners",
    "has_mapped_downstream",
    "has_own_xcom_backend",
    "has_retry_policy",
    "has_setting",
    "is_resumed",
    "is_waited_for",
    "no_lineage",
    "owner_token",
    "push_from_trigger",
    "push_owner_token",
    "read_claim",
    "returns_dag_result",
    "stats",
    "store_of",
    "task_state",
    "task_state_on_worker",
    "wants_lineage",
    "why_forgetful",
    "write_claim",
]
