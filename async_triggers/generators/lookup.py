"""Answers from the cache, else from dbt and the vendors.

What is known is used, however old; what is older than its age limit is fetched again by
another process, which the parse does not wait for. So a parse costs neither a call nor a
process while nothing changes, and trouble at a vendor changes no DAG.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.compat import AirflowException, conf
from async_triggers.generators.cache import Cache, Entry, default_cache, max_age
from async_triggers.generators.errors import (
    GeneratorError,
    OutOfReach,
    Place,
    TookTooLong,
    Unanswered,
)
from async_triggers.generators.model import (
    Loader,
    SourceTable,
    sources_from_json,
)
from async_triggers.generators.questions import (
    DbtQuestion,
    InventoryQuestion,
    Question,
)
from async_triggers.generators.refreshing import (
    AT_LEISURE,
    fetch,
    refresh_in_background,
)
from async_triggers.generators.selector import (
    project_around,
    read_arguments,
    read_manifest,
    select_sources,
)

if TYPE_CHECKING:
    from async_triggers.generators.dialect import DbtSelection

log = logging.getLogger(__name__)

BETWEEN_TRIES = 60.0
"""Seconds for which a question that got no answer is not fetched again."""

# Of the time that Airflow gives to the import of a file; the rest is for imports.
_SHARE = 0.7


def time_to_parse() -> float:
    """Return how many seconds a parse may wait, by ``[core] dagbag_import_timeout``."""
    timeout = conf.getfloat("core", "dagbag_import_timeout", fallback=30.0)
    return timeout * _SHARE if timeout > 0 else AT_LEISURE


@dataclass(slots=True, kw_only=True)
class Lookup:
    """Finds answers; one for each load of a file.

    :ivar seconds: how long all questions together may take
    :ivar renew: fetch everything again, on request
    :ivar warnings: what was said of answers that are not the newest
    :ivar stale: the questions to fetch again in the background
    """

    cache: Cache = field(default_factory=default_cache)
    seconds: float = field(default_factory=time_to_parse)
    max_age: float = field(default_factory=max_age)
    renew: bool = False
    now: Callable[[], float] = time.time
    spawn: Callable[[Cache, Sequence[Question]], None] = refresh_in_background
    warnings: list[str] = field(default_factory=list)
    stale: list[Question] = field(default_factory=list)
    _ends: float = field(init=False)
    _renewed: set[str] = field(init=False, default_factory=set)
    _servers: dict[tuple[str, str], str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._ends = time.monotonic() + self.seconds

    def sources(
        self,
        selection: DbtSelection,
        place: Place,
        unmatched: Callable[[str], object] | None = None,
    ) -> tuple[SourceTable, ...]:
        """Return the source tables of a selection.

        ``unmatched`` is called with a sentence for each word of the selection that names
        nothing in a manifest; without it that is an error.
        """
        if selection.manifest is not None:
            return _from_manifest(
                selection.manifest, selection.arguments, place, unmatched
            )

        try:
            question = DbtQuestion.of(
                project=selection.project or Path(),
                dbt=selection.dbt,
                arguments=selection.arguments,
                run_deps=selection.run_deps,
            )
        except Unanswered as error:
            raise GeneratorError(place, str(error)) from None

        return sources_from_json(self._answer(question, place))

    def loaders(
        self,
        vendor: str,
        conn_id: str,
        databases: tuple[str, ...] | None,
        place: Place,
    ) -> tuple[Loader, ...]:
        """Return the connections of an account.

        ``databases`` are those whose tables are wanted, where the vendor lists tables
        one connection at a time.
        """
        question = InventoryQuestion(
            vendor=vendor,
            conn_id=conn_id,
            databases=databases if vendor == "fivetran" else None,
        )
        return tuple(map(Loader.from_json, self._answer(question, place)))

    def server(self, vendor: str, conn_id: str) -> str:
        """Return the address that an Airflow connection leads to, else its id."""
        key = (vendor, conn_id)
        if key not in self._servers:
            question = InventoryQuestion(vendor=vendor, conn_id=conn_id, databases=None)
            try:
                self._servers[key] = question.hook.account().base_url
            except AirflowException:
                self._servers[key] = conn_id

        return self._servers[key]

    def finish(self) -> None:
        """Have old answers fetched again, and do not wait."""
        try:
            claimed = [each for each in self.stale if self._claim(each)]
        except OSError as error:
            log.warning("The answers of the generators cannot be renewed: %s", error)
            return
        finally:
            self.stale.clear()

        if claimed:
            self.spawn(self.cache, claimed)

    def _answer(self, question: Question, place: Place) -> Any:
        try:
            return self._known_or_asked(question)
        except TookTooLong as error:
            self.stale.append(question)
            msg = (
                f"{error} (of the {self.seconds:.0f} s that a parse may take). It goes on"
                " in the background, and a later parse finds the answer; or run"
                f" async-triggers generate {place.file} --refresh on this machine, or"
                " raise [core] dagbag_import_timeout"
            )
            raise GeneratorError(place, msg) from None
        except Unanswered as error:
            raise GeneratorError(place, str(error)) from None
        except OSError as error:
            msg = (
                "the answers cannot be kept, set [async_triggers] generators_cache to a"
                f" folder that can be written: {error}"
            )
            raise GeneratorError(place, msg) from None

    def _known_or_asked(self, question: Question) -> Any:
        entry = self.cache.read(question.key)
        try:
            fingerprint = question.fingerprint()
        except OutOfReach as error:
            if self.renew or entry.answer is None:
                raise

            self._warn(entry, str(error))
            return entry.answer

        if self._is_good(question, entry, fingerprint):
            return self._kept(question, entry)

        if (known := self._tried_just_now(entry, fingerprint)) is not None:
            return self._last_good(question, entry, known)

        with self.cache.lock(question.key, seconds=self._left()) as locked:
            if not locked:
                late = TookTooLong("another process did not get the answer either")
                return self._last_good(question, entry, late)

            entry = self.cache.read(question.key)
            if self._is_good(question, entry, fingerprint):
                return entry.answer

            return self._asked(question, entry, fingerprint)

    def _is_good(self, question: Question, entry: Entry, fingerprint: str) -> bool:
        fits = entry.answer is not None and entry.fingerprint == fingerprint
        return fits and (not self.renew or question.key in self._renewed)

    def _kept(self, question: Question, entry: Entry) -> Any:
        """Use an answer, and have an old one fetched again."""
        if entry.trouble and entry.tried_for == entry.fingerprint:
            self._warn(entry, entry.trouble)

        now = self.now()
        is_old = now >= _past(entry.made_at, now) + self.max_age
        between = min(self.max_age, BETWEEN_TRIES * 5)
        if is_old and now >= _past(entry.tried_at, now) + between:
            self.stale.append(question)

        return entry.answer

    def _asked(self, question: Question, entry: Entry, fingerprint: str) -> Any:
        try:
            fresh = fetch(question, self.cache, fingerprint, self._left(), self.now)
        except Unanswered as error:
            return self._last_good(question, entry, error)

        self._renewed.add(question.key)
        return fresh.answer

    def _tried_just_now(self, entry: Entry, fingerprint: str) -> Unanswered | None:
        """Return why there is no answer, where that was found out a moment ago."""
        waits = _past(entry.tried_at, self.now()) + BETWEEN_TRIES - self.now()
        if (
            self.renew
            or not entry.trouble
            or entry.tried_for != fingerprint
            or waits <= 0
        ):
            return None

        msg = f"{entry.trouble} (it may be queried again in {waits:.0f} s)"
        return Unanswered(msg) if entry.refused else OutOfReach(msg)

    def _last_good(self, question: Question, entry: Entry, error: Unanswered) -> Any:
        """Use the answer for an earlier state, where there is none for the new one.

        What was refused is wrong as it is now, and must be seen.
        """
        if (
            self.renew
            or entry.answer is None
            or not question.outlives_change
            or not isinstance(error, OutOfReach)
        ):
            raise error

        if isinstance(error, TookTooLong):
            self.stale.append(question)

        self._warn(entry, str(error))
        return entry.answer

    def _claim(self, question: Question) -> bool:
        with self.cache.lock(question.key, seconds=0) as locked:
            entry = self.cache.read(question.key)
            now = self.now()
            if not locked or now < _past(entry.tried_at, now) + BETWEEN_TRIES:
                return False

            self.cache.write(question.key, replace(entry, tried_at=self.now()))
            return True

    def _left(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    def _warn(self, entry: Entry, trouble: str) -> None:
        when = datetime.fromtimestamp(entry.made_at, UTC).isoformat(" ", "seconds")
        text = f"Using the answer of {when}, since there is no newer one: {trouble}"
        log.warning(text)
        self.warnings.append(text)


def _past(moment: float, now: float) -> float:
    """Return a moment; one in the future was noted by a wrong clock, and is never."""
    return moment if moment <= now else 0.0


def _from_manifest(
    path: Path,
    arguments: tuple[str, ...],
    place: Place,
    unmatched: Callable[[str], object] | None,
) -> tuple[SourceTable, ...]:
    said: list[str] = []
    try:
        manifest = read_manifest(path)
        found = select_sources(
            manifest,
            read_arguments(arguments),
            unmatched=said.append,
            project=project_around(path, manifest),
        )
    except Unanswered as error:
        raise GeneratorError(place, str(error)) from None

    for text in said:
        if unmatched is None:
            raise GeneratorError(place, text)

        unmatched(text)

    return found
