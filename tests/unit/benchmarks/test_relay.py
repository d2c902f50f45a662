from __future__ import annotations

import asyncio
import socket

import pytest

from benchmarks.lookups import HOST, unresolved
from benchmarks.trouble.relay import Relay


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def said(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(100)
    except ConnectionError:
        return b""


@pytest.mark.asyncio
async def test_a_relay_passes_on_until_it_fails_and_again_when_it_is_healed() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()[1]) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"one")
        assert await reader.read(100) == b"one"

        await relay.fail("refused")
        # Also what was open before has ended.
        assert await said(reader) == b""
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", relay.port)

        await relay.heal()
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"two")
        assert await reader.read(100) == b"two"
        writer.close()


@pytest.mark.asyncio
async def test_what_speaks_no_tls_answers_in_plain_text() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()[1]) as relay:
        await relay.fail("tls")
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"\x16\x03\x01")
        assert (await reader.read(100)).startswith(b"HTTP/1.1 400 ")
        writer.close()


def test_the_relays_name_does_not_resolve_while_it_should_not() -> None:
    now = [True]
    with unresolved(lambda: now[0]):
        with pytest.raises(socket.gaierror, match="not known"):
            socket.getaddrinfo(HOST, 80)

        assert socket.getaddrinfo("127.0.0.1", 80)
        now[0] = False
        assert socket.getaddrinfo(HOST, 80)
