"""What the extra of every vendor's connection may hold, and how it is read.

All of it is pure but for Airflow's configuration, and says which field is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from async_triggers.deferral.compat import conf
from async_triggers.deferral.fields import flag_of
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.engine.wire import Belief, Budget, Route

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection

EXTRA_KEYS = frozenset(
    {
        "proxies",
        "timeout",
        "connect_timeout",
        "read_timeout",
        "verify",
        "ca_bundle",
        "requests_per_minute",
        "share",
        "concurrent_polls",
        "concurrent_starts",
        "spare_share",
        "doubt_seconds",
        "in_between_seconds",
        "first_contact_seconds",
    }
)
"""What the extra of every vendor's connection may hold."""
_IN_PATHS = frozenset("/\\.")
"""What one of stands in any path of a PEM file, and in no word for yes or no."""


def read_extra(connection: AirflowConnection) -> dict[str, Any]:
    """Return the connection's extra as a dict, without a request to Airflow."""
    text = (connection.extra or "").strip()
    if text in {"", "null"}:
        return {}

    msg = "extra is not a JSON object: correct the connection's extra"
    try:
        extra = json.loads(text)
    except (ValueError, RecursionError):
        extra = None
        msg = "extra is not JSON: correct the connection's extra"

    # Not within the except clause: the decoder's error holds the whole text.
    if not isinstance(extra, dict):
        raise AccountMisconfigured(msg)

    return extra


def read_route(extra: Mapping[str, Any], *, total: float) -> Route:
    """Read proxies, timeouts and TLS settings from a connection's extra.

    ``proxies`` is a URL or an object of URLs by scheme; ``timeout`` seconds for one
    exchange; ``connect_timeout`` and ``read_timeout`` its parts; ``verify`` false switches
    the check of certificates off; ``ca_bundle`` names a PEM file.
    """
    timeout = read_number(extra, "timeout", total, least=0.1)
    connect = read_number(extra, "connect_timeout", min(10.0, timeout), least=0.1)
    read = read_number(extra, "read_timeout", min(30.0, timeout), least=0.1)
    verify, bundle = _read_verify(extra)
    return Route(
        proxies=_read_proxies(extra.get("proxies")),
        verify=verify,
        ca_bundle=bundle,
        total=timeout,
        connect=connect,
        read=read,
    )


def _read_verify(extra: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether certificates are checked, and a PEM file to check them with."""
    verify, bundle = extra.get("verify"), extra.get("ca_bundle") or ""
    is_set = verify is not None and verify != ""
    flag, source = flag_of(verify) if is_set else True, "ca_bundle"
    if flag is None and isinstance(verify, str) and _IN_PATHS & set(verify):
        # As requests has it: a path to certificates.
        flag, bundle, source = True, verify.strip(), "verify"

    if flag is None:
        msg = "extra.verify must be true, false or the path of a PEM file"
        raise AccountMisconfigured(msg)

    # Not repeated: a key is pasted with its certificate.
    if not isinstance(bundle, str) or not bundle.isprintable() or "-----" in bundle:
        msg = f"extra.{source} must be the path of a PEM file, and not what it holds"
        raise AccountMisconfigured(msg)

    return flag, bundle


def _read_proxies(value: object) -> tuple[tuple[str, str], ...]:
    if not value:
        return ()

    if isinstance(value, str):
        value = {"http": value, "https": value} if value.strip() else {}

    if not isinstance(value, Mapping) or not all(
        isinstance(scheme, str) and isinstance(url, str)
        for scheme, url in value.items()
    ):
        msg = (
            "extra.proxies must be a URL or an object such as"
            ' {"https": "http://proxy:3128"}'
        )
        raise AccountMisconfigured(msg)

    # requests also allows the keys "http://" and "https://".
    cleaned = {
        scheme.strip().removesuffix("://"): url.strip() for scheme, url in value.items()
    }
    for url in cleaned.values():
        if not _is_http(url):
            msg = (
                "extra.proxies must hold http or https URLs, such as http://proxy:3128"
            )
            raise AccountMisconfigured(msg)

    return tuple(sorted(cleaned.items()))


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # The port is read here and nowhere else.
        return (
            parts.scheme in {"http", "https"}
            and parts.port != 0
            and bool(parts.hostname)
        )
    except ValueError:
        return False


def read_number(
    extra: Mapping[str, Any], name: str, default: float, *, least: float
) -> float:
    """Read a number from a connection's extra."""
    value = extra.get(name)
    if value is None or value == "":
        return default

    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")

    if not least <= number < float("inf"):
        msg = f"extra.{name} must be a number of at least {least:g}, not {value!r:.100}"
        raise AccountMisconfigured(msg)

    return number


def read_budget(
    extra: Mapping[str, Any], default: Budget, section: str, *, knows_limit: bool = True
) -> Budget:
    """Read how much may be requested from ``extra``, else from ``[async_triggers]``.

    Options are named ``<vendor>_<option>`` in the section and ``<option>`` in ``extra``:
    ``requests_per_minute``, ``share``, ``concurrent_polls``, ``concurrent_starts``. The
    option ``spare_share`` is one for all vendors. Where the vendor documents no limit,
    and so the default does not know one, it counts only with ``requests_per_minute``.
    """
    minutes = default.per / 60.0
    unset = _option(extra, section, "requests_per_minute", 0.0, least=0.1) == 0.0
    spare = _setting(extra, "spare_share", default.spare, least=0.0)
    per_minute = _option(
        extra, section, "requests_per_minute", default.requests / minutes, least=0.1
    )
    return Budget(
        requests=max(1, round(per_minute * minutes)),
        per=default.per,
        share=min(1.0, _option(extra, section, "share", default.share, least=0.01)),
        spare=0.0 if unset and not knows_limit else min(1.0, spare),
        fastest=default.fastest,
        polls=int(_option(extra, section, "concurrent_polls", default.polls, least=1)),
        starts=int(
            _option(extra, section, "concurrent_starts", default.starts, least=1)
        ),
        cancels=default.cancels,
        cooldown=default.cooldown,
    )


def _option(
    extra: Mapping[str, Any], section: str, name: str, default: float, *, least: float
) -> float:
    default = _configured(f"{section}_{name}", default, least=least)
    return read_number(extra, name, default, least=least)


def _setting(
    extra: Mapping[str, Any], name: str, default: float, *, least: float
) -> float:
    default = _configured(name, default, least=least)
    return read_number(extra, name, default, least=least)


def _configured(name: str, default: float, *, least: float) -> float:
    """Read a number from ``[async_triggers]``."""
    configured = conf.get("async_triggers", name, fallback="")
    if not configured:
        return default

    try:
        return read_number({name: configured}, name, default, least=least)
    except AccountMisconfigured:
        msg = (
            f"[async_triggers] {name} must be a number of at least {least:g}, not"
            f" {configured!r}"
        )
        raise AccountMisconfigured(msg) from None


def read_belief(extra: Mapping[str, Any]) -> Belief:
    """Read how long refusals must last before they end a wait.

    ``doubt_seconds``, ``in_between_seconds`` and ``first_contact_seconds``, from ``extra``
    or else from ``[async_triggers]``.
    """
    default = Belief()
    return Belief(
        doubt=_setting(extra, "doubt_seconds", default.doubt, least=0.0),
        in_between=_setting(extra, "in_between_seconds", default.in_between, least=0.0),
        first_contact=_setting(
            extra, "first_contact_seconds", default.first_contact, least=0.0
        ),
    )
