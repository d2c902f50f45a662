"""The simulated vendors over TLS in a process of their own, on the runner's clock.

What is arranged and recorded goes over pipes, a line of JSON each, so that it leaves no
trace in the network of the process that is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import trustme

from async_triggers.simulator.airbyte import AirbyteSettings
from async_triggers.simulator.server import SimulatorThread
from benchmarks.soaking.clock import Dial
from benchmarks.stage import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOKEN_LIFETIME = 180.0
"""Seconds for which a token of Airbyte's is good: three minutes, as in its Cloud."""
HOST = "127.0.0.1"


class Keys:
    """The certificate that the vendors show, and the file of those whom clients trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.trusted = folder / "trusted.pem"
        self._authority = trustme.CA()
        self._number = 0
        self.trusted.write_bytes(self._authority.cert_pem.bytes())

    def issue(self) -> Path:
        """Return a new certificate with its key."""
        self._number += 1
        path = self._folder / f"served-{self._number}.pem"
        issued = self._authority.issue_cert(HOST)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def replace_authority(self) -> None:
        """Let another authority sign from now on; the file names both."""
        before = self.trusted.read_bytes()
        self._authority = trustme.CA()
        self.trusted.write_bytes(before + self._authority.cert_pem.bytes())


class Vendors:
    """The other end of the pipes."""

    def __init__(
        self, orders: IO[str], answers: IO[str], urls: Mapping[str, str]
    ) -> None:
        self._orders = orders
        self._answers = answers
        self.urls = urls

    def arrange(self, vendor: str, **things: Any) -> None:
        """Change settings of a vendor, add faults, connections and jobs."""
        self._call(vendor=vendor, arrange=things)

    def record(self, vendor: str) -> dict[str, Any]:
        """Return what a vendor was asked, in numbers."""
        found: dict[str, Any] = self._call(vendor=vendor)
        return found

    def serve(self, certificate: Path) -> None:
        """Show another certificate from the next connection on."""
        self._call(certificate=str(certificate))

    def _call(self, **order: Any) -> Any:
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the simulated vendors have ended; see above")

        return json.loads(line)


@contextmanager
def open_vendors(dial: Path, certificate: Path) -> Iterator[Vendors]:
    """Serve the vendors for the length of the block."""
    command = [sys.executable, "-m", "benchmarks.soaking.vendors"]
    with subprocess.Popen(  # noqa: S603 - this very module
        [*command, f"--dial={dial}", f"--certificate={certificate}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the simulated vendors did not start; see above")

            yield Vendors(process.stdin, process.stdout, json.loads(line))
        finally:
            process.kill()


def _numbers(record: Any) -> dict[str, Any]:
    return {
        "requests": record.total,
        "statuses": {str(key): record.statuses[key] for key in record.statuses},
        "faults": sum(record.faults.values()),
        "cancels": sum(record.cancels.values()),
        "tokens": record.tokens_issued,
        "connections": record.tcp_connections,
    }


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soaking.vendors")
    parser.add_argument("--dial", type=Path, required=True)
    parser.add_argument("--certificate", type=Path, required=True)
    chosen = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chosen.certificate)
    serving = SimulatorThread(
        clock=Dial(chosen.dial).now,
        ssl_context=context,
        airbyte=AirbyteSettings(token_lifetime=TOKEN_LIFETIME),
    )
    with serving as simulator:
        print(json.dumps(simulator.urls), flush=True)
        for line in sys.stdin:
            order = json.loads(line)
            answer = None
            if "certificate" in order:
                context.load_cert_chain(order["certificate"])
            elif "arrange" in order:
                getattr(simulator, order["vendor"]).arrange(**order["arrange"])
            else:
                answer = _numbers(getattr(simulator, order["vendor"]).record)

            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
