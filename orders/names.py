"""The only place for the words of the interface: states, facts, audit actions, commands, queues, topics, priorities."""

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where an order is. Money is beside it, not in it."""

    PLACED = "placed"
    PAYMENT_PROCESSING = "payment_processing"
    PAYMENT_CONFIRMED = "payment_confirmed"
    RESTAURANT_NOTIFIED = "restaurant_notified"
    RESTAURANT_ACCEPTED = "restaurant_accepted"
    DRIVER_ASSIGNED = "driver_assigned"
    PICKED_UP = "picked_up"
    DELIVERED = "delivered"
    PAYMENT_FAILED = "payment_failed"
    RESTAURANT_REJECTED = "restaurant_rejected"
    CANCELLED = "cancelled"


FINAL: Final = frozenset({State.DELIVERED, State.PAYMENT_FAILED, State.CANCELLED})


class Money(StrEnum):
    """What the provider holds for an order."""

    NONE = "none"
    CAPTURED = "captured"
    PART_REFUNDED = "part_refunded"
    REFUNDED = "refunded"


class Role(StrEnum):
    """Who acts. All but `system` come as the `role` of a token."""

    CUSTOMER = "customer"
    RESTAURANT = "restaurant"
    DRIVER = "driver"
    SUPPORT = "support"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    SYSTEM = "system"


class Fact(StrEnum):
    """What happened: types on `orders.events`."""

    ORDER_PLACED = "order.placed"
    ORDER_CANCELLED = "order.cancelled"
    ORDER_REROUTED = "order.rerouted"
    PAYMENT_PROCESSING = "payment.processing"
    PAYMENT_CONFIRMED = "payment.confirmed"
    PAYMENT_FAILED = "payment.failed"
    PAYMENT_REFUNDED = "payment.refunded"
    RESTAURANT_NOTIFIED = "restaurant.notified"
    RESTAURANT_ACCEPTED = "restaurant.accepted"
    RESTAURANT_REJECTED = "restaurant.rejected"
    DRIVER_ASSIGNED = "driver.assigned"
    DRIVER_RELEASED = "driver.released"
    ORDER_PICKED_UP = "order.picked_up"
    ORDER_DELIVERED = "order.delivered"
    ORDER_COMPLETED = "order.completed"
    FRAUD_DETECTED = "fraud.detected"
    DISPUTE_OPENED = "dispute.opened"
    DISPUTE_RESOLVED = "dispute.resolved"
    SUPPORT_INTERVENTION = "support.intervention"
    # Not steps of an order: no position, not in its chain, may be shed.
    NOTIFICATION_SENT = "notification.sent"
    DRIVER_LOCATION_UPDATE = "driver.location_update"


_AUDIT_NAMES: Final = {
    Fact.PAYMENT_PROCESSING: "payment.initiated",
    Fact.ORDER_PICKED_UP: "driver.picked_up",
    Fact.ORDER_DELIVERED: "driver.delivered",
}


def audit_action(fact: Fact) -> str:
    """The audit trail's name for the step that published this fact."""
    return _AUDIT_NAMES.get(fact, fact.value)


class Act(StrEnum):
    """Audit actions that are no step of an order: what people and rules did or looked at. Each chain of theirs is its own."""

    ORDER_VIEWED = "order.viewed"
    ORDERS_SEARCHED = "orders.searched"
    AUDIT_SEARCHED = "audit.searched"
    DISPUTES_SEARCHED = "disputes.searched"
    AUDIT_EXPORTED = "audit.exported"
    LETTER_VIEWED = "letter.viewed"
    LETTER_CHANGED = "letter.changed"
    REPLAY_CHANGED = "replay.changed"
    RULE_CHANGED = "rule.changed"
    RULE_FIRED = "rule.fired"
    ROLE_GRANTED = "role.granted"
    CUSTOMER_ERASED = "customer.erased"
    LOG_KEY_ROTATED = "log.key_rotated"
    LOG_ARCHIVED = "log.archived"
    LOG_DROPPED = "log.dropped"


class Command(StrEnum):
    """What is to be done, once: routing keys on the exchange `commands`."""

    PAYMENT_CHARGE = "payment.charge"
    PAYMENT_REFUND = "payment.refund"
    RESTAURANT_NOTIFY = "restaurant.notify"
    RESTAURANT_CANCEL = "restaurant.cancel"
    DRIVER_DISPATCH = "driver.dispatch"
    DRIVER_RELEASE = "driver.release"
    ORDER_CANCEL = "order.cancel"
    ORDER_DEADLINE = "order.deadline"
    ORDER_WAKE = "order.wake"
    NOTIFICATION_PUSH = "notification.push"
    NOTIFICATION_SMS = "notification.sms"


class Queue(StrEnum):
    """The work queues. `payment.*` goes to `payments`, and so on."""

    PAYMENTS = "payments"
    RESTAURANTS = "restaurants"
    DRIVERS = "drivers"
    NOTIFICATIONS = "notifications"
    ORDERS = "orders"


def queue_of(command: Command) -> Queue:
    return Queue(command.value.split(".")[0] + "s")


COMMANDS_EXCHANGE: Final = "commands"
DEAD_LETTERS: Final = "orders.dlq"
POISON: Final = "orders.dlq.poison"
ORDERS_TOPIC: Final = "orders.events"
AUDIT_TOPIC: Final = "audit.events"
CHECKPOINTS_TOPIC: Final = "audit.checkpoints"

# Rank within a queue, 0 to 4, highest first. Refunds and cancellations of unsafe orders, then what comes back from a
# tier, then first attempts: customer-facing before internal.
PRIORITY_URGENT: Final = 4
PRIORITY_RETURNED: Final = 3
PRIORITY: Final = {
    Command.PAYMENT_REFUND: 4,
    Command.ORDER_CANCEL: 4,
    Command.RESTAURANT_CANCEL: 4,
    Command.DRIVER_RELEASE: 2,
    Command.PAYMENT_CHARGE: 2,
    Command.RESTAURANT_NOTIFY: 2,
    Command.DRIVER_DISPATCH: 2,
    Command.NOTIFICATION_SMS: 2,
    Command.ORDER_DEADLINE: 1,
    Command.ORDER_WAKE: 1,
    Command.NOTIFICATION_PUSH: 1,
}
