#!/bin/sh
# airbyte-api: retry_connection_errors sends a start twice and gives up on a dropped connection.
#
# The client's retry policy has a switch "retry_connection_errors". One would expect it to repeat
# requests that never reached the server, and reads that were cut off. What happens instead: a
# start whose answer is slower than the timeout (five seconds by default, while Airbyte's server
# may hold a start for a minute) is sent again: one call makes two starts, and the id of the first
# job is lost. And a read whose connection the server closed before it answered is not repeated,
# because httpx counts that as a protocol error and not as a network error.
#
# Who meets it: everyone who switches the client's retries on to ride out a restart of Airbyte.
# Set a long timeout_ms for starts, keep retries off for them, and catch RemoteProtocolError.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet airbyte-api==1.0.1 httpx==0.28.1

"$work/venv/bin/python" - <<'PY'
import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

from airbyte_api import AirbyteAPI, api, models
from airbyte_api.utils import BackoffStrategy, RetryConfig

requests = []


class Airbyte(BaseHTTPRequestHandler):
    def do_POST(self):
        """Start a job; the first answer takes longer than the client waits."""
        self.rfile.read(int(self.headers["Content-Length"]))
        requests.append("POST /jobs")
        job_id = len(requests)
        time.sleep(2 if job_id == 1 else 0)
        with contextlib.suppress(ConnectionError):
            self.answer(job_id)

    def do_GET(self):
        """Close the first connection without an answer."""
        requests.append("GET /jobs/1")
        if len(requests) > 1:
            self.answer(1)

    def answer(self, job_id):
        job = {"jobId": job_id, "status": "running", "jobType": "sync"}
        job |= {"startTime": "2026-01-01T00:00:00Z", "connectionId": "orders"}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(job).encode())

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Airbyte)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = AirbyteAPI(
    server_url=f"http://127.0.0.1:{server.server_port}",
    timeout_ms=500,
    retry_config=RetryConfig("backoff", BackoffStrategy(100, 100, 1.0, 20_000), True),
)
print("airbyte-api", version("airbyte-api"), "with httpx", version("httpx"))


def show(title, call):
    requests.clear()
    try:
        outcome = f"job {call().job_response.job_id}"
    except Exception as error:
        outcome = type(error).__name__
    print(f"{title}: {len(requests)} requests, {outcome}")
    return len(requests), outcome


sync = models.JobCreateRequest(connection_id="orders", job_type=models.JobTypeEnum.SYNC)
start = show("start, slow answer", lambda: client.jobs.create_job(request=sync))
read = show("read, dropped", lambda: client.jobs.get_job(request=api.GetJobRequest(job_id=1)))
assert start == (2, "job 2"), start
assert read == (1, "RemoteProtocolError"), read
PY
