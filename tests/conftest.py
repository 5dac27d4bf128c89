"""Fixtures every tier shares: a migrated database on SQLite and on PostgreSQL, one a test; a bucket of a real S3 server."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_server import BUCKET, S3Server, program
from s3_server import INSTALL as S3_INSTALL
from treadle.store import migrate
from treadle.store.db import Database

SERVER = "127.0.0.1", 5432
INSTALL = "sudo apt-get install postgresql"


def _answers() -> bool:
    try:
        socket.create_connection(SERVER, timeout=2).close()
    except OSError:
        return False
    return True


def _missing(reason: str) -> None:
    """Skips, with the command that helps; in CI a missing server is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _start_postgres() -> None:
    """Start Debian's PostgreSQL where it is installed and does not run."""
    if _answers():
        return
    if not shutil.which("pg_ctlcluster"):
        _missing(f"PostgreSQL does not run on {SERVER[0]}:{SERVER[1]} and is not installed: {INSTALL}")
    listed = subprocess.run(["pg_lsclusters", "--no-header"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        version, name, port, *_ = line.split()
        if int(port) == SERVER[1]:
            command = ["pg_ctlcluster", "--skip-systemctl-redirect", version, name, "start"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            for _ in range(100):
                if _answers():
                    return
                time.sleep(0.1)
            _missing(f"PostgreSQL did not start: {' '.join(command)}: {done.stderr.strip()}")
    _missing(f"There is no PostgreSQL cluster on port {SERVER[1]}: {INSTALL}")


def postgres_url(database: str = "postgres", schema: str | None = None) -> str:
    """The address of a database on the test server, its search path set to `schema`."""
    options = f"?options=-csearch_path%3D{schema}" if schema else ""
    return f"postgresql://postgres@{SERVER[0]}:{SERVER[1]}/{database}{options}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The name of a PostgreSQL database of this test session's own, dropped at its end."""
    import psycopg

    _start_postgres()
    name = f"treadle_test_{os.getpid()}_{secrets.token_hex(3)}"
    try:
        with psycopg.connect(postgres_url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
    except psycopg.OperationalError as error:
        _missing(f"PostgreSQL on {SERVER[0]}:{SERVER[1]} does not let user postgres in without a password: {error}")
    yield name
    with psycopg.connect(postgres_url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_schema(postgres: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL schema of this test's own."""
    import psycopg

    schema = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url(postgres), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    yield postgres_url(postgres, schema)
    with psycopg.connect(postgres_url(postgres), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: a SQLite file, or a PostgreSQL schema of this test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'treadle.db'}"
    return request.getfixturevalue("postgres_schema")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An opened and migrated database; `database_url` is its address, for other processes."""
    opened = Database.open(database_url)
    try:
        migrate.ensure(opened)
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server of this test session's own."""
    if program() is None:
        _missing(f"The S3 server that tests need is not installed: {S3_INSTALL}")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty prefix in a bucket of the test server; the environment has the way there, for other processes too."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{secrets.token_hex(6)}"
