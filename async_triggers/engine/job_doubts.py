"""Which refusals of jobs are believed: pure bookkeeping, see :mod:`.doubt`.

A vendor that refuses one job which it has shown before may mean it. A vendor that refuses
most of them in one round, and shows nothing else, is more likely in trouble: roles are
withdrawn and given back, replicas lag behind. Then only a few jobs are requested until one
of them, or a list, is answered; and if nothing but refusals comes for three times as long,
they are believed after all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from async_triggers.engine.doubt import Doubt

if TYPE_CHECKING:
    from async_triggers.engine.errors import PermanentError

FEWEST_FOR_MOST = 3
"""Jobs that must be waited for at least before most of them can be refused."""
MOST_LAST = 3.0
"""How many times as long the refusal of most jobs must last."""
SAMPLE = 3
"""Jobs that are requested at a time while most are refused."""
BATCH = 20
"""Doubtful jobs that are checked at once; the rest follows a little later."""
BREATH = 5.0
"""Seconds between two such batches."""


class JobDoubts:
    """The jobs of an account whose refusal is not believed yet."""

    def __init__(self, lasts: float) -> None:
        self._lasts = lasts
        self._doubts: dict[str, Doubt] = {}
        self._most: Doubt | None = None
        self._refused: dict[str, None] = {}
        self._not_before = -math.inf

    def __contains__(self, subject: object) -> bool:
        """Return True if a job is in doubt."""
        return subject in self._doubts or subject in self._refused

    def __len__(self) -> int:
        """Return how many jobs are in doubt."""
        return len(self._doubts) + len(self._refused)

    def refusal_of(self, subject: str) -> PermanentError | None:
        """Return what the vendor said of a job that is in doubt."""
        doubt = self._doubts.get(subject)
        if doubt is None and subject in self._refused:
            doubt = self._most

        return None if doubt is None else doubt.refusal

    def forget(self, subject: str) -> None:
        """Forget a job: it has been shown, or is not waited for any more."""
        self._doubts.pop(subject, None)
        self._refused.pop(subject, None)
        if not self._refused:
            self._most = None

    @property
    def next_check(self) -> float:
        """When to check next; infinity where nothing is in doubt."""
        if not self:
            return math.inf

        times = [each.next_check for each in self._doubts.values()]
        if self._most is not None:
            times.append(self._most.next_check)

        return max(self._not_before, min(times))

    def due(self, now: float) -> list[str]:
        """Return the jobs to request now, those that waited longest first."""
        if now < self._not_before:
            return []

        waiting = sorted(
            (each.next_check, subject)
            for subject, each in self._doubts.items()
            if each.next_check <= now
        )
        due = [subject for _, subject in waiting[:BATCH]]
        if len(waiting) > BATCH:
            self._not_before = now + BREATH

        if self._most is not None and self._most.next_check <= now:
            due += list(self._refused)[:SAMPLE]

        return due

    def missed(self, subjects: Iterable[str], now: float) -> None:
        """Take note of those that were to be checked and for which no answer came."""
        for subject in subjects:
            doubt = self._doubts.get(subject)
            if doubt is not None and doubt.next_check <= now:
                doubt.missed(now)

        if self._most is not None and self._most.next_check <= now:
            self._most.missed(now)

    def weigh(
        self,
        refusals: Mapping[str, PermanentError],
        *,
        waiting: int,
        is_sound: bool,
        now: float,
    ) -> tuple[dict[str, PermanentError], list[str]]:
        """Take the refusals of one round in.

        ``waiting`` counts the jobs that are waited for; ``is_sound`` says that a list or
        another job was answered in the round. Return the refusals to believe, and the jobs
        that are all to be requested once more now, since the refusal of most has lasted:
        what is refused then is to be believed, see :meth:`believe_most`.
        """
        if is_sound and self._most is not None:
            # They are requested again like any other, and each is doubted by itself.
            self._most = None
            self._refused.clear()

        if self._most is not None and waiting < FEWEST_FOR_MOST:
            # The others have left: one or two jobs are believed by the plain rule.
            for subject in self._refused:
                self._doubts[subject] = self._most.of_one(now, lasts=self._lasts)

            self._most = None
            self._refused.clear()

        refused = len({*self._doubts, *self._refused, *refusals})
        if not is_sound and (
            self._most is not None
            or (waiting >= FEWEST_FOR_MOST and refused * 2 > waiting and refusals)
        ):
            return {}, self._weigh_most(refusals, now)

        believed = {}
        for subject, refusal in refusals.items():
            doubt = self._doubts.get(subject)
            if doubt is None:
                self._doubts[subject] = Doubt(refusal, now, lasts=self._lasts)
            elif doubt.refused(refusal, now):
                del self._doubts[subject]
                believed[subject] = refusal

        return believed, []

    def _weigh_most(
        self, refusals: Mapping[str, PermanentError], now: float
    ) -> list[str]:
        if not refusals:
            return []

        *_, last = refusals.values()
        is_over = False
        if self._most is None:
            self._most = Doubt(last, now, lasts=self._lasts * MOST_LAST)
        elif self._most.next_check <= now:
            is_over = self._most.refused(last, now)

        for subject in refusals:
            # None of these counts as one refusal more.
            self._doubts.pop(subject, None)
            self._refused.pop(subject, None)
            self._refused[subject] = None

        return list(self._refused) if is_over else []

    def believe_most(
        self, refusals: Mapping[str, PermanentError]
    ) -> dict[str, PermanentError]:
        """Return what is believed of the jobs that were all requested once more."""
        self._most = None
        self._refused.clear()
        return dict(refusals)
