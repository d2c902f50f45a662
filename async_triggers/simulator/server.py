"""The simulated vendors behind real sockets on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Self

from aiohttp import web

from async_triggers.simulator.airbyte import AirbyteSettings, AirbyteSimulator
from async_triggers.simulator.dbt_cloud import DbtCloudSettings, DbtCloudSimulator
from async_triggers.simulator.exchange import SimReply, SimRequest
from async_triggers.simulator.fivetran import FivetranSettings, FivetranSimulator
from async_triggers.simulator.vendor import CONTROL_PREFIX

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from async_triggers.simulator.vendor import VendorSimulator

_DRIPS: Final = 10
_START_TIMEOUT: Final = 30.0


class CannotListenError(OSError):
    """The port of a simulated vendor cannot be had.

    :ivar vendor: The vendor's name, such as ``dbt_cloud``.
    """

    def __init__(self, vendor: str, address: str, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(error.errno, f"{vendor} cannot listen on {address}: {reason}")
        self.vendor = vendor

    def __str__(self) -> str:
        """Return what happened and the argument that changes it."""
        return self.advise(f"{self.vendor}_port")

    def advise(self, option: str) -> str:
        """Return what happened and the option that changes it."""
        return f"{self.strerror}. Choose another {option}, or 0 for any free port."


class _CountingServer(web.Server):
    """An HTTP server that counts its TCP connections in a vendor's record.

    A connection counts from its first request that is not for the control API.
    It counts under the vendor's lock, since another thread may reset the record.
    """

    def __init__(self, vendor: VendorSimulator[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._vendor = vendor
        self._counted: set[object] = set()

    def count(self, handler: object) -> None:
        """Count a connection, once."""
        if handler not in self._counted:
            self._counted.add(handler)
            with self._vendor.lock:
                self._vendor.record.connection_opened()

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        """Count the end of a connection."""
        if handler in self._counted:
            self._counted.remove(handler)
            with self._vendor.lock:
                self._vendor.record.connection_closed()
        super().connection_lost(handler, exc)


class _Listener:
    """One vendor on one port."""

    def __init__(
        self,
        vendor: VendorSimulator[Any],
        *,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self.vendor = vendor
        self.host = host
        self.port = port
        self._ssl_context = ssl_context
        self._stopping = asyncio.Event()
        self._server = _CountingServer(
            vendor, self._handle, handler_cancellation=True, access_log=None
        )
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.5)

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self.host, self.port, ssl_context=self._ssl_context
        )
        try:
            await site.start()
        except OSError as error:
            address = f"{self.host}:{self.port}"
            raise CannotListenError(self.vendor.name, address, error) from error
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._stopping.set()
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://{self.host}:{self.port}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        # The query as it was sent: "+" is a space in it, "%2B" is a plus.
        received = SimRequest.to(
            request.method,
            request.raw_path,
            headers=request.headers,
            body=await request.read(),
        )
        if not received.path.startswith(CONTROL_PREFIX):
            self._server.count(request.protocol)
        reply = self.vendor.respond(received)
        await self._pause(reply.delay)
        return await self._send(request, reply)

    async def _pause(self, seconds: float | None) -> None:
        """Wait, but not beyond the end of the server; None waits for just that."""
        if seconds is not None and seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _send(
        self, request: web.BaseRequest, reply: SimReply
    ) -> web.StreamResponse:
        transport = request.transport
        if reply.fault == "hang":
            await self._pause(None)
        if reply.fault in {"reset", "close", "hang"}:
            if transport is not None:
                _end(transport, reset=reply.fault == "reset")
            return web.Response(status=reply.status)
        if reply.fault in {"slow", "truncate"}:
            return await self._drip(request, reply)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    async def _drip(
        self, request: web.BaseRequest, reply: SimReply
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        response.content_length = len(reply.body)
        await response.prepare(request)
        size = max(1, -(-len(reply.body) // _DRIPS))
        for start in range(0, len(reply.body), size):
            if reply.fault == "truncate" and start * 2 >= len(reply.body):
                break
            await response.write(reply.body[start : start + size])
            await self._pause(reply.drip / _DRIPS)
        if reply.fault == "truncate" and request.transport is not None:
            _end(request.transport, reset=False)
        return response


def _end(transport: asyncio.BaseTransport, *, reset: bool) -> None:
    found = transport.get_extra_info("socket")
    if reset and found is not None:
        # Closing a socket that lingers for no time sends RST instead of FIN.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport) and reset:
        transport.abort()
    else:
        transport.close()


class Simulator:
    """The simulated vendors, each on a separate port.

    Use it as an asynchronous context manager; :class:`SimulatorThread` is the same for
    synchronous code. Every port serves the control API below ``/_simulator/`` too.

    :param host: Address to listen on.
    :param airbyte_port: Port of Airbyte's API; 0 for any free one.
    :param fivetran_port: Port of Fivetran's API, likewise.
    :param dbt_cloud_port: Port of dbt Cloud's API, likewise.
    :param airbyte: Settings of Airbyte.
    :param fivetran: Settings of Fivetran.
    :param dbt_cloud: Settings of dbt Cloud.
    :param others: Makers of the simulators of other vendors, which are called with
        ``clock`` and ``seed``; each gets any free port.
    :param clock: Returns epoch seconds, as the servers are to believe.
    :param seed: Makes rates and made-up tokens repeatable.
    :param ssl_context: Serves https with it.

    :ivar airbyte: The simulated Airbyte: arrange things in it, read its record.
    :ivar fivetran: The simulated Fivetran, likewise.
    :ivar dbt_cloud: The simulated dbt Cloud, likewise.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        airbyte_port: int = 0,
        fivetran_port: int = 0,
        dbt_cloud_port: int = 0,
        airbyte: AirbyteSettings | None = None,
        fivetran: FivetranSettings | None = None,
        dbt_cloud: DbtCloudSettings | None = None,
        others: Iterable[Callable[..., VendorSimulator[Any]]] = (),
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.airbyte = AirbyteSimulator(airbyte, clock=clock, seed=seed)
        self.fivetran = FivetranSimulator(fivetran, clock=clock, seed=seed)
        self.dbt_cloud = DbtCloudSimulator(dbt_cloud, clock=clock, seed=seed)
        self._others = tuple(make(clock=clock, seed=seed) for make in others)
        self._host = host
        self._ssl_context = ssl_context
        self._ports: dict[str, int] = {
            "airbyte": airbyte_port,
            "fivetran": fivetran_port,
            "dbt_cloud": dbt_cloud_port,
        }
        self._listeners: dict[str, _Listener] = {}

    @property
    def vendors(self) -> tuple[VendorSimulator[Any], ...]:
        """The simulated vendors."""
        return (self.airbyte, self.fivetran, self.dbt_cloud, *self._others)

    def vendor(self, name: str) -> VendorSimulator[Any]:
        """Return one simulated vendor by its name, such as ``dbt_cloud``."""
        return next(each for each in self.vendors if each.name == name)

    @property
    def airbyte_url(self) -> str:
        """Where Airbyte listens, such as ``http://127.0.0.1:8000``; no path."""
        return self._url("airbyte")

    @property
    def fivetran_url(self) -> str:
        """Where Fivetran listens; no path."""
        return self._url("fivetran")

    @property
    def dbt_cloud_url(self) -> str:
        """Where dbt Cloud listens; no path."""
        return self._url("dbt_cloud")

    @property
    def urls(self) -> dict[str, str]:
        """The addresses by vendor."""
        return {vendor.name: self._url(vendor.name) for vendor in self.vendors}

    def _url(self, name: str) -> str:
        try:
            return self._listeners[name].url
        except KeyError:
            raise RuntimeError(
                f"{name} does not listen yet; enter the simulator's context first"
            ) from None

    def reset(self) -> None:
        """Return every vendor to its state at the beginning."""
        for vendor in self.vendors:
            vendor.reset()

    async def start(self) -> None:
        """Listen.

        :raises CannotListenError: A port is taken, or not for this user.
        """
        try:
            for vendor in self.vendors:
                listener = _Listener(
                    vendor,
                    host=self._host,
                    port=self._ports.get(vendor.name, 0),
                    ssl_context=self._ssl_context,
                )
                self._listeners[vendor.name] = listener
                await listener.start()
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        listeners = list(self._listeners.values())
        self._listeners.clear()
        await asyncio.gather(*(listener.stop() for listener in listeners))

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()


class SimulatorThread:
    """A :class:`Simulator` in a separate thread, for synchronous code.

    It takes the same arguments; ``with SimulatorThread() as simulator:`` gives the
    running simulator, whose vendors may be used from any thread.
    """

    def __init__(self, **arguments: Any) -> None:
        self.simulator = Simulator(**arguments)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> Simulator:
        """Start the thread and wait until the simulator listens.

        :raises OSError: A port is taken.
        """
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)),
            name="simulator",
            daemon=True,
        )
        self._thread.start()
        started.result(_START_TIMEOUT)
        return self.simulator

    def stop(self) -> None:
        """Stop the simulator and wait for the thread."""
        if self._thread is None:
            return
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    async def _serve(self, started: Future[None]) -> None:
        stop = asyncio.Event()
        try:
            await self.simulator.start()
        except OSError as error:
            started.set_exception(error)
            return
        self._loop, self._stop = asyncio.get_running_loop(), stop
        started.set_result(None)
        try:
            await stop.wait()
        finally:
            self._loop = self._stop = None
            await self.simulator.stop()

    def __enter__(self) -> Simulator:
        """Start."""
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()
