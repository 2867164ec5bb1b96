"""Every question about letters is answered rightly, page by page, and quickly however many there are."""

import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.postgres import Pool
from adapters.settings import Settings
from bench.letters import asked_for, many_letters
from bench.making import percentile
from orders.errors import Invalid
from orders.failures import FailureType
from outbox.letters import search
from outbox.letters.model import LetterFilter, LetterState
from tests.integration.letters_ground import parked, record
from tests.integration.replays_ground import clean
from tests.integration.workers_ground import Ground, ground

__all__ = ["clean", "ground"]

MANY = 20_000
EXAMPLE = "SELECT order_id, message_id FROM dead_letters ORDER BY letter_id LIMIT 1 OFFSET 10"


@pytest.fixture
async def many(stack: Settings) -> AsyncIterator[Pool]:
    """A database with many letters, of 60 kinds, over several hours."""
    async with many_letters(stack, MANY) as pool:
        yield pool


async def _in_python(pool: Pool) -> list[dict[str, Any]]:
    rows = await pool.fetch(
        """SELECT letter_id, state, fingerprint, failure_type, category, consumer, type, order_id, message_id, owner, message, error,
                  reason, last_failed_at FROM dead_letters ORDER BY last_failed_at DESC, letter_id DESC"""
    )
    return [dict(row) for row in rows]


def _matches(wanted: LetterFilter, row: dict[str, Any]) -> bool:
    for name in ("state", "fingerprint", "failure_type", "category", "consumer", "type", "order_id", "message_id", "owner"):
        given = getattr(wanted, name)
        if given is not None and row[name] != given:
            return False
    text = f"{row['error']} {row['reason']} {row['message']}".lower()
    return (
        (wanted.words is None or all(word.strip('"') in text.replace(",", " ") for word in wanted.words.split()))
        and (wanted.failed_from is None or row["last_failed_at"] >= wanted.failed_from)
        and (wanted.failed_before is None or row["last_failed_at"] < wanted.failed_before)
    )


async def test_every_question_is_answered_with_exactly_what_matches_newest_first(many: Pool) -> None:
    rows = await _in_python(many)
    example = dict(await many.fetchrow(EXAMPLE) or {})
    for name, (wanted, _) in asked_for(example).items():
        if wanted.words in ('"trouble-0"', "1234"):
            continue  # what a word is, is PostgreSQL's business
        expected = [row["letter_id"] for row in rows if _matches(wanted, row)]
        first = await search.find(many, wanted, limit=70)
        assert [letter.letter_id for letter in first.letters] == expected[:70], name
        if first.next:
            second = await search.find(many, wanted, cursor=first.next, limit=70)
            assert [letter.letter_id for letter in second.letters] == expected[70:140], name
        count = await search.count(many, wanted)
        assert count.number == (len(expected) if count.exact else search.MOST_COUNTED), name
        assert count.exact or len(expected) > search.MOST_COUNTED, name
        assert set(await search.matching(many, wanted)) == set(expected), name


async def test_pages_lead_through_all_letters_once(many: Pool) -> None:
    for wanted in (LetterFilter(), LetterFilter(consumer="drivers"), LetterFilter(words="trouble ms", type="driver.dispatch")):
        seen: list[str] = []
        cursor = None
        for _ in itertools.count():
            page = await search.find(many, wanted, cursor=cursor, limit=900)
            seen += [letter.letter_id for letter in page.letters]
            cursor = page.next
            if cursor is None:
                break
        assert len(seen) == len(set(seen))
        assert set(seen) == set(await search.matching(many, wanted))


async def test_every_page_is_there_at_once(many: Pool) -> None:
    """A page and its count. With a million letters: `rushline bench --only letters`."""
    example = dict(await many.fetchrow(EXAMPLE) or {})
    slow = {}
    for name, (wanted, deep) in asked_for(example).items():
        cursor = search.cursor_at(deep) if deep else None
        took = []
        for _ in range(3):
            began = time.perf_counter()
            await search.find(many, wanted, cursor=cursor, limit=100)
            await search.count(many, wanted)
            took.append(time.perf_counter() - began)
        if percentile(took, 50) > 0.2:
            slow[name] = took
    assert slow == {}


async def test_a_cut_off_keeps_what_failed_at_its_very_instant_and_nothing_later(many: Pool) -> None:
    rows = await _in_python(many)
    cutoff = rows[500]["last_failed_at"]
    expected = {row["letter_id"] for row in rows if row["last_failed_at"] <= cutoff}
    assert set(await search.matching(many, LetterFilter(), cutoff=cutoff)) == expected


async def test_groups_come_with_the_most_open_letters_first_page_by_page(many: Pool) -> None:
    seen = []
    cursor = None
    while True:
        page = await search.groups(many, open_only=False, cursor=cursor, limit=7)
        seen += [(group.open, group.fingerprint) for group in page.groups]
        cursor = page.next
        if cursor is None:
            break
    rows = await many.fetch("SELECT open, fingerprint FROM letter_groups ORDER BY open DESC, fingerprint")
    assert seen == [tuple(row) for row in rows]


async def test_a_type_that_nobody_knows_is_found_by_its_name(clean: Ground) -> None:
    odd, other = (
        parked(headers={"cloudEvents_type": kind, "cloudEvents_id": f"cmd_{kind}"}, poison=True)
        for kind in ("no.such", "nor.this")
    )
    await record(clean.pool, odd, other, parked())
    page = await search.find(clean.pool, LetterFilter(type="no.such"))
    assert [letter.type for letter in page.letters] == ["no.such"]
    assert await search.count(clean.pool, LetterFilter(type="no.such")) == search.Count(number=1, exact=True)


async def test_a_listing_leaves_bodies_where_they_are(clean: Ground) -> None:
    await record(clean.pool, parked(body=b"x" * 1_000_000))
    (letter,) = (await search.find(clean.pool, LetterFilter())).letters
    assert letter.body == b""


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (LetterFilter(words=""), "words"),
        (LetterFilter(words="a\x00b"), "words"),
        (LetterFilter(type="x" * 2_000), "type"),
        (LetterFilter(owner="\ud800"), "owner"),
        (LetterFilter(failed_from=datetime(2026, 1, 1)), "failed_from"),  # noqa: DTZ001  # the point
    ],
)
async def test_what_the_database_cannot_hold_is_refused_by_name(clean: Ground, wanted: LetterFilter, field: str) -> None:
    for ask in (search.find, search.count, search.matching):
        with pytest.raises(Invalid) as refused:
            await ask(clean.pool, wanted)  # type: ignore[operator]  # each takes these
        assert refused.value.field == field


@pytest.mark.parametrize("cursor", ["", "x", "bm90aGluZw==", "WzEsMl0=", "é", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgIngiXQ=="])
async def test_what_is_no_cursor_is_refused(clean: Ground, cursor: str) -> None:
    with pytest.raises(Invalid):
        await search.find(clean.pool, LetterFilter(), cursor=cursor)


@pytest.mark.parametrize(
    "words", ["'", "a & | b", "-nothing", '"', "a <-> b", "; DROP TABLE dead_letters", "%", "\\", ":*", "()"]
)
async def test_words_are_never_read_as_a_language(clean: Ground, words: str) -> None:
    await record(clean.pool, parked())
    await search.find(clean.pool, LetterFilter(words=words))
    await search.count(clean.pool, LetterFilter(words=words, type="payment.charge"))


async def test_filters_narrow_each_other(clean: Ground) -> None:
    await record(clean.pool, parked(error="A"), parked(error="B", failure=FailureType.RESTAURANT_TIMEOUT))
    both = LetterFilter(state=LetterState.OPEN, failure_type=FailureType.RESTAURANT_TIMEOUT, consumer="restaurants")
    assert [letter.error for letter in (await search.find(clean.pool, both)).letters] == ["B"]
    later = datetime.now(UTC) + timedelta(days=1)
    assert (await search.find(clean.pool, LetterFilter(failed_from=later))).letters == []
