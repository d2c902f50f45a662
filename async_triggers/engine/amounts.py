"""Amounts as people read them: ``12,400 rows``, ``38 MB``, ``14 min``."""

from __future__ import annotations

_SIZES = ("bytes", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000.0
_FEW = 10.0
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def counted(number: float | None, noun: str) -> str:
    """Return ``12,400 rows``; empty for None."""
    if number is None:
        return ""

    return f"{number:,.0f} {noun}" + ("" if number == 1 else "s")


def sized(size: float | None) -> str:
    """Return a number of bytes in decimal units, such as ``38 MB``; empty for None."""
    if size is None:
        return ""

    power = 0
    while round(size) >= _STEP and power < len(_SIZES) - 1:
        size, power = size / _STEP, power + 1

    digits = 1 if power and size < _FEW else 0
    return f"{size:,.{digits}f} {_SIZES[power]}"


def lasted(seconds: float | None) -> str:
    """Return ``45 s``, ``14 min``, ``2 h 5 min`` or ``3 d 4 h``; empty for None."""
    if seconds is None or seconds < 0:
        return ""

    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"

    if whole < _HOUR:
        return f"{whole // _MINUTE} min"

    if whole < _DAY:
        return _pair(whole, _HOUR, "h", _MINUTE, "min")

    return _pair(whole, _DAY, "d", _HOUR, "h")


def _pair(whole: int, large: int, name: str, small: int, rest: str) -> str:
    left = whole % large // small
    return f"{whole // large} {name}" + (f" {left} {rest}" if left else "")
