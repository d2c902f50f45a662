"""The name of the vendors, which can fail to resolve."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "localhost"
"""The name by which clients know vendors, so that it can fail to resolve."""


@contextmanager
def unresolved(is_now: Callable[[], bool]) -> Iterator[None]:
    """Have that name not resolve in this process while ``is_now`` says so."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name == HOST and is_now():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        return resolve(host, *arguments, **options)

    socket.getaddrinfo = getaddrinfo
    try:
        yield
    finally:
        socket.getaddrinfo = resolve
