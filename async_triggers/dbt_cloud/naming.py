"""The words of a task of dbt Cloud: ids that may be left out, and ``hook_params``."""

from __future__ import annotations

from collections.abc import Mapping

from async_triggers.deferral.arguments import (
    ArgumentUnusable,
    time_limit,
    whole_number,
)

CONNECTION = "dbt_cloud_default"
"""The Airflow connection where a task names none."""
ATTEMPTS = 4
"""How often a call is tried where ``hook_params`` say nothing."""


def optional_id(name: str, value: object) -> int | None:
    """Return an id that may be left out, also where a template made it a text."""
    return None if value is None or value == "" else whole_number(name, value)


def check_hook_params(value: object) -> tuple[float | None, int, tuple[str, ...]]:
    """Return ``timeout_seconds``, ``retry_limit``, and the names that have no effect.

    Raise :class:`~async_triggers.deferral.arguments.ArgumentUnusable` for any that cannot
    be used.
    """
    if value is None:
        return None, ATTEMPTS, ()

    if not isinstance(value, Mapping):
        msg = f"hook_params must be an object, not {value!r}"
        raise ArgumentUnusable(msg)

    timeout = time_limit("hook_params['timeout_seconds']", value.get("timeout_seconds"))

    limit = value.get("retry_limit")
    if limit is None:
        limit = ATTEMPTS
    elif whole_number("hook_params['retry_limit']", limit) < 1:
        msg = f"hook_params['retry_limit'] must be at least 1, not {limit!r}"
        raise ArgumentUnusable(msg)

    known = {"timeout_seconds", "retry_limit"}
    return timeout, int(limit), tuple(sorted(set(map(str, value)) - known))
