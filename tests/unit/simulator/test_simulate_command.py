from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import IO

import pytest

from async_triggers import cli
from async_triggers.simulator import SimulatorControl

# Runs the command where some packages cannot be imported.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
blocked = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Blocked())
sys.argv = ["async-triggers", *sys.argv[2:]]
import runpy
runpy.run_module("async_triggers", run_name="__main__", alter_sys=True)
"""

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
        [sys.executable, "-m", "async_triggers", "simulate", *FREE],
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


@pytest.mark.parametrize("option", ["--airbyte-port", "--fivetran-port", "--dbt-port"])
def test_a_taken_port_names_the_option_that_changes_it(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.main(["simulate", *FREE, option, port]) == 1
    said = capsys.readouterr().err
    assert f"127.0.0.1:{port}: Address already in use" in said
    assert f"Choose another {option}, or 0" in said
    assert "Errno" not in said


def test_one_port_for_two_vendors_names_the_option_of_the_second(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    ports = ["--airbyte-port", port, "--fivetran-port", port, "--dbt-port", "0"]
    assert cli.main(["simulate", *ports]) == 1
    assert "Choose another --fivetran-port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "missing", "package"),
    [
        (["simulate", *FREE], "aiohttp", "aiohttp"),
        (["demo"], "rich", "'airflow-provider-async-triggers[demo]'"),
        (["generate", "dags.yml"], "yaml", "airflow-provider-async-triggers"),
    ],
)
def test_a_command_without_its_requirement_names_the_package_to_install(
    command: list[str], missing: str, package: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, missing, *command],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"needs {missing}" in done.stderr
    assert done.stderr.rstrip().endswith(f"pip install {package}")


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"]])
def test_the_help_needs_no_airflow(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "airflow,aiohttp,orjson", *arguments],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--airbyte-life", "running succeeded"], "needs seconds"),
        (["--latency", "-1"], "negative"),
        (["--latency", "x"], "not a number of seconds"),
        (["--latency", "nan"], "not a number of seconds"),
        (["--skew", "inf"], "not a number of seconds"),
        (["--dbt-port", "70000"], "not a port"),
        (["--dbt-port", "-1"], "not a port"),
        (
            ["--airbyte-port", "80a"],
            "'80a' is not a port; use a number from 1 to 65535",
        ),
        (["--airbyte-port", ""], "'' is not a port"),
        (["--latency", "5x"], "'5x' is not a number of seconds"),
        (["--skew", "soon"], "'soon' is not a number of seconds"),
    ],
)
def test_bad_arguments_are_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["simulate", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
