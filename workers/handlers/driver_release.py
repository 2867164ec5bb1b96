"""`driver.release`: tells a driver that the trip is off. Sent once; the driver was freed when the order moved."""

from orders.commands import ReleaseDriver
from orders.errors import Refuse, RetryLater
from orders.order import Order
from workers.outcome import Nothing, Outcome
from workers.ports import Messages, NotDelivered
from workers.templates import push_data, render

_TEMPLATE = "trip_cancelled"


async def driver_release(command: ReleaseDriver, order: Order, messages: Messages) -> Outcome:
    params = {"reason": command.reason}
    text = render(_TEMPLATE, command.driver_id, order, params)
    try:
        await messages.send_push(command.driver_id, text.title, text.body, push_data(_TEMPLATE, order, params))
    except (Refuse, RetryLater) as error:
        raise NotDelivered(str(error)) from error
    return Nothing()
