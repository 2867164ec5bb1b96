"""An edit is checked before anything is written, shown as a diff, approved by a second person where money moves, never ignored."""

import asyncio
import hashlib

import msgspec
import pytest

from orders import parking
from orders.errors import Invalid
from orders.names import Command, Fact, Money, State
from orders.order import Order
from outbox.letters import editing
from outbox.letters.editing import EditDecided, EditState, NoSuchEdit
from outbox.letters.model import (
    BadEdit,
    Letter,
    LetterMoved,
    LetterNotOpen,
    LetterState,
    LetterSuperseded,
    NeedsApproval,
    NotReplayable,
)
from outbox.letters.sending import replay_one, settle
from tests.fake_ports import FakePorts
from tests.integration.replays_ground import (
    ANN,
    BOB,
    NumberBarred,
    clean,
    everything,
    failed,
    going_on,
    history,
    letter,
    now,
    outbox,
    park,
)
from tests.integration.workers_ground import Ground, ground
from tests.making import eventually, placed, walked

__all__ = ["clean", "ground"]


def _edited(original: Letter, **values: object) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(original.body), **values})


async def _garbled_charge(clean: Ground) -> tuple[Order, Letter]:
    """The charge that an order waits for, its body broken on the way."""
    order = await placed(clean.pool)
    (key,) = (key for key, entry in order.pending.items() if entry.type == Command.PAYMENT_CHARGE)
    broken = failed(order, Command.PAYMENT_CHARGE, body=b'{"order_id": "' + order.order_id.encode() + b'", "pos', poison=True)
    assert broken.message_id == key
    await park(clean, broken)
    await clean.pool.execute("DELETE FROM outbox")  # its own command, which the relay would send
    return order, broken


def _whole(order: Order) -> bytes:
    return msgspec.json.encode({"order_id": order.order_id, "position": order.position})


async def _interventions(clean: Ground, order: Order) -> list[dict[str, object]]:
    records = await clean.pool.fetch(
        "SELECT audit FROM order_events WHERE order_id = $1 AND type = $2 ORDER BY position",
        order.order_id, Fact.SUPPORT_INTERVENTION.value,
    )  # fmt: skip
    return [msgspec.json.decode(record["audit"]) for record in records]


async def test_an_edit_is_shown_as_a_diff_and_sent_with_the_same_identity(clean: Ground) -> None:
    order = await placed(clean.pool)
    await park(clean, original := failed(order, template="payment_faild"))
    body = _edited(original, template="payment_failed")
    edit = await editing.propose(clean.pool, original.letter_id, body, reason="a typo", actor=ANN, version=1, now=now())
    assert edit.state is EditState.SENT
    assert [line for line in edit.diff.splitlines() if line[0] in "+-"][2:] == [
        '-  "template": "payment_faild",', '+  "template": "payment_failed",',
    ]  # fmt: skip
    row = (await outbox(clean))[-1]
    assert (row.event_id, row.body, row.headers[parking.EDIT]) == (original.message_id, body, edit.edit_id)
    kept = await letter(clean, original.letter_id)
    assert (kept.body, kept.state) == (original.body, LetterState.REPLAYING)
    assert edit.base == hashlib.sha256(original.body).hexdigest()
    assert await history(clean, original.letter_id) == [("edited", ANN), ("sent", ANN)]
    (audited,) = await _interventions(clean, order)
    assert audited["actor"] == {"type": "operator", "id": ANN}
    assert edit.edit_id in str(audited["details"])
    assert hashlib.sha256(body).hexdigest() in str(audited["details"])


async def test_a_charge_is_edited_by_one_and_approved_by_another_and_then_really_charged(clean: Ground) -> None:
    fakes = FakePorts()
    order, broken = await _garbled_charge(clean)
    edit = await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=ANN, now=now())
    assert edit.state is EditState.WAITING
    assert (await letter(clean, broken.letter_id)).state is LetterState.OPEN
    assert not [row for row in await outbox(clean) if parking.EDIT in row.headers]
    assert [each.edit_id for each in await editing.list_edits(clean.pool, state=EditState.WAITING)] == [edit.edit_id]
    before = await everything(clean)
    with pytest.raises(NeedsApproval, match="somebody else"):
        await editing.approve(clean.pool, edit.edit_id, actor=ANN, now=now())
    assert await everything(clean) == before
    approved = await editing.approve(clean.pool, edit.edit_id, actor=BOB, now=now())
    assert (approved.state, approved.decided_by) == (EditState.SENT, BOB)
    with pytest.raises(EditDecided, match="sent by bob"):
        await editing.approve(clean.pool, edit.edit_id, actor="carol", now=now())
    async with going_on(clean, fakes):

        async def charged() -> None:
            assert (await clean.order(order.order_id)).money is Money.CAPTURED
            assert (await letter(clean, broken.letter_id)).state is LetterState.RESOLVED

        await eventually(charged)
    ended = await letter(clean, broken.letter_id)
    assert (ended.resolution, ended.body) == ("edited", broken.body)
    assert len(fakes.payments.named("confirm")) == 1
    audited = await _interventions(clean, order)
    assert [entry["actor"] for entry in audited] == [{"type": "operator", "id": who} for who in (ANN, BOB)]
    assert await history(clean, broken.letter_id) == [
        ("edited", ANN), ("approved", BOB), ("sent", BOB), ("resolved", BOB),
    ]  # fmt: skip


async def test_a_refusal_of_an_edit_is_kept_with_its_reason_and_the_letter_stays_open(clean: Ground) -> None:
    order, broken = await _garbled_charge(clean)
    edit = await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=ANN, now=now())
    with pytest.raises(Invalid, match="reason"):
        await editing.refuse(clean.pool, edit.edit_id, reason=" ", actor=BOB, now=now())
    refused = await editing.refuse(clean.pool, edit.edit_id, reason="ask the customer first", actor=BOB, now=now())
    assert (refused.state, refused.decided_by) == (EditState.REFUSED, BOB)
    assert (await letter(clean, broken.letter_id)).state is LetterState.OPEN
    with pytest.raises(EditDecided, match="refused by bob"):
        await editing.approve(clean.pool, edit.edit_id, actor="carol", now=now())
    again = await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="asked", actor=ANN, now=now())
    assert again.edit_id != edit.edit_id
    assert (await editing.show(clean.pool, edit.edit_id)).state is EditState.REFUSED
    with pytest.raises(NoSuchEdit):
        await editing.approve(clean.pool, "edt_none", actor=BOB, now=now())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[]", "body"),
        (b'{"order_id"', "body"),
        (b"\xff\xfe", "body"),
        (b" " * 1_000_001, "body"),
        ({"template": 7}, "body"),
        ({"templat": "x"}, "body.templat"),
        ({"order_id": "ord_other"}, "body.order_id"),
        ({"position": 99}, "body.position"),
        ({}, "body"),
    ],
)
async def test_a_body_that_its_type_does_not_take_is_refused_by_field_and_nothing_changes(
    clean: Ground, body: bytes | dict[str, object], field: str
) -> None:
    await park(clean, original := failed(await placed(clean.pool)))
    given = body if isinstance(body, bytes) else _edited(original, **body)
    before = await everything(clean)
    with pytest.raises(BadEdit) as refused:
        await editing.propose(clean.pool, original.letter_id, given, reason="a try", actor=ANN, now=now())
    assert refused.value.field == field
    assert await everything(clean) == before


async def test_other_spellings_of_the_same_body_are_no_edit(clean: Ground) -> None:
    await park(clean, original := failed(await placed(clean.pool)))
    spaced = msgspec.json.format(original.body, indent=4)
    with pytest.raises(BadEdit, match="says the same"):
        await editing.propose(clean.pool, original.letter_id, spaced, reason="a try", actor=ANN, now=now())


async def test_a_letter_that_is_not_open_or_has_moved_is_not_edited(clean: Ground) -> None:
    await park(clean, original := failed(await placed(clean.pool)))
    body = _edited(original, template="other")
    before = await everything(clean)
    with pytest.raises(LetterMoved):
        await editing.propose(clean.pool, original.letter_id, body, reason="a try", actor=ANN, version=9, now=now())
    with pytest.raises(Invalid, match="reason"):
        await editing.propose(clean.pool, original.letter_id, body, reason="", actor=ANN, now=now())
    assert await everything(clean) == before
    await replay_one(clean.pool, original.letter_id, actor=BOB, now=now())
    before = await everything(clean)
    with pytest.raises(LetterNotOpen, match="under way"):
        await editing.propose(clean.pool, original.letter_id, body, reason="a try", actor=ANN, now=now())
    assert await everything(clean) == before


async def test_an_edit_that_would_come_too_late_is_refused_when_it_is_proposed(clean: Ground) -> None:
    order = await walked(clean.pool, State.PAYMENT_FAILED)
    broken = failed(order, Command.PAYMENT_CHARGE, body=b"{", poison=True)
    await park(clean, broken)
    before = await everything(clean)
    with pytest.raises(LetterSuperseded):
        await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=ANN, now=now())
    assert await everything(clean) == before


async def test_an_approval_that_comes_too_late_sends_nothing(clean: Ground) -> None:
    order, broken = await _garbled_charge(clean)
    edit = await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=ANN, now=now())
    await clean.pool.execute("INSERT INTO inbox VALUES ($1, now())", broken.message_id)
    before = await everything(clean)
    with pytest.raises(LetterNotOpen, match="done meanwhile"):
        await editing.approve(clean.pool, edit.edit_id, actor=BOB, now=now())
    assert await everything(clean) == before


async def test_an_edit_of_a_body_that_was_edited_otherwise_meanwhile_is_not_approved(clean: Ground) -> None:
    order = await walked(clean.pool, State.CANCELLED)
    original = failed(order, Command.PAYMENT_REFUND, reason="odd", number=3)
    await park(clean, original)
    edits = [
        await editing.propose(
            clean.pool, original.letter_id, _edited(original, reason=reason), reason="a guess", actor=ANN, now=now()
        )
        for reason in ("cancelled", "fraud")
    ]
    await editing.approve(clean.pool, edits[0].edit_id, actor=BOB, now=now())
    await clean.pool.execute("UPDATE dead_letters SET state = 'open'")  # it failed again
    with pytest.raises(LetterMoved, match="another edit"):
        await editing.approve(clean.pool, edits[1].edit_id, actor=BOB, now=now())


async def test_the_same_edit_does_not_wait_twice(clean: Ground) -> None:
    order, broken = await _garbled_charge(clean)
    edit = await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=ANN, now=now())
    with pytest.raises(BadEdit, match=edit.edit_id):
        await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=BOB, now=now())


async def test_of_two_approvals_at_once_one_counts(clean: Ground) -> None:
    order, broken = await _garbled_charge(clean)
    edit = await editing.propose(clean.pool, broken.letter_id, _whole(order), reason="cut off", actor=ANN, now=now())
    answers = await asyncio.gather(
        *(editing.approve(clean.pool, edit.edit_id, actor=who, now=now()) for who in (BOB, "carol")), return_exceptions=True
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["Edit", "EditDecided"]
    assert len([row for row in await outbox(clean) if parking.EDIT in row.headers]) == 1


async def test_what_was_edited_and_failed_again_goes_out_edited_when_it_is_replayed(clean: Ground) -> None:
    await park(clean, original := failed(await placed(clean.pool), template="payment_faild"))
    body = _edited(original, template="payment_failed")
    edit = await editing.propose(clean.pool, original.letter_id, body, reason="a typo", actor=ANN, now=now())
    await clean.pool.execute("UPDATE dead_letters SET state = 'open'")  # it failed again, of something else
    await replay_one(clean.pool, original.letter_id, actor=BOB, now=now())
    row = (await outbox(clean))[-1]
    assert (row.body, row.headers[parking.EDIT]) == (body, edit.edit_id)
    await settle(clean.pool, original.letter_id, outcome="done", now=now())
    ended = await letter(clean, original.letter_id)
    assert (ended.resolution, ended.resolved_by, ended.body) == ("edited", BOB, original.body)


async def test_with_a_real_worker_an_edit_that_fails_again_keeps_the_original_and_its_lineage(clean: Ground) -> None:
    fakes = FakePorts()
    fakes.messages.always["sms"] = NumberBarred("still barred")
    await park(clean, original := failed(await placed(clean.pool), template="payment_faild"))
    body = _edited(original, template="payment_failed")
    async with going_on(clean, fakes):
        edit = await editing.propose(clean.pool, original.letter_id, body, reason="a typo", actor=ANN, now=now())

        async def open_again() -> None:
            again = await letter(clean, original.letter_id)
            assert (again.state, again.generation) == (LetterState.OPEN, 2)

        await eventually(open_again)
        assert (await letter(clean, original.letter_id)).body == original.body
        assert await editing.latest_body(clean.pool, original.letter_id) == body
        fakes.messages.always.clear()
        await replay_one(clean.pool, original.letter_id, actor=BOB, now=now())

        async def resolved() -> None:
            assert (await letter(clean, original.letter_id)).resolution == "edited"

        await eventually(resolved)
    assert await history(clean, original.letter_id) == [
        ("edited", ANN), ("sent", ANN), ("failed_again", "notifications"), ("sent", BOB), ("resolved", BOB),
    ]  # fmt: skip
    assert [each.edit_id for each in await editing.list_edits(clean.pool, letter_id=original.letter_id)] == [edit.edit_id]


async def test_a_body_of_a_newer_schema_can_be_rewritten_in_ours(clean: Ground) -> None:
    order = await placed(clean.pool)
    newer = failed(order, poison=True, headers={"cloudEvents_schemaversion": "9"}, template="payment_failed")
    await park(clean, newer)
    await editing.propose(
        clean.pool, newer.letter_id, _edited(newer, params={"amount": "12"}), reason="ours", actor=ANN, now=now()
    )  # fmt: skip
    row = (await outbox(clean))[-1]
    assert (row.schema_version, row.headers["cloudEvents_schemaversion"]) == (1, "1")


async def test_what_does_not_say_its_type_or_is_no_command_cannot_be_edited(clean: Ground) -> None:
    order = await placed(clean.pool)
    nameless = failed(order, headers={"cloudEvents_type": "payment.chargge"}, poison=True)
    fact = failed(order, number=4, headers={parking.TOPIC: "orders.events", parking.PARTITION: "3", parking.OFFSET: "7"})
    await park(clean, nameless, fact)
    before = await everything(clean)
    with pytest.raises(NotReplayable, match="unknown type"):
        await editing.propose(clean.pool, nameless.letter_id, _whole(order), reason="a try", actor=ANN, now=now())
    with pytest.raises(BadEdit, match="comes from fact"):
        await editing.propose(clean.pool, fact.letter_id, _whole(order), reason="a try", actor=ANN, now=now())
    assert await everything(clean) == before


async def test_a_dry_run_shows_the_diff_and_writes_nothing(clean: Ground) -> None:
    await park(clean, original := failed(await placed(clean.pool)))
    before = await everything(clean)
    body = _edited(original, template="other")
    shown = await editing.propose(clean.pool, original.letter_id, body, reason="a try", actor=ANN, now=now(), dry_run=True)
    assert '"other"' in shown.diff
    assert await everything(clean) == before
