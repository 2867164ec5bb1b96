"""What a row's destination means to RabbitMQ."""

import pytest

from orders.names import Command
from orders.parking import WAIT_MS
from outbox.lanes import BadRow, Route, route
from tests.making import command_message

ORDER = "ord_01958f6e-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("destination", "headers", "expected"),
    [
        ("payment.charge", {}, Route("commands", "payment.charge")),
        ("commands/payment.charge", {}, Route("commands", "payment.charge")),
        ("orders.retry.5m/order.wake", {WAIT_MS: "300000"}, Route("orders.retry.5m", "order.wake", 300_000)),
        ("orders.dlq/", {}, Route("orders.dlq", "")),
        ("orders.dlq.poison/", {}, Route("orders.dlq.poison", "")),
    ],
)
def test_a_destination_names_a_routing_key_or_an_exchange_and_a_routing_key(
    destination: str, headers: dict[str, str], expected: Route
) -> None:
    assert route(command_message(ORDER, destination=destination, headers=headers)) == expected


@pytest.mark.parametrize("command", Command)
def test_every_command_is_a_destination(command: Command) -> None:
    assert route(command_message(ORDER, destination=command.value)) == Route("commands", command.value)


@pytest.mark.parametrize(
    ("destination", "headers"),
    [
        ("elsewhere/payment.charge", {}),
        ("/payment.charge", {}),
        ("orders.dlq/" + "x" * 300, {}),
        ("orders.retry.1m/order.wake", {WAIT_MS: "soon"}),
        ("orders.retry.1m/order.wake", {WAIT_MS: "-1"}),
    ],
)
def test_a_destination_that_leads_nowhere_is_refused_before_it_can_break_the_channel(
    destination: str, headers: dict[str, str]
) -> None:
    with pytest.raises(BadRow):
        route(command_message(ORDER, destination=destination, headers=headers))
