"""Marked secrets, and the search for them in whatever can be seen."""

from __future__ import annotations

import gc
from base64 import b64encode
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any
from urllib.parse import quote, quote_plus

CLIENT = "planted-Client/4711"
SECRET = "planted-Secret+4712"
TOKEN = "planted-Token=4713"
PROXY_USER = "planted-ProxyUser-4714"
PROXY_PASSWORD = "planted-ProxyWord-4715"
EVERYTHING = (CLIENT, SECRET, TOKEN, PROXY_USER, PROXY_PASSWORD)

_NEVER_WALKED = (ModuleType, FunctionType, MethodType, type)


def pair(login: str, password: str) -> str:
    """Return what a basic header holds."""
    return b64encode(f"{login}:{password}".encode()).decode()


def forms(*more: str) -> set[str]:
    """Return every way in which a planted secret may be written."""
    found: set[str] = {*more, pair(CLIENT, SECRET), pair(PROXY_USER, PROXY_PASSWORD)}
    for secret in (*EVERYTHING, *more):
        found |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
        found.add(repr(secret)[1:-1])
        raw = secret.encode()
        found.add(b64encode(raw).decode().rstrip("="))
        # The same in the middle of something longer, at each of its three offsets.
        for pad in (1, 2):
            found.add(b64encode(b"." * pad + raw).decode()[4:-4])

    return {form for form in found if len(form) > 8}


class Search:
    """Collects what people can see, and looks for secrets in it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.issued: set[str] = set()

    def see(self, where: str, what: object) -> None:
        """Take in a text, or what is shown of a value."""
        self.seen.append((where, what if isinstance(what, str) else repr(what)))

    def see_error(self, error: BaseException, where: str = "error") -> None:
        """Take in an exception with all that hangs on it."""
        for each in chain(error):
            name = f"{where} {type(each).__name__}"
            self.see(name, str(each))
            self.see(name, each)
            self.see(name, each.args)
            self.see(name, vars(each))

    def see_reachable(self, *roots: object) -> None:
        """Take in the repr of every object of ours that can be got at from here."""
        for each in reachable(*roots):
            self.see(f"repr of {type(each).__name__}", each)

    def found(self) -> list[str]:
        """Tell where a secret can be seen."""
        wanted = forms(*self.issued)
        return [
            f"{where}: {form!r} in {text[:300]!r}"
            for where, text in self.seen
            for form in wanted
            if form in text
        ]


def chain(error: BaseException) -> Iterator[BaseException]:
    """Walk an exception, what it came from, and what it was raised on top of."""
    todo: list[BaseException | None] = [error]
    known: set[int] = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in known:
            continue

        known.add(id(each))
        yield each
        todo += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            todo += each.exceptions


def reachable(*roots: object) -> Iterator[object]:
    """Walk what objects of ours hold, and what those hold."""
    todo = list(roots)
    known: set[int] = set()
    while todo:
        each = todo.pop()
        if id(each) in known or isinstance(each, _NEVER_WALKED):
            continue

        known.add(id(each))
        ours = type(each).__module__.startswith("async_triggers")
        if ours:
            yield each

        if ours or isinstance(each, Mapping | set | list | tuple):
            todo += _held(each)


def _held(each: Any) -> list[object]:
    return [
        held
        for held in gc.get_referents(each)
        if not isinstance(held, str | bytes | int | float | None)
    ]
