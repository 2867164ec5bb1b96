"""The only place that knows what a restaurant makes of what it is told: the newer position wins, whatever came first."""

from typing import Any, Final

import msgspec

from simulation.serving import now


class Notified(msgspec.Struct, frozen=True):
    """One notification as it arrived. `heeded`: it was news; otherwise repeated, or overtaken by something newer."""

    at: str
    position: int
    message_id: str
    heeded: bool


class Reply(msgspec.Struct, frozen=True):
    """What the restaurant answered (`accept` or `reject`), and the status that the gateway gave to that (0: none)."""

    kind: str
    at: str
    status: int
    reason: str = ""


class Message(msgspec.Struct, frozen=True):
    """A webhook, read."""

    message_id: str
    order_id: str
    position: int
    cancels: bool
    items: tuple[str, ...]


class Ticket(msgspec.Struct, kw_only=True):
    """One order at one restaurant."""

    order_id: str
    restaurant_id: str
    position: int = 0
    notified_at: list[Notified] = []
    cancelled_at: str | None = None
    cancelled_position: int | None = None
    plan: str | None = None
    answer: Reply | None = None

    def hear(self, message: Message) -> bool:
        """Take the message in. True where it is news: older and repeated ones change nothing."""
        at, news = now(), message.position > self.position
        if not message.cancels:
            self.notified_at.append(Notified(at, message.position, message.message_id, news))
        if not news:
            return False
        self.position = message.position
        if message.cancels:
            self.cancelled_at, self.cancelled_position = at, message.position
        else:
            self.cancelled_at, self.cancelled_position, self.answer = None, None, None
        return True


_CANCELS: Final = "cancel"


def read_message(message_id: str, body: bytes) -> Message:
    """The webhook's body. Raises `msgspec.MsgspecError` for one that is not about an order at a position."""
    whole = msgspec.json.decode(body, type=dict[str, Any])
    data = whole.get("data")
    if not isinstance(data, dict):
        data = whole
    order_id, position = data.get("order_id"), data.get("position", whole.get("position"))
    if not isinstance(order_id, str) or not isinstance(position, int):
        raise msgspec.ValidationError("a webhook without an order and its position")
    items = data.get("items")
    lines = items if isinstance(items, list) else []
    return Message(
        message_id=message_id,
        order_id=order_id,
        position=position,
        cancels=_CANCELS in str(whole.get("type", data.get("type", ""))),
        items=tuple(str(line["item_id"]) for line in lines if isinstance(line, dict) and "item_id" in line),
    )
