"""The only place that knows which command lives in which module. Modules are imported when their command is called, not before."""

import importlib
import importlib.util
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from adapters.settings import BadSettingError
from orders.errors import RushlineError

_PROJECT: Final = Path(__file__).resolve().parent.parent / "pyproject.toml"


class Verb(NamedTuple):
    target: str  # module:attribute
    help: str

    def exists(self) -> bool:
        """Whether this version has it. Looks for the module without importing it."""
        return importlib.util.find_spec(self.target.partition(":")[0]) is not None


VERBS: Final[dict[str, dict[str, Verb]]] = {
    "The local stack": {
        "up": Verb("console.stack:up", "Start PostgreSQL, RabbitMQ and Kafka, and make them ready for use."),
        "down": Verb("console.stack:down", "Stop them; their data stays."),
        "status": Verb("console.stack:status", "Show what runs, and where."),
    },
    "Preparing servers": {
        "migrate": Verb("console.migrate:migrate", "Bring the database's schema up to date."),
        "topology": Verb("console.topology:topology", "Give the brokers their queues and topics, or show what differs."),
    },
    "Services": {
        "gateway": Verb("console.services:gateway", "Serve HTTP: customers, restaurants, drivers, support, operators."),
        "relay": Verb("console.services:relay", "Publish the outbox: commands to RabbitMQ, facts to Kafka."),
        "clock": Verb("console.services:clock", "Turn deadlines that are due into commands."),
        "worker": Verb("console.services:worker", "Do the commands of one or more queues."),
        "stream": Verb("console.services:stream", "Follow the facts for one or more groups; replay, seek, skip."),
        "run": Verb("console.services:run", "Run every service, supervised."),
    },
    "Trying it out": {
        "demo": Verb("console.demo:demo", "A dinner hour of a small country, with faults, and a report."),
        "simulate": Verb(
            "console.simulate:simulate", "Play the outside world: customers, restaurants, drivers, a payment provider."
        ),
        "token": Verb("console.token:token", "Make a bearer token for a role."),
        "bench": Verb("console.bench:bench", "Measure throughput, latency and memory."),
    },
    "Looking after it": {
        "outbox": Verb("console.outbox:outbox", "Show what waits to be published."),
        "dlq": Verb("console.dlq:dlq", "Failed messages: list, show, replay, edit, discard, fix automatically."),
        "audit": Verb("console.audit:audit", "Verify, prove, export and archive the audit chain."),
        "doctor": Verb("console.doctor:doctor", "Check this machine, the servers and the settings."),
    },
}


class Unusable(click.ClickException):
    """An error of ours that names its remedy: two lines, no traceback."""

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy

    def show(self, file: Any = None) -> None:
        click.secho(self.message, fg="red", err=True, file=file)
        if self.remedy:
            click.echo(self.remedy, err=True, file=file)


class LazyGroup(click.Group):
    """Lists every command from the table above; imports only the one that is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [name for verbs in VERBS.values() for name, verb in verbs.items() if verb.exists()]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = next((verbs[cmd_name] for verbs in VERBS.values() if cmd_name in verbs), None)
        if verb is None:
            return None
        module, _, attribute = verb.target.partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise Unusable(f"`{cmd_name}` is not part of this version.", "`rushline --help` lists the commands.") from None
        except BadSettingError as error:
            raise Unusable(str(error)) from error
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(name, verb.help) for name, verb in verbs.items() if verb.exists()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (BadSettingError, RushlineError) as error:
            raise Unusable(str(error)) from error
        except Exception as error:
            # Every error of ours that has a remedy carries it under this name, wherever in the tree it lives.
            remedy = getattr(error, "remedy", None)
            if remedy is None or isinstance(error, click.ClickException):
                raise
            raise Unusable(str(getattr(error, "problem", error)), remedy) from error


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click's own signature
    """Also where the code runs from its tree without being installed, as it does in the image."""
    if asked:
        with _PROJECT.open("rb") as file:
            click.echo(f"rushline {tomllib.load(file)['project']['version']}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version.")
def main() -> None:
    """Rushline: the order backbone of a food-delivery platform."""


if __name__ == "__main__":
    main(prog_name="rushline")
