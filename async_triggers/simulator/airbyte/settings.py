"""How a simulated Airbyte behaves."""

from __future__ import annotations

from dataclasses import dataclass

from async_triggers.simulator.vendor import VendorSettings


@dataclass(slots=True, kw_only=True)
class AirbyteSettings(VendorSettings):
    """How this Airbyte behaves.

    :ivar auth: Which credentials it takes: ``token`` (client credentials at the token
        endpoint), ``bearer`` (static tokens), ``basic``; ``none`` checks nothing.
    :ivar token_lifetime: Seconds for which an access token is good.
    :ivar reported_lifetime: ``expires_in`` of the token endpoint, where it differs.
    :ivar wrong_credentials_status: Answer to wrong client credentials.
    :ivar unknown_job_status: Answer for a job id that does not exist: 403 for ordinary
        callers, 409 for instance admins.
    :ivar life: The life of a job for which nothing else was arranged.
    :ivar bytes_synced: Bytes of a whole sync.
    :ivar rows_synced: Rows of a whole sync.
    :ivar start_blocks: Seconds for which a start keeps the caller waiting. From 60 on
        the answer is a state conflict, although the job runs.
    :ivar job_appears_after: Seconds after the start request at which the job exists.
    :ivar cancel_blocks: Seconds until a cancel is done and answered.
    :ivar cancel_idle: What cancelling does where nothing runs: ``unchanged`` answers
        200, ``conflict`` (older servers) 409.
    :ivar queued_cancel_after: Seconds until a cancelled queued job is cancelled; the
        answer comes at once and still says ``queued``.
    :ivar threads: Server threads that answer requests; 0 for no bound.
    :ivar service_time: Seconds for which an ordinary request holds a thread.
    :ivar hydrate_lists: Whether list rows carry bytes and rows.
    :ivar show_nulls: Whether fields without a value are sent as null or left out.
    """

    auth: tuple[str, ...] = ("token", "bearer", "basic")
    client_id: str = "simulator-client"
    client_secret: str = "simulator-secret"  # noqa: S105 - made up
    bearer_tokens: tuple[str, ...] = ("simulator-token",)
    username: str = "airbyte"
    password: str = "password"  # noqa: S105 - made up
    # https://docs.airbyte.com/platform/using-airbyte/configuring-api-access
    token_lifetime: float = 900.0
    reported_lifetime: float | None = None
    wrong_credentials_status: int = 401
    unknown_job_status: int = 403
    life: str = "pending:1 running:5 succeeded"
    bytes_synced: int = 1_048_576
    rows_synced: int = 1_000
    start_blocks: float = 0.0
    job_appears_after: float = 0.0
    cancel_blocks: float = 0.0
    cancel_idle: str = "unchanged"
    queued_cancel_after: float = 2.0
    threads: int = 5
    service_time: float = 0.0
    hydrate_lists: bool = True
    show_nulls: bool = True
