"""What the relay set aside is a letter like any other: sent back in order, or dropped, and nothing waits for it then."""

from typing import Any

import pytest

from adapters.settings import Settings
from orders.envelope import Broker
from orders.ids import new_id
from outbox import sql
from outbox.letters import set_aside
from outbox.letters.actions import discard
from outbox.letters.model import Letter, LetterState, Source
from outbox.letters.reading import as_letter
from outbox.letters.sending import replay_one
from outbox.transition import enqueue
from tests.integration.letters_ground import assert_counted, at, told
from tests.integration.replays_ground import clean, now
from tests.integration.workers_ground import Ground, ground
from tests.making import command_message, eventually, fact_row, quick, relaying

__all__ = ["clean", "ground"]

REFUSED, BEHIND = "fact-refused: the broker does not want it", "waits-behind: an earlier fact of this order is set aside"


async def _set_aside(ground: Ground, order_id: str, **reasons: str) -> None:
    """Facts of an order, by position (`p1` …), set aside by the relay's own statement."""
    await enqueue(ground.pool, [fact_row(order_id, int(name[1:])) for name in reasons])
    rows = await ground.pool.fetch("SELECT id FROM outbox WHERE aggregate_id = $1 ORDER BY id", order_id)
    await ground.pool.execute(sql.SET_ASIDE, "kafka", [row["id"] for row in rows], list(reasons.values()))


async def _letters(ground: Ground) -> list[Letter]:
    return [as_letter(row) for row in await ground.pool.fetch("SELECT * FROM dead_letters ORDER BY last_failed_at, letter_id")]


async def _in_outbox(ground: Ground, order_id: str) -> list[int]:
    rows = await ground.pool.fetch("SELECT position FROM outbox WHERE aggregate_id = $1 ORDER BY id", order_id)
    return [row["position"] for row in rows]


async def _left_aside(ground: Ground) -> int:
    return int(await ground.pool.fetchval("SELECT count(*) FROM outbox_set_aside"))


async def test_a_row_that_was_set_aside_is_one_letter_and_what_waits_behind_it_none(clean: Ground) -> None:
    order_id = new_id("ord")
    await _set_aside(clean, order_id, p2=REFUSED, p3=BEHIND, p4=BEHIND)
    assert await set_aside.step(clean.pool, now()) == 1
    assert await set_aside.step(clean.pool, now()) == 0
    (letter,) = await _letters(clean)
    assert (letter.source, letter.consumer, letter.order_id, letter.position) == (Source.OUTBOX, "relay-kafka", order_id, 2)
    assert (letter.reason, letter.message, letter.state) == (
        "fact-refused", "the broker does not want it", LetterState.OPEN,
    )  # fmt: skip
    assert await _left_aside(clean) == 3
    await assert_counted(clean.pool)


async def test_a_command_that_no_queue_takes_becomes_a_letter_by_the_relay_and_the_keeper(clean: Ground) -> None:
    await enqueue(clean.pool, [command_message(new_id("ord"), destination="no.such.command")])
    async with relaying(quick(clean.settings), (Broker.RABBITMQ,)):

        async def recorded() -> None:
            await set_aside.step(clean.pool, now())
            assert [letter.consumer for letter in await _letters(clean)] == ["relay-rabbitmq"]

        await eventually(recorded)


async def test_a_letter_that_is_sent_back_takes_with_it_what_waits_behind_it_in_order(clean: Ground) -> None:
    order_id, other = new_id("ord"), new_id("ord")
    await _set_aside(clean, order_id, p2=REFUSED, p3=BEHIND, p4=BEHIND)
    await _set_aside(clean, other, p7=REFUSED)
    await set_aside.step(clean.pool, now())
    key = next(letter.letter_id for letter in await _letters(clean) if letter.order_id == order_id)
    await replay_one(clean.pool, key, actor="ann", version=None, now=now())
    assert await _in_outbox(clean, order_id) == [2, 3, 4]
    assert await _left_aside(clean) == 1
    await set_aside.step(clean.pool, now())
    states = {letter.letter_id: letter.state for letter in await _letters(clean)}
    assert states[key] is LetterState.REPLAYING  # its row has not left the outbox yet


async def test_a_letter_that_was_sent_back_is_resolved_once_its_broker_has_it(clean: Ground) -> None:
    order_id = new_id("ord")
    await _set_aside(clean, order_id, p2=REFUSED, p3=BEHIND)
    await set_aside.step(clean.pool, now())
    (letter,) = await _letters(clean)
    await replay_one(clean.pool, letter.letter_id, actor="ann", version=None, now=now())
    async with relaying(quick(clean.settings), (Broker.KAFKA,)):

        async def resolved() -> None:
            await set_aside.step(clean.pool, now())
            (after,) = await _letters(clean)
            assert (after.state, after.resolution) == (LetterState.RESOLVED, "replayed")

        await eventually(resolved)
    assert await _in_outbox(clean, order_id) == []
    assert await told(clean.pool, letter.letter_id) == ["sent", "sent_back", "resolved"]
    await assert_counted(clean.pool)


async def test_a_row_that_is_refused_again_opens_its_letter_again(clean: Ground) -> None:
    order_id = new_id("ord")
    await _set_aside(clean, order_id, p2=REFUSED)
    await set_aside.step(clean.pool, now())
    (letter,) = await _letters(clean)
    await replay_one(clean.pool, letter.letter_id, actor="ann", version=None, now=now())
    rows = await clean.pool.fetch("SELECT id FROM outbox WHERE aggregate_id = $1", order_id)
    await clean.pool.execute(sql.SET_ASIDE, "kafka", [row["id"] for row in rows], [REFUSED])
    assert await set_aside.step(clean.pool, now()) == 1
    (after,) = await _letters(clean)
    assert (after.state, after.generation) == (LetterState.OPEN, 2)
    await assert_counted(clean.pool)
    await replay_one(clean.pool, letter.letter_id, actor="ann", version=None, now=now())
    assert await _in_outbox(clean, order_id) == [2]


async def test_a_discard_drops_the_row_and_lets_go_what_waited_behind_it(clean: Ground) -> None:
    order_id = new_id("ord")
    await _set_aside(clean, order_id, p2=REFUSED, p3=BEHIND, p4=BEHIND)
    await set_aside.step(clean.pool, now())
    (letter,) = await _letters(clean)
    await discard(clean.pool, letter.letter_id, reason="too large for anyone", actor="ann", version=None, now=now())
    assert await _in_outbox(clean, order_id) == [3, 4]
    assert await _left_aside(clean) == 0
    await assert_counted(clean.pool)


async def test_what_still_waits_behind_another_is_not_let_go(clean: Ground) -> None:
    order_id = new_id("ord")
    await _set_aside(clean, order_id, p2=REFUSED, p3=BEHIND, p4=REFUSED)
    await set_aside.step(clean.pool, now())
    first = next(letter for letter in await _letters(clean) if letter.position == 2)
    await replay_one(clean.pool, first.letter_id, actor="ann", version=None, now=now())
    assert await _in_outbox(clean, order_id) == [2]
    await set_aside.step(clean.pool, now())
    assert await _left_aside(clean) == 2


async def test_a_fact_that_was_set_aside_behind_one_that_had_just_gone_back_is_let_go(clean: Ground) -> None:
    """The relay looks around once a second: it may still believe that the order has something set aside."""
    order_id = new_id("ord")
    await _set_aside(clean, order_id, p5=BEHIND)
    await set_aside.step(clean.pool, now())
    assert await _in_outbox(clean, order_id) == [5]
    assert await _letters(clean) == []


async def test_a_row_is_recorded_and_marked_together(clean: Ground, stack: Settings) -> None:
    """Two keepers at once (a lease that was lost): each row is one letter."""
    orders = [new_id("ord") for _ in range(30)]
    for order_id in orders:
        await _set_aside(clean, order_id, p2=REFUSED)
    moved = [await set_aside.step(clean.pool, now()) for _ in range(2)]
    assert sum(moved) == 30
    marked: list[Any] = await clean.pool.fetch("SELECT letter_id FROM outbox_set_aside")
    assert {row["letter_id"] for row in marked} == {letter.letter_id for letter in await _letters(clean)}


@pytest.mark.parametrize("reason", ["refused-by-broker", "message-too-large: 2000000 bytes, at most 1000000", "x" * 500])
async def test_any_reason_is_readable(clean: Ground, reason: str) -> None:
    await _set_aside(clean, new_id("ord"), p2=reason)
    await set_aside.step(clean.pool, now())
    (letter,) = await _letters(clean)
    assert letter.reason == reason.partition(": ")[0][:200]
    assert letter.parked_at > at(0)
