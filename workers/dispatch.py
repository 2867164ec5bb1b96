"""The only place that knows which handler does which command."""

from datetime import datetime
from typing import assert_never

from orders import commands
from orders.order import Order
from workers.handlers.driver_dispatch import driver_dispatch
from workers.handlers.driver_release import driver_release
from workers.handlers.notification_push import notification_push
from workers.handlers.notification_sms import notification_sms
from workers.handlers.order_cancel import order_cancel
from workers.handlers.order_deadline import order_deadline
from workers.handlers.order_wake import order_wake
from workers.handlers.payment_charge import payment_charge
from workers.handlers.payment_refund import payment_refund
from workers.handlers.restaurant_cancel import restaurant_cancel
from workers.handlers.restaurant_notify import restaurant_notify
from workers.outcome import Outcome
from workers.ports import Ports
from workers.task import Task


async def handle(task: Task, order: Order, ports: Ports, *, again: bool, now: datetime) -> Outcome:  # noqa: C901, PLR0911  # a row per command
    """Ask the command's handler. `again`: somebody may have worked on this before, so it looks before it acts."""
    match task.body:
        case commands.ChargePayment() as command:
            return await payment_charge(command, order, ports.payments, again=again)
        case commands.RefundPayment() as command:
            return await payment_refund(command, order, ports.payments)
        case commands.NotifyRestaurant() as command:
            return await restaurant_notify(command, order, ports.restaurants, task.id, answer_by=now + ports.answer_within)
        case commands.CancelRestaurant() as command:
            return await restaurant_cancel(command, order, ports.restaurants, task.id)
        case commands.DispatchDriver() as command:
            return await driver_dispatch(command, order, ports.drivers, attempts=task.attempts, now=now)
        case commands.ReleaseDriver() as command:
            return await driver_release(command, order, ports.messages)
        case commands.CancelOrder() as command:
            return await order_cancel(command, order, ports.alternatives)
        case commands.OrderDeadline() as command:
            return await order_deadline(command, order)
        case commands.WakeOrder() as command:
            return await order_wake(command, ports.held)
        case commands.PushNotification() as command:
            return await notification_push(command, order, ports.messages)
        case commands.SmsNotification() as command:
            return await notification_sms(command, order, ports.messages, task.id, now=now)
        case _:
            assert_never(task.body)
