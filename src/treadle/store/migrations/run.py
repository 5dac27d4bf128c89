"""Runs Alembic on an open connection, inside the caller's transaction: an upgrade happens wholly or not at all."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

FOLDER = Path(__file__).parent


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, made here instead of in an ini file."""
    made = Config()
    made.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection, target: str) -> None:
    """Bring the schema to the revision `target`."""
    command.upgrade(config(connection), target)
