"""The options of ``dbt ls`` in ``dbt_list_args``, read as dbt reads them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from async_triggers.generators.errors import Unanswered

# https://docs.getdbt.com/reference/commands/list: each of these takes all words up to the
# next option.
_OPTIONS = {
    "-s": "select",
    "--select": "select",
    "-m": "models",
    "--model": "models",
    "--models": "models",
    "--exclude": "exclude",
    "--resource-type": "resource-type",
    "--resource-types": "resource-type",
}
_WHERE_TO_WRITE = frozenset({"--log-path", "--target-path"})
# Options of one value, which is theirs even where it begins with a dash.
_ONE_VALUE = frozenset(
    {
        "-t",
        "--defer-state",
        "--indirect-selection",
        "--log-file-max-bytes",
        "--log-format",
        "--log-format-file",
        "--log-level",
        "--log-level-file",
        "--output",
        "--printer-width",
        "--profile",
        "--profiles-dir",
        "--project-dir",
        "--selector",
        "--state",
        "--target",
        "--vars",
        "--warn-error-options",
    }
)


def option_values(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option that names nodes or their types, with its values.

    Raise :class:`Unanswered` for anything else: only dbt itself can follow it.
    """
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        option, value = _split(word)
        if option not in _OPTIONS:
            msg = (
                f"dbt_list_args: {word!r} needs dbt itself; with manifest_path there are"
                " --select and --exclude"
            )
            raise Unanswered(msg)

        if value is None:
            if not rest or rest[0].startswith("-"):
                msg = f"dbt_list_args: {word} needs a value"
                raise Unanswered(msg)

            value = rest.pop(0)

        values = value.split(" ")
        while rest and not rest[0].startswith("-"):
            values.append(rest.pop(0))

        yield _OPTIONS[option], values


def for_list(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments as ``dbt ls --resource-type source`` takes them.

    ``--select`` stands for ``--models``, which dbt takes for models alone and refuses
    beside ``--resource-type``. Where dbt writes is not the arguments' to say. Raise
    :class:`Unanswered` for ``--select`` and ``--models`` at once, and for either or
    ``--exclude`` beside ``--selector``.
    """
    found: list[str] = []
    seen: set[str | None] = set()
    words = iter(arguments)
    for word in words:
        name = word.partition("=")[0]
        if name in _WHERE_TO_WRITE:
            if name == word:
                next(words, None)

            continue

        option, value = _split(word)
        meaning = _OPTIONS.get(option)
        seen |= {meaning, option}
        if meaning == "models":
            found += ["--select"] if value is None else ["--select", value]
        else:
            found.append(word)
            if word in _ONE_VALUE:
                found += [each for each in [next(words, None)] if each is not None]

    if {"select", "models"} <= seen:
        msg = "dbt_list_args: dbt takes either --select or --models: keep one"
        raise Unanswered(msg)

    # The line in which dbt says so is one that --quiet hides (1.12), or none (1.11).
    if "--selector" in seen and seen & {"select", "models", "exclude"}:
        msg = (
            "dbt_list_args: dbt ignores --select, --models and --exclude beside"
            " --selector: keep either, or write the selection into the selector"
        )
        raise Unanswered(msg)

    return tuple(found)


def shown(arguments: Sequence[str]) -> str:
    """Return the command that a person may try, without the values of ``--vars``."""
    words = list(for_list(arguments))
    for at, word in enumerate(words):
        if word.startswith("--vars="):
            words[at] = "--vars=..."
        elif at and words[at - 1] == "--vars":
            words[at] = "..."

    return shlex.join(["dbt", "ls", *words, "--resource-type", "source"])


def value_of(arguments: Sequence[str], *options: str) -> str | None:
    """Return the last value of an option that takes one."""
    found = None
    for word, after in zip_longest(arguments, arguments[1:]):
        name, equals, value = word.partition("=")
        if name in options:
            found = value if equals else after

    return found


def _split(word: str) -> tuple[str, str | None]:
    """Split ``--select=a`` and ``-sa``; the value is None where it is the next word."""
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return option, value if equals else None

    # dbt takes "-s=a" for the selection "=a", which no one means.
    if word[:2] in _OPTIONS and not word.startswith("=", 2):
        return word[:2], word[2:] or None

    return word, None
