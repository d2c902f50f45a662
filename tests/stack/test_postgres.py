"""The PostgreSQL server that the stack tests start, when it goes down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import psycopg2
import pytest

from tests.stack.postgres import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def _connect(server: PostgresServer) -> Any:
    client = psycopg2.connect(f"host=127.0.0.1 port={server.port} user=postgres")
    client.autocommit = True
    return client


@pytest.mark.postgres
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_drops_clients_and_keeps_the_data(
    server: PostgresServer, mode: Literal["fast", "immediate"]
) -> None:
    client = _connect(server)
    client.cursor().execute(f"CREATE TABLE {mode} AS SELECT 1 AS number")

    server.restart(mode=mode)

    with pytest.raises(psycopg2.OperationalError):
        client.cursor().execute("SELECT 1")
    after = _connect(server)
    with after.cursor() as cursor:
        cursor.execute(f"SELECT number FROM {mode}")
        assert cursor.fetchall() == [(1,)]
    after.close()


@pytest.mark.postgres
def test_nobody_gets_a_connection_while_it_is_down(server: PostgresServer) -> None:
    server.stop()

    with pytest.raises(psycopg2.OperationalError, match="refused"):
        _connect(server)

    server.start()
    _connect(server).close()
