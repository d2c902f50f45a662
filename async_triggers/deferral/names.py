"""Things at a vendor that are given by name: the one of that name, or what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from async_triggers.engine.errors import RequestRejected

MOST_COMPARED = 2000
"""Names that are searched for those nearest to one that is not there."""
SHOWN = 3
"""Names that a message shows at most."""


def one_named(
    vendor: str, kind: str, name: str, names: Mapping[str, str], *, instead: str
) -> str:
    """Return the id of the one thing of a name, among ``names`` by their ids.

    ``kind`` is the vendor's word for it. Raise
    :class:`~async_triggers.engine.errors.RequestRejected` unless there is exactly one: the
    message shows the nearest names, or the ids of all and ``instead``, which is to be given
    where a name is not enough.
    """
    found = [each for each, known in names.items() if known == name]
    if len(found) == 1:
        return found[0]

    if found:
        ids = ", ".join(found)
        msg = (
            f"{vendor} has {len(found)} {kind}s named {name!r} ({ids}): give {instead}"
        )
    else:
        near = ", ".join(map(repr, _nearest(name, names.values())))
        msg = (
            f"{vendor} has no {kind} named {name!r}: check the name, letter by letter"
            f"{f'. Nearest: {near}' if near else ''}"
        )

    raise RequestRejected(msg)


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    known = sorted({each for each in names if each})[:MOST_COMPARED]
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), lower, SHOWN, cutoff=0.4)
    return [lower[each] for each in near] or known[:SHOWN]
