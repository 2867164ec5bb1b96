"""What an investigation makes of an order: each delay, gap, cause, and what of the record holds. From timelines made by hand."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from audit.investigation.chains import check_chain
from audit.investigation.delays import WAITS, Limits, delays, gaps, spell
from audit.investigation.material import Leaf, Ledger, Material
from audit.investigation.model import Actor, Investigation, Step
from audit.investigation.telling import integrity_of, investigate, timeline, timeline_of
from orders import chain
from orders.decide import Wish, decide
from orders.lifecycle import Action
from orders.names import Money, State
from orders.order import Order
from orders.privacy import conceal, new_key
from tests.making import NOW, WAY_TO, cause_of, change_of, unplaced, wait, wish_of

KEY = new_key()
LIMITS = Limits(deadlines={
    "stuck_s": 1_800, "restaurant_answer_s": 300, "driver_search_s": 600, "pick_up_s": 1_200, "delivery_s": 5_400,
    "customer_decision_s": 300,
})  # fmt: skip
QUICK = 5.0  # seconds between steps where nothing is slow


class Told:
    """An order that is moved by hand, step by step, at times of the test's choosing."""

    def __init__(self) -> None:
        self.now, self.leaves = NOW, list[Leaf]()
        order = unplaced()
        address = msgspec.to_builtins(order.address)
        data = {"items": order.items, "total": order.total, "address": order.address}
        self.order = order
        self._apply(Wish(action=Action.PLACE, data=data, private={"address": address}, key=KEY))

    def _apply(self, wish: Wish) -> None:
        change = decide(self.order, wish, cause_of(wish.action, self.order), self.now, wait)
        self.order = change.order
        self.leaves += [
            Leaf(chain=self.order.order_id, position=event.position, leaf_index=100 + event.position, body=event.audit)
            for event in change.events
        ]

    def do(self, action: Action, after: float = QUICK, **changes: Any) -> "Told":
        self.now += timedelta(seconds=after)
        self._apply(msgspec.structs.replace(wish_of(action, self.order), **changes))
        return self

    def to(self, state: State, **after: float) -> "Told":
        """The shortest way to a state; `pick_up=1560`: that step takes so long."""
        for action in WAY_TO[state]:
            self.do(action, after.get(action.value.replace(" ", "_"), QUICK))
        return self

    def material(self, **values: Any) -> Material:
        covered = (1_000, self.now)
        known = {
            "order": self.order, "own": self.leaves, "looks_head": None, "failures": [], "held": [], "disputes": [],
            "keys": {KEY.key_id: KEY.key},
            "ledger": Ledger(leaves=self.leaves, set_aside=[], log_size=1_000, covered=covered),
        }  # fmt: skip
        return Material(**{**known, **values})

    def investigated(self, after: float = QUICK, **values: Any) -> Investigation:
        return investigate(self.material(**values), self.now + timedelta(seconds=after), LIMITS)


def failed(kind: str, consumer: str, state: str = "open", **values: Any) -> dict[str, Any]:
    return {
        "letter_id": "let_1", "type": kind, "consumer": consumer, "failure_type": "payment_timeout", "error": "ProviderUnavailable",
        "message": "no answer", "state": state, "resolution": None, "resolved_by": None, "attempts": 4,
        "first_failed_at": NOW.isoformat(), "last_failed_at": NOW.isoformat(), **values,
    }  # fmt: skip


def test_an_order_without_trouble_has_no_findings_and_no_cause() -> None:
    told = Told().to(State.DELIVERED).investigated()
    assert (told.findings, told.likely_cause.name) == ([], "none")
    assert told.integrity.held
    assert told.order.address.street == "Oudegracht 1"
    assert told.summary == "The order is delivered, at position 9. 32.00 EUR were taken."


@pytest.mark.parametrize(
    ("step", "name", "cause", "limit"),
    [
        ("begin_payment", "payment_start", "slow_payment_start", 10), ("confirm_payment", "payment_answer", "slow_payment_answer", 10),
        ("notify_restaurant", "restaurant_told", "slow_restaurant_told", 30),
        ("accept", "restaurant_answer", "slow_restaurant_answer", 180), ("assign_driver", "driver_search", "slow_driver_search", 120),
        ("pick_up", "pick_up", "slow_pick_up", 900), ("deliver", "delivery", "slow_delivery", 1_500),
    ],
)  # fmt: skip
def test_a_step_that_took_longer_than_usual_is_pointed_out_and_is_the_cause(
    step: str, name: str, cause: str, limit: int
) -> None:
    assert Told().to(State.DELIVERED, **{step: limit}).investigated().findings == []
    told = Told().to(State.DELIVERED, **{step: limit + 60}).investigated()
    (finding,) = told.findings
    assert (finding.name, finding.seconds, finding.limit_s, finding.severity) == (name, limit + 60, limit, "unusual")
    assert told.likely_cause.name == cause
    assert finding.words in told.likely_cause.why


@pytest.mark.parametrize(
    ("state", "name", "seconds", "words"),
    [
        (State.PLACED, "payment_start_missing", 60, "the payment was not begun 60 seconds after the order was placed"),
        (State.PAYMENT_PROCESSING, "payment_answer_missing", 60, "no answer of the payment provider 60 seconds after it was asked"),
        (State.PAYMENT_CONFIRMED, "restaurant_told_missing", 60, "the restaurant was not told 60 seconds after the payment"),
        (State.RESTAURANT_NOTIFIED, "restaurant_answer_missing", 240, "no answer of the restaurant 4 minutes after it was told"),
        (State.RESTAURANT_ACCEPTED, "driver_search_missing", 300, "no driver 5 minutes after the restaurant's yes"),
        (State.DRIVER_ASSIGNED, "pick_up_missing", 1_020, "no pick-up 17 minutes after the driver took it"),
        (State.PICKED_UP, "delivery_missing", 1_560, "no delivery event 26 minutes after pick-up"),
    ],
)  # fmt: skip
def test_a_step_that_has_not_come_is_pointed_out(state: State, name: str, seconds: float, words: str) -> None:
    told = Told().to(state).investigated(seconds)
    assert [(finding.name, finding.words) for finding in told.findings] == [(name, words)]


def test_a_wait_beyond_its_deadline_is_overdue_and_names_the_setting() -> None:
    (finding,) = Told().to(State.PICKED_UP).investigated(5_401).findings
    assert (finding.severity, finding.limit_s, finding.source) == ("overdue", 5_400, "setting delivery_s")


def test_business_time_that_runs_faster_makes_the_limits_shorter() -> None:
    told = Told().to(State.PICKED_UP)
    steps = timeline(told.material())
    fast = Limits(deadlines=LIMITS.deadlines, scale=60.0)
    found = delays(steps, told.now + timedelta(seconds=26), fast)
    assert [(each.name, each.limit_s) for each in found if each.name == "delivery_missing"] == [("delivery_missing", 25.0)]


def test_every_wait_names_steps_that_there_are() -> None:
    known = {step.action for state in (State.DELIVERED, State.CANCELLED) for step in timeline(Told().to(state).material())}
    known |= {"payment.failed", "restaurant.rejected", "order.rerouted", "driver.released", "fraud.detected", "dispute.opened"}
    known |= {"dispute.resolved"}
    assert {wait.after for wait in WAITS} | {name for wait in WAITS for name in wait.until} <= known


def test_a_position_that_is_missing_is_a_gap() -> None:
    told = Told().to(State.DELIVERED)
    told.leaves.pop(4)
    found = told.investigated().findings
    assert [(each.name, each.position) for each in found if each.severity == "broken"] == [("event_missing", 5)]


def test_a_step_that_is_dated_before_the_one_it_follows_is_noticed() -> None:
    (finding,) = gaps([_step(1, NOW), _step(2, NOW - timedelta(seconds=1))])
    assert (finding.name, finding.position, finding.severity) == ("time_goes_back", 2, "notice")


def _step(position: int, at: datetime) -> Step:
    return Step(
        position=position, event_id="aud_1", action="order.placed", actor=Actor("system", "x"), previous_state=None,
        new_state="placed", reason=None, details={}, private={}, erased=False, service="x", correlation_id="", causation_id="",
        occurred_at=at, after_s=None, leaf_index=None,
    )  # fmt: skip


def _declined(reason: str) -> Told:
    return Told().do(Action.BEGIN_PAYMENT).do(Action.FAIL_PAYMENT, reason=reason, data={"decline_code": reason})


def _ended(reason: str) -> Told:
    return Told().to(State.RESTAURANT_ACCEPTED).do(Action.CANCEL, reason=reason)


CAUSES: Sequence[tuple[str, Told, dict[str, Any]]] = (
    ("insufficient_funds", _declined("insufficient_funds"), {}),
    ("payment_fraud", _declined("payment_fraud"), {}),
    ("payment_declined", _declined("payment_declined"), {}),
    ("payment_timeout", Told().do(Action.BEGIN_PAYMENT).do(Action.GIVE_UP_PAYMENT, reason="payment_timeout"),
     {"failures": [failed("payment.charge", "payments", "resolved", resolution="superseded", resolved_by="letters")]}),
    ("fraud", Told().to(State.PAYMENT_CONFIRMED).do(Action.CANCEL_FOR_FRAUD, reason="fraud"), {}),
    ("customer_cancelled", _ended("customer_request"), {}),
    ("item_unavailable", _ended("item_unavailable"), {}),
    ("driver_unavailable", _ended("no_driver"), {}),
    ("restaurant_closed", _ended("closing_time"), {}),
    ("restaurant_rejected", _ended("restaurant_rejected"), {}),
    ("restaurant_timeout", _ended("restaurant_timeout"), {}),
    ("support_cancelled", _ended("support_request"), {}),
    ("cancelled", _ended("something_else"), {}),
    ("driver_lost", Told().to(State.PICKED_UP).do(Action.CANCEL, reason="delivery_overdue"), {}),
    ("driver_no_show", Told().to(State.DRIVER_ASSIGNED).do(Action.RELEASE_DRIVER, reason="no_show").do(Action.ASSIGN_DRIVER)
     .do(Action.PICK_UP).do(Action.DELIVER), {}),
    ("refund_stuck", _ended("customer_request"), {"failures": [failed("payment.refund", "payments")]}),
    ("message_failed", Told().to(State.RESTAURANT_ACCEPTED), {"failures": [failed("driver.dispatch", "drivers")]}),
)  # fmt: skip


@pytest.mark.parametrize(("name", "told", "more"), CAUSES, ids=[name for name, _, _ in CAUSES])
def test_each_cause_is_found(name: str, told: Told, more: dict[str, Any]) -> None:
    found = told.investigated(**more)
    assert found.likely_cause.name == name
    assert found.likely_cause.words in found.summary


def test_a_refund_that_has_not_come_within_the_delay_tiers_is_the_cause() -> None:
    told = _ended("customer_request")
    assert told.investigated(1_200).likely_cause.name == "customer_cancelled"
    found = told.investigated(1_300)
    assert found.likely_cause.name == "refund_stuck"
    assert any("3200 minor units were not given back 22 minutes after" in why for why in found.likely_cause.why)


def test_money_in_and_out_is_told_and_adds_up() -> None:
    told = _ended("customer_request")
    told.do(
        Action.RECORD_REFUND, reason="cancelled", changes={"refunded": 3_200, "money": Money.REFUNDED},
        data={"refund_id": "re_1", "refund_reason": "cancelled", "amount": 3_200, "refunded_total": 3_200},
    )  # fmt: skip
    told.order = msgspec.structs.replace(told.order, pending={})
    money = told.investigated(10_000).money
    assert [(move.direction, move.amount_minor) for move in money.moves] == [("in", 3_200), ("out", 3_200)]
    assert (money.adds_up, money.left, money.on_its_way_out) == (True, 0, 0)
    assert [answer.said for answer in told.investigated().provider][-1] == "gave back 3200 minor units (re_1)"


def test_steps_that_say_otherwise_than_the_order_are_a_finding() -> None:
    told = Told().to(State.PAYMENT_CONFIRMED)
    told.order = msgspec.structs.replace(told.order, captured=3_100)
    assert "money_differs" in [each.name for each in told.investigated().findings]


def test_what_a_restaurant_typed_is_told_where_its_key_is_there_and_said_to_be_erased_where_not() -> None:
    told = Told().to(State.RESTAURANT_NOTIFIED)
    told.do(Action.REJECT, reason="restaurant_rejected", private={"said": "he shouted at us"}, key=KEY)
    assert "no: restaurant_rejected, in its words: he shouted at us" in [each.said for each in told.investigated().restaurant]
    erased = told.investigated(keys={KEY.key_id: None})
    assert erased.order.address.erased
    assert erased.order.address.street == "erased"
    assert [step.erased for step in erased.timeline if step.action in ("order.placed", "restaurant.rejected")] == [True, True]
    assert erased.integrity.held
    assert b"shouted" not in msgspec.json.encode(erased)


def test_a_ciphertext_that_was_moved_is_unreadable_and_not_a_crash() -> None:
    told = Told()
    event = msgspec.json.decode(told.leaves[0].body)
    event["personal"] = conceal(KEY, "ord_other", 1, {"address": {}})
    told.leaves[0] = msgspec.structs.replace(told.leaves[0], body=chain.canonical(event))
    found = told.investigated()
    assert "unreadable" in found.timeline[0].private
    assert (found.integrity.held, found.likely_cause.name) == (False, "record_broken")


def _tampered(told: Told, how: str) -> None:
    match how:
        case "edited":
            body = told.leaves[2].body.replace(b"payment.confirmed", b"payment.conformed")
            told.leaves[2] = msgspec.structs.replace(told.leaves[2], body=body)
        case "swapped":
            one, two = told.leaves[2], told.leaves[3]
            told.leaves[2:4] = [msgspec.structs.replace(two, position=3), msgspec.structs.replace(one, position=4)]
        case "deleted":
            del told.leaves[2]
        case "inserted":
            told.leaves.insert(3, told.leaves[2])
        case "no event":
            told.leaves[2] = msgspec.structs.replace(told.leaves[2], body=b"{}")
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize("how", ["edited", "swapped", "deleted", "inserted", "no event"])
def test_what_was_done_to_the_record_is_found_at_its_position(how: str) -> None:
    told = Told().to(State.DELIVERED)
    _tampered(told, how)
    found = integrity_of(told.material(own=[]))
    assert (found.held, found.order.broken_at) == (False, 4 if how == "inserted" else 3)
    assert str(found.order.broken_at) in found.words or how == "inserted"


def test_a_deleted_tail_is_missed_by_the_head() -> None:
    told = Told().to(State.DELIVERED)
    del told.leaves[-2:]
    found = integrity_of(told.material(own=[]))
    assert (found.held, found.order.broken_at, found.order.checked) == (False, 8, 7)


def test_everything_rewritten_with_fresh_hashes_is_missed_by_the_head() -> None:
    told = Told().to(State.DELIVERED)
    prev, forged = chain.GENESIS, list[Leaf]()
    for leaf in told.leaves:
        event = {**msgspec.json.decode(leaf.body), "service": "forged"}
        prev, body = chain.seal({k: v for k, v in event.items() if k != "hash"}, prev)
        forged.append(msgspec.structs.replace(leaf, body=body))
    told.leaves = forged
    found = integrity_of(told.material())
    assert (found.held, found.order.head_matches, found.order.broken_at) == (False, False, 10)


def test_the_two_copies_are_held_against_each_other() -> None:
    told = Told().to(State.PAYMENT_CONFIRMED)
    own = [*told.leaves]
    own[1] = msgspec.structs.replace(own[1], body=own[1].body + b" ")
    found = integrity_of(told.material(own=own))
    assert (found.held, found.copies_agree, found.order.head_matches) == (False, False, True)


def test_an_event_that_was_set_aside_is_told() -> None:
    told = Told()
    ledger = Ledger(leaves=told.leaves, set_aside=[(told.order.order_id, 1, "two of them")], log_size=1, covered=None)
    found = integrity_of(told.material(ledger=ledger))
    assert not found.held
    assert found.set_aside == [f"{told.order.order_id} at 1: two of them"]


def test_without_the_ledger_the_orders_own_copy_is_checked_and_the_rest_is_said() -> None:
    told = Told().to(State.DELIVERED)
    own = [msgspec.structs.replace(leaf, leaf_index=None) for leaf in told.leaves]
    material = told.material(own=own, ledger=None, away="it cannot be reached: OSError")
    found = integrity_of(material)
    assert (found.held, found.order.checked, found.log_size, found.copies_agree) == (True, 9, None, None)
    assert "it cannot be reached: OSError" in found.not_checked[0]
    assert timeline_of(material, told.now, LIMITS).not_checked == ["the ledger: it cannot be reached: OSError"]


@pytest.mark.parametrize("missing", [0, 1, 4, 9])
def test_events_that_are_in_the_archive_are_not_checked_and_nothing_is_concluded_from_their_absence(missing: int) -> None:
    told = Told().to(State.DELIVERED, deliver=3_000)
    ledger = Ledger(leaves=told.leaves[missing:], set_aside=[], log_size=1_000, covered=None, archived=True)
    found = told.investigated(ledger=ledger, own=[])
    assert (found.integrity.held, found.integrity.order.not_at_hand) == (None if missing else True, missing)
    assert found.integrity.order.broken_at is None
    assert found.likely_cause.name == ("none" if missing else "slow_delivery")
    assert any("the archive" in each for each in found.integrity.not_checked) == bool(missing)


def test_what_is_at_hand_of_an_archived_order_must_hold_all_the_same() -> None:
    told = Told().to(State.DELIVERED)
    body = told.leaves[6].body.replace(b"driver.picked_up", b"driver.pecked_up")
    told.leaves[6] = msgspec.structs.replace(told.leaves[6], body=body)
    ledger = Ledger(leaves=told.leaves[3:], set_aside=[], log_size=1_000, covered=None, archived=True)
    found = integrity_of(told.material(ledger=ledger, own=[]))
    assert (found.held, found.order.broken_at) == (False, 7)


def test_a_missing_event_is_missing_only_where_it_could_be_nowhere_else() -> None:
    told = Told().to(State.DELIVERED)
    some = told.leaves[3:]
    here = Ledger(leaves=some, set_aside=[], log_size=1_000, covered=None)
    assert integrity_of(told.material(ledger=here, own=[])).held is False
    assert integrity_of(told.material(ledger=None, own=some, away="it is away")).held is None


def _looks(order: Order, number: int) -> tuple[list[Leaf], str]:
    name, prev, made = order.order_id + ".looks", chain.GENESIS, list[Leaf]()
    for position in range(1, number + 1):
        event = {
            "v": 1, "event_id": f"aud_{position}", "chain": name, "order_id": order.order_id, "position": position,
            "action": "order.viewed", "actor": {"type": "support", "id": "sue"}, "reason": None, "details": {},
            "service": "gateway", "correlation_id": "", "causation_id": "req_1", "occurred_at": NOW.isoformat(),
        }  # fmt: skip
        prev, body = chain.seal(event, prev)
        made.append(Leaf(chain=name, position=position, leaf_index=500 + position, body=body))
    return made, prev


def test_looks_are_a_chain_of_their_own_whose_newest_may_still_be_on_their_way() -> None:
    told = Told()
    leaves, head = _looks(told.order, 3)

    def checked(some: list[Leaf]) -> Any:
        ledger = Ledger(leaves=[*told.leaves, *some], set_aside=[], log_size=1_000, covered=None)
        return integrity_of(told.material(ledger=ledger, looks_head=(3, head)))

    assert checked(leaves).looks.head_matches
    late = checked(leaves[:2])
    assert (late.held, late.looks.not_in_the_log_yet) == (True, 1)
    assert any("1 looks are on their way" in each for each in late.not_checked)
    assert not checked(leaves[1:]).held


def test_a_chain_without_events_ends_at_its_genesis() -> None:
    assert check_chain("desk.x", [], (0, chain.GENESIS)).head_matches


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "1 seconds"), (89, "89 seconds"), (90, "2 minutes"), (1_500, "25 minutes"),
                           (10_800, "3 hours"), (259_200, "3 days")],
)  # fmt: skip
def test_spans_of_time_are_told_as_people_tell_them(seconds: float, words: str) -> None:
    assert spell(seconds) == words


def test_a_dispute_that_waits_is_told() -> None:
    told = Told().to(State.DELIVERED)
    told.do(Action.OPEN_DISPUTE, reason="late", data={"dispute_id": "dsp_1", "kind": "late"})
    found = told.investigated(200_000)
    assert [each.name for each in found.findings] == ["dispute_missing"]
    assert change_of(Action.RESOLVE_DISPUTE, told.order).events[0].type == "dispute.resolved"
