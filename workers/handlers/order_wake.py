"""`order.wake`: a fact that failed in a stream has waited in its tier; its group tries it again."""

from orders.commands import WakeOrder
from workers.outcome import Forgotten, Outcome
from workers.ports import HeldFacts


async def order_wake(command: WakeOrder, held: HeldFacts) -> Outcome:
    """Nothing is remembered: the fact that it names is held since that attempt, or is not."""
    await held.wake(command.group, command.order_id, command.position, command.attempt)
    return Forgotten()
