"""The verbs that hand out events and proofs. Each export is itself an event of the log."""

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from console.audit_base import open_archive, read, recorded
from console.dlq_base import AS, Refused, done


@click.command()
@click.argument("event_id")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Into this file (usually *.tlog-proof).")
def prove(event_id: str, *, output: Path | None) -> None:
    """Print a proof that EVENT_ID (aud_…) is in the log: a C2SP tlog-proof, against the newest checkpoint.

    Whoever has the event's line, this text and the log's verifier key (`rushline audit key`) checks it without us:
    `python -m orders.verifier EVENT.jsonl --proofs FILE --key KEY`, or any tool that reads tlog-proof.
    """
    text = read(lambda conn: _proof(conn, event_id))
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text)


async def _proof(conn: Any, event_id: str) -> str:
    from adapters.settings import load_settings
    from audit.proving import Leaf
    from audit.proving import prove as made
    from audit.reader import find
    from orders.errors import NotFound

    settings = load_settings()
    async with open_archive(settings) as store:

        async def anywhere(db: Any, wanted: str) -> Leaf | None:
            try:
                event = await find(db, store, wanted)
            except NotFound:
                return None
            return Leaf(event.leaf_index, event.body)

        return await made(conn, event_id, find=anywhere, every_s=settings.audit_checkpoint_ms / 1000)


@click.command()
@click.argument("order_id", required=False)
@click.option("--log", "whole_log", is_flag=True, help="The log instead of an order: its leaves in their order.")
@click.option("--from", "begin", type=click.IntRange(min=0), metavar="LEAF", help="With --log: from this leaf on.")
@click.option("--to", "end", type=click.IntRange(min=0), metavar="LEAF", help="With --log: to before this leaf.")
@click.option("--steps-only", is_flag=True, help="Of an order, leave out what was read of it.")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Events into this file; standard output otherwise."
)
@click.option(
    "--proofs", type=click.Path(path_type=Path),
    help="A proof for each event: a file has them one behind the other, an existing folder one file each.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be exported; write and record nothing.")
@AS
def export(
    order_id: str | None, *, whole_log: bool, begin: int | None, end: int | None, steps_only: bool, output: Path | None,
    proofs: Path | None, dry_run: bool, actor: str,
) -> None:  # fmt: skip
    """Hand out the events of ORDER_ID, or of the --log, as canonical JSON lines: each line is what was hashed, byte for byte.

    Of an order, its steps come first and then what was read of it: two chains. `python -m orders.verifier` checks the file
    without this system. Personal data in it stays encrypted with its customer's key.

    That somebody exported it becomes an event of the audit log.
    """
    if whole_log == (order_id is not None):
        raise Refused("Give an order's id, or --log.", "rushline audit export ord_… -o order.jsonl --proofs order.tlog-proof")
    details = {"what": "log" if whole_log else "order", "from": begin, "to": end, "proofs": proofs is not None}
    if not dry_run:
        done(lambda conn: recorded(conn, _act(), actor, details, datetime.now(UTC), order_id=order_id))
    with _opened(output, dry_run=dry_run) as file, _keeper(proofs, dry_run=dry_run) as keep:
        asked = (order_id, begin or 0, end, not steps_only)
        count = read(lambda conn: _written(conn, asked, file, keep))
    if not count and order_id:
        raise Refused(f"The ledger has no event of {order_id}.", "`rushline audit verify` says whether it should have.")
    click.echo(f"{count} events{' would be exported' if dry_run else ''}.", err=True)


def _act() -> Any:
    from orders.names import Act

    return Act.AUDIT_EXPORTED


async def _written(conn: Any, asked: tuple[str | None, int, int | None, bool], file: BinaryIO, keep: Any) -> int:
    from adapters.settings import load_settings
    from audit.proving import Prover

    settings, count = load_settings(), 0
    prover = await Prover.newest(conn, settings.audit_checkpoint_ms / 1000)
    async with open_archive(settings) as store:
        async for leaf in _leaves(conn, store, asked, prover.size):
            file.write(leaf.body + b"\n")
            if keep is not None:
                keep(leaf.index, await prover.proof(leaf.index))
            count += 1
    return count


def _leaves(conn: Any, store: Any, asked: tuple[str | None, int, int | None, bool], size: int) -> AsyncIterator[Any]:
    """Of the log: up to the newest checkpoint, unless another end was asked for."""
    from audit import exporting

    order_id, begin, end, looks = asked
    if order_id is not None:
        return exporting.of_order(conn, store, order_id, looks=looks)
    return exporting.of_log(conn, store, begin, size if end is None else end)


@contextlib.contextmanager
def _opened(output: Path | None, *, dry_run: bool) -> Iterator[BinaryIO]:
    if dry_run:
        with Path("/dev/null").open("wb") as file:
            yield file
    elif output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with output.open("wb") as file:
            yield file


@contextlib.contextmanager
def _keeper(proofs: Path | None, *, dry_run: bool) -> Iterator[Any]:
    """Where a proof goes: behind the others, or into a file of its own, named after its leaf."""
    if proofs is None or dry_run:
        yield None
    elif proofs.is_dir():
        yield lambda index, text: (proofs / f"{index}.tlog-proof").write_text(text)
    else:
        with proofs.open("w") as file:
            yield lambda _, text: file.write(text)
