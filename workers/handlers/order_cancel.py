"""`order.cancel`: ends an order. What was done for it is undone by the commands that its cancellation issues."""

from orders.commands import CancelOrder
from orders.decide import Wish
from orders.lifecycle import Action
from orders.names import FINAL
from orders.order import Order
from workers.outcome import Done, Outcome

_FRAUD = "fraud"


async def order_cancel(command: CancelOrder, order: Order) -> Outcome:
    """Fraud that is found after the end is still recorded. Any other reason comes too late then."""
    if command.reason != _FRAUD:
        return Done(Wish(action=Action.CANCEL, reason=command.reason))
    action = Action.FLAG_FRAUD if order.state in FINAL else Action.CANCEL_FOR_FRAUD
    return Done(Wish(action=action, reason=_FRAUD, data={"rule": command.rule}))
