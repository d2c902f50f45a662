"""The simulated vendors over TLS, in a process of their own.

The authority that signs their certificate lives as long as the stage: whoever is to
trust it is told by ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from async_triggers.simulator.client import SimulatorControl
from async_triggers.simulator.fivetran import FivetranSettings
from async_triggers.simulator.server import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
"""The root of the repository, from which children run."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A running stage: the addresses of each simulator by vendor, and who serves.

    ``environment`` is what a child process needs to reach them. ``folder`` is a
    temporary one that goes with the stage.
    """

    urls: Sequence[Mapping[str, str]]
    environment: Mapping[str, str]
    folder: Path
    pid: int

    def control(self, vendor: str, *, number: int = 0) -> SimulatorControl:
        """Return what arranges one vendor."""
        return SimulatorControl(self.urls[number][vendor], timeout=120.0)


@contextmanager
def open_stage(count: int = 1) -> Iterator[Stage]:
    """Serve ``count`` simulators for the length of the block."""
    # The tests need no authority, and the children import this module.
    import trustme  # noqa: PLC0415

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority, served = folder / "authority.pem", folder / "served.pem"
        maker = trustme.CA()
        maker.cert_pem.write_to_path(str(authority))
        maker.issue_cert(
            "127.0.0.1", "localhost"
        ).private_key_and_cert_chain_pem.write_to_path(str(served))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AIRFLOW_") and not name.lower().endswith("_proxy")
        } | {
            "SSL_CERT_FILE": str(authority),
            # The peers' synchronous calls go through requests, which has its own.
            "REQUESTS_CA_BUNDLE": str(authority),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": str(ROOT),
        }
        # What arranges the scenes from this process must trust the authority as well.
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = str(authority)
        stack.callback(_restore, "SSL_CERT_FILE", before)
        process = subprocess.Popen(  # noqa: S603 - this very module
            [
                sys.executable,
                "-m",
                "benchmarks.stage",
                f"--count={count}",
                f"--certificate={served}",
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the simulators did not start; see above")

        yield Stage(json.loads(line), environment, folder, process.pid)


def _restore(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


async def _serve(count: int, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with AsyncExitStack() as stack:
        simulators = [
            await stack.enter_async_context(
                Simulator(
                    ssl_context=context, fivetran=FivetranSettings(legacy_paths=True)
                )
            )
            for _ in range(count)
        ]
        print(json.dumps([simulator.urls for simulator in simulators]), flush=True)
        # Until the one who opened the stage has gone.
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stage")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    chosen = parser.parse_args()
    asyncio.run(_serve(chosen.count, chosen.certificate))


if __name__ == "__main__":
    main()
