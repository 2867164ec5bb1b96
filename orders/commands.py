"""The only place for the commands' bodies: what RabbitMQ carries, one struct per type, versioned together with it."""

from typing import Any, Final

import msgspec

from orders.errors import BadMessage
from orders.ids import derived_id
from orders.names import Command

SCHEMA_VERSION: Final = 1


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """`position`: of the event that issued the command. With the order and the type it is the command's identity."""

    order_id: str
    position: int


class ChargePayment(_Body, frozen=True, kw_only=True):
    """Take the order's total, once."""


class RefundPayment(_Body, frozen=True, kw_only=True):
    """Give back what is due for this reason (`orders.money.REFUND_PARTS`), once. `amount` in minor units, where given."""

    reason: str
    amount: int = 0


class NotifyRestaurant(_Body, frozen=True, kw_only=True):
    """Tell the restaurant that there is an order for it."""

    restaurant_id: str


class CancelRestaurant(_Body, frozen=True, kw_only=True):
    """Tell the restaurant that the order is off. May overtake the notification: the position says which is newer."""

    restaurant_id: str
    reason: str


class DispatchDriver(_Body, frozen=True, kw_only=True):
    """Find and claim the nearest free driver."""


class ReleaseDriver(_Body, frozen=True, kw_only=True):
    """Tell the driver that the trip is off."""

    driver_id: str
    reason: str


class CancelOrder(_Body, frozen=True, kw_only=True):
    """End the order and undo what was done. `rule`: the fraud rule that fired, with reason `fraud`."""

    reason: str
    rule: str = ""


class OrderDeadline(_Body, frozen=True, kw_only=True):
    """The order has waited too long for what `kind` names. `position`: of the event that began the wait; stale once it is over."""

    kind: str


class WakeOrder(_Body, frozen=True, kw_only=True):
    """Try again what a stream's group holds of this order since its attempt number `attempt`. The order need not exist.

    `position`: of the fact that failed, 0 where it has none.
    """

    group: str
    attempt: int


class PushNotification(_Body, frozen=True, kw_only=True):
    """Tell a customer or a driver, once, without retries."""

    recipient: str
    template: str
    params: dict[str, str] = {}


class SmsNotification(_Body, frozen=True, kw_only=True):
    """Tell a customer, with retries."""

    recipient: str
    template: str
    params: dict[str, str] = {}


CommandBody = (
    ChargePayment
    | RefundPayment
    | NotifyRestaurant
    | CancelRestaurant
    | DispatchDriver
    | ReleaseDriver
    | CancelOrder
    | OrderDeadline
    | WakeOrder
    | PushNotification
    | SmsNotification
)

BODY_OF: Final[dict[Command, type[CommandBody]]] = {
    Command.PAYMENT_CHARGE: ChargePayment,
    Command.PAYMENT_REFUND: RefundPayment,
    Command.RESTAURANT_NOTIFY: NotifyRestaurant,
    Command.RESTAURANT_CANCEL: CancelRestaurant,
    Command.DRIVER_DISPATCH: DispatchDriver,
    Command.DRIVER_RELEASE: ReleaseDriver,
    Command.ORDER_CANCEL: CancelOrder,
    Command.ORDER_DEADLINE: OrderDeadline,
    Command.ORDER_WAKE: WakeOrder,
    Command.NOTIFICATION_PUSH: PushNotification,
    Command.NOTIFICATION_SMS: SmsNotification,
}
_DECODERS: Final = {kind: msgspec.json.Decoder(body) for kind, body in BODY_OF.items()}


def command_id(order_id: str, position: int, kind: Command, detail: str = "") -> str:
    """The identity of a command: its cause. `detail` tells apart several of one type from one cause (recipients)."""
    return derived_id("cmd", order_id, position, kind.value, detail)


def read_command(kind: str, version: int, body: bytes) -> tuple[Command, CommandBody]:
    """The command in these bytes. Raises `BadMessage` for an unknown type, a newer schema, or a body that is not one."""
    try:
        command = Command(kind)
    except ValueError as error:
        raise BadMessage(f"there is no command {kind!r}") from error
    if version > SCHEMA_VERSION:
        raise BadMessage(f"{kind} has schema version {version}; this process reads up to {SCHEMA_VERSION}")
    try:
        return command, _DECODERS[command].decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadMessage(f"{kind}: {error}") from error


def command_body(kind: Command, values: dict[str, Any]) -> dict[str, Any]:
    """The body for these values, checked against its struct and without the values that the type does not have."""
    fields = BODY_OF[kind].__struct_fields__
    body: dict[str, Any] = msgspec.to_builtins(msgspec.convert({k: values[k] for k in fields if k in values}, BODY_OF[kind]))
    return body
