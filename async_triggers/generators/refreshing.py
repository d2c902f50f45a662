"""Fetches answers, and has another process fetch those that nothing waits for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from async_triggers.deferral.compat import AirflowException
from async_triggers.generators.cache import Cache, Entry
from async_triggers.generators.errors import OutOfReach, TookTooLong, Unanswered
from async_triggers.generators.questions import (
    InventoryQuestion,
    Question,
    question_from_json,
)

log = logging.getLogger(__name__)

AT_LEISURE = 600.0
"""Seconds that a question may take where nothing waits for its answer."""


def fetch(
    question: Question,
    cache: Cache,
    fingerprint: str,
    seconds: float,
    now: Callable[[], float] = time.time,
) -> Entry:
    """Fetch an answer and store it; the last one stays where none came.

    To be called with the lock of the question. Raise :class:`Unanswered`.
    """
    began = now()
    ends = time.monotonic() + seconds
    scratch = cache.scratch(question.key)
    try:
        fingerprint = question.prepare(scratch, seconds) or fingerprint
        answer = question.fetch(scratch, max(0.0, ends - time.monotonic()))
    except Unanswered as error:
        cache.write(
            question.key,
            replace(
                cache.read(question.key),
                # What ran out of time is fetched again at once, with more of it.
                tried_at=0.0 if isinstance(error, TookTooLong) else began,
                tried_for=fingerprint,
                trouble=str(error),
                refused=not isinstance(error, OutOfReach),
            ),
        )
        raise

    entry = Entry(
        fingerprint=fingerprint,
        answer=answer,
        made_at=began,
        tried_at=began,
        tried_for=fingerprint,
    )
    cache.write(question.key, entry)
    return entry


def refresh_in_background(cache: Cache, questions: Sequence[Question]) -> None:
    """Start a process that fetches, and do not wait for it.

    The Airflow connections are handed to it through a pipe: a separate process cannot
    look them up where the metadata database is out of reach, as in workers.
    """
    connections = {}
    for question in questions:
        if isinstance(question, InventoryQuestion):
            with contextlib.suppress(AirflowException):
                found = question.hook.get_connection(question.conn_id)
                connections[question.conn_id] = found.as_json()

    errand = json.dumps(
        {
            "cache": str(cache.folder),
            "questions": [[each.kind, each.to_json()] for each in questions],
            "connections": connections,
        }
    )
    try:
        # Nothing of ours is inherited: Airflow waits until all pipes of a parse are
        # closed, and the parse is to end now.
        process = subprocess.Popen(
            [sys.executable, "-m", "async_triggers.generators.refreshing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        if process.stdin is not None:
            with process.stdin as pipe:
                pipe.write(errand)
    except OSError as error:
        log.warning("The answers of the generators cannot be renewed: %s", error)
        return

    # It outlives this process, and no process waits for it.
    process.returncode = 0


def main(errand: str) -> None:
    """Do what :func:`refresh_in_background` has sent."""
    given = json.loads(errand)
    for conn_id, value in given["connections"].items():
        os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = value

    cache = Cache(Path(given["cache"]))
    for kind, values in given["questions"]:
        question = question_from_json(kind, values)
        with (
            cache.lock(question.key, seconds=0) as locked,
            contextlib.suppress(Unanswered),
        ):
            if locked:
                fetch(question, cache, question.fingerprint(), AT_LEISURE)


if __name__ == "__main__":
    main(sys.stdin.read())
