from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import IO

import pytest

from async_triggers import cli
from async_triggers.simulator import SimulatorControl

FREE = ["--airbyte-port", "0", "--fivetran-port", "0", "--dbt-port", "0"]


def until(output: IO[str], text: str) -> list[str]:
    lines = []
    for line in output:
        lines.append(line.strip())
        if text in line:
            return lines
    raise AssertionError("\n".join(lines))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "async_triggers.cli", "simulate", *FREE],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            lines = until(process.stdout, "Control API")
            urls = {
                line.split()[0]: line.split()[1]
                for line in lines
                if "http:" in line[:20]
            }
            assert set(urls) == {"airbyte", "fivetran", "dbt_cloud"}
            assert sum(line.startswith("export AIRFLOW_CONN_") for line in lines) == 3
            for url in urls.values():
                assert SimulatorControl(url).record()["total"] == 0
        finally:
            process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout.read().strip() == "Stopped."


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["simulate", *FREE[:4], "--dbt-port", port]) == 1
    assert "address already in use" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--airbyte-life", "running succeeded"], "needs seconds"),
        (["--latency", "-1"], "negative"),
        (["--latency", "x"], "invalid"),
    ],
)
def test_bad_arguments_are_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
