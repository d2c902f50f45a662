"""Has dbt list the sources of a selection: one process, no shell.

The options are those of https://docs.getdbt.com/reference/commands/list; what dbt 1.8 to
1.12 print in each case of trouble was measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from async_triggers.generators.arguments import for_list, shown, value_of
from async_triggers.generators.errors import OutOfReach, TookTooLong, Unanswered
from async_triggers.generators.model import SourceTable

_KEYS = ("unique_id", "name", "database", "schema", "identifier")
_SHOWN = 3_000

# What changes the environment of Python must not reach the Python of dbt, and what
# changes the log's form must not reach the answer.
_OF_DBT = (
    "DEBUG",
    "EXCLUDE_RESOURCE_TYPES",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "LOG_PATH",
    "PRINT",
    "PROJECT_DIR",
    "QUIET",
    "RESOURCE_TYPES",
    "TARGET_PATH",
)
# From 1.12 on, dbt reads each of its variables by two names.
_PREFIXES = ("DBT_", "DBT_ENGINE_")
_NOT_INHERITED = frozenset(
    {
        "PYTHONPATH",
        "PYTHONHOME",
        "__PYVENV_LAUNCHER__",
        *(prefix + name for prefix in _PREFIXES for name in _OF_DBT),
    }
)
# With its statistics on, dbt writes a file beside profiles.yml.
_SET = {f"{prefix}SEND_ANONYMOUS_USAGE_STATS": "false" for prefix in _PREFIXES}
# Airflow's own secrets are nothing for the packages of a dbt project.
_AIRFLOWS_OWN = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")

_PROJECT_FILES = frozenset({".yml", ".yaml", ".sql", ".py"})
# dbt parses no more of these than that they are there.
_NAMED_FILES = frozenset({".csv"})
_OTHER_FILES = frozenset({".user.yml"})
_OTHER_FOLDERS = frozenset({"target", "logs", "venv", "env"})

_ENV_VAR = re.compile(rb"""\benv_var\b(?:\s*\(\s*(['"])([^'"]+)\1\s*[,)])?""")
# dbt lets these into profiles.yml and packages.yml alone, and no answer may show them.
_SECRET = "DBT_ENV_SECRET"  # noqa: S105 - the beginning of a name
# What differs from one process of Airflow's to the next, and is no setting.
_OF_A_PROCESS = ("AIRFLOW_CTX_", "_AIRFLOW_", "PWD", "OLDPWD", "SHLVL", "_", "TERM")
_STATE_FILES = ("manifest.json", "run_results.json", "sources.json")


def list_command(dbt: str, arguments: Sequence[str], scratch: Path) -> list[str]:
    """Return the command that lists the sources of a selection, one JSON object a line.

    Ours come last: dbt takes the last ``--output``, and adds up resource types. The log is
    text, since dbt 1.12 puts each row into an event (``PrintEvent``) where it is JSON.
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
        *for_list(arguments),
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
    if run_deps:
        install_packages(dbt, project, scratch=scratch, seconds=seconds)

    scratch.mkdir(parents=True, exist_ok=True)
    command = list_command(_found(dbt), arguments, scratch)
    same = f"run {shown(arguments)} in {project} to see more"
    return read_list(_run(command, project, seconds, same))


def install_packages(dbt: str, project: Path, *, scratch: Path, seconds: float) -> None:
    """Run ``dbt deps``, which writes into the project."""
    scratch.mkdir(parents=True, exist_ok=True)
    logs = str(scratch / "logs")
    command = [_found(dbt), "--no-use-colors", "--log-path", logs, "deps"]
    _run(command, project, seconds, f"run dbt deps in {project} to see more")


def _found(dbt: str) -> str:
    found = shutil.which(dbt)
    if found is None:
        msg = (
            f"there is no {dbt!r}: set virtualenv_path to the virtualenv that dbt is in,"
            " or give manifest_path, for which no dbt is needed"
        )
        raise OutOfReach(msg)

    return found


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


def _run(command: Sequence[str], project: Path, seconds: float, step: str) -> str:
    # A new session, so that dbt's children can be ended with it; and nothing
    # of our standard input, which in Airflow's processes is not ours to give away.
    try:
        with subprocess.Popen(  # noqa: S603 - no shell, and dbt's path is the user's word
            command,
            cwd=project,
            env=environment(os.environ, command[0]) | _SET,
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
        raise Unanswered(explain(process.returncode, out, err, step))

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


def explain(code: int, out: str, err: str, step: str) -> str:
    """Return why dbt failed, in its own words, and what to do.

    ``step`` is what to do where dbt's words suggest nothing else.
    """
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

    return f"dbt ended with {code}; {step}. dbt says:\n{said[-_SHOWN:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the answer of dbt depends on: two hashes.

    ``content`` is of the project's files. ``environment`` is of what lies around them and
    distinguishes deployments: the variables that the project reads, its profile,
    the state that it is compared with, and the release of dbt.
    """

    content: str
    environment: str


def survey(
    project: Path,
    dbt: str,
    arguments: Sequence[str],
    inherited: Mapping[str, str] | None = None,
) -> Survey:
    """Collect all that the answer of dbt depends on."""
    found = shutil.which(dbt) or dbt
    variables = environment(os.environ if inherited is None else inherited, found)
    content, around = _Digest(), _Digest()
    folders = [project]
    if other := value_of(arguments, "--project-dir"):
        folders.append(project / other)

    for folder in folders:
        for path in _files(folder):
            content.add_file(path, path.relative_to(folder))

    for path in _surroundings(project, arguments, variables):
        around.add_file(path, path)

    for name, value in sorted(variables.items()):
        if _is_read(name, content.reads | around.reads):
            around.add(name, value.encode(errors="surrogateescape"))

    site_packages = (
        Path(found).resolve().parent.parent.glob("lib/python*/site-packages")
    )
    for folder in site_packages:
        for release in sorted(folder.glob("dbt_core-*.dist-info")):
            around.add(release.name, b"")

    return Survey(content=str(content), environment=str(around))


def fingerprint(project: Path, arguments: Sequence[str] = ()) -> str:
    """Return a hash of the files of a project."""
    return survey(project, "dbt", arguments).content


class _Digest:
    """A hash of named pieces, and the variables that they read (None: any)."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self.reads: set[str | None] = set()

    def add(self, name: str, content: bytes) -> None:
        encoded = name.encode(errors="surrogateescape")
        self._digest.update(b"%d %s %d " % (len(encoded), encoded, len(content)))
        self._digest.update(content)

    def add_file(self, path: Path, name: Path) -> None:
        try:
            content = b"" if path.suffix in _NAMED_FILES else path.read_bytes()
        except OSError:
            return

        self.add(name.as_posix(), content)
        for literal in _ENV_VAR.finditer(content):
            variable = literal[2]
            self.reads.add(variable.decode(errors="replace") if variable else None)

    def __str__(self) -> str:
        return self._digest.hexdigest()


def _is_read(variable: str, reads: set[str | None]) -> bool:
    if variable.startswith(_SECRET) or variable in _SET:
        return False

    if variable in reads or variable.startswith("DBT_"):
        return True

    # The name is computed somewhere: then it may be any.
    return None in reads and not any(
        variable == each
        or (len(each) > 1 and each[-1] == "_" and variable.startswith(each))
        for each in _OF_A_PROCESS
    )


def _surroundings(
    project: Path, arguments: Sequence[str], variables: Mapping[str, str]
) -> Iterator[Path]:
    """Return the files outside of a project that dbt reads when it lists."""

    def setting(name: str, *options: str) -> str | None:
        from_variable = [variables.get(prefix + name) for prefix in _PREFIXES]
        return value_of(arguments, *options) or next(filter(None, from_variable), None)

    # https://docs.getdbt.com/docs/core/connect-data-platform/connection-profiles
    given = setting("PROFILES_DIR", "--profiles-dir")
    if given:
        profiles = project / Path(given).expanduser()
    elif (project / "profiles.yml").exists():
        profiles = project
    else:
        profiles = Path(variables.get("HOME", "~")).expanduser() / ".dbt"

    yield profiles / "profiles.yml"

    # dbt 1.12 reads the first of these that it finds on its way up.
    yield from [
        path
        for folder in (project, *project.parents)
        if (path := folder / ".env").is_file()
    ][:1]

    for name, option in (("STATE", "--state"), ("DEFER_STATE", "--defer-state")):
        if state := setting(name, option):
            yield from (project / state / file for file in _STATE_FILES)


def _files(project: Path) -> Iterator[Path]:
    """Return the files of a project that dbt parses, packages and links included."""
    seen = set()
    for folder, folders, files in os.walk(project, followlinks=True):
        is_top = Path(folder) == project
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name != "node_modules"
            and not (is_top and name in _OTHER_FOLDERS)
            and not Path(folder, name, "pyvenv.cfg").exists()
        )
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue

        seen.add(real)
        for name in sorted(files):
            path = Path(folder, name)
            if name == ".dbtignore" or (
                path.suffix in _PROJECT_FILES | _NAMED_FILES
                and name not in _OTHER_FILES
            ):
                yield path
