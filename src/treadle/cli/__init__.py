"""The command line: verbs a person types, each in its own module, imported when it is typed.

`COMMANDS` is the whole list; a verb's module is imported when the verb runs or is asked for its help, so `treadle --help` costs
click and this file. Errors say what, why and what to do, and end in an exit code (`treadle.cli.exits`).
"""

import importlib
import sys
from typing import Any

import click

#: section → verb → (module, command in it, what it does in a line).
COMMANDS: dict[str, dict[str, tuple[str, str, str]]] = {
    "Define": {
        "init": ("project", "init", "Start a project in a folder."),
        "plan": ("project", "plan", "Show what applying the project would change."),
        "apply": ("project", "apply", "Make the definitions so in an environment."),
    },
    "Run": {
        "run": ("runs", "run", "Run a pipeline and follow it."),
        "runs": ("removal", "runs", "List runs; put them into the bin and back."),
        "logs": ("runs", "logs", "Print what a run wrote; -f follows."),
        "why-ran": ("runs", "why_ran", "Say why each step of a run ran or was skipped."),
        "cancel": ("runs", "cancel", "Ask a run to stop."),
        "resume": ("runs", "resume", "Continue a failed run from its failed step."),
        "experiments": ("experiments", "experiments", "List experiments; create, move, delete, restore."),
        "search": ("experiments", "search", "Find runs by metrics, parameters and tags."),
        "sync": ("sync", "sync", "Send what scripts logged while no server or home was there."),
        "import": ("moving", "import_", "Bring experiments and models from MLflow or an archive."),
        "export": ("moving", "export", "Write experiments and models into an archive."),
        "data": ("data", "data", "Bring data in; look at versions and profiles."),
    },
    "Release and serve": {
        "models": ("models", "models", "Models and versions: find, show, compare, name, seal, delete; model cards."),
        "approvals": ("approvals", "approvals", "List what waits for a person."),
        "approve": ("approvals", "approve", "Grant an approval."),
        "reject": ("approvals", "reject", "Refuse an approval."),
        "withdraw": ("approvals", "withdraw", "Take a question back."),
        "release": ("release", "release", "Move an endpoint's traffic: start, list, show, rollback."),
        "rollback": ("release", "rollback", "Put the version that served before back."),
        "predict": ("predict", "predict", "Ask an endpoint for predictions."),
    },
    "Understand": {
        "status": ("status", "status", "The loop of an endpoint at a glance."),
        "leaderboard": ("leaderboard", "leaderboard", "Rank runs by a metric, methods beside each other."),
        "trend": ("leaderboard", "trend", "Follow a metric over a model's versions."),
        "diagnose": ("diagnosis", "diagnose", "Say what is wrong with a training."),
        "diff": ("diagnosis", "diff", "Say what changed from one run to another."),
        "why": ("why", "why", "Walk from a prediction back to the rows it was learned from."),
        "reproduce": ("why", "reproduce", "Train a model version again and compare."),
        "events": ("status", "events", "Print what happened; -f follows."),
        "replay": ("loop", "replay", "Drive the loop through recorded history."),
        "demo": ("loop", "demo", "The closed loop on a real year of flights."),
    },
    "Operate": {
        "up": ("server", "up", "Start server, worker and gateways under one supervisor."),
        "server": ("server", "server", "Start the API and console alone."),
        "worker": ("server", "worker", "Start a worker alone."),
        "gateway": ("server", "gateway", "Start one environment's gateway alone."),
        "doctor": ("admin", "doctor", "Check the home and this machine, and say what to do."),
        "webhooks": ("webhooks", "webhooks", "Addresses that are told of changes: list, add, test, deliveries."),
        "audit": ("admin", "audit", "Verify the chain of events; print its head."),
        "actor": ("admin", "actor", "Who may act here: add, list, grant, revoke, disable."),
        "token": ("admin", "token", "Tokens: add, list, revoke."),
        "backup": ("admin", "backup", "Copy a live home."),
        "restore": ("admin", "restore", "Make a home from a copy."),
        "remove": ("removal", "remove", "Remove runs, experiments and models for good."),
        "retention": ("removal", "retention", "How long things are kept."),
        "gc": ("admin", "gc", "Remove blobs that nothing refers to."),
        "blobs": ("blobs", "blobs", "Where the blobs are; move them to object storage and back."),
        "api": ("derived", "api", "Every operation of the table as a command."),
        "version": ("admin", "version", "Print the version."),
    },
}


class Verbs(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of `COMMANDS`."""
        return [name for verbs in COMMANDS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        for verbs in COMMANDS.values():
            if cmd_name in verbs:
                module, attribute, _ = verbs[cmd_name]
                return getattr(importlib.import_module(f"treadle.cli.{module}"), attribute)
        return None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with a suggestion for a verb that does not exist."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 3)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"There is no verb {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list by section, without importing anything."""
        for section, verbs in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_, _, text) in verbs.items()], col_max=14)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every verb takes --home, --json and --help. Start with: treadle demo, or treadle init myproject",
)
@click.version_option(None, "-V", "--version", package_name="treadle", message="treadle %(version)s")
def treadle() -> None:
    """Treadle: press once; it keeps turning. The closed loop of machine learning in one package."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `treadle.cli.exits`)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        answer: Any = treadle.main(args=arguments, prog_name="treadle", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return 0
    except click.ClickException as error:
        if "--json" not in arguments:
            error.show()
            return error.exit_code
        from treadle.cli.exits import misused

        return misused(error)
    except click.Abort:
        click.echo("Stopped.", err=True)
        return 130
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is told in words and ends in an exit code)
        from treadle.cli.exits import told

        return told(error, as_json="--json" in arguments)
    return answer if isinstance(answer, int) else 0
