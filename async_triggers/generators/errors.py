"""What is wrong, and where it stands in the YAML."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol

from async_triggers.deferral.errors import AsyncTriggersException
from async_triggers.deferral.unknown import did_you_mean

DEFAULT = "default"
"""The key whose value lies under every DAG of a file."""


class Lines(Protocol):
    """The lines of places, by the keys that lead there."""

    def get(self, keys: tuple[str, ...], /) -> int | None:
        """Return the line, None for a place that there is not."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a YAML file: the keys that lead there, from the top.

    ``lines`` knows the lines of the file; it is empty for a configuration that did not
    come from one.
    """

    file: str
    keys: tuple[str, ...] = ()
    lines: Lines = field(default_factory=dict[tuple[str, ...], int], repr=False)

    def at(self, *keys: object) -> Place:
        """Return a place below this one."""
        return replace(self, keys=(*self.keys, *map(str, keys)))

    @property
    def line(self) -> int | None:
        """The line of the place, else of the nearest above it."""
        for length in range(len(self.keys), 0, -1):
            line = self.lines.get(self.keys[:length])
            if line is not None:
                return line

        return None

    def __str__(self) -> str:
        """Name the file, the line and the keys."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {'.'.join(self.keys)}" if self.keys else where


class GeneratorError(AsyncTriggersException, ValueError):
    """Tasks or a DAG cannot be made from YAML. Names the place and the next step."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


def unknown_key(
    place: Place, key: object, known: Collection[str], there_are: str
) -> GeneratorError:
    """Return the error about a key that nothing reads, with the one that may be meant.

    ``there_are`` ends in a sentence that lists those that are known.
    """
    meant = did_you_mean(str(key), known)
    words = (
        f"unknown key. {meant} {there_are}" if meant else f"unknown key. {there_are}"
    )
    return GeneratorError(place.at(key), words)


class Unanswered(AsyncTriggersException):
    """dbt or a vendor gave no answer, or none that can be used."""


class OutOfReach(Unanswered):
    """It did not answer at all: an earlier answer is better than none."""


class TookTooLong(OutOfReach):
    """The answer did not come within the time that a parse has."""


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 200


def brief(value: object) -> str:
    """Show a value, cut where it is long: aliases of YAML may make it endless."""
    return _BRIEF.repr(value)


def refuse(text: str) -> NoReturn:
    """Refuse ``dbt_list_args``, with a sentence that says why."""
    msg = f"dbt_list_args: {text}"
    raise Unanswered(msg)
