"""`notification.sms`: tells a customer, as often as it takes; the provider sends one message for one key."""

from datetime import datetime

from orders.commands import SmsNotification
from orders.order import Order
from workers.notices import notification_sent
from workers.outcome import Nothing, Outcome
from workers.ports import Messages
from workers.templates import render


async def notification_sms(
    command: SmsNotification, order: Order, messages: Messages, message_id: str, *, now: datetime
) -> Outcome:
    text = render(command.template, command.recipient, order, command.params)
    await messages.send_sms(command.recipient, text.body, message_id)
    return Nothing(also=(notification_sent(order, message_id, "sms", command.template, command.recipient, now),))
