"""What people do with letters, and what they are refused: each a typed error, and nothing changed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from adapters.postgres import Pool
from orders.errors import Invalid
from orders.names import Command, Fact, State
from outbox.letters import actions, search
from outbox.letters.model import (
    LetterFilter,
    LetterMoved,
    LetterNotOpen,
    LetterState,
    NoSuchGroup,
    NoSuchLetter,
    NothingMatches,
)
from outbox.letters.sending import replay_one
from tests.integration.letters_ground import assert_counted, at, id_of, letter, parked, record, told
from tests.integration.replays_ground import clean, everything
from tests.integration.workers_ground import Ground, ground
from tests.making import placed, walked

__all__ = ["clean", "ground"]

WHY = "the restaurant has closed for good"


async def discard(pool: Pool, key: str, **values: Any) -> Any:
    given = {"reason": WHY, "actor": "ann", "version": None, "now": at(60), **values}
    return await actions.discard(pool, key, **given)


async def test_a_letter_is_discarded_with_a_reason_and_counted_no_longer(clean: Ground) -> None:
    message = parked()
    await record(clean.pool, message)
    gone = await discard(clean.pool, id_of(message))
    assert (gone.state, gone.resolution, gone.resolved_by, gone.resolved_at) == (LetterState.DISCARDED, WHY, "ann", at(60))
    assert await told(clean.pool, gone.letter_id) == ["discarded"]
    await assert_counted(clean.pool)


async def test_a_discard_is_in_the_audit_trail_of_the_letters_order(clean: Ground) -> None:
    order = await walked(clean.pool, State.PAYMENT_CONFIRMED)
    message = parked(order_id=order.order_id)
    await record(clean.pool, message)
    await discard(clean.pool, id_of(message))
    now = await clean.order(order.order_id)
    assert (now.state, now.position, now.deadline) == (order.state, order.position + 1, order.deadline)
    row = await clean.pool.fetchrow(
        "SELECT type, fact FROM order_events WHERE order_id = $1 ORDER BY position DESC LIMIT 1", order.order_id
    )
    assert row is not None
    fact = msgspec.json.decode(row["fact"])
    assert row["type"] == Fact.SUPPORT_INTERVENTION
    assert (fact["actor"], fact["data"]["act"], fact["data"]["letter_id"]) == (
        {"type": "operator", "id": "ann"}, "discarded", id_of(message),
    )  # fmt: skip


async def test_a_discard_that_is_refused_leaves_no_trace_in_the_audit_trail(clean: Ground) -> None:
    order = await placed(clean.pool)
    message = parked(order_id=order.order_id)
    await record(clean.pool, message)
    before = await everything(clean)
    with pytest.raises(LetterMoved):
        await discard(clean.pool, id_of(message), version=7)
    assert await everything(clean) == before


async def test_a_letter_that_was_discarded_cannot_be_discarded_replayed_assigned_or_snoozed(clean: Ground) -> None:
    message = parked()
    key = id_of(message)
    await record(clean.pool, message)
    await discard(clean.pool, key)
    before = await everything(clean)
    refused: list[Callable[[], Awaitable[Any]]] = [
        lambda: discard(clean.pool, key),
        lambda: replay_one(clean.pool, key, actor="ann", version=None, now=at(61)),
        lambda: actions.assign(clean.pool, key, owner="bob", actor="ann", version=None, now=at(61)),
        lambda: actions.snooze(clean.pool, key, until=at(90), actor="ann", version=None, now=at(61)),
    ]
    for act in refused:
        with pytest.raises(LetterNotOpen):
            await act()
    assert await everything(clean) == before


async def test_a_letter_that_is_under_way_cannot_be_discarded(clean: Ground) -> None:
    message = parked()
    await record(clean.pool, message)
    await replay_one(clean.pool, id_of(message), actor="ann", version=None, now=at(50))
    with pytest.raises(LetterNotOpen):
        await discard(clean.pool, id_of(message))


async def test_of_two_operators_on_one_letter_one_is_refused(clean: Ground) -> None:
    """Both have read version 1. Whoever comes second must look again."""
    message = parked()
    key = id_of(message)
    await record(clean.pool, message)
    await actions.assign(clean.pool, key, owner="bob", actor="bob", version=1, now=at(30))
    with pytest.raises(LetterMoved):
        await discard(clean.pool, key, version=1)
    assert (await letter(clean.pool, key)).owner == "bob"
    await discard(clean.pool, key, version=2)


async def test_of_many_operators_at_once_exactly_one_discards(clean: Ground) -> None:
    order = await placed(clean.pool)
    message = parked(order_id=order.order_id)
    await record(clean.pool, message)
    acts = [discard(clean.pool, id_of(message), actor=f"person-{n}") for n in range(6)]
    outcomes = await asyncio.gather(*acts, return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} == {LetterNotOpen}
    assert (await clean.order(order.order_id)).position == order.position + 1
    assert await told(clean.pool, id_of(message)) == ["discarded"]
    await assert_counted(clean.pool)


@pytest.mark.parametrize("reason", ["", "   ", "a\x00b", "x" * 1_001])
async def test_a_discard_without_a_reason_is_refused(clean: Ground, reason: str) -> None:
    message = parked()
    await record(clean.pool, message)
    before = await everything(clean)
    with pytest.raises(Invalid) as refused:
        await discard(clean.pool, id_of(message), reason=reason)
    assert refused.value.field == "reason"
    assert await everything(clean) == before


async def test_what_is_not_there_is_said_to_be_so(clean: Ground) -> None:
    with pytest.raises(NoSuchLetter):
        await discard(clean.pool, "let_none")
    with pytest.raises(NoSuchLetter):
        await actions.note(clean.pool, "let_none", text="hello", actor="ann", now=at(1))
    with pytest.raises(NoSuchLetter):
        await search.show(clean.pool, "let_none")
    with pytest.raises(NoSuchGroup):
        await actions.snooze_group(clean.pool, "none", until=at(9), actor="ann", now=at(1))


async def test_many_are_discarded_by_a_filter_with_a_cut_off(clean: Ground) -> None:
    """What fails after the cut-off is not swept in; neither is what somebody settled."""
    order = await placed(clean.pool)
    swept = [parked(minute=n, order_id=order.order_id if n < 3 else "") for n in range(2, 7)]
    kept = [parked(minute=9), parked(Command.DRIVER_DISPATCH, minute=3)]
    await record(clean.pool, *swept, *kept)
    wanted = LetterFilter(type="restaurant.notify")
    given: dict[str, Any] = {"cutoff": at(6), "reason": WHY, "actor": "ann", "now": at(60)}
    before = await everything(clean)
    assert await actions.discard_many(clean.pool, wanted, dry_run=True, **given) == 5
    assert await everything(clean) == before
    assert await actions.discard_many(clean.pool, wanted, dry_run=False, **given) == 5
    states = {row["letter_id"]: row["state"] for row in await clean.pool.fetch("SELECT letter_id, state FROM dead_letters")}
    assert states == {id_of(m): "discarded" for m in swept} | {id_of(m): "open" for m in kept}
    assert (await clean.order(order.order_id)).position == order.position + 1
    await assert_counted(clean.pool)
    with pytest.raises(NothingMatches):
        await actions.discard_many(clean.pool, wanted, dry_run=False, **given)


async def test_what_somebody_has_snoozed_is_discarded_only_where_its_group_is_named(clean: Ground) -> None:
    await record(
        clean.pool, *(awake := [parked(minute=n) for n in (2, 3)]), asleep := parked(Command.DRIVER_DISPATCH, minute=4)
    )
    group = (await letter(clean.pool, id_of(asleep))).fingerprint
    await actions.snooze(clean.pool, id_of(awake[0]), until=at(90), actor="bob", version=None, now=at(50))
    await actions.snooze_group(clean.pool, group, until=at(90), actor="bob", now=at(50))
    given: dict[str, Any] = {"cutoff": at(60), "reason": WHY, "actor": "ann", "now": at(60), "dry_run": False}
    assert await actions.discard_many(clean.pool, LetterFilter(), **given) == 1
    before = await everything(clean)
    with pytest.raises(NothingMatches, match="2 open letters match the filter, and each is snoozed"):
        await actions.discard_many(clean.pool, LetterFilter(), **given)
    assert await everything(clean) == before
    assert await actions.discard_many(clean.pool, LetterFilter(fingerprint=group), **given) == 1
    assert await actions.discard_many(clean.pool, LetterFilter(), **{**given, "now": at(91)}) == 1
    await assert_counted(clean.pool)


async def test_two_who_discard_the_same_letters_at_once_discard_each_once(clean: Ground) -> None:
    orders = [await placed(clean.pool) for _ in range(10)]
    await record(clean.pool, *(parked(order_id=order.order_id, minute=5) for order in orders), *(parked() for _ in range(300)))
    given: dict[str, Any] = {"cutoff": at(60), "reason": WHY, "now": at(60), "dry_run": False}
    acts = [actions.discard_many(clean.pool, LetterFilter(), actor=f"person-{n}", **given) for n in range(2)]
    assert sum(await asyncio.gather(*acts)) == 310
    assert await clean.pool.fetchval("SELECT count(*) FROM letter_history WHERE action = 'discarded'") == 310
    for order in orders:
        assert (await clean.order(order.order_id)).position == order.position + 1
    await assert_counted(clean.pool)


async def test_a_letter_shows_everything_that_is_known_of_it(clean: Ground) -> None:
    order = await placed(clean.pool)
    message, other = parked(order_id=order.order_id), parked(Command.PAYMENT_REFUND, order_id=order.order_id)
    await record(clean.pool, message, other)
    await actions.note(clean.pool, id_of(message), text="asked the restaurant", actor="ann", now=at(2))
    await actions.assign(clean.pool, id_of(message), owner="bob", actor="ann", version=None, now=at(3))
    await actions.snooze(clean.pool, id_of(message), until=at(90), actor="bob", version=2, now=at(4))
    seen = await search.show(clean.pool, id_of(message))
    assert (seen.letter.owner, seen.letter.snoozed_until, seen.letter.body) == ("bob", at(90), message.body)
    assert [(entry.actor, entry.action) for entry in seen.history] == [("ann", "note"), ("ann", "assigned"), ("bob", "snoozed")]
    assert [sibling.letter_id for sibling in seen.siblings] == [id_of(other)]
    assert (seen.group.total, seen.group.open) == (1, 1)


async def test_a_group_is_snoozed_until_a_time_and_comes_back_then(clean: Ground) -> None:
    await record(clean.pool, parked())
    (group,) = (await search.groups(clean.pool)).groups
    far = at(0).replace(year=9000)
    snoozed = await actions.snooze_group(clean.pool, group.fingerprint, until=far, actor="ann", now=at(1))
    assert snoozed.snoozed_until == far
    assert (await search.groups(clean.pool)).groups == []
    assert len((await search.groups(clean.pool, snoozed=True)).groups) == 1
    await actions.snooze_group(clean.pool, group.fingerprint, until=None, actor="ann", now=at(2))
    assert len((await search.groups(clean.pool)).groups) == 1
    owned = await actions.assign_group(clean.pool, group.fingerprint, owner="bob", actor="ann", now=at(3))
    assert owned.owner == "bob"
    with pytest.raises(Invalid):
        await actions.snooze_group(clean.pool, group.fingerprint, until=at(1), actor="ann", now=at(2))
