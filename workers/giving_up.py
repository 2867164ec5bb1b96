"""The only place that says what becomes of an order whose command was parked for good."""

from contextlib import suppress
from typing import Final

from adapters.postgres import Pool
from orders.decide import Cause, Wait, Wish, system
from orders.errors import NotAllowed, NotFound, Stale
from orders.lifecycle import GIVEN_UP
from orders.names import Command
from orders.order import Order
from outbox.transition import Clock, move
from workers.task import Named

_REASON: Final = {
    Command.PAYMENT_CHARGE: "payment_timeout",
    Command.RESTAURANT_NOTIFY: "restaurant_unreachable",
    Command.DRIVER_DISPATCH: "no_driver",
}


async def give_up(pool: Pool, command: Named, wait: Wait, clock: Clock) -> None:
    """The order ends well by the lifecycle's `GIVEN_UP`, or waits for the operator: the watchdog lets go of the command once its
    letter is recorded. Again, it changes nothing.

    Raises `LostRace`, `DatabaseUnavailable`.
    """
    action = GIVEN_UP.get(command.kind)
    if action is None:
        return

    def wish(order: Order) -> Wish:
        if command.id not in order.pending:
            raise Stale(f"the order no longer waits for {command.id}")
        return Wish(action=action, reason=_REASON[command.kind])

    with suppress(NotAllowed, NotFound, Stale):
        await move(pool, command.order_id, wish, cause_of(command, last=True), wait, clock=clock)


def cause_of(command: Named, *, last: bool) -> Cause:
    """The command as the cause of a change. `last`: it is done with it."""
    return Cause(
        id=command.id,
        actor=system(command.service),
        service=command.service,
        traceparent=command.traceparent,
        command=command.kind,
        last=last,
    )
