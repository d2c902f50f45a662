"""A piece of network that can fail: between a client and a port on loopback."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from benchmarks.trouble.cases import Way

_ADDRESS = "127.0.0.1"
_NO_TLS = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CHUNK = 65536


class Relay:
    """Passes what it is sent on to a port, until it fails."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._fails: Way | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and end all connections."""
        await self._close()
        self._cut()
        await asyncio.gather(*self._busy, return_exceptions=True)

    async def fail(self, way: Way) -> None:
        """End all connections, and keep new ones from the target."""
        self._fails = way
        if way == "refused":
            await self._close()

        self._cut()

    async def heal(self) -> None:
        """Pass on again what is sent."""
        self._fails = None
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._pass, _ADDRESS, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            # Its connections are ended apart, so there is nothing to wait for.
            await asyncio.sleep(0)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        self._open.add(writer)
        try:
            if self._fails is not None:
                # What a plain server says to the first bytes of a TLS handshake.
                await reader.read(_CHUNK)
                writer.write(_NO_TLS)
                return

            there, back = await asyncio.open_connection(_ADDRESS, self._target)
            self._open.add(back)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, back))
                    group.create_task(_pump(there, writer))
            finally:
                self._open.discard(back)
                await _end(back)
        finally:
            self._open.discard(writer)
            self._busy.discard(task)
            await _end(writer)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()

    # The other direction ends with this one: nobody here half-closes.
    sink.close()
