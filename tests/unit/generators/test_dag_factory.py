"""The recipe for users of dag-factory, against the real one."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from async_triggers.generators.cache import Cache
    from async_triggers.simulator.server import Simulator
    from tests.unit.generators.stage import FakeDbt

pytestmark = pytest.mark.skipif(
    find_spec("dagfactory") is None,
    reason="dag-factory is not installed: it is in the dependency group dag-factory",
)

RECIPE = """
import yaml
from dagfactory import load_yaml_dags

from async_triggers.generators import expand_generators

with open("dags.yml") as file:
    config = yaml.safe_load(file)

load_yaml_dags(globals(), config_dict=expand_generators(config, file="dags.yml"))

for task in example_dag.tasks:
    print(task.task_id, type(task).__name__, sorted(task.upstream_task_ids))
"""

YAML = """
example_dag:
  schedule: "@daily"
  default_args: {{start_date: 2026-01-01, owner: me}}
  task_groups:
    extract_and_load:
      tooltip: "Extract and Load tasks"
  tasks:
    load:
      generator: dagfactory.FivetranDbtGenerator
      airflow_connection_id: fivetran_default
      dbt_project_path: transform
      task_group_name: extract_and_load
      virtualenv_path: {virtualenv}
      sensor: true
    transform:
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "true"
      dependencies: [extract_and_load]
"""


LISTS = """
example_dag:
  schedule: "@daily"
  default_args: {{start_date: 2026-01-01, owner: me}}
  task_groups:
    - group_name: extract_and_load
      tooltip: "Extract and Load tasks"
  tasks:
    - task_id: load
      generator: dagfactory.FivetranDbtGenerator
      airflow_connection_id: fivetran_default
      dbt_project_path: transform
      task_group_name: extract_and_load
      virtualenv_path: {virtualenv}
      sensor: true
    - task_id: transform
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "true"
      dependencies: [extract_and_load]
"""

DEFAULT = """
default:
  default_args: {{start_date: 2026-01-01, owner: me}}
  task_groups:
    extract_and_load:
      tooltip: "Extract and Load tasks"
  tasks:
    load:
      generator: dagfactory.FivetranDbtGenerator
      airflow_connection_id: fivetran_default
      dbt_project_path: transform
      task_group_name: extract_and_load
      virtualenv_path: {virtualenv}
      sensor: true
example_dag:
  schedule: "@daily"
  tasks:
    transform:
      operator: airflow.providers.standard.operators.bash.BashOperator
      bash_command: "true"
      dependencies: [load]
"""


@pytest.mark.parametrize("text", [YAML, LISTS, DEFAULT])
def test_dag_factory_builds_what_the_generators_made(
    tmp_path: Path, cache: Cache, vendors: Simulator, dbt: FakeDbt, text: str
) -> None:
    (tmp_path / "dags.yml").write_text(text.format(virtualenv=dbt.virtualenv))

    # A process of its own: dag-factory's imports warn of their own deprecations.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RECIPE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    group = "extract_and_load.warehouse-shop"
    after = [f"{group}-sensor"]
    if text is DEFAULT:
        after.append(f"{group}-trigger")
    assert sorted(done.stdout.splitlines()[-3:]) == [
        f"{group}-sensor FivetranSensor ['{group}-trigger']",
        f"{group}-trigger FivetranOperator []",
        f"transform BashOperator {after}",
    ]
