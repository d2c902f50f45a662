"""How a simulated Fivetran behaves."""

from __future__ import annotations

from dataclasses import dataclass

from async_triggers.simulator.vendor import VendorSettings


@dataclass(slots=True, kw_only=True)
class FivetranSettings(VendorSettings):
    """How this Fivetran behaves.

    :ivar api_key: The key to accept, with its secret.
    :ivar life: The life of a sync for which nothing else was arranged.
    :ivar reschedule_after: Seconds until the next try, where a life ends rescheduled.
    :ivar run_schedules: Whether connections with the schedule ``auto`` sync by
        themselves, every ``sync_frequency`` minutes.
    :ivar already_syncing: What a start answers while a sync runs: ``ok`` answers 200
        and does nothing, ``conflict`` answers 409.
    :ivar paused_sync: What a start answers while the connection is paused or its setup
        is incomplete or broken, likewise; nothing is started either way.
    :ivar setup_tests_take: Seconds for which the setup tests keep the caller waiting.
    :ivar stop_blocks: Seconds that stopping a sync takes, for ``force`` and pausing.
    :ivar pause_answers_500: Whether pausing a running sync answers 500 although the
        connection is paused then.
    :ivar paused_history: The history's status of a sync that pausing has stopped.
    :ivar running_history: The history's status of a sync while it runs.
    :ivar sync_history: Whether the history endpoint exists.
    :ivar hourly_limit: Requests within any hour; 500 on a trial.
    :ivar retry_after: Seconds in ``Retry-After``; None is when a request is free.
    :ivar null_cursor: Whether the last page has ``next_cursor: null`` or none at all.
    :ivar stuck_cursor: Whether the list gives the same cursor again and again.
    :ivar config_padding: Bytes of ``config`` in every row.
    :ivar legacy_paths: Whether ``/v1/connectors`` and ``/force`` are served too.
    """

    api_key: str = "simulator-key"
    api_secret: str = "simulator-secret"  # noqa: S105 - made up
    life: str = "scheduled:1 syncing:5 succeeded"
    reschedule_after: float = 3600.0
    run_schedules: bool = False
    already_syncing: str = "ok"
    paused_sync: str = "ok"
    setup_tests_take: float = 0.0
    stop_blocks: float = 0.0
    pause_answers_500: bool = False
    paused_history: str = "PAUSED"
    running_history: str = "INCOMPLETE"
    sync_history: bool = True
    # https://fivetran.com/docs/rest-api/getting-started/rate-limiting
    hourly_limit: int = 20_000
    retry_after: int | None = None
    null_cursor: bool = True
    stuck_cursor: bool = False
    config_padding: int = 0
    legacy_paths: bool = False
