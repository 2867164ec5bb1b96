"""The only place that waits for what was sent again, and shows how far it is. Watching changes nothing: it may end at any time."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Final

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from console import dlq_words as words
from console.dlq_base import done
from gateway.ops_answers import LetterSummary, ReplayAnswer, shown, summary_of

WATCH: Final = click.option("--watch", is_flag=True, help="Wait for the end; the exit code is 0 only if every letter is done.")
_LOOK_S: Final = 0.5
_SILENCE_S: Final = 30.0
_GOES_ON: Final = frozenset({"running"})


def follow(replay_id: str, *, quiet: bool = False) -> None:
    """Show a replay's progress until it runs no more. Exits with 1 unless all of it is done."""
    try:
        replay = done(lambda conn: _until_it_rests(conn, replay_id, quiet=quiet))
    except KeyboardInterrupt:
        click.echo(f"\nThe replay goes on. `rushline dlq replays watch {replay_id}` shows it again.", err=True)
        raise click.exceptions.Exit(1) from None
    if quiet:
        words.as_json(replay)
    else:
        click.echo(words.plain(ending(replay)))
    if replay.state != "done" or replay.failed or replay.skipped:
        raise click.exceptions.Exit(1)


def ending(replay: ReplayAnswer) -> str:
    """What became of a replay, in a line or two."""
    skipped = f", {replay.skipped:,} skipped" if replay.skipped else ""
    numbers = f"{replay.done:,} of {replay.total:,} done{skipped}, {replay.failed:,} failed again, {replay.waiting:,} not sent"
    match replay.state:
        case "done":
            return f"{replay.replay_id} is done: {numbers}."
        case "stopped":
            return (
                f"{replay.replay_id} stopped: {replay.why}\n{numbers}. When the cause is mended, "
                f"`rushline dlq replays resume {replay.replay_id}`; else `… cancel`."
            )
        case other:
            return f"{replay.replay_id} is {other}: {numbers}."


async def _until_it_rests(conn: Any, replay_id: str, *, quiet: bool) -> ReplayAnswer:
    from outbox.letters import replays

    async def look() -> ReplayAnswer:
        return shown(ReplayAnswer, await replays.progress(conn, replay_id))

    replay = await look()
    with _bar(replay.total, quiet=quiet) as moved:
        silence = _Silence()
        while replay.state in _GOES_ON:
            moved(replay.done + replay.failed + replay.skipped, f"stage {replay.stage + 1} of {len(replay.stages)}")
            silence.heard((replay.done, replay.failed, replay.skipped, replay.sent))
            await asyncio.sleep(_LOOK_S)
            replay = await look()
        moved(replay.done + replay.failed + replay.skipped, replay.state)
    return replay


@contextlib.contextmanager
def _bar(total: int, *, quiet: bool) -> Any:
    """A bar on a terminal; elsewhere a line whenever something has moved."""
    console = words.console()
    if quiet or not console.is_terminal:
        last = [(-1, "")]

        def tell(number: int, what: str) -> None:
            if not quiet and last[0] != (number, what):
                click.echo(f"{number:,} of {total:,}, {what}")
            last[0] = (number, what)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)

        def move(number: int, what: str) -> None:
            progress.update(task, completed=number, description=what)

        yield move


class _Silence:
    """Says once, where nothing moves for long, what may be missing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: object = None
        self._since = clock()
        self._told = False

    def heard(self, stand: object) -> None:
        if stand != self._last:
            self._last, self._since, self._told = stand, self._clock(), False
        elif not self._told and self._clock() - self._since > _SILENCE_S:
            self._told = True
            click.echo(
                f"Nothing has moved for {_SILENCE_S:.0f} s. Do `rushline worker letters`, the relay and the workers run? "
                "`rushline outbox status` shows what waits.",
                err=True,
            )


def follow_letters(sent: list[LetterSummary]) -> list[LetterSummary]:
    """Wait until each of these letters has come to its end, and show what became of it."""
    try:
        return done(lambda conn: _until_they_end(conn, [letter.letter_id for letter in sent]))
    except KeyboardInterrupt:
        click.echo("\nThey stay under way. `rushline dlq show LETTER` says what became of one.", err=True)
        raise click.exceptions.Exit(1) from None


async def _until_they_end(conn: Any, letter_ids: list[str]) -> list[LetterSummary]:
    from outbox.letters import search

    silence = _Silence()
    ended: dict[str, LetterSummary] = {}
    while waiting := [letter_id for letter_id in letter_ids if letter_id not in ended]:
        for letter_id in waiting:
            letter = summary_of((await search.show(conn, letter_id)).letter)
            if letter.state != "replaying":
                ended[letter_id] = letter
        silence.heard(len(ended))
        if len(ended) < len(letter_ids):
            await asyncio.sleep(_LOOK_S)
    return [ended[letter_id] for letter_id in letter_ids]
