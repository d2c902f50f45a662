"""Answers of dbt and of the vendors, kept on disk from one parse to the next.

One JSON file for each question, written beside its place and moved into it, so that no
reader ever sees half of one. Nothing secret is in them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from async_triggers.deferral.compat import conf

VERSION = 2
MAX_AGE = 3600.0
_BETWEEN_TRIES = 0.05
# What is used is renewed every hour, by default.
_UNUSED = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a question.

    ``answer`` is what was last answered, at ``made_at`` (epoch seconds), for the state of
    things that ``fingerprint`` stands for; None where there was no answer yet.
    ``tried_at`` is when it was last fetched, for the state ``tried_for``, and ``trouble``
    why that failed, empty where it did not; ``refused`` distinguishes a refusal from
    none at all.
    """

    fingerprint: str = ""
    answer: Any = None
    made_at: float = 0.0
    tried_at: float = 0.0
    tried_for: str = ""
    trouble: str = ""
    refused: bool = False


class Cache:
    """A folder of answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        """Name the folder."""
        return f"<Cache {self.folder}>"

    def read(self, key: str) -> Entry:
        """Return what is known, an empty entry where that is nothing or unreadable."""
        try:
            stored = json.loads(self._path(key).read_bytes())
            if stored.pop("version") == VERSION:
                return Entry(**stored)
        except (OSError, ValueError, TypeError, AttributeError, KeyError):
            pass

        return Entry()

    def write(self, key: str, entry: Entry) -> None:
        """Store an entry, all of it or nothing."""
        self._make()
        text = json.dumps({"version": VERSION, **asdict(entry)})
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=f".{key}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)

            Path(name).replace(self._path(key))
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()

            raise

        self._forget_unused()

    @contextlib.contextmanager
    def lock(self, key: str, *, seconds: float) -> Iterator[bool]:
        """Keep other processes from fetching the same; return True if that worked.

        Waits for at most ``seconds``. The lock ends with the process, however it ends.
        """
        self._make()
        ends = time.monotonic() + seconds
        patience = threading.Event()
        with (self.folder / f"{key}.lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= ends:
                        yield False
                        return

                    patience.wait(_BETWEEN_TRIES)
                else:
                    yield True
                    return

    def scratch(self, key: str) -> Path:
        """Return a folder for what dbt writes while it answers a question."""
        return self.folder / f"{key}.dbt"

    def _forget_unused(self) -> None:
        """Remove what no question has written to for a month, and its folder.

        A question is another one in another environment, so that some never come
        again.
        """
        oldest = time.time() - _UNUSED
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(self.scratch(path.stem), ignore_errors=True)
                    path.with_suffix(".lock").unlink(missing_ok=True)
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def default_cache() -> Cache:
    """Return the cache of this machine and user.

    ``[async_triggers] generators_cache`` names the folder; else it is below Airflow's
    home, or where that cannot be written, below the folder for temporary files.
    """
    configured = conf.get("async_triggers", "generators_cache", fallback="")
    if configured:
        return Cache(Path(configured).expanduser())

    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    if os.access(home, os.W_OK):
        return Cache(home / "async_triggers" / "generators")

    user = f"async-triggers-{os.getuid()}"
    folder = Path(tempfile.gettempdir(), user)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        msg = (
            f"{folder} belongs to another user: set [async_triggers] generators_cache to"
            " your own folder"
        )
        raise PermissionError(msg)

    return Cache(folder / "generators")


def max_age() -> float:
    """Return after how many seconds an answer is fetched again, in the background."""
    age = conf.getfloat("async_triggers", "generators_max_age", fallback=MAX_AGE)
    return float(age)
