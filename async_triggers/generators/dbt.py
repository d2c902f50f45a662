"""Asks dbt for the sources of a selection: one process, no shell.

The options are those of https://docs.getdbt.com/reference/commands/list; what dbt 1.8 to
1.11 print in each case of trouble was measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from async_triggers.generators.errors import OutOfReach, TookTooLong, Unanswered
from async_triggers.generators.model import SourceTable

_KEYS = ("unique_id", "name", "database", "schema", "identifier")
_SHOWN = 3_000

# What changes the environment of Python must not reach the Python of dbt, and what
# changes the log's form must not reach the answer.
_NOT_INHERITED = frozenset(
    {
        "PYTHONPATH",
        "PYTHONHOME",
        "__PYVENV_LAUNCHER__",
        "DBT_LOG_FORMAT",
        "DBT_LOG_PATH",
        "DBT_TARGET_PATH",
        "DBT_QUIET",
        "DBT_DEBUG",
    }
)
# Airflow's own secrets are nothing for the packages of a dbt project.
_AIRFLOWS_OWN = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")
_PROJECT_FILES = frozenset({".yml", ".yaml", ".sql", ".py"})
_OTHER_FOLDERS = frozenset({"target", "logs", "node_modules", "venv", "env"})


def list_command(dbt: str, arguments: Sequence[str], scratch: Path) -> list[str]:
    """Return the command that lists the sources of a selection, one JSON object a line.

    Ours come last: dbt takes the last ``--output``, and adds up resource types.
    """
    return [
        dbt,
        "--quiet",
        "--log-format",
        "text",
        "--no-use-colors",
        "--log-path",
        str(scratch / "logs"),
        "ls",
        "--target-path",
        str(scratch / "target"),
        *arguments,
        "--resource-type",
        "source",
        "--output",
        "json",
        "--output-keys",
        *_KEYS,
    ]


def list_sources(
    dbt: str,
    project: Path,
    arguments: Sequence[str],
    *,
    scratch: Path,
    run_deps: bool,
    seconds: float,
) -> tuple[SourceTable, ...]:
    """Run ``dbt ls`` in a project that may be read-only.

    ``scratch`` is a folder that may be written, and kept for the next time. ``run_deps``
    installs the project's packages first, for which the project must not be read-only.
    Raise :class:`Unanswered` with dbt's own message and the next step.
    """
    found = shutil.which(dbt)
    if found is None:
        msg = (
            f"there is no {dbt!r}: set virtualenv_path to the virtualenv that dbt is in,"
            " or give manifest_path, for which no dbt is needed"
        )
        raise OutOfReach(msg)

    scratch.mkdir(parents=True, exist_ok=True)
    if run_deps:
        logs = str(scratch / "logs")
        _run([found, "--no-use-colors", "--log-path", logs, "deps"], project, seconds)

    return read_list(_run(list_command(found, arguments, scratch), project, seconds))


def read_list(text: str) -> tuple[SourceTable, ...]:
    """Read what ``dbt ls`` prints; what is no source is skipped."""
    found = {}
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                source = SourceTable.read(row)
                if source.unique_id.startswith("source."):
                    found[source.unique_id] = source

    return tuple(found[key] for key in sorted(found))


def _run(command: Sequence[str], project: Path, seconds: float) -> str:
    # A session of its own, so that dbt's own children can be ended with it; and nothing
    # of our standard input, which in Airflow's processes is not ours to give away.
    try:
        with subprocess.Popen(  # noqa: S603 - no shell, and dbt's path is the user's word
            command,
            cwd=project,
            env=environment(os.environ, command[0]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                msg = f"dbt did not finish in {seconds:.0f} s"
                raise TookTooLong(msg) from None
            finally:
                # Also when Airflow's own timeout ends the parse.
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
    except OSError as error:
        msg = f"{command[0]} cannot be run: {error}"
        raise OutOfReach(msg) from None

    if process.returncode:
        raise Unanswered(explain(process.returncode, out, err))

    return out


def environment(inherited: Mapping[str, str], dbt: str) -> dict[str, str]:
    """Return the environment for dbt: its own virtualenv's, and no more than it needs."""
    kept = {
        key: val
        for key, val in inherited.items()
        if key not in _NOT_INHERITED and not key.startswith(_AIRFLOWS_OWN)
    }
    folder = Path(dbt).parent
    kept["PATH"] = os.pathsep.join(
        filter(None, (str(folder), inherited.get("PATH", "")))
    )
    kept.pop("VIRTUAL_ENV", None)
    if (folder.parent / "pyvenv.cfg").exists():
        kept["VIRTUAL_ENV"] = str(folder.parent)

    return kept


def explain(code: int, out: str, err: str) -> str:
    """Tell why dbt failed, in its own words, and what to do."""
    said = "\n".join(part.strip() for part in (out, err) if part.strip())
    if not said:
        return (
            f"dbt ended with {code} and said nothing: a folder that it writes to is"
            " read-only, or it was killed"
        )

    lowered = said.lower()
    if "dbt deps" in lowered:
        step = 'run "dbt deps" in the project, or set run_dbt_deps: true'
    elif "no such option" in lowered or "usage:" in lowered:
        step = "correct dbt_list_args"
    elif "profile" in lowered:
        step = (
            "put profiles.yml into the project or name its folder with DBT_PROFILES_DIR"
        )
    elif "env var required" in lowered:
        step = "set the variable where DAGs are parsed and where tasks run"
    else:
        step = "run the same dbt ls in the project to see more"

    return f"dbt ended with {code}; {step}. dbt says:\n{said[-_SHOWN:]}"


def fingerprint(project: Path) -> str:
    """Return a hash of what the answer of dbt depends on in a project."""
    digest = hashlib.blake2b(digest_size=16)
    for path in _files(project):
        name = path.relative_to(project).as_posix().encode(errors="surrogateescape")
        try:
            content = path.read_bytes()
        except OSError:
            continue

        digest.update(b"%d %s %d " % (len(name), name, len(content)))
        digest.update(content)

    return digest.hexdigest()


def _files(project: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(project):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _OTHER_FOLDERS and not name.startswith(".")
        )
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in _PROJECT_FILES:
                yield path
