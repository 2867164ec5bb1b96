"""What a customer is told about each fact, and how."""

import msgspec

from adapters.kafka_consumer import Partition
from orders.commands import PushNotification, SmsNotification, command_id, read_command
from orders.envelope import Envelope
from orders.facts import Actor, FactBody
from orders.names import Command, Fact, Role, State
from streams.group import Incoming
from streams.notifications import message
from tests.making import NOW, order_in
from workers.templates import render


def _item(kind: Fact, **values: object) -> Incoming:
    fact = FactBody(
        order_id="ord_1", type=kind, position=4, occurred_at=NOW, state=State.PAYMENT_CONFIRMED, customer_id="cus_1",
        restaurant_id="rst_1", city="Utrecht", currency="eur", total=3_200, actor=Actor(Role.SYSTEM, "tests"),
    )  # fmt: skip
    envelope = Envelope(id="evt_1", type=kind.value, subject="ord_1", schema_version=1, position=4, time="", traceparent="")
    return Incoming(
        partition=Partition("orders.events", 0), offset=0, order_id="ord_1", position=4, headers={"traceparent": "00-a-b-01"},
        body=b"", envelope=envelope, fact=msgspec.structs.replace(fact, **values),
    )  # fmt: skip


def _told(kind: Fact, **values: object) -> tuple[str, str]:
    row = message(_item(kind, **values))
    assert row is not None
    command, body = read_command(row.type, row.schema_version, row.body)
    assert isinstance(body, PushNotification | SmsNotification)
    assert render(body.template, body.recipient, order_in(State.CANCELLED), body.params)
    return command.value.removeprefix("notification."), body.template


def test_each_step_that_a_customer_waits_for_is_pushed() -> None:
    assert _told(Fact.PAYMENT_CONFIRMED) == ("push", "order_confirmed")
    assert message(_item(Fact.RESTAURANT_ACCEPTED)) is None
    assert message(_item(Fact.DRIVER_ASSIGNED)) is None
    assert _told(Fact.ORDER_PICKED_UP) == ("push", "picked_up")
    assert _told(Fact.ORDER_DELIVERED) == ("push", "delivered")


def test_bad_news_and_money_go_by_sms() -> None:
    assert _told(Fact.PAYMENT_FAILED, reason="insufficient_funds") == ("sms", "payment_declined")
    assert _told(Fact.PAYMENT_FAILED, data={"decline_code": "lost_card"}) == ("sms", "payment_declined")
    assert _told(Fact.PAYMENT_FAILED, reason="payment_timeout") == ("sms", "payment_timeout")
    assert _told(Fact.PAYMENT_FAILED, reason="another") == ("sms", "payment_failed")
    assert _told(Fact.ORDER_CANCELLED, reason="customer") == ("sms", "order_cancelled")
    assert _told(Fact.ORDER_CANCELLED, reason="fraud") == ("sms", "security_hold")
    assert _told(Fact.PAYMENT_REFUNDED, data={"amount": 3_200}) == ("sms", "refunded")
    assert _told(Fact.RESTAURANT_REJECTED, reason="closed") == ("sms", "restaurant_rejected")


def test_a_payment_that_was_given_up_is_told_in_words() -> None:
    text = render("payment_timeout", "cus_1", order_in(State.PAYMENT_FAILED), {})
    assert text.body.startswith("Payment failed after three retries: 32.00 EUR for order")


def test_a_customer_is_asked_about_missing_items_and_told_of_another_restaurant() -> None:
    sold_out = {"unavailable_items": ["itm_1"]}
    assert _told(Fact.RESTAURANT_REJECTED, reason="sold_out", data=sold_out) == ("sms", "item_unavailable")
    assert _told(Fact.ORDER_REROUTED, data={"from_restaurant_id": "rst_old"}) == ("sms", "order_rerouted")
    assert message(_item(Fact.ORDER_REROUTED, data={"from_restaurant_id": "rst_1"})) is None  # substitutes: they chose them


def test_a_customer_is_told_how_a_dispute_ended() -> None:
    refunded = {"dispute_id": "dsp_1", "resolution": "refunded", "amount": 300}
    assert _told(Fact.DISPUTE_RESOLVED, reason="dispute_late", data=refunded) == ("sms", "dispute_refunded")
    refused = {"dispute_id": "dsp_1", "resolution": "refused"}
    assert _told(Fact.DISPUTE_RESOLVED, reason="no_evidence", data=refused) == ("sms", "dispute_refused")
    order = order_in(State.DELIVERED)
    given = render("dispute_refunded", "cus_1", order, {"amount": "300"}).body
    assert given.endswith("3.00 EUR goes back to you.")
    assert render("dispute_refused", "cus_1", order, {"reason": "no_evidence"}).body.endswith("because: no evidence.")


def test_money_that_arrives_for_a_cancelled_order_confirms_nothing() -> None:
    assert message(_item(Fact.PAYMENT_CONFIRMED, state=State.CANCELLED)) is None


def test_other_facts_tell_the_customer_nothing() -> None:
    assert message(_item(Fact.RESTAURANT_NOTIFIED)) is None


def test_the_same_fact_always_makes_the_same_command_with_its_trace() -> None:
    row = message(_item(Fact.ORDER_DELIVERED))
    assert row == message(_item(Fact.ORDER_DELIVERED))
    assert row is not None
    assert row.event_id == command_id("ord_1", 4, Command.NOTIFICATION_PUSH, "delivered")
    assert row.headers == {"traceparent": "00-a-b-01", "causationid": "evt_1", "correlationid": ""}
