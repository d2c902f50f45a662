"""airbyte-api, Airbyte's own Python client."""

from __future__ import annotations

from airbyte_api import AirbyteAPI, api, models

from tests.conformance.calls.reporting import Calls

calls = Calls()
given = calls.given
client = AirbyteAPI(
    server_url=f"{given['url']}/api/public/v1",
    security=models.Security(
        client_credentials=models.SchemeClientCredentials(
            client_id=given["client_id"],
            client_secret=given["client_secret"],
            token_url=f"{given['url']}/api/public/v1/applications/token",
        )
    ),
)
CONNECTION, WORKSPACE = given["connection"], given["workspace"]


def create(job_type: models.JobTypeEnum) -> models.JobResponse:
    request = models.JobCreateRequest(connection_id=CONNECTION, job_type=job_type)
    return client.jobs.create_job(request=request).job_response


def read(job_id: int) -> models.JobResponse:
    return client.jobs.get_job(request=api.GetJobRequest(job_id=job_id)).job_response


calls.check(
    "health.get_health_check",
    client.health.get_health_check,
    lambda found: found.status_code == 200,
)
job = calls.check(
    "jobs.create_job (sync)",
    lambda: create(models.JobTypeEnum.SYNC),
    lambda found: found.connection_id == CONNECTION,
)
calls.check(
    "jobs.get_job",
    lambda: read(job.job_id),
    lambda found: found.job_id == job.job_id and found.status.value == "running",
)
calls.refuses(
    "jobs.create_job while one runs",
    lambda: create(models.JobTypeEnum.SYNC),
    "try-again-later",
)
calls.check(
    "jobs.list_jobs",
    lambda: (
        client.jobs.list_jobs(
            request=api.ListJobsRequest(
                connection_id=CONNECTION,
                workspace_ids=[WORKSPACE],
                limit=10,
                order_by="createdAt|DESC",
                status=models.JobStatusEnum.RUNNING,
            )
        ).jobs_response.data
    ),
    lambda found: [one.job_id for one in found] == [job.job_id],
)
calls.check(
    "jobs.cancel_job",
    lambda: (
        client.jobs.cancel_job(
            request=api.CancelJobRequest(job_id=job.job_id)
        ).job_response
    ),
    lambda found: found.status.value == "cancelled",
)
calls.check(
    "jobs.create_job (reset)",
    lambda: create(models.JobTypeEnum.RESET),
    lambda found: found.job_type.value == "reset",
)
calls.refuses("jobs.get_job of an unknown id", lambda: read(999_999), "forbidden")
connection = calls.check(
    "connections.get_connection",
    lambda: (
        client.connections.get_connection(
            request=api.GetConnectionRequest(connection_id=CONNECTION)
        ).connection_response
    ),
    lambda found: found.workspace_id == WORKSPACE,
)
calls.check(
    "connections.list_connections",
    lambda: (
        client.connections.list_connections(
            request=api.ListConnectionsRequest(workspace_ids=[WORKSPACE], limit=10)
        ).connections_response.data
    ),
    lambda found: [one.connection_id for one in found] == [CONNECTION],
)
calls.check(
    "sources.get_source",
    lambda: (
        client.sources.get_source(
            request=api.GetSourceRequest(source_id=connection.source_id)
        ).source_response
    ),
    lambda found: found.source_id == connection.source_id,
)
calls.check(
    "sources.list_sources",
    lambda: (
        client.sources.list_sources(
            request=api.ListSourcesRequest(workspace_ids=[WORKSPACE])
        ).sources_response.data
    ),
    lambda found: connection.source_id in [one.source_id for one in found],
)
calls.check(
    "destinations.get_destination",
    lambda: (
        client.destinations.get_destination(
            request=api.GetDestinationRequest(destination_id=connection.destination_id)
        ).destination_response
    ),
    lambda found: found.destination_id == connection.destination_id,
)
calls.check(
    "destinations.list_destinations",
    lambda: (
        client.destinations.list_destinations(
            request=api.ListDestinationsRequest(workspace_ids=[WORKSPACE])
        ).destinations_response.data
    ),
    lambda found: connection.destination_id in [one.destination_id for one in found],
)
calls.check(
    "workspaces.list_workspaces",
    lambda: (
        client.workspaces.list_workspaces(
            request=api.ListWorkspacesRequest()
        ).workspaces_response.data
    ),
    lambda found: WORKSPACE in [one.workspace_id for one in found],
)
calls.check(
    "workspaces.get_workspace",
    lambda: (
        client.workspaces.get_workspace(
            request=api.GetWorkspaceRequest(workspace_id=WORKSPACE)
        ).workspace_response
    ),
    lambda found: found.workspace_id == WORKSPACE,
)
