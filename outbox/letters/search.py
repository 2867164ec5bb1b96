"""The only place that searches letters: pages by key, counts, groups, and one letter with all that is known of it.

Whatever is asked, a page is there in a fraction of a second however many letters there are: see `searching_sql.py`.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from adapters.postgres import UNAVAILABLE, Connection, DatabaseUnavailable, Record, transaction
from orders.errors import Invalid
from orders.names import Command, Fact
from outbox.letters import searching_sql, sql
from outbox.letters.found import Count, Detail, EditSeen, GroupPage, Page, Sibling
from outbox.letters.model import Group, HistoryEntry, LetterFilter, LetterState, NoSuchGroup, NoSuchLetter
from outbox.letters.reading import as_group, as_letter
from outbox.letters.runbooks import runbook_of
from outbox.transition import Executor

__all__ = ["MOST_COUNTED", "Count", "Detail", "EditSeen", "GroupPage", "Page", "Sibling", "count", "find", "group", "groups",
           "matching", "show"]  # fmt: skip

MOST_COUNTED: Final = 10_000
_MOST: Final = 1_000
_PROBED: Final = 4_000  # of the newest letters: words that many letters have fill a page from them
_LOOKED_AT: Final = 10_000  # of the letters with some words, where they are rare
_STATES: Final = tuple(state.value for state in LetterState)
_KNOWN_TYPES: Final = sorted({*map(str, Command), *map(str, Fact)})
_OF_GROUPS: Final = ("fingerprint", "failure_type", "category", "consumer", "type")
_OF_FEW: Final = ("order_id", "message_id", "owner")
_TEXTS: Final = (*_OF_GROUPS, *_OF_FEW, "words")
_BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)
_MOST_OPEN: Final = 2**62
_INSTANT: Final = timedelta(microseconds=1)


async def find(db: Executor, wanted: LetterFilter, *, cursor: str | None = None, limit: int = 50) -> Page:
    """A page of the letters that match, the newest failure first. Raises `Invalid`, `DatabaseUnavailable`."""
    _check(wanted)
    if not 1 <= limit <= _MOST:
        raise Invalid("limit", f"give a number from 1 to {_MOST}")
    at, letter_id = _after(cursor)
    if wanted.failed_before is not None and wanted.failed_before <= at:
        at, letter_id = wanted.failed_before, ""
    values = [*_values(wanted), at, letter_id, limit]
    try:
        async with transaction(db) as conn:
            await conn.execute(searching_sql.PLAN_FOR_VALUES)
            rows = await _page(conn, wanted, values, limit)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letters cannot be searched: {error}") from error
    letters = [as_letter(row) for row in rows]
    last = letters[-1] if len(letters) == limit else None
    return Page(letters=letters, next=_cursor(last.last_failed_at, last.letter_id) if last else None)


async def _page(conn: Connection, wanted: LetterFilter, values: list[Any], limit: int) -> list[Record]:
    if _names(wanted, _OF_FEW):
        return list(await conn.fetch(searching_sql.PAGE_OF_FEW, *values))
    chosen = await _groups(conn, wanted)
    if chosen == []:
        return []
    if wanted.words is not None:
        # Words that many have are found among the newest letters, words that few have by their index.
        rows = await conn.fetch(searching_sql.PAGE_OF_NEWEST, *values, _PROBED)
        if len(rows) == limit:
            return list(rows)
        rows = await conn.fetch(searching_sql.PAGE_OF_WORDS, *values, _LOOKED_AT, _as_words(chosen))
        if not rows or rows[0]["found"] < _LOOKED_AT:
            return list(rows)
    if chosen is None:
        return list(await conn.fetch(searching_sql.PAGE, *values))
    return list(await conn.fetch(searching_sql.PAGE_OF_GROUPS, *values, chosen))


async def _groups(conn: Connection, wanted: LetterFilter) -> list[str] | None:
    """The groups whose letters can be meant; None: any."""
    if not _names(wanted, _OF_GROUPS):
        return None
    asked = [getattr(wanted, name) for name in _OF_GROUPS]
    return [row["fingerprint"] for row in await conn.fetch(searching_sql.CHOSEN_GROUPS, *asked, _KNOWN_TYPES)]


def _as_words(fingerprints: list[str] | None) -> str | None:
    return None if fingerprints is None else " | ".join(f"'{fingerprint}'" for fingerprint in fingerprints)


async def count(db: Executor, wanted: LetterFilter) -> Count:
    """How many match: exact up to `MOST_COUNTED`, and beyond it where the groups know. Raises as `find`."""
    _check(wanted)
    try:
        async with transaction(db) as conn:
            if _known_to_groups(wanted):
                number = await conn.fetchval(searching_sql.TOTAL, *(getattr(wanted, name) for name in _OF_GROUPS))
                return Count(number=number, exact=True)
            await conn.execute(searching_sql.PLAN_FOR_VALUES)
            values = [*_values(wanted), wanted.failed_before or _END, "", MOST_COUNTED + 1]
            chosen = None if _names(wanted, _OF_FEW) else await _groups(conn, wanted)
            if chosen is None:
                number = await conn.fetchval(searching_sql.COUNT, *values)
            elif not chosen:
                number = 0
            elif wanted.words is None:
                number = await conn.fetchval(searching_sql.COUNT_OF_GROUPS, *values, chosen)
            else:
                number = await conn.fetchval(searching_sql.COUNT_OF_WORDS, *values, _as_words(chosen))
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letters cannot be counted: {error}") from error
    return Count(number=min(number, MOST_COUNTED), exact=number <= MOST_COUNTED)


async def why_none(db: Executor, wanted: LetterFilter) -> str:
    """Why a filter leaves nothing to be done, although a listing with the same filter may show letters. Raises as `find`."""
    listed = await count(db, msgspec.structs.replace(wanted, state=LetterState.OPEN))
    if listed.number == 0:
        return "no open letter that failed up to the cut-off matches the filter: widen it, or list letters first"
    return (
        f"{'' if listed.exact else 'more than '}{listed.number} open letters match the filter, and each is snoozed or failed "
        "after the cut-off: letters that are snoozed are only meant where their group is named by its fingerprint"
    )


async def matching(
    db: Executor, wanted: LetterFilter, *, cutoff: datetime | None = None, awake: datetime | None = None
) -> list[str]:
    """The ids of all that match and failed no later than `cutoff`, oldest failure first. Raises as `find`.

    `awake`: without those that are snoozed at this time, unless it is their group that is asked for.
    """
    _check(wanted)
    before = min(wanted.failed_before or _END, cutoff + _INSTANT if cutoff else _END)
    try:
        async with transaction(db) as conn:
            await conn.execute(searching_sql.PLAN_FOR_VALUES)
            return [row["letter_id"] for row in await conn.fetch(searching_sql.MATCHING, *_values(wanted), before, "", awake)]
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letters cannot be searched: {error}") from error


async def groups(
    db: Executor, *, open_only: bool = True, snoozed: bool = False, cursor: str | None = None, limit: int = 50
) -> GroupPage:
    """A page of groups. `snoozed`: those that are out of sight, too. Raises `Invalid`, `DatabaseUnavailable`."""
    if not 1 <= limit <= _MOST:
        raise Invalid("limit", f"give a number from 1 to {_MOST}")
    most, fingerprint = (_MOST_OPEN, "") if cursor is None else _read(cursor, tuple[int, str])
    try:
        rows = await db.fetch(searching_sql.GROUPS, open_only, snoozed, min(most, _MOST_OPEN), fingerprint, limit)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the groups cannot be read: {error}") from error
    found = [as_group(row) for row in rows]
    last = found[-1] if len(found) == limit else None
    return GroupPage(groups=found, next=_cursor(last.open, last.fingerprint) if last else None)


async def group(db: Executor, fingerprint: str) -> Group:
    """One group. Raises `NoSuchGroup`, `DatabaseUnavailable`."""
    try:
        row = await db.fetchrow(searching_sql.GROUP, fingerprint)
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the group cannot be read: {error}") from error
    if row is None:
        raise NoSuchGroup(f"there is no group {fingerprint}")
    return as_group(row)


async def show(db: Executor, letter_id: str) -> Detail:
    """One letter with its body and all that is known of it. Raises `NoSuchLetter`, `DatabaseUnavailable`."""
    try:
        async with transaction(db) as conn:
            row = await conn.fetchrow(sql.READ, letter_id)
            if row is None:
                raise NoSuchLetter(f"there is no letter {letter_id}")
            letter = as_letter(row)
            others = await conn.fetch(sql.OF_ORDER, letter.order_id, letter_id) if letter.order_id else []
            return Detail(
                letter=letter,
                group=await group(conn, letter.fingerprint),
                history=[msgspec.convert(dict(each), HistoryEntry) for each in await conn.fetch(sql.HISTORY, letter_id)],
                edits=[msgspec.convert(dict(each), EditSeen) for each in await conn.fetch(sql.EDITS, letter_id)],
                replays=[each["replay_id"] for each in await conn.fetch(sql.REPLAYS, letter_id)],
                siblings=[msgspec.convert(dict(each), Sibling) for each in others],
                runbook=runbook_of(letter),
            )
    except UNAVAILABLE as error:
        raise DatabaseUnavailable(f"the letter cannot be read: {error}") from error


def _names(wanted: LetterFilter, fields: tuple[str, ...]) -> list[str]:
    return [name for name in fields if getattr(wanted, name) is not None]


def _known_to_groups(wanted: LetterFilter) -> bool:
    """Whether the groups have counted what is asked for."""
    asked = set(_names(wanted, wanted.__struct_fields__))
    return asked <= set(_OF_GROUPS) and (wanted.type is None or wanted.type in _KNOWN_TYPES)


def _values(wanted: LetterFilter) -> list[Any]:
    states = list(_STATES) if wanted.state is None else [wanted.state.value]
    return [states, *(getattr(wanted, name) for name in _TEXTS), wanted.failed_from or _BEGINNING]


def _check(wanted: LetterFilter) -> None:
    """What PostgreSQL cannot hold is a refusal, not a failure."""
    for name in _names(wanted, _TEXTS):
        text = getattr(wanted, name)
        if not text or len(text) > _MOST or not text.isprintable():
            raise Invalid(name, f"give 1 to {_MOST} printable characters")
    for name in _names(wanted, ("failed_from", "failed_before")):
        if getattr(wanted, name).tzinfo is None:
            raise Invalid(name, "give a time with its zone")


def _cursor(*key: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode()


def cursor_at(at: datetime) -> str:
    """The cursor of a page whose letters failed before this time."""
    return _cursor(at, "")


def _after(cursor: str | None) -> tuple[datetime, str]:
    if cursor is None:
        return _END, ""
    at, letter_id = _read(cursor, tuple[datetime, str])
    if at.tzinfo is None:
        raise _bad()
    try:
        return at.astimezone(UTC), letter_id
    except OverflowError as error:
        raise _bad() from error


def _read(cursor: str, kind: Any) -> Any:
    try:
        key = msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode("ascii")), type=kind)
        if not key[1].isprintable():
            raise _bad()
    except (msgspec.DecodeError, binascii.Error, ValueError, OverflowError) as error:
        raise _bad() from error
    return key


def _bad() -> Invalid:
    return Invalid("cursor", "this is no cursor; give `next` of the page before, or none")
