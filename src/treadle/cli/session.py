"""What every verb needs: where the home is, which project and environment, and somebody to call.

A verb that only calls operations works the same on a home on this disk and on a server (`--url`): `Session.call` is the one place
where they part.
"""

import datetime as dt
import functools
import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from treadle.records.errors import TreadleError

Command = Callable[..., Any]


class Session:
    """One invocation's connections; opened when first used, closed at its end."""

    def __init__(
        self, *, home: str | None = None, url: str | None = None, as_json: bool = False, store: str | None = None, blobs: str | None = None
    ):
        self.root = project_root()
        self.home = Path(home).absolute() if home else self.root / ".treadle"
        self.url = url
        self.as_json = as_json
        self.store = store
        self.blobs = blobs
        self.clock: Any = None  # another clock than the machine's, set before the home is opened
        self._workshop: Any = None
        self._client: Any = None

    @property
    def workshop(self) -> Any:
        """The home, open. A home that is not there is not made here; see `new_workshop`."""
        if self._workshop is None:
            if self.url:
                raise TreadleError(
                    "This verb works on a home itself, not through a server.",
                    remedy="Run it where the home is, without --url and TREADLE_URL.",
                )
            if not self.store and not any((self.home / name).exists() for name in ("treadle.db", "store.url")):
                raise TreadleError(
                    f"There is no home at {self.home}.",
                    remedy="Go to the project's folder, name it (--home DIR, TREADLE_HOME), or make one: treadle apply",
                    code="not_found",
                )
            self._open()
        return self._workshop

    @property
    def new_workshop(self) -> Any:
        """The home, open, made where there is none."""
        if self._workshop is None and not self.url:
            self._open()
        return self.workshop

    def _open(self) -> None:
        from treadle.workshop import open_home

        self._workshop = open_home(self.home, store=self.store, blobs=self.blobs, clock=self.clock)

    def call(self, request: Any, *, idempotency_key: str | None = None, event_time: dt.datetime | None = None) -> Any:
        """Run an operation, here or on the server."""
        if not self.url:
            return self.workshop.call(request, idempotency_key=idempotency_key, event_time=event_time)
        if self._client is None:
            from treadle.client import Client

            self._client = Client(self.url)
        return self._client.call(request, idempotency_key=idempotency_key, event_time=event_time)

    def project(self, given: str | None = None) -> str:
        """The project meant: as given, of the folder one stands in, or the only one there is."""
        name = given or os.environ.get("TREADLE_PROJECT") or toml_project(self.root)
        if name:
            return name
        from treadle.operations.workshop import ListProjects

        names = [p.name for p in self.call(ListProjects())]
        if len(names) == 1:
            return names[0]
        there = f"There are {', '.join(names)}" if names else "There is none yet"
        raise TreadleError(
            f"Which project? {there}.",
            remedy="Name one (--project NAME), or go to its folder." if names else "Start one: treadle init, then treadle apply",
            code="not_found" if not names else "bad_request",
        )

    def environment(self, project: str, given: str | None = None) -> str:
        """The environment meant: as given, or the only one (for looking: `prod` among several) that the project is applied in."""
        name = given or os.environ.get("TREADLE_ENV")
        if name:
            return name
        from treadle.operations.workshop import ListProjects

        found = next((p.environments for p in self.call(ListProjects()) if p.name == project), [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise TreadleError(f"{project} is not applied anywhere yet.", remedy="Apply it: treadle apply --env dev", code="not_found")
        raise TreadleError(f"Which environment? {project} is applied in {', '.join(found)}.", remedy=f"Name one: --env {found[-1]}")

    def endpoint(self, project: str, environment: str, given: str | None = None) -> str:
        """The endpoint meant: as given, or the only one."""
        if given:
            return given
        from treadle.operations.workshop import GetApplied

        applied = self.call(GetApplied(project=project, environment=environment))
        names = [e.name for e in applied.endpoints] if applied else []
        if len(names) == 1:
            return names[0]
        raise TreadleError(
            f"Which endpoint? {project} has {', '.join(names) or 'none'} in {environment}.", remedy="Name one of them.", code="bad_request"
        )

    def close(self) -> None:
        """Close what was opened."""
        for thing in (self._client, self._workshop):
            if thing is not None:
                thing.close()


def verb(
    *, project: bool = False, environment: bool = False, remote: bool = True, store: bool = False, blobs: bool = False
) -> Callable[[Command], Command]:
    """Give a command `--home`, `--json` (and `--url`, `--project`, `--env`, `--store`, `--blobs` where asked) and a `Session` as first
    argument.

    The command's function gets `session`, and `project`, `env` as given (None where not).
    """

    def wrap(function: Command) -> Command:
        @functools.wraps(function)
        def run(
            *args: Any,
            home: str | None,
            as_json: bool,
            url: str | None = None,
            store_url: str | None = None,
            blobs_url: str | None = None,
            **named: Any,
        ) -> Any:
            session = Session(home=home, url=url, as_json=as_json, store=store_url, blobs=blobs_url)
            try:
                return function(session, *args, **named)
            finally:
                session.close()

        wrapped: Command = run
        if blobs:
            wrapped = click.option(
                "--blobs", "blobs_url", envvar="TREADLE_BLOBS", metavar="URL", help="Blobs in a bucket: s3://bucket/prefix  [TREADLE_BLOBS]"
            )(wrapped)
        if store:
            wrapped = click.option("--store", "store_url", metavar="URL", help="Another metadata database: postgresql://user@host/db")(
                wrapped
            )
        if environment:
            wrapped = click.option("--env", "env", metavar="ENV", help="Environment (dev, staging, prod).  [TREADLE_ENV]")(wrapped)
        if project:
            wrapped = click.option("--project", metavar="NAME", help="Project; default the folder's.  [TREADLE_PROJECT]")(wrapped)
        if remote:
            wrapped = click.option("--url", envvar="TREADLE_URL", metavar="URL", help="A server instead of a home.  [TREADLE_URL]")(wrapped)
        wrapped = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")(wrapped)
        return click.option("--home", envvar="TREADLE_HOME", metavar="DIR", help="The home; default .treadle.  [TREADLE_HOME]")(wrapped)

    return wrap


def project_root() -> Path:
    """The nearest folder upwards with a `treadle.toml`; the current one where there is none."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "treadle.toml").exists()), here)


def toml_project(root: Path) -> str | None:
    """The project's name in `treadle.toml`; None where there is no readable one (verbs that need it say so themselves)."""
    try:
        name = tomllib.loads((root / "treadle.toml").read_text()).get("project")
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return None
    return str(name) if name else None
