"""Reading another program's database: the tables of an MLflow tracking store (SQLite or PostgreSQL), never written to."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, Table, create_engine, exc, func, inspect, select

from treadle.records.errors import TreadleError

_ROWS = 5000


class MlflowTables:
    """The tables of an MLflow store, as they are in that release: what a release has not is empty.

    Args:
        url: `sqlite:///path/mlflow.db` or `postgresql://…`.

    Raises:
        TreadleError: `unavailable` where it does not open, `bad_data` where it is no MLflow store.
    """

    def __init__(self, url: str):
        if url.startswith("sqlite:///"):
            if not Path(url.removeprefix("sqlite:///")).exists():
                raise TreadleError(f"There is no file {url.removeprefix('sqlite:///')}.", remedy="Check the path.", code="not_found")
            self._engine: Engine = create_engine("sqlite:///file:" + url.removeprefix("sqlite:///") + "?mode=ro&uri=true")
        elif url.startswith("postgresql"):
            engine = create_engine("postgresql+psycopg" + url[url.index("://") :])
            self._engine = engine.execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
        else:
            raise TreadleError(
                f"{url.split(':')[0]!r} is no database that is read here.", remedy="Use sqlite:///path/mlflow.db or postgresql://…"
            )
        self._metadata = MetaData()
        try:
            self._there = set(inspect(self._engine).get_table_names())
        except exc.SQLAlchemyError as error:
            raise TreadleError(
                f"The database does not open: {str(error).splitlines()[0]}.",
                remedy="Check the address and that it is readable.",
                code="unavailable",
            ) from error
        if not {"experiments", "runs", "metrics"} <= self._there:
            raise TreadleError(
                "The database has no tables of an MLflow tracking store.",
                remedy="Name the backend store that its server uses.",
                code="bad_data",
            )

    def rows(self, name: str, /, *, order: Sequence[str] = (), **equal: Any) -> Iterator[dict[str, Any]]:
        """Rows of a table whose columns equal the values given (a list: are among them); columns the release lacks are left out."""
        if name not in self._there:
            return
        table = Table(name, self._metadata, autoload_with=self._engine)
        query = select(table)
        for column, value in equal.items():
            if column not in table.c:
                return
            query = query.where(table.c[column].in_(value) if isinstance(value, list) else table.c[column] == value)
        with self._engine.connect().execution_options(yield_per=_ROWS) as connection:
            for row in connection.execute(query.order_by(*(table.c[c] for c in order))).mappings():
                yield dict(row)

    def pairs(self, name: str, /, **equal: Any) -> dict[str, str]:
        """The `key` and `value` columns of a table's rows."""
        return {row["key"]: row["value"] or "" for row in self.rows(name, **equal)}

    def count(self, name: str) -> int:
        """Rows of a table."""
        if name not in self._there:
            return 0
        table = Table(name, self._metadata, autoload_with=self._engine)
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def listed(text: str | None) -> list[Any]:
    """A JSON list that a column holds, empty where it holds none."""
    try:
        found = json.loads(text or "[]")
    except json.JSONDecodeError:
        return []
    return found if isinstance(found, list) else []
