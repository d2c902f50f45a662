"""Prism between a client and the simulator, and a record of what it has found."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PATIENCE: Final = 60.0
_LONGEST_HEADER: Final = 100_000
_METHODS: Final = ("get", "post", "patch", "put", "delete")
_HOP_BY_HOP: Final = frozenset(
    {"connection", "content-encoding", "content-length", "host", "transfer-encoding"}
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, its answer, and in what they break the specification."""

    operation: str
    status: int
    violations: list[dict[str, Any]]
    reply: Any

    @property
    def faults(self) -> list[str]:
        """The violations that count, as sentences."""
        return sorted(
            {
                f"{'.'.join(_general(one))}: {one['message']}"
                for one in self.violations
                if not self._is_null(one)
            }
        )

    @property
    def nulls(self) -> int:
        """How many fields are null where the specification has no word for it."""
        return sum(map(self._is_null, self.violations))

    def _is_null(self, violation: dict[str, Any]) -> bool:
        where = violation["location"]
        if where[:2] != ["response", "body"]:
            return False
        found = self.reply
        try:
            for step in where[2:]:
                found = found[int(step) if isinstance(found, list) else step]
        except (KeyError, IndexError, TypeError, ValueError):
            return False
        return found is None


def _general(violation: dict[str, Any]) -> list[str]:
    return [re.sub(r"^\d+$", "*", str(step)) for step in violation["location"]]


@dataclass(slots=True)
class Specification:
    """A vendor's specification: where its file is, and which operations it has."""

    path: Path
    operations: list[tuple[str, str, re.Pattern[str]]] = field(init=False)

    def __post_init__(self) -> None:
        """Read the operations."""
        described = yaml.safe_load(self.path.read_text(encoding="utf-8"))["paths"]
        self.operations = [
            (method.upper(), template, re.compile(_pattern(template)))
            for template, methods in described.items()
            for method in methods
            if method in _METHODS
        ]

    def find(self, method: str, path: str) -> str:
        """Return the operation of a request, or nothing where there is none."""
        # A path without placeholders is more exact than one with them.
        for known, template, pattern in sorted(
            self.operations, key=lambda one: one[1].count("{")
        ):
            if known == method and pattern.fullmatch(path):
                return f"{method} {template}"
        return ""


def _pattern(template: str) -> str:
    return re.sub(
        r"\{(\w+)\}",
        lambda name: ".+" if name[1] == "remainder" else "[^/]+",
        template,
    )


@dataclass(slots=True)
class ValidatingProxy:
    """Sends what the specification describes through Prism, and the rest past it."""

    specification: Specification
    prism: str
    vendor: str
    prefix: str
    session: aiohttp.ClientSession
    exchanges: list[Exchange] = field(default_factory=list)
    undescribed: set[str] = field(default_factory=set)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        """Pass a request on, and note what Prism says of it."""
        path = request.rel_url.raw_path.removeprefix(self.prefix)
        operation = self.specification.find(request.method, path)
        if not operation:
            self.undescribed.add(
                f"{request.method} {re.sub(r'[0-9a-f-]{5,}', '…', path)}"
            )
        base = self.prism if operation else self.vendor
        query = f"?{request.rel_url.raw_query_string}" if request.query_string else ""
        kept = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP
        }
        async with self.session.request(
            request.method,
            URL(f"{base}{path}{query}", encoded=True),
            headers=kept,
            data=await request.read() or None,
            allow_redirects=False,
            skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        ) as answer:
            body = await answer.read()
            if operation:
                violations = _violations(answer.headers.get("sl-violations", "[]"))
                self.exchanges.append(
                    Exchange(operation, answer.status, violations, _json(body))
                )
            shown = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in _HOP_BY_HOP and name != "sl-violations"
            }
            return web.Response(status=answer.status, headers=shown, body=body)


def _violations(header: str) -> list[dict[str, Any]]:
    """Read Prism's header; one that Prism has cut is a violation of its own."""
    try:
        found: list[dict[str, Any]] = json.loads(header)
    except ValueError:
        return [{"location": [], "message": f"{header[:300]} …"}]
    return found


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@asynccontextmanager
async def validating(
    command: Path, specification: Path, vendor: str, prefix: str
) -> AsyncIterator[ValidatingProxy]:
    """Start Prism before a simulated vendor, and what records before Prism.

    :param vendor: The vendor's address, without a path.
    :param prefix: The path below which the specification's paths begin.
    """
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        str(command),
        "proxy",
        str(specification),
        f"{vendor}{prefix}",
        "--host=127.0.0.1",
        f"--port={port}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    reading: asyncio.Task[None] | None = None
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while b"is listening" not in (line := await process.stdout.readline()):
                if not line:
                    raise RuntimeError("Prism has ended")
        # Its log is of no use, but must not fill the pipe.
        reading = asyncio.create_task(_drain(process.stdout))
        # Prism puts the violations of an answer into one header.
        async with aiohttp.ClientSession(max_field_size=_LONGEST_HEADER) as session:
            proxy = ValidatingProxy(
                Specification(specification),
                f"http://127.0.0.1:{port}",
                f"{vendor}{prefix}",
                prefix,
                session,
            )
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", proxy.handle)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield proxy
            finally:
                await runner.cleanup()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass
