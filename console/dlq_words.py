"""The only place where what a message says becomes words on a terminal: a body is data, and must not move anybody's cursor."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import click
import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP: Final = 3  # between two columns
_LEAST_LAST: Final = 30
_SHORT: Final = len("let_") + 8
_PIPED_WIDTH: Final = 220  # for programs that read lines, nothing is folded at 80
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SPAN: Final = re.compile(r"([1-9][0-9]{0,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def plain(text: str, *, lines: bool = False) -> str:
    """The text with everything that a terminal would act upon, or not show, spelled out."""
    kept = "\n\t" if lines else ""
    return "".join(
        char if char in kept or unicodedata.category(char) not in _HIDDEN else char.encode("unicode_escape").decode()
        for char in text
    )


def console() -> Console:
    """Standard output. Where it is no terminal, lines are as long as they need to be."""
    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def short(identifier: str) -> str:
    """Enough of a letter's id to name it; every command takes it so."""
    return identifier[:_SHORT]


def since(at: datetime, now: datetime, *, units: int = 2) -> str:
    """How long ago, or how long from now, in its largest units."""
    seconds = round((now - at).total_seconds())
    words = span(abs(seconds), units)
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def ago(at: datetime, now: datetime) -> str:
    """The same in one unit, for tables."""
    return since(at, now, units=1)


def sleeps(until: datetime | None, now: datetime) -> str:
    """When what is snoozed wakes; nothing where it is awake."""
    return ago(until, now) if until is not None and until > now else ""


def span(seconds: int, units: int) -> str:
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:units]) or "0s"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, spare: str = "", fold: bool = False) -> None:
    """A table: the last column takes the room that is left, and is cut, or goes on below with `fold`. Columns in which nothing is said are
    left out, and so is `spare` where the terminal is narrow. Every cell is taken as it is, never as markup.
    """
    lines = [[plain(_cell(value)) for value in row] for row in rows]
    width = {name: max(len(name), *(len(line[n]) for line in lines)) for n, name in enumerate(columns)}
    kept = [name for n, name in enumerate(columns) if any(line[n] for line in lines)]
    screen = console()
    if sum(width[name] + _GAP for name in kept[:-1]) + _LEAST_LAST > screen.width and spare in kept:
        kept.remove(spare)
    made = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    for name in kept:
        last = name == kept[-1]
        overflow: Literal["fold", "ellipsis"] = "fold" if fold else "ellipsis"
        made.add_column(name, no_wrap=not (fold and last), overflow=overflow, min_width=None if last else width[name])
    for line in lines:
        made.add_row(*(Text(line[columns.index(name)]) for name in kept))
    screen.print(made)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one below the other; those without a value are left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            made.add_row(Text(name), Text(plain(_cell(value))))
    console().print(made)


def heading(text: str) -> None:
    console().print(Text(f"\n{plain(text)}", style="bold"))


def block(text: str) -> None:
    """Lines of data, as they are."""
    click.echo(plain(text, lines=True))


def difference(diff: str) -> None:
    """A unified diff; red and green where there is a terminal."""
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in plain(diff, lines=True).splitlines():
        click.secho(line, fg=colours.get(line[:1]))


def as_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "" if value is None else str(value)


class Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """A time (ISO 8601, UTC where it names no zone), or a span like 90s, 15m, 2h, 3d before or after now."""

    name = "time"

    def __init__(self, *, ahead: bool) -> None:
        self._ahead = ahead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            if match := _SPAN.fullmatch(value):
                distance = timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
                return datetime.now(UTC) + (distance if self._ahead else -distance)
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            example = "in 2h: 2h" if self._ahead else "2 hours ago: 2h"
            self.fail(f"{plain(value)!r} is no time; give one like 2026-03-14T18:30:00Z, or a span ({example})", param, ctx)
