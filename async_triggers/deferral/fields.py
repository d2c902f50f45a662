"""Single values out of a connection's fields, as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from async_triggers.engine.errors import AccountMisconfigured

_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
"""What Airflow takes for a boolean in its own configuration, and what YAML does."""


def plain_field(value: str | None) -> str:
    """Return an id, a host or a login without what was pasted around it."""
    return (value or "").strip()


def secret_field(value: str | None) -> str:
    """Return a secret without the end of a line, which a file that held it has.

    Blanks may belong to it, unless it consists of nothing else.
    """
    secret = (value or "").rstrip("\r\n")
    return secret if secret.strip() else ""


def flag_of(value: object) -> bool | None:
    """Return a boolean, also where it was written as a text or a number; else None."""
    if isinstance(value, bool):
        return value

    if isinstance(value, str | int):
        return _WORDS.get(str(value).strip().lower())

    return None


def read_flag(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Read a boolean from a connection's extra; None and an empty text are not set."""
    value = extra.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        return default

    flag = flag_of(value)
    if flag is None:
        msg = f"extra.{name} must be true or false"
        raise AccountMisconfigured(msg)

    return flag
