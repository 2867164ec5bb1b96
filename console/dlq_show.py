"""The only place that tells one letter to somebody at a terminal: what happened, what it says, what can be done now."""

from datetime import datetime
from typing import Any, Final

import click
import msgspec

from console import dlq_words as words
from gateway.ops_detail import BodyAnswer, HistoryAnswer, LetterDetail

_SHOWN: Final = 4_000  # characters of a body; `--raw` gives all of it
_DEEDS: Final = {
    "replay": "rushline dlq replay {0} --watch",
    "edit": "rushline dlq edit {0} --reason WORDS",
    "discard": "rushline dlq discard {0} --reason WORDS",
    "snooze": "rushline dlq snooze {0} --until 2h",
    "assign": "rushline dlq assign {0} --owner NAME",
    "note": "rushline dlq note {0} WORDS",
}


def tell_all(detail: LetterDetail, now: datetime) -> None:
    """Everything, the important first."""
    _what_happened(detail, now)
    _what_it_says(detail)
    _what_was_done(detail, now)
    words.heading("What you can do")
    for deed in detail.can:
        click.echo("  " + _DEEDS[deed].format(words.short(detail.letter.letter_id)))
    for edit in detail.edits:
        if edit.state == "waiting":
            click.echo(words.plain(f"  rushline dlq approve {edit.edit_id} --as NAME"))
    if detail.runbook:
        click.echo(words.plain(f"  read {detail.runbook}"))


def _what_happened(detail: LetterDetail, now: datetime) -> None:
    letter, group = detail.letter, detail.group
    words.heading(f"{letter.letter_id} is {letter.state} (version {letter.version})")
    click.echo(
        words.plain(
            f"{letter.type or 'A message that nobody could read'} for {letter.consumer} failed "
            f"{words.since(letter.last_failed_at, now)}: {letter.error}: {letter.message}"
        )
    )
    words.facts([
        ("failure", f"{letter.failure_type} ({letter.category}), {letter.reason}"), ("order", letter.order_id),
        ("attempts", letter.attempts), ("parked", f"{letter.parked_at:%Y-%m-%d %H:%M:%S} UTC{_again(letter.generation)}"),
        ("first failed", letter.first_failed_at), ("last failed", letter.last_failed_at),
        ("quarantined", detail.quarantined_at), ("owner", letter.owner), ("sleeps until", _ahead(letter.snoozed_until, now)),
        ("resolution", letter.resolution and f"{letter.resolution}, by {letter.resolved_by or 'its message'}"),
        ("resolved", letter.resolved_at), ("message", detail.message_id), ("position", detail.position),
        ("came through", detail.queue), ("routing key", detail.routing_key), ("priority", detail.priority),
        ("read at", detail.read_at and f"{detail.read_at.topic}/{detail.read_at.partition}@{detail.read_at.offset}"),
        ("group", f"{group.fingerprint}: {group.open:,} open of {group.total:,}{_of(group.owner)}"),
        ("which sleeps until", _ahead(group.snoozed_until, now)),
    ])  # fmt: skip


def _again(generation: int) -> str:
    return "" if generation == 1 else f", {generation} times by now"


def _ahead(until: datetime | None, now: datetime) -> datetime | None:
    """A snooze that is over says nothing any more."""
    return until if until is not None and until > now else None


def _of(owner: str | None) -> str:
    return f", looked after by {owner}" if owner else ""


def _what_it_says(detail: LetterDetail) -> None:
    body = detail.body
    words.heading(
        f"Body ({body.bytes:,} bytes, {'base64' if body.encoding == 'base64' else 'text'}, SHA-256 {body.sha256[:16]}…)"
    )
    text = _readable(body)
    words.block(text[:_SHOWN])
    if body.cut or len(text) > _SHOWN:
        click.echo("… cut; `rushline dlq show LETTER --raw > FILE` saves all of it.")
    words.heading("Headers")
    words.facts(sorted(detail.headers.items()))
    if detail.stack:
        words.heading("Stack")
        words.block(detail.stack[-_SHOWN:])


def _readable(body: BodyAnswer) -> str:
    if body.encoding == "base64" or body.cut:
        return body.data
    try:
        return msgspec.json.format(body.data, indent=2)
    except msgspec.DecodeError:
        return body.data


def _what_was_done(detail: LetterDetail, now: datetime) -> None:
    if detail.history:
        words.heading("History")
        rows = [(words.since(entry.at, now), entry.actor, entry.action, _told(entry)) for entry in detail.history]
        words.table(("when", "who", "what", "detail"), rows, fold=True)
    for edit in detail.edits:
        decided = f", {edit.state} by {edit.decided_by}" if edit.decided_by else ""
        words.heading(f"Edit {edit.edit_id} ({edit.state}): {edit.reason} ({edit.proposed_by}{decided})")
        words.difference(edit.diff)
    if detail.replays:
        words.heading("Replays of many that it was part of")
        click.echo(words.plain("  " + ", ".join(detail.replays)))
    if detail.siblings:
        words.heading("Other failures of its order")
        others = [
            (words.since(each.last_failed_at, now), words.short(each.letter_id), each.state, each.type, each.failure_type,
             each.error, each.resolution)
            for each in detail.siblings
        ]  # fmt: skip
        words.table(("failed", "letter", "state", "type", "failure", "error", "resolution"), others)


def _told(entry: HistoryAnswer) -> str:
    parts: dict[str, Any] = {name: value for name, value in entry.detail.items() if value not in (None, "") and name != "base"}
    return ", ".join(f"{name}: {value}" for name, value in parts.items())
