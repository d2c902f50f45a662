"""Jobs: starting, polling, listing and cancelling them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from async_triggers.simulator.airbyte.model import (
    JOB_TYPES,
    STATUSES,
    TERMINAL,
    AirbyteConnection,
    AirbyteJob,
)
from async_triggers.simulator.airbyte.replies import (
    error,
    locked,
    page_of,
    paged,
    refuse,
    try_again_later,
)
from async_triggers.simulator.airbyte.times import java_duration, java_instant
from async_triggers.simulator.airbyte.workspaces import wanted_workspaces
from async_triggers.simulator.exchange import (
    SimReply,
    SimRequest,
    http_date,
    json_reply,
    parse_instant,
)
from async_triggers.simulator.lives import Moment
from async_triggers.simulator.vendor import as_integer_id

if TYPE_CHECKING:
    from async_triggers.simulator.airbyte.scene import AirbyteScene

_NOT_BEGUN: Final = frozenset({"pending", "queued"})
_ORDER_FIELDS: Final = frozenset({"createdAt", "updatedAt"})


class _Filters(NamedTuple):
    """The filters of one list request. Times are the server's, as it has kept them."""

    status: str | None
    job_type: str | None
    created_from: float
    created_to: float
    updated_from: float
    updated_to: float

    def pass_(
        self, job: AirbyteJob, moment: Moment, created: float, updated: float
    ) -> bool:
        return (
            self.updated_from <= updated <= self.updated_to
            and self.created_from <= created <= self.created_to
            and self.status in (None, moment.word)
            and self.job_type in (None, job.job_type)
        )


class Jobs:
    """The operations on jobs."""

    def __init__(self, scene: AirbyteScene) -> None:
        self._scene = scene

    def start(self, request: SimRequest) -> SimReply:
        """Start a job of a connection."""
        scene = self._scene
        # https://reference.airbyte.com/reference/createjob
        sent = scene.body(request)
        connection_id, job_type = sent.get("connectionId"), sent.get("jobType")
        if not isinstance(connection_id, str) or not connection_id:
            raise refuse(400, "connectionId is required")
        if job_type == "refresh":
            raise refuse(422, "Refreshes are not supported in the public API")
        if job_type not in ("sync", "reset", "clear"):
            raise refuse(400, f"jobType {job_type!r} is unknown")
        connection = scene.connection(connection_id)
        refusal, running = (
            self._start_refusal(connection),
            scene.running(connection),
        )
        if refusal is not None:
            scene.record.refused_starts[connection_id] += 1
            return refusal
        # https://github.com/airbytehq/airbyte-platform (SchedulerHandler): the call
        # blocks until the job has an id, a minute at most.
        blocks = min(scene.settings.start_blocks, 60.0)
        end = scene.now() + blocks
        if running is not None:
            scene.record.refused_starts[connection_id] += 1
            return self._shown_job(running, scene.now())
        life = scene.next_life(connection)
        job = scene.create(connection, job_type, life, scene.settings.job_appears_after)
        scene.record.note_start(
            scene.noted(), connection_id, job.job_id, {"jobType": job_type}
        )
        if scene.settings.start_blocks >= 60:
            return error(409, "Could not fulfill request").after(blocks)
        return self._shown_job(job, max(end, job.timeline.start)).after(blocks)

    def _start_refusal(self, connection: AirbyteConnection) -> SimReply | None:
        if connection.status == "deprecated":
            return try_again_later(connection.connection_id)
        if connection.status == "locked":
            return locked()
        if connection.status != "active":
            return error(409, "Could not fulfill request")
        running = self._scene.running(connection)
        if running is None:
            return None
        moment = running.timeline.at(self._scene.now())
        if moment is not None and moment.word == "queued":
            return None
        return try_again_later(connection.connection_id)

    def get(self, request: SimRequest, job_id: str) -> SimReply:
        """Answer with one job."""
        return self._shown_job(self._job(job_id), self._scene.now())

    def cancel(self, request: SimRequest, job_id: str) -> SimReply:
        """Cancel what the connection of a job runs now."""
        scene = self._scene
        # https://github.com/airbytehq/airbyte-platform (TemporalClient): what ends is
        # any job that the connection runs now, not the one that was named.
        named = self._job(job_id)
        running = scene.running(named.connection)
        if running is None:
            if scene.settings.cancel_idle == "conflict":
                return error(409, "Job is not currently running")
            return self._shown_job(named, scene.now())
        now = scene.now()
        moment = running.timeline.at(now)
        if moment is not None and moment.word == "queued":
            scene.record.cancels[str(running.job_id)] += 1
            shown = self._shown_job(named, now)
            running.timeline.end(now + scene.settings.queued_cancel_after, "cancelled")
            return shown
        end = now + scene.settings.cancel_blocks
        if not running.is_over(end):
            scene.record.cancels[str(running.job_id)] += 1
            running.timeline.end(end, "cancelled")
        return self._shown_job(named, end).after(scene.settings.cancel_blocks)

    def _job(self, job_id: str) -> AirbyteJob:
        scene = self._scene
        number = as_integer_id(job_id)
        if number is None:
            raise refuse(400, f"jobId {job_id!r} is no integer above zero")
        job = scene.all_jobs.get(number)
        if job is None or job.timeline.at(scene.now()) is None:
            # https://github.com/airbytehq/airbyte-platform (RoleResolver): the check of
            # the caller's role fails before anybody looks for the job.
            status = scene.settings.unknown_job_status
            message = "Job is not currently running" if status == 409 else ""
            raise refuse(status, message)
        return job

    def _shown_job(self, job: AirbyteJob, at: float) -> SimReply:
        moment = job.timeline.at(at) or Moment("pending", at)
        # The answer shows the state at ``at``, and so does its date.
        date = {"Date": http_date(self._scene.shown(at))}
        return json_reply(200, self._row(job, moment, at, full=True), headers=date)

    def _row(
        self, job: AirbyteJob, moment: Moment, at: float, *, full: bool
    ) -> dict[str, Any]:
        scene = self._scene
        over = moment.word in TERMINAL
        begun = moment.word not in _NOT_BEGUN
        share = self._progress(job, at) if begun and full else None
        start = job.timeline.start
        row = {
            "jobId": job.job_id,
            "status": moment.word,
            "jobType": job.job_type,
            "startTime": java_instant(scene.shown(start)),
            "connectionId": job.connection.connection_id,
            "lastUpdatedAt": java_instant(scene.shown(moment.since)) if over else None,
            "duration": (
                java_duration(moment.since - start)
                if moment.word != "pending"
                else None
            ),
            "bytesSynced": None if share is None else int(job.bytes_synced * share),
            "rowsSynced": None if share is None else int(job.rows_synced * share),
        }
        if scene.settings.show_nulls:
            return row
        return {key: value for key, value in row.items() if value is not None}

    @staticmethod
    def _progress(job: AirbyteJob, at: float) -> float:
        end = job.timeline.last.since
        whole = end - job.timeline.start
        return min(1.0, (at - job.timeline.start) / whole) if whole > 0 else 1.0

    def list_all(self, request: SimRequest) -> SimReply:
        """Answer with a page of jobs."""
        scene = self._scene
        # https://reference.airbyte.com/reference/listjobs
        limit, offset = page_of(request)
        order_by, descending = self._order(request)
        seen = scene.now() - scene.quirks.lag
        filters = self._filters(request)
        by_update = order_by == "updatedAt"
        found = []
        for job in self._listed(request):
            moment = job.timeline.at(seen)
            if moment is None:
                continue
            created = scene.shown(job.timeline.start)
            updated = scene.shown(moment.since)
            if filters.pass_(job, moment, created, updated):
                found.append((updated if by_update else created, job, moment))
        found.sort(key=lambda one: (one[0], one[1].job_id), reverse=descending)
        page = found[offset : offset + limit]
        rows = [
            self._row(job, moment, seen, full=scene.settings.hydrate_lists)
            for _, job, moment in page
        ]
        self._churn([job for _, job, _ in page])
        return paged(
            request,
            "/jobs",
            scene.quirks.spoil(rows, scene.random),
            limit,
            offset,
        )

    def _listed(self, request: SimRequest) -> Iterable[AirbyteJob]:
        scene = self._scene
        connection_id = scene.filter(request, "connectionId")
        if connection_id is not None:
            return scene.connection(connection_id).jobs
        if "workspaceIds" in scene.quirks.ignore_filters:
            return scene.all_jobs.values()
        workspaces = wanted_workspaces(scene, request)
        if workspaces is None:
            return scene.all_jobs.values()
        return [
            job
            for job in scene.all_jobs.values()
            if job.connection.workspace_id in workspaces
        ]

    def _filters(self, request: SimRequest) -> _Filters:
        status = self._scene.filter(request, "status")
        if status is not None and status not in STATUSES:
            raise refuse(400, f"status {status!r} is unknown")
        job_type = self._scene.filter(request, "jobType")
        if job_type is not None and job_type not in JOB_TYPES:
            raise refuse(400, f"jobType {job_type!r} is unknown")
        return _Filters(
            status,
            job_type,
            self._instant(request, "createdAtStart", -math.inf),
            self._instant(request, "createdAtEnd", math.inf),
            self._instant(request, "updatedAtStart", -math.inf),
            self._instant(request, "updatedAtEnd", math.inf),
        )

    def _instant(self, request: SimRequest, name: str, default: float) -> float:
        text = self._scene.filter(request, name)
        if text is None:
            return default
        try:
            return parse_instant(text)
        except ValueError as error:
            raise refuse(400, f"{name}: {error}") from error

    def _order(self, request: SimRequest) -> tuple[str, bool]:
        text = request.value("orderBy")
        if text is None:
            return "createdAt", False
        name, bar, direction = text.partition("|")
        if not bar or name not in _ORDER_FIELDS or direction not in {"ASC", "DESC"}:
            raise refuse(400, f"Invalid order by clause provided: {text}")
        return name, direction == "DESC"

    def _churn(self, page: list[AirbyteJob]) -> None:
        scene = self._scene
        if not scene.quirks.churn:
            return
        now = scene.now()
        running = [job for job in page if not job.is_over(now)]
        for job in running[: scene.quirks.churn]:
            moment = job.timeline.at(now)
            word = "incomplete" if moment and moment.word == "running" else "running"
            job.timeline.insert(now, word)
