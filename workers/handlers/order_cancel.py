"""`order.cancel`: ends an order, unless another restaurant takes it. What was done for it is undone by what its end issues."""

from orders.commands import CancelOrder
from orders.decide import Wish
from orders.lifecycle import Action, row_for
from orders.names import FINAL
from orders.order import Order
from orders.rerouting import CLOSING_TIME, REROUTED_AFTER, reroute
from workers.outcome import Done, Outcome
from workers.ports import Alternatives

_FRAUD = "fraud"


async def order_cancel(command: CancelOrder, order: Order, alternatives: Alternatives) -> Outcome:
    """Fraud that is found after the end is still recorded. Any other reason comes too late then."""
    if command.reason == _FRAUD:
        action = Action.FLAG_FRAUD if order.state in FINAL else Action.CANCEL_FOR_FRAUD
        return Done(Wish(action=action, reason=_FRAUD, data={"rule": command.rule}))
    if command.reason in REROUTED_AFTER or command.reason == CLOSING_TIME:
        row_for(Action.REROUTE, order.state)  # what one restaurant said must not end what another is cooking
    if command.reason in REROUTED_AFTER and (found := await alternatives.find(order)) is not None:
        return Done(reroute(order, found.restaurant_id, found.items, found.amounts, command.reason))
    return Done(Wish(action=Action.CANCEL, reason=command.reason))
