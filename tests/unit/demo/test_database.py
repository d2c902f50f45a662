from __future__ import annotations

import configparser
from pathlib import Path

from sqlalchemy import create_engine, text

from async_triggers.demo.deployment import Deployment


def test_writers_of_sqlite_wait_for_one_another(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path / "home")
    deployment._prepare_home()

    config = configparser.ConfigParser(interpolation=None)
    config.read(deployment.home / "airflow.cfg")

    engine = create_engine(config["database"]["sql_alchemy_conn"])
    with engine.connect() as connection:
        waits = connection.execute(text("PRAGMA busy_timeout")).scalar_one()
    engine.dispose()
    assert waits == 30_000
    assert (deployment.home / "airflow.db").exists()
