"""Checks one Airflow connection from its fields to the vendor's answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from async_triggers.commands.check_certificate import check_certificates
from async_triggers.commands.lookup import UnknownConnectionError, find_hook
from async_triggers.deferral.connection import read_extra
from async_triggers.deferral.errors import AsyncTriggersException, ConnectionUnusable
from async_triggers.deferral.finding import Finding, Level
from async_triggers.deferral.hook import words_of_failure
from async_triggers.deferral.unknown import unknown_keys
from async_triggers.engine.address import is_loopback
from async_triggers.engine.amounts import lasted
from async_triggers.engine.errors import RateLimited
from async_triggers.engine.wire import without_secrets
from async_triggers.engine.wording import begun
from async_triggers.provider_info import field_label

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from async_triggers.deferral.finding import Identity
    from async_triggers.deferral.hook import VendorHook
    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.wire import Account

CLOCK_NOTE: Final = 5.0
"""Seconds of difference between two clocks that are worth a note."""
CLOCK_WARNING: Final = 60.0
LITTLE_LEFT: Final = 0.1
"""The part of a vendor's limit below which little is left."""


def check_connection(conn_id: str, vendor: str | None = None) -> list[Finding]:
    """Return what is found, in the order in which a request meets it.

    Nothing is started or changed at the vendor.
    """
    try:
        hook = find_hook(conn_id, vendor)
        connection = hook.look_up()
    except UnknownConnectionError as error:
        return [
            Finding(
                topic="connection",
                level=Level.ERROR,
                text=error.problem,
                fix=begun(error.fix),
            )
        ]

    try:
        hook.account_of(connection)
        # Where the host may mean two paths, the one that answers.
        account = hook.first_account(lambda: None)
    except AsyncTriggersException as error:
        return [
            *_type(hook, connection),
            *_fields(hook, connection, None),
            Finding(topic="fields", level=Level.ERROR, text=words_of_failure(error)),
        ]

    found = [
        *_type(hook, connection),
        *_fields(hook, connection, account),
        *_extra_keys(hook, connection),
        Finding(topic="requests go to", level=Level.OK, text=account.base_url),
        *_encryption(hook, connection, account),
        *check_certificates(account),
    ]
    try:
        return found + hook.run(lambda leased: _survey(hook, leased), account=account)
    except AsyncTriggersException as error:
        return [*found, _without_answer(error)]


def _without_answer(error: AsyncTriggersException) -> Finding:
    """Return what it means that the vendor refused the first request."""
    text, cause = words_of_failure(error), error.cause
    if isinstance(cause, RateLimited):
        pause = lasted(cause.retry_after) or "a while"
        return Finding(
            topic="limit",
            level=Level.ERROR,
            text=text,
            fix=f"Wait {pause}, and find out which other program uses this account",
        )

    is_refused = isinstance(error, ConnectionUnusable)
    topic = "credentials" if is_refused else "answer"
    return Finding(topic=topic, level=Level.ERROR, text=text)


async def _survey(hook: VendorHook, leased: LeasedAccount) -> list[Finding]:
    """Return what the vendor's answers show. Raise what the first of them raises."""
    before = time.time()
    identity = await hook.identify(leased)
    clock = _clock(identity, between=(before, time.time()))
    return [
        Finding(topic="credentials", level=Level.OK, text=identity.text),
        clock,
        *_limit(hook, identity, leased.account),
        *(await _rights(hook, identity, leased)),
    ]


async def _rights(
    hook: VendorHook, identity: Identity, leased: LeasedAccount
) -> list[Finding]:
    if _is_short(hook.vendor.remaining(identity.reply)):
        text = "not probed: the few requests that are left belong to the tasks"
        return [Finding(topic="rights", level=Level.NOTE, text=text)]

    return await hook.find_rights(leased)


# Fields ---------------------------------------------------------------------------


def _type(hook: VendorHook, connection: Connection) -> list[Finding]:
    """Return that the type is another vendor's; the answers show whether that matters."""
    odd = hook.doubt_of_type(connection)
    if odd is None:
        return []

    text, fix = odd
    return [Finding(topic="type", level=Level.NOTE, text=text, fix=begun(fix))]


def _fields(
    hook: VendorHook, connection: Connection, account: Account | None
) -> list[Finding]:
    """Return the fields as they were read.

    ``account`` is what they were read as. Without one they are only said to be set: a
    secret may stand in the wrong field.
    """
    shown = {
        "host": without_secrets(connection.host or ""),
        "port": str(connection.port or ""),
        "schema": without_secrets(connection.schema or ""),
        "login": connection.login if account is not None and account.account_id else "",
    }
    if account is None:
        shown = {}

    found = []
    for name in ("host", "port", "login", "password", "schema"):
        value = getattr(connection, name)
        is_needed = name in {"host", "login", "password"}
        if value or is_needed:
            text = (shown.get(name) or "set") if value else "empty"
            found.append(_field(hook, name, text))

    if account is None:
        return found

    extra = read_extra(connection)
    for key, value in extra.items():
        if key in hook.extra_keys:
            is_plain = isinstance(value, bool | int | float)
            found.append(
                _field(hook, f"extra.{key}", str(value) if is_plain else "set")
            )

    return found


def _field(hook: VendorHook, name: str, text: str) -> Finding:
    return Finding(topic=field_label(hook.conn_type, name), level=Level.OK, text=text)


def _extra_keys(hook: VendorHook, connection: Connection) -> list[Finding]:
    unknown = unknown_keys(read_extra(connection), hook.extra_keys)
    return [
        Finding(
            topic="extra",
            level=Level.WARNING,
            text=text,
            fix="Correct the key's name, or remove it",
        )
        for text in unknown.values()
    ]


# The way there --------------------------------------------------------------------


def _encryption(
    hook: VendorHook, connection: Connection, account: Account
) -> list[Finding]:
    doubts = hook.doubts_of_route(connection, account)
    if doubts:
        return [
            Finding(topic="TLS", level=Level.WARNING, text=text, fix=begun(fix))
            for text, fix in doubts
        ]

    parts = urlsplit(account.base_url)
    if parts.scheme == "https":
        bundle = account.route.ca_bundle
        text = "certificates are checked" + (f", also with {bundle}" if bundle else "")
    elif is_loopback(parts.hostname):
        text = "not encrypted, which stays on this machine"
    else:
        text = "not encrypted, and no credentials are sent"

    return [Finding(topic="TLS", level=Level.OK, text=text)]


# What the answer shows ------------------------------------------------------------


def _clock(identity: Identity, *, between: tuple[float, float]) -> Finding:
    """Compare the vendor's clock with this machine's, within the second of a ``Date``."""
    date = identity.reply.date
    if date is None:
        text = "unknown: the answer has no Date"
        return Finding(topic="clock", level=Level.NOTE, text=text)

    # A Date is rounded down.
    ahead = date + 0.5 - sum(between) / 2
    if abs(ahead) <= CLOCK_NOTE:
        return Finding(topic="clock", level=Level.OK, text="agrees with the vendor's")

    way = "ahead of" if ahead > 0 else "behind"
    return Finding(
        topic="clock",
        level=Level.WARNING if abs(ahead) > CLOCK_WARNING else Level.NOTE,
        text=f"the vendor's clock is {abs(ahead):,.0f} s {way} this machine's",
        fix="Synchronise this machine's clock (NTP)",
    )


def _limit(hook: VendorHook, identity: Identity, account: Account) -> list[Finding]:
    """Return what of the vendor's limit is left, and which part of it is used here."""
    budget = account.budget
    share = f"{budget.share:.0%} of {budget.requests:,} in {budget.per:,.0f} s"
    found = [
        Finding(topic="limit", level=Level.OK, text=f"this process takes up to {share}")
    ]
    left = hook.vendor.remaining(identity.reply)
    if left is None:
        return found

    remaining, allowed = left
    is_short = _is_short(left)
    found.append(
        Finding(
            topic="limit",
            level=Level.WARNING if is_short else Level.OK,
            text=f"{remaining:,.0f} of {allowed:,.0f} requests are left",
            fix="Find out which other program uses this account" if is_short else "",
        )
    )
    if allowed < budget.requests:
        field = field_label(hook.conn_type, "extra.requests_per_minute")
        found.append(
            Finding(
                topic="limit",
                level=Level.WARNING,
                text=f"the vendor allows {allowed:,.0f}, fewer than {budget.requests:,}",
                fix=f"Set {field} to {allowed * 60 / budget.per:.4g}",
            )
        )

    return found


def _is_short(left: tuple[float, float] | None) -> bool:
    return left is not None and left[0] < LITTLE_LEFT * left[1]
