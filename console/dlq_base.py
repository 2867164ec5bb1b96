"""The only place for what the verbs of `rushline dlq` share: options, one connection, who acts, and refusals with their remedy."""

import asyncio
import functools
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import click
import msgspec

from console.dlq_words import Moment, plain
from orders.errors import Refuse
from orders.failures import Category, FailureType
from outbox.letters.model import LetterFilter, LetterState

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_LONGEST_NAME: Final = 128
_LONGEST_REASON: Final = 500
_UNDEFINED_TABLE: Final = "42P01"
_REMEDIES: Final = {
    "letter-not-found": "`rushline dlq list --state all` shows every letter.",
    "letter-not-open": "`rushline dlq show LETTER` says what became of it.",
    "letter-superseded": "Nothing is left to do: its order was compensated meanwhile.",
    "letter-moved": "`rushline dlq show LETTER` shows it as it is now; then decide again.",
    "nothing-matches": "`rushline dlq list` with the same filter shows what there is.",
    "not-replayable": "`rushline dlq edit LETTER` sends it with a body that can be read; `rushline dlq discard LETTER` ends it.",
    "bad-edit": "Change the edit; `rushline dlq show LETTER` shows the body as it was sent.",
    "needs-approval": "Another person runs `rushline dlq approve EDIT --as NAME`.",
    "letter-group-not-found": "`rushline dlq groups --all --snoozed` shows every group.",
    "edit-not-found": "`rushline dlq edits --state all` shows every edit.",
    "edit-decided": "`rushline dlq edits --state all` says by whom.",
    "replay-not-found": "`rushline dlq replays list` shows every replay.",
    "replay-state": "`rushline dlq replays show REPLAY` shows it as it is; what has ended is started anew.",
    "rule-not-found": "`rushline dlq rules list` shows every rule.",
    "rule-exists": "`rushline dlq rules show RULE --json` prints it with its version, for `rushline dlq rules put`.",
    "rule-moved": "`rushline dlq rules show RULE` shows it as it is; then decide again.",
    "rule-is-shipped": "`rushline dlq rules enable` and `disable` switch it; to change it, put a copy under another name.",
    "rule-matches-everything": "Say in `match` which failure it mends.",
    "still-needed": "Wait until the orders have ended, resolve the disputes, then erase.",
    "customer-not-found": "GET /v1/support/orders finds customers by their orders.",
    "rule-would-loop": "Bound it by `max_generation`, or let it change what made it match.",
}


class Refused(click.ClickException):
    """What was asked for is not done: a line that says why, and a line that says what to do."""

    exit_code = 1

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(plain(why))
        self.remedy = remedy

    def show(self, file: Any = None) -> None:
        click.secho(self.message, fg="red", err=True, file=file)
        if self.remedy:
            click.echo(self.remedy, err=True, file=file)


def refused(error: Refuse) -> Refused:
    return Refused(str(error), _REMEDIES.get(error.slug, ""))


def done(work: Callable[[Any], Awaitable[T]]) -> T:
    """Do it on one connection. Raises `Refused`."""
    try:
        return asyncio.run(_connected(work))
    except Refuse as error:
        raise refused(error) from error


def changed(work: Callable[[Any], Awaitable[T]], *, dry_run: bool) -> T:
    """Do it, or, where it is only tried, roll it back. Raises `Refused`."""

    async def rehearsed(conn: Any) -> T:
        from outbox.letters.rehearsal import changing

        async with changing(conn, dry_run=True):
            return await work(conn)

    return done(rehearsed if dry_run else work)


async def _connected(work: Callable[[Any], Awaitable[T]]) -> T:
    from adapters.postgres import PostgresError, connect, sqlstate
    from adapters.settings import load_settings

    async with connect(load_settings().postgres_dsn, service="console") as conn:
        try:
            return await work(conn)
        except PostgresError as error:
            if sqlstate(error) == _UNDEFINED_TABLE:
                raise Refused(
                    "The database has no tables for failed messages yet.", "`rushline migrate` makes them."
                ) from error
            raise


def now() -> datetime:
    return datetime.now(UTC)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        return None


def _actor(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    name = (value or _user() or "").strip()
    if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise click.BadParameter(f"give 1 to {_LONGEST_NAME} printable characters, as --as NAME")
    return name


def _line(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (value.strip() and value.isprintable() and len(value) <= _LONGEST_REASON):
        raise click.BadParameter(f"give 1 to {_LONGEST_REASON} printable characters")
    return value


AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Machine-readable, in the shapes of /v1/ops.")
MAYBE_REASON: Final = click.option("--reason", metavar="WORDS", callback=_line, help="Why; kept for ever.")
_DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="Check and show what would be done; change nothing.")
AS: Final = click.option(
    "--as", "actor", metavar="NAME", callback=_actor,
    help="Who acts, as the history will say. The system's user where it is left out.",
)  # fmt: skip
LIMIT: Final = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
CURSOR: Final = click.option("--cursor", metavar="NEXT", help="Go on where the last page ended.")
REASON: Final = click.option("--reason", required=True, metavar="WORDS", callback=_line, help="Why; kept for ever.")


def changes(function: F) -> F:
    """The options of every verb that changes something."""
    for option in (AS_JSON, _DRY_RUN, AS):
        function = option(function)
    return function


_FILTERS: Final = (
    click.option("--state", type=click.Choice([*(state.value for state in LetterState), "all"]), help="In this state.  [default: open]"),
    click.option("--group", "fingerprint", metavar="FINGERPRINT", help="Of this group, see `rushline dlq groups`."),
    click.option("--failure", "failure_type", type=click.Choice([each.value for each in FailureType]), metavar="TYPE",
                 help="With this failure, like payment_timeout."),
    click.option("--category", type=click.Choice([each.value for each in Category]), help="Of this category."),
    click.option("--consumer", metavar="NAME", help="Of this work queue, or this stream's group."),
    click.option("--type", "type_", metavar="TYPE", help="Of this type, like payment.charge."),
    click.option("--order", "order_id", metavar="ORDER", help="Of this order."),
    click.option("--message", "message_id", metavar="MESSAGE", help="Of this message."),
    click.option("--owner", metavar="NAME", help="Looked after by this person."),
    click.option("--words", metavar="WORDS", help="With these words in the error, the reason or the message."),
    click.option("--since", "failed_from", type=Moment(ahead=False), metavar="TIME", help="Last failed at TIME or later (2h: 2 hours ago)."),
    click.option("--before", "failed_before", type=Moment(ahead=False), metavar="TIME", help="Last failed before TIME."),
)  # fmt: skip
_NAMES: Final = (
    "state", "fingerprint", "failure_type", "category", "consumer", "type_", "order_id", "message_id", "owner", "words",
    "failed_from", "failed_before",
)  # fmt: skip


def filters(*, open_only: bool = False) -> Callable[[F], F]:
    """The options that say which letters are meant, handed to the verb as one `LetterFilter` called `wanted`."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def gathered(*args: Any, **given: Any) -> Any:
            chosen = {name: given.pop(name, None) for name in _NAMES}
            return function(*args, wanted=_filter(chosen), **given)

        wrapped: Any = gathered
        for option in reversed(_FILTERS[1:] if open_only else _FILTERS):
            wrapped = option(wrapped)
        return cast("F", wrapped)

    return decorate


def _filter(chosen: dict[str, Any]) -> LetterFilter:
    for name, value in chosen.items():
        if isinstance(value, str) and not (value.strip() and value.isprintable()):
            raise click.BadParameter("give printable characters", param_hint=f"--{name.strip('_')}")
    state = chosen["state"] or LetterState.OPEN.value
    given = {**chosen, "state": None if state == "all" else state, "type": chosen["type_"]}
    del given["type_"]
    return msgspec.convert(given, LetterFilter)


def narrows(wanted: LetterFilter) -> bool:
    """Whether the filter says more than a state."""
    return any(getattr(wanted, name) is not None for name in wanted.__struct_fields__ if name != "state")
