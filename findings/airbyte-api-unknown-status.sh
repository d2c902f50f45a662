#!/bin/sh
# airbyte-api: one job with a status it does not know hides the whole page of a list.
#
# Airbyte adds statuses to its jobs (in 2026 "queued"). One would expect an older client to
# hand over an unknown status as text, or at worst to fail for that job. What happens instead:
# the list call raises for the page as a whole. The jobs beside it, of other connections, cannot
# be read either, and neither can any field of the job itself (not even that it exists). The
# same holds for an unknown job type.
#
# Who meets it: everyone who lists jobs of a workspace with the official client, and every DAG
# of Airflow's Airbyte provider, on the day the server learns a new status.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet airbyte-api==1.0.1

"$work/venv/bin/python" - <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from airbyte_api import AirbyteAPI, api, errors


def job(job_id, status):
    return {
        "jobId": job_id,
        "status": status,
        "jobType": "sync",
        "startTime": "2026-01-01T00:00:00Z",
        "connectionId": f"connection-{job_id}",
    }


page = []


class Airbyte(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": page, "next": "", "previous": ""}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Airbyte)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = AirbyteAPI(server_url=f"http://127.0.0.1:{server.server_port}/v1")
print("airbyte-api", version("airbyte-api"))


def show(*jobs):
    page[:] = jobs
    try:
        seen = client.jobs.list_jobs(request=api.ListJobsRequest()).jobs_response.data
        outcome = [f"{found.job_id} {found.status.value}" for found in seen]
    except errors.ResponseValidationError as error:
        outcome = "ResponseValidationError: " + str(error).splitlines()[1]
    print([f"{sent['jobId']} {sent['status']}" for sent in jobs], "->", outcome)
    return outcome


known = show(job(1, "succeeded"), job(2, "queued"))
unknown = show(job(1, "succeeded"), job(2, "draining"))
assert known == ["1 succeeded", "2 queued"]
assert unknown == "ResponseValidationError: body.data.1.status"
PY
