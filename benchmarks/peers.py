"""The environment of the official providers.

They change what Airflow shows when installed beside this package, so they get a
virtualenv of their own, ``.venv-peers``, made when a benchmark first needs it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zlib import crc32

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".venv-peers"
_SOURCES = (
    "pyproject.toml",
    "constraints/3.3.2.txt",
    "benchmarks/constraints-peers.txt",
)


def python_of_peers() -> Path:
    """Return the interpreter of the peers' environment, making that if need be.

    Raise :class:`RuntimeError` when it cannot be made.
    """
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / "async-triggers.stamp"
    wanted = str(crc32(b"".join((ROOT / name).read_bytes() for name in _SOURCES)))
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python

    print(f"Making {FOLDER.name} (a minute or so the first time) ...", flush=True)
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(FOLDER))

    pip = (str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    # Dependency groups need pip >= 25.1.
    _run(*pip, "--upgrade", "pip>=25.1")
    constraints = [f"--constraint={name}" for name in _SOURCES[1:]]
    _run(*pip, *constraints, "--group", "peers", "apache-airflow")
    stamp.write_text(wanted)
    return python


def _run(*command: str) -> None:
    try:
        subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - fixed commands
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            f"{FOLDER.name} could not be made; delete it and try again, or leave the"
            f" peers out with --ours: {error}"
        ) from error
