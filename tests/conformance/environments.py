"""An environment of its own for each official client, with pinned versions."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".conformance"
_OF_AIRFLOW: Final = (
    ROOT / "constraints" / "3.3.2.txt",
    ROOT / "benchmarks" / "constraints-peers.txt",
)
_OF_THE_OTHERS: Final = (Path(__file__).with_name("constraints.txt"),)
_PATIENCE: Final = 900.0


class CannotInstallError(Exception):
    """A tool of the suite cannot be installed here, for example without a network."""


@dataclass(frozen=True, slots=True)
class Client:
    """An official client: what is installed, and the script that makes its calls."""

    script: str
    requirement: str
    with_airflow: bool = False

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return FOLDER / self.script / "bin" / "python"

    def install(self) -> None:
        """Make its environment, unless that is there already.

        :raises CannotInstallError: It cannot be made.
        """
        stamp = FOLDER / self.script / "async-triggers.stamp"
        constraints = _OF_AIRFLOW if self.with_airflow else _OF_THE_OTHERS
        wanted = str(crc32(b"".join(path.read_bytes() for path in constraints)))
        wanted = f"{self.requirement} {wanted}"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        run(sys.executable, "-m", "venv", "--clear", str(FOLDER / self.script))
        pip = (str(self.python), "-m", "pip", "install", "-q")
        pinned = [f"--constraint={path}" for path in constraints]
        airflow = ["apache-airflow"] if self.with_airflow else []
        run(*pip, "--disable-pip-version-check", *pinned, self.requirement, *airflow)
        stamp.write_text(wanted)


CLIENTS: Final = (
    Client("airbyte_api", "airbyte-api==1.0.1"),
    Client("fivetran_cli", "fivetran-cli==1.1.0"),
    Client(
        "airbyte_provider",
        "apache-airflow-providers-airbyte==6.2.0",
        with_airflow=True,
    ),
    Client(
        "fivetran_provider",
        "airflow-provider-fivetran-async==2.4.0",
        with_airflow=True,
    ),
    Client(
        "dbt_cloud_provider",
        "apache-airflow-providers-dbt-cloud==4.11.1",
        with_airflow=True,
    ),
)

PRISM: Final = "@stoplight/prism-cli@5.14.2"


def prism() -> Path:
    """Install Prism, unless it is there already, and return its command.

    :raises CannotInstallError: It cannot be installed.
    """
    command = FOLDER / "prism" / "node_modules" / ".bin" / "prism"
    stamp = FOLDER / "prism" / "async-triggers.stamp"
    if not (stamp.exists() and stamp.read_text() == PRISM):
        (FOLDER / "prism").mkdir(parents=True, exist_ok=True)
        prefix = str(FOLDER / "prism")
        run("npm", "install", "--no-audit", "--no-fund", "--prefix", prefix, PRISM)
        stamp.write_text(PRISM)
    return command


def run(*command: str) -> None:
    """Run an installer.

    :raises CannotInstallError: It has failed.
    """
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstallError(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise CannotInstallError(error.stderr[-500:]) from error


def plain_environment(**more: str) -> dict[str, str]:
    """Return a client's environment: without Airflow's settings and without proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW") and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **more}
