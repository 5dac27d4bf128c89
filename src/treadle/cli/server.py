"""`up`, `server`, `worker`, `gateway`: the processes of a home, together or each alone."""

import importlib
import logging
import signal
import sys
import threading

import click

from treadle.cli.session import Session, verb
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address of API and console. Beyond loopback every request needs a token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8400, show_default=True, help="Their port; 0 takes a free one.")
@click.option("--gateway-host", default="127.0.0.1", show_default=True, help="Address of the gateways.")
@click.option("--gateway-port", type=click.IntRange(0, 65535), help="The first gateway's port; --port + 1 where left out.")
@click.option("--workers", default=1, show_default=True, help="Worker processes.")
@click.option("--env", "environments", multiple=True, metavar="ENV", help="Gateways of these environments only.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further host name to answer to.")
@click.option("--require-token", is_flag=True, help="Want a token on loopback too.")
@verb(remote=False, store=True, blobs=True)
def up(
    session: Session,
    host: str,
    port: int,
    gateway_host: str,
    gateway_port: int | None,
    workers: int,
    environments: tuple[str, ...],
    allow_host: tuple[str, ...],
    require_token: bool,
) -> None:
    """Start API, console, worker and one gateway per applied environment; end them all on Ctrl-C or SIGTERM.

    \b
    Example:
      treadle up --port 8400
    """
    from treadle.workshop.supervisor import Settings
    from treadle.workshop.supervisor import up as run

    settings = Settings(
        host=host,
        port=port,
        gateway_host=gateway_host,
        gateway_port=gateway_port,
        workers=workers,
        store=session.store or "",
        blobs=session.blobs or "",
        allow_hosts=allow_host,
        require_token=require_token,
        environments=environments,
    )
    run(Layout(session.home), settings, tell=lambda text: click.echo(text, err=session.as_json))


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen. Beyond loopback every request needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8400, show_default=True, help="0 takes a free one.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further host name to answer to.")
@click.option("--require-token", is_flag=True, help="Want a token on loopback too.")
@click.option("--mlflow-project", default="", metavar="NAME", help="The project of MLflow's clients. Default: default.")
@verb(remote=False, store=True, blobs=True)
def server(session: Session, host: str, port: int, allow_host: tuple[str, ...], require_token: bool, mlflow_project: str) -> None:
    """Start the API and the console alone.

    \b
    Example:
      treadle server --home .treadle --host 127.0.0.1 --port 8400
    """
    from treadle.workshop.supervisor import CONSOLE, check_port

    _logging()
    check_port(host, port)
    # By name: the command line and the API are both faces, and a face imports no other.
    serve = importlib.import_module("treadle.api.server").serve
    serve(
        session.new_workshop,
        host=host,
        port=port,
        console=CONSOLE,
        allow_hosts=allow_host,
        require_token=require_token,
        mlflow_project=mlflow_project,
    )


@click.command()
@click.option("--name", default="worker", show_default=True, help="Its name in leases and logs.")
@verb(remote=False, store=True, blobs=True)
def worker(session: Session, name: str) -> None:
    """Start a worker alone: it runs pipelines, reads triggers, folds the prediction log, watches, advances releases, seals events.

    \b
    Example:
      treadle worker --home .treadle
    """
    from treadle.workshop.loops import Loop
    from treadle.workshop.supervisor import look_for_gateways, noted

    _logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    workshop = session.new_workshop
    # Projects are applied while a worker runs, through the API too; the supervisor starts a gateway where it sees a folder.
    looker = threading.Thread(target=lambda: look_for_gateways(workshop, stop), name="treadle-gateways", daemon=True)
    looker.start()
    with noted(workshop.layout, name):
        Loop(workshop, name=name).run_forever(stop)
    looker.join()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0 takes a free one; the answer is in HOME/processes."
)
@click.option("--workers", default=1, show_default=True, help="Processes that share the port.")
@click.option(
    "--durability", type=click.Choice(["batch", "ack"]), default="batch", show_default=True, help="ack: on disk before the answer."
)
@click.option("--allow-host", multiple=True, metavar="NAME", help="A further host name to answer to.")
@verb(project=True, environment=True, remote=False)
def gateway(
    session: Session,
    host: str,
    port: int,
    workers: int,
    durability: str,
    allow_host: tuple[str, ...],
    project: str | None,
    env: str | None,
) -> None:
    """Start one environment's gateway alone. It needs no database: it serves from the snapshots in the home.

    \b
    Example:
      treadle gateway --env prod --port 8401
    """
    _logging()
    layout = Layout(session.home)
    folders = [f for f in sorted(layout.root.glob("gateways/*/*")) if f.is_dir()]
    name = project or (None if session.url else _only([f.parent.name for f in folders], "project", "--project"))
    environment = env or _only([f.name for f in folders if f.parent.name == name], "environment", "--env")
    run = importlib.import_module("treadle.gateway.run").run_gateway
    run(layout, name, environment, host, port, workers, durability=durability, allow_hosts=allow_host)


def _only(names: list[str], what: str, option: str) -> str:
    found = sorted(set(names))
    if len(found) == 1:
        return found[0]
    raise TreadleError(f"Which {what}? This home has {', '.join(found) or 'none with an endpoint'}.", remedy=f"Name one: {option} NAME")


def _logging() -> None:
    logging.basicConfig(level=logging.INFO, format=_FORMAT, stream=sys.stderr)
