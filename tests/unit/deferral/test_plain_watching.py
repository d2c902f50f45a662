"""The watcher of a vendor of another package."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ferry_provider.events import CrossingEnded
from ferry_provider.hooks import FerryHook

from async_triggers.deferral.plain_watching import PlainWatcher
from async_triggers.deferral.watching import WatcherUnusable


class Unchecked(PlainWatcher):
    """One of a vendor that cannot show a route by itself."""

    hook_class = FerryHook
    place = "route"


def test_it_names_what_it_watches_and_its_connection() -> None:
    watcher = CrossingEnded(" dover-calais ")

    assert watcher.make_watch().place == ("route", "dover-calais")
    assert watcher.conn_id == "ferry_default"
    assert CrossingEnded("a", "ferry_north").make_hook().conn_id == "ferry_north"
    assert "route dover-calais" in CrossingEnded("dover-calais").subject


def test_it_is_stored_by_the_arguments_that_make_it() -> None:
    classpath, arguments = CrossingEnded("a", statuses=("error",)).serialize()

    again = CrossingEnded(**arguments)

    assert classpath == "ferry_provider.events.CrossingEnded"
    assert again.serialize() == (classpath, arguments)
    assert again.key == CrossingEnded("a").key


@pytest.mark.asyncio
async def test_a_target_that_cannot_be_requested_is_not_checked() -> None:
    no_account = cast("Any", None)

    assert Unchecked("a").find() is None
    await Unchecked("a").check(no_account)


def test_own_is_refused() -> None:
    with pytest.raises(WatcherUnusable, match="Ferry does not show"):
        CrossingEnded("a", own=False)
