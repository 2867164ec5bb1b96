"""What a restaurant makes of messages that arrive in any order: the newer position wins."""

import msgspec
import pytest

from simulation.tickets import Message, Ticket, read_message


@pytest.fixture
def ticket() -> Ticket:
    return Ticket(order_id="ord_1", restaurant_id="rst_1")


def test_a_notification_is_news(ticket: Ticket) -> None:
    assert ticket.hear(_message(3))
    assert [(n.position, n.heeded) for n in ticket.notified_at] == [(3, True)]
    assert ticket.cancelled_at is None


def test_a_cancellation_that_overtakes_the_notification_is_understood(ticket: Ticket) -> None:
    assert ticket.hear(_message(4, cancels=True))
    assert not ticket.hear(_message(3))
    assert ticket.cancelled_at is not None
    assert ticket.cancelled_position == 4
    assert [(n.position, n.heeded) for n in ticket.notified_at] == [(3, False)]


def test_a_repeated_notification_changes_nothing_but_is_remembered(ticket: Ticket) -> None:
    assert ticket.hear(_message(3))
    assert not ticket.hear(_message(3))
    assert [n.heeded for n in ticket.notified_at] == [True, False]


def test_an_order_that_comes_back_is_an_order_again(ticket: Ticket) -> None:
    ticket.hear(_message(3))
    ticket.hear(_message(5, cancels=True))
    assert ticket.hear(_message(8))
    assert ticket.cancelled_at is None


@pytest.mark.parametrize("nested", [True, False])
def test_a_webhook_is_read_whether_its_data_is_nested_or_not(nested: bool) -> None:
    data = {"order_id": "ord_1", "position": 5, "items": [{"item_id": "itm_1"}, {"item_id": "itm_2"}]}
    whole = {"type": "order.cancelled", "data": data} if nested else {"type": "order.cancelled", **data}
    assert read_message("m", msgspec.json.encode(whole)) == Message("m", "ord_1", 5, True, ("itm_1", "itm_2"))


@pytest.mark.parametrize("body", [b"{}", b"[]", b"not json", b'{"order_id": 1, "position": 2}', b'{"order_id": "ord_1"}'])
def test_a_webhook_that_is_not_about_an_order_at_a_position_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_message("m", body)


def _message(position: int, *, cancels: bool = False) -> Message:
    return Message("msg_1", "ord_1", position, cancels, ())
