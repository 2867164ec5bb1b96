"""The only place that knows which verb of `rushline audit` lives in which module. A module is imported when its verb is called."""

import importlib
import importlib.util
from typing import Any, Final

import click

VERBS: Final = {
    "verify": ("console.audit_verify:verify", "Say whether the record is whole, and where it breaks first."),
    "prove": ("console.audit_export:prove", "Print a proof that an event is in the log."),
    "export": ("console.audit_export:export", "Hand out an order's events, or the log, as they were hashed."),
    "key": ("console.audit_key:key", "Show the log's verifier keys, or make a new key."),
    "archive": ("console.audit_archive:archive", "Move old events into the archive, and drop what is too old."),
    "erase": ("console.audit_erase:erase", "Destroy a customer's key: what was encrypted with it is gone for good."),
}


class _Lazy(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [name for name, (target, _) in VERBS.items() if _exists(target)]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = VERBS.get(cmd_name, ("", ""))[0]
        if not target or not _exists(target):
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, VERBS[name][1]) for name in self.list_commands(ctx)])


def _exists(target: str) -> bool:
    return importlib.util.find_spec(target.partition(":")[0]) is not None


@click.group(cls=_Lazy)
def audit(**_: Any) -> None:
    """The audit log: verify it, prove an event, export it, its keys.

    Is something wrong? `rushline audit verify` reads all of it, changes nothing, and names the first place where the record breaks.
    What it says is explained in docs/audit-format.md; what to do about it, in docs/runbooks/.
    """
