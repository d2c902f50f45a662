"""Reads an Airflow connection to Ferry."""

from __future__ import annotations

from async_triggers.deferral.plain_hook import PlainHook
from async_triggers.engine.wire import Budget
from ferry_provider import FORM
from ferry_provider.api import FERRY, HARBOUR


class FerryHook(PlainHook):
    """Ferry's API: the password of a connection is a boarding pass."""

    conn_type = "ferry"
    hook_name = "Ferry"
    default_conn_name = "ferry_default"
    base_url = "https://api.ferry.example"
    vendor = FERRY
    form = FORM
    budget = Budget(requests=600, per=60.0)
    probe = HARBOUR
