"""The store of the budget that several processes share: a Redis, through `limits`.

It is off unless ``[async_triggers] budget_url`` is set, and nothing of it is loaded before.
The URL may hold a password: it stands in no message, and no object here shows it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from configparser import InterpolationError
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from async_triggers.deferral.compat import conf
from async_triggers.engine.errors import AccountMisconfigured, Unreachable

if TYPE_CHECKING:
    from limits.aio.storage import MovingWindowSupport
    from redis.asyncio import ConnectionPool

    from async_triggers.engine.shared_budget import Store

OPTION = "budget_url"
SHORTEST = 0.05
"""Seconds to wait at least where clocks of hosts differ, or others were quicker."""
SKEW = 2.0
"""Seconds that the clocks of hosts may differ by, at most."""


class ClocksDiffer(Exception):
    """By this host's clock, all requests of a window were taken in the future.

    Hosts whose clocks are ahead would go on to take each one before this host may.
    """


class LimitsStore:
    """Counts in a storage of `limits`; see :class:`~.shared_budget.Store`.

    A moving window: the other strategies of `limits` let through up to twice as much as
    they are set to in a window that begins within one of theirs.
    """

    def __init__(
        self, storage: MovingWindowSupport, pool: ConnectionPool | None = None
    ) -> None:
        self._storage = storage
        self._pool = pool

    async def take(self, key: str, most: int, seconds: int) -> float:
        """Take one request of a window.

        Raise :class:`ClocksDiffer` where others could take all of them before this host.
        """
        if await self._storage.acquire_entry(key, most, seconds):
            return 0.0

        oldest, _ = await self._storage.get_moving_window(key, most, seconds)
        wait = oldest + seconds - time.time()
        if wait > seconds + SKEW:
            raise ClocksDiffer

        return max(SHORTEST, wait)

    async def close(self) -> None:
        """Close the connections to the store."""
        if self._pool is not None:
            await self._pool.disconnect()


@cache
def store_maker() -> Callable[[], Store] | None:
    """Return what makes the store that is set, None where none is (blocking).

    It loads what the store needs, and runs the command of ``budget_url_cmd``. Raise
    :class:`~async_triggers.engine.errors.AccountMisconfigured` where the setting is wrong,
    :class:`~async_triggers.engine.errors.Unreachable` where it cannot be read now.
    """
    url = _setting()
    if not url:
        return None

    try:
        from limits.aio.storage import RedisStorage  # noqa: PLC0415 - only where it is set
        from redis.asyncio import ConnectionPool  # noqa: F401, PLC0415 - as above
    except ImportError:
        msg = (
            f"[async_triggers] {OPTION} is set, and what it needs is not installed: pip"
            " install 'airflow-provider-async-triggers[redis]'"
        )
        raise AccountMisconfigured(msg) from None

    def make() -> Store:
        pool = make_pool()
        storage = RedisStorage(
            # Limits would otherwise repeat the URL in errors.
            "async+redis://",
            # What Airflow's Celery executor has; coredis does not go with its packages.
            implementation="redispy",
            # As it is documented, and typed too narrowly.
            connection_pool=pool,  # type: ignore[arg-type]
        )
        return LimitsStore(storage, pool)

    try:
        make_pool = _pool_maker(url)
        make()
    except Exception:  # noqa: BLE001 - it may repeat the URL
        msg = (
            f"[async_triggers] {OPTION} is not the URL of a Redis, such as"
            " redis://host:6379/5"
        )
    else:
        return make

    raise AccountMisconfigured(msg)


def _pool_maker(url: str) -> Callable[[], ConnectionPool]:
    """Return what makes pools of connections; raise where the URL is wrong (blocking)."""
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - only where it is set
    from redis.asyncio.connection import AbstractConnection  # noqa: PLC0415 - as above

    # Redis-py would read its version from the disk for each connection, on the loop.
    is_read = "driver_info" in inspect.signature(AbstractConnection).parameters
    options: dict[str, Any] = {"driver_info": None} if is_read else {}

    class Pool(ConnectionPool):
        """Connections that share what they know of certificates."""

        tls: Any = None

        def make_connection(self) -> Any:
            connection = super().make_connection()  # type: ignore[no-untyped-call]
            if self.tls is not None:
                connection.ssl_context = self.tls

            return connection

    parts = urlsplit(url)
    database = unquote(parts.path).strip("/")
    is_path = parts.scheme != "unix" and "db" not in parse_qs(parts.query)
    if is_path and database and not database.isdecimal():
        # Redis-py would take the first database.
        msg = "the path of the URL is not the number of a database"
        raise ValueError(msg)

    # Only a connection knows what may follow the "?" of a URL.
    first = Pool.from_url(url, **options).make_connection()
    Pool.tls = getattr(first, "ssl_context", None)
    if Pool.tls is not None:
        # To read all certificates takes tens of milliseconds, which would be the loop's.
        # Where a file is missing now, each connection tries again.
        with suppress(OSError):
            Pool.tls.get()

    return lambda: Pool.from_url(url, **options)


def _setting() -> str:
    error: AccountMisconfigured | Unreachable
    try:
        url = str(conf.get("async_triggers", OPTION, fallback="") or "").strip()
        name = (
            "" if url else conf.get("async_triggers", f"{OPTION}_secret", fallback="")
        )
    except InterpolationError:
        # It repeats the value.
        msg = f'[async_triggers] {OPTION}: in airflow.cfg, write "%%" for each "%"'
        error = AccountMisconfigured(msg)
    except Exception as reason:  # noqa: BLE001 - it may repeat what a command has printed
        msg = (
            f"[async_triggers] {OPTION} could not be read ({type(reason).__name__}):"
            " check its command or secret"
        )
        # A secrets backend may be away for a moment, and no task that waits fails by that.
        error = Unreachable(msg)
    else:
        if not name:
            return url

        # Airflow makes no difference between this and an option that is not set.
        msg = (
            f"[async_triggers] {OPTION}_secret is set, and Airflow's secrets backend has"
            " nothing by its name"
        )
        error = Unreachable(msg)

    raise error
