"""``async-triggers completion``: a script that completes the command in a shell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM: Final = "async-triggers"


def register(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    parser_of_all: Callable[[], argparse.ArgumentParser],
) -> None:
    """Add the subcommand. ``parser_of_all`` makes the parser that is completed."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes this command in a shell",
        description=(
            "Print a script that completes this command. For bash, add to your ~/.bashrc:"
            ' eval "$(async-triggers completion bash)". For zsh, add to your ~/.zshrc:'
            ' eval "$(async-triggers completion zsh)". For fish, add to your config.fish:'
            " async-triggers completion fish | source"
        ),
    )
    parser.add_argument("shell", choices=sorted(_SCRIPTS))

    def run(chosen: argparse.Namespace) -> int:
        print(_SCRIPTS[chosen.shell](parser_of_all()), end="")
        return 0

    parser.set_defaults(run=run)


def words_of(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return what may follow each subcommand: its options, and words to choose from.

    What may follow the command itself stands under an empty name.
    """
    found = {"": _words(parser)}
    for name, each in _subparsers(parser):
        found[name] = _words(each)

    return found


def _subparsers(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:  # noqa: SLF001 - argparse shows them nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from action.choices.items()


def _words(parser: argparse.ArgumentParser) -> list[str]:
    words: list[str] = []
    for action in parser._actions:  # noqa: SLF001
        words += action.option_strings
        if not action.option_strings:
            words += map(str, action.choices or ())

    return words


def _bash(parser: argparse.ArgumentParser) -> str:
    words = words_of(parser)
    cases = "".join(
        f"        {name}) words='{' '.join(known)}' ;;\n"
        for name, known in words.items()
        if name
    )
    return f"""_async_triggers() {{
    local words current="${{COMP_WORDS[COMP_CWORD]}}"
    case "${{COMP_CWORD}}:${{COMP_WORDS[1]}}" in
        1:*) words='{" ".join(words[""])}' ;;
        *) case "${{COMP_WORDS[1]}}" in
{cases}        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _async_triggers {PROGRAM}
"""


def _zsh(parser: argparse.ArgumentParser) -> str:
    return (
        f"autoload -Uz compinit bashcompinit\ncompinit\nbashcompinit\n{_bash(parser)}"
    )


def _fish(parser: argparse.ArgumentParser) -> str:
    words = words_of(parser)
    lines = [
        f"complete -c {PROGRAM} -n __fish_use_subcommand -a '{' '.join(words[''])}'"
    ]
    lines += [
        f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {name}'"
        f" -a '{' '.join(known)}'"
        for name, known in words.items()
        if name
    ]
    return "\n".join(lines) + "\n"


_SCRIPTS: Final[dict[str, Callable[[argparse.ArgumentParser], str]]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
