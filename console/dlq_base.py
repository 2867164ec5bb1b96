"""The only place for what the verbs of `rushline dlq` share: options, one connection, who acts, and refusals with their remedy."""

import asyncio
import functools
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from console.dlq_words import Moment, plain
from orders.errors import Refuse
from orders.failures import Category, FailureType
from outbox.letters.model import LetterFilter, LetterState

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_LONGEST_NAME: Final = 128
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


def done(work: Callable[[Any], Awaitable[T]], *, dry_run: bool = False) -> T:
    """Do it on one connection, in one transaction that is rolled back where it is only tried. Raises `Refused`."""
    try:
        return asyncio.run(_on_the_database(work, dry_run=dry_run))
    except Refuse as error:
        raise refused(error) from error


async def _on_the_database(work: Callable[[Any], Awaitable[T]], *, dry_run: bool) -> T:
    from adapters.postgres import PostgresError, connect, sqlstate
    from adapters.settings import load_settings
    from outbox.letters.rehearsal import changing

    async with connect(load_settings().postgres_dsn, service="console") as conn:
        try:
            async with changing(conn, dry_run=dry_run):
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


AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Machine-readable, in the shapes of /v1/ops.")
_DRY_RUN: Final = click.option("--dry-run", is_flag=True, help="Check and show what would be done; change nothing.")
_AS: Final = click.option(
    "--as", "actor", metavar="NAME", callback=_actor,
    help="Who acts, as the history will say. The system's user where it is left out.",
)  # fmt: skip
LIMIT: Final = click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
CURSOR: Final = click.option("--cursor", metavar="NEXT", help="Go on where the last page ended.")
REASON: Final = click.option("--reason", required=True, metavar="WORDS", help="Why; kept for ever.")


def changes(function: F) -> F:
    """The options of every verb that changes something."""
    for option in (AS_JSON, _DRY_RUN, _AS):
        function = option(function)
    return function


_FILTERS: Final = (
    click.option("--state", type=click.Choice([*LetterState, "all"]), help="In this state.  [default: open]"),
    click.option("--group", "fingerprint", metavar="FINGERPRINT", help="Of this group, see `rushline dlq groups`."),
    click.option("--failure", "failure_type", type=click.Choice(list(FailureType)), metavar="TYPE",
                 help="With this failure, like payment_timeout."),
    click.option("--category", type=click.Choice(list(Category)), help="Of this category."),
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


def filters(function: F) -> F:
    """The options that say which letters are meant, handed to the verb as one `LetterFilter` called `wanted`."""

    @functools.wraps(function)
    def gathered(*args: Any, **given: Any) -> Any:
        chosen = {name: given.pop(name) for name in _NAMES}
        return function(*args, wanted=_filter(chosen), **given)

    wrapped: Any = gathered
    for option in reversed(_FILTERS):
        wrapped = option(wrapped)
    return wrapped


def _filter(chosen: dict[str, Any]) -> LetterFilter:
    state = chosen.pop("state") or LetterState.OPEN
    kind = chosen.pop("type_")
    kinds = {"failure_type": FailureType, "category": Category}
    named = {name: kinds[name](value) if name in kinds and value else value for name, value in chosen.items()}
    for name, value in named.items():
        if isinstance(value, str) and not (value.strip() and value.isprintable()):
            raise click.BadParameter("give printable characters", param_hint=f"--{name}")
    return LetterFilter(state=None if state == "all" else LetterState(state), type=kind, **named)


def narrows(wanted: LetterFilter) -> bool:
    """Whether the filter says more than a state."""
    return any(getattr(wanted, name) is not None for name in wanted.__struct_fields__ if name != "state")
