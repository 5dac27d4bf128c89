"""Writes `versions/0001_first.py` anew from `tables.metadata`: `python -m treadle.store.migrations.regenerate`.

Only until the first release; from then on 0001 is frozen, and a change of `tables.py` comes with a migration of its own.
"""

import subprocess
import sys
from typing import Literal

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import String, Text, create_engine

from treadle.store.migrations.run import FOLDER
from treadle.store.tables import Json, Time, metadata

FIRST = FOLDER / "versions" / "0001_first.py"
_HEAD = '''"""The first schema."""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: PLR0915
revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def text(length: int) -> sa.String:
    """Text that is ordered by its bytes."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Every table of the first release."""
'''


def source() -> str:
    """The migration as Python."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"render_item": _plain, "sqlalchemy_module_prefix": "sa."})
        found = produce_migrations(context, metadata).upgrade_ops
        assert found is not None
        body = render_python_code(found, render_item=_plain)
    engine.dispose()
    lines = [line for line in body.splitlines() if not line.strip().startswith("#")]
    return _HEAD + "".join(f"    {line.strip()}\n" for line in lines)


def _plain(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Types of our own as what they are in the database: a migration must not change its meaning with the code."""
    if kind == "type" and isinstance(item, Time):
        return "sa.BigInteger()"
    if kind == "type" and isinstance(item, Json):
        return "sa.Text()"
    if kind == "type" and isinstance(item, String) and not isinstance(item, Text):
        return f"text({item.length})"
    return False


if __name__ == "__main__":
    FIRST.write_text(source())
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(FIRST)], check=True)
