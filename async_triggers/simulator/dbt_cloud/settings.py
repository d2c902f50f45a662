"""How a simulated dbt Cloud behaves."""

from __future__ import annotations

from dataclasses import dataclass

from async_triggers.simulator.dbt_cloud.model import DEFAULT_ACCOUNT
from async_triggers.simulator.vendor import VendorSettings


@dataclass(slots=True, kw_only=True)
class DbtCloudSettings(VendorSettings):
    """How this dbt Cloud behaves.

    :ivar account_id: The account that is there from the start; ``add_account`` adds
        others.
    :ivar tokens: Tokens to accept, as ``Token`` and as ``Bearer``, for every account.
    :ivar wrong_account_status: Answer for an account that is not there: 404 or 403.
    :ivar life: The life of a run for which nothing else was arranged.
    :ivar array_encoding: Which form of array filters works: ``repeated`` keys, one
        value in JSON ``brackets``, or ``both``.
    :ivar wrong_encoding: What the other form does: ``ignore`` leaves the list
        unfiltered, ``refuse`` answers 400.
    :ivar echo_filters: Whether lists show the filters that were applied.
    :ivar echo_ignored: Whether they show those too that were ignored.
    :ivar over_limit: What a page of more than 100 does: ``clamp`` or ``refuse``.
    :ivar minute_limit: Requests a minute, for each account.
    :ivar cooldown: Seconds for which everything is refused after too many requests.
    :ivar cancelled_early_has_end: Whether a run that was cancelled before it began
        has a ``finished_at``.
    :ivar cancel_takes: Seconds until a running run is cancelled; the answer is at once.
    :ivar logs_after: Seconds after a run's end at which logs and artifacts are there.
    :ivar time_style: ``space`` for ``2026-03-25 01:30:00.000000+00:00``, ``iso`` for
        ``2026-03-25T01:30:00.000000Z``.
    :ivar foreign_runs_per_minute: How many runs of others end in every minute.
    :ivar ui_url: Where ``href`` of a run leads; the API's own host where empty.
    """

    account_id: int = DEFAULT_ACCOUNT
    tokens: tuple[str, ...] = ("simulator-token",)
    wrong_account_status: int = 404
    life: str = "queued:1 starting:1 running:5 success"
    array_encoding: str = "both"
    wrong_encoding: str = "ignore"
    echo_filters: bool = True
    echo_ignored: bool = False
    over_limit: str = "clamp"
    minute_limit: int = 5000
    cooldown: float = 300.0
    cancelled_early_has_end: bool = False
    cancel_takes: float = 0.0
    logs_after: float = 0.0
    time_style: str = "space"
    foreign_runs_per_minute: float = 0.0
    ui_url: str = ""
