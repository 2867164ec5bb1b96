"""The verb that verifies the audit log: the live ledger, or an export of it alone."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console import dlq_words as words
from console.audit_base import open_archive
from console.dlq_base import Refused

if TYPE_CHECKING:
    from adapters.settings import Settings
    from audit.verification.findings import Report

_SHOWN = 20
_SETTLE_S = 600


@click.command()
@click.option(
    "--export",
    "exported",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify this file instead of the ledger.",
)
@click.option(
    "--proofs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --export: a proof for each of its lines.",
)
@click.option(
    "--leaves",
    type=click.IntRange(min=0),
    metavar="FIRST",
    help="With --export: it is a part of the log, its first line is this leaf.",
)
@click.option("--from", "begin", type=click.IntRange(min=0), metavar="LEAF", help="Only from this leaf on.")
@click.option("--to", "end", type=click.IntRange(min=0), metavar="LEAF", help="Only to before this leaf.")
@click.option(
    "--checkpoints", type=click.Path(exists=True, path_type=Path), multiple=True,
    help="Signed checkpoints, a file or a folder; the log's own folder if left out. May be given again.",
)  # fmt: skip
@click.option(
    "--key",
    "vkeys",
    multiple=True,
    metavar="VKEY",
    help="Trust this verifier key; those of the log if left out. May be given again.",
)
@click.option(
    "--settle",
    default=_SETTLE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long an event may be on its way into the ledger.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def verify(
    *, exported: Path | None, proofs: Path | None, leaves: int | None, begin: int | None, end: int | None,
    checkpoints: tuple[Path, ...], vkeys: tuple[str, ...], settle: int, as_json: bool,
) -> None:  # fmt: skip
    """Say whether the audit log is whole, and where it breaks first. Reads only. Exit code: 0 whole, 1 broken, 2 could not look.

    Every event is hashed again, held against its chain, its columns, the Merkle tree, every signed checkpoint (the files, the topic
    audit.checkpoints, the ledger's own), and the heads that the orders themselves keep. Some 65,000 events a second on two small cores.

    With --export, a file is verified alone, as an auditor without this system would.

    What it finds is the record's first break first. Nobody repairs a broken record: keep the checkpoints safe, find out who could
    write, and compare with a backup.
    """
    if exported is not None:
        sys.exit(_export(exported, proofs, leaves, checkpoints, vkeys, as_json=as_json))
    from adapters.settings import load_settings

    report = asyncio.run(verified(load_settings(), (begin, end, settle), checkpoints, vkeys))
    if as_json:
        words.as_json(report)
    else:
        tell(report)
    sys.exit(0 if report.whole else 1)


def _export(
    exported: Path, proofs: Path | None, leaves: int | None, checkpoints: tuple[Path, ...], vkeys: tuple[str, ...], *, as_json: bool
) -> int:  # fmt: skip
    from adapters.settings import load_settings
    from orders.verifier import main

    given = [str(exported), *(["--json"] if as_json else []), *([f"--leaves={leaves}"] if leaves is not None else [])]
    given += [f"--proofs={proofs}"] if proofs else []
    given += [
        f"--checkpoint={each}" for path in checkpoints for each in (sorted(path.glob("*.txt")) if path.is_dir() else [path])
    ]
    return main([*given, *(f"--key={each}" for each in vkeys or _own_keys(load_settings()))])


def _own_keys(settings: "Settings") -> list[str]:
    from audit import keys

    try:
        return [each.vkey for each in keys.public_keys(settings)]
    except keys.KeysMissing:
        return []


def _known(settings: "Settings", vkeys: tuple[str, ...]) -> list[Any]:
    from orders.signing import verifier

    known = [verifier(each) for each in vkeys or _own_keys(settings)]
    if not known:
        raise Refused(
            "There is no verifier key to believe checkpoints by.",
            "Give one with --key; `rushline audit key` shows them where the log is signed.",
        )
    return known


async def verified(
    settings: "Settings", asked: tuple[int | None, int | None, int] = (None, None, _SETTLE_S), checkpoints: tuple[Path, ...] = (),
    vkeys: tuple[str, ...] = (),
) -> "Report":  # fmt: skip
    """Verify the live ledger, from and to a leaf, with so many seconds for what is on its way. Raises `Refused`."""
    from datetime import timedelta

    import msgspec

    from adapters.postgres import open_pool
    from audit.reader import events_in
    from audit.verification.copies import Copies, archived, from_path, served, spooled
    from audit.verification.verifying import Wanted
    from audit.verification.verifying import verify as verify_ledger
    from streams.checkpointing import folder_of

    known = _known(settings, vkeys)
    begin, end, settle = asked
    sources = [from_path(path) for path in checkpoints or (folder_of(settings),)]
    missed: list[str] = []
    with tempfile.NamedTemporaryFile() as kafka, tempfile.NamedTemporaryFile() as own, tempfile.NamedTemporaryFile() as away:
        async with (
            open_pool(settings.audit_reader_url, service="verify", size=3) as db,
            open_pool(settings.postgres_dsn, service="verify", size=2) as orders,
            open_archive(settings, missed) as store,
        ):
            async with db.acquire() as conn:
                sources.append(("audit.checkpoints of the ledger", await spooled(served(conn), own)))
            sources += await _from_kafka(settings, kafka, missed)
            sources += [("the archive", await spooled(archived(store), away))] if store else []
            colder = (lambda first, last: events_in(db, store, first, last)) if store else None
            wanted = Wanted(begin=begin, end=end, settle=timedelta(seconds=settle), colder=colder)
            report = await verify_ledger(db, settings.audit_reader_url, orders, Copies(known, sources), wanted)
    return msgspec.structs.replace(report, not_checked=[*report.not_checked, *missed])


async def _from_kafka(settings: "Settings", file: Any, missed: list[str]) -> list[Any]:
    from adapters.kafka import KafkaUnavailable
    from adapters.kafka_whole import whole_topic
    from audit.verification.copies import spooled
    from orders.names import CHECKPOINTS_TOPIC

    async def notes() -> Any:
        async for body in whole_topic(settings.kafka_bootstrap, CHECKPOINTS_TOPIC):
            yield body.decode(errors="replace")

    try:
        return [(f"the topic {CHECKPOINTS_TOPIC}", await spooled(notes(), file))]
    except KafkaUnavailable as error:
        missed.append(f"The checkpoints in Kafka were not compared: {error}.")
        return []


def tell(report: "Report") -> None:
    """In words, the first break first."""
    counted = f"{report.events:,} events of {report.chains:,} chains, leaves {report.first_leaf:,} to {report.end_leaf - 1:,}"
    if report.whole:
        click.secho(f"The record is whole: {counted}.", fg="green")
    else:
        click.secho(words.plain(f"The record breaks. First: {report.findings[0].sentence}"), fg="red")
        for finding in report.findings[1:_SHOWN]:
            click.echo(words.plain(f"  {finding.sentence}"))
        left = len(report.findings[_SHOWN:]) + report.more
        if left:
            click.echo(f"  … and {left:,} more; --json shows more of them.")
        click.echo(f"Checked: {counted}.")
    click.echo(
        f"Held against {report.checkpoints:,} signed checkpoints from {', '.join(report.checkpoint_sources) or 'nowhere'}."
    )
    if report.on_their_way:
        click.echo(f"{report.on_their_way} events are still on their way into the ledger.")
    for each in report.not_checked:
        click.echo(f"Not checked: {each}")
    click.echo(f"Root: {report.root}, after {report.seconds:.1f} s.")
