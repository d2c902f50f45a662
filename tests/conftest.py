from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientResponse
from aioresponses import aioresponses
from hypothesis import settings

from tests import examples as profiles
from tests.clock import VirtualClockLoop

settings.load_profile(profiles.STABLE)

# Airflow's examples bring a listener, and with one each task ends on a worker.
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Offer a virtual clock to tests marked ``asyncio(loop_factories=["virtual"])``."""
    marker = item.get_closest_marker("asyncio")
    if marker is not None and "loop_factories" in marker.kwargs:
        return {"virtual": VirtualClockLoop}

    return {"real": asyncio.new_event_loop}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute whole files by the Airflows that they share."""
    if config.getvalue("dist") != "loadfile":
        return None

    from tests.stack.airflows import OneProcessForEachAirflow

    return OneProcessForEachAirflow(config, log)


class _Response(ClientResponse):
    """The response of aiohttp 3.14, which asks its writer how much has been sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
        super().__init__(*args, **kwargs)


class CannedResponses(aioresponses):
    """Answers in place of the network; see aioresponses."""

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Have a request answered."""
        kwargs.setdefault("response_class", _Response)
        super().add(*args, **kwargs)


@pytest.fixture
def canned() -> Iterator[CannedResponses]:
    """Answer HTTP requests from memory; any that nobody foresaw is a failed connection."""
    responses = CannedResponses()
    with responses:
        yield responses
