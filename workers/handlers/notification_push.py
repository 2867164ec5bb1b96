"""`notification.push`: tells somebody once. What fails is counted and forgotten."""

from orders.commands import PushNotification
from orders.errors import Refuse, RetryLater
from orders.order import Order
from workers.outcome import Forgotten, Outcome
from workers.ports import Messages, NotDelivered
from workers.templates import push_data, render


async def notification_push(command: PushNotification, order: Order, messages: Messages) -> Outcome:
    text = render(command.template, command.recipient, order, command.params)
    try:
        await messages.send_push(command.recipient, text.title, text.body, push_data(command.template, order, command.params))
    except (Refuse, RetryLater) as error:
        raise NotDelivered(str(error)) from error
    return Forgotten()  # whether it arrives is not known: no fact about it, and no memory of it
