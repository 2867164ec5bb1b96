"""The only place that watches for fraud: looks back on a customer's orders and asks for an order to be cancelled."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from adapters.postgres import Connection
from orders.envelope import Envelope, OutboxRow
from orders.errors import BadMessage
from orders.facts import FactBody
from orders.names import ORDERS_TOPIC, Command, Fact
from orders.order import Address
from outbox.watched import enqueue_watched
from streams import sql
from streams.commanding import command
from streams.fraud_rules import VELOCITY_WINDOW_S, History, Place, fired
from streams.group import Group, Incoming, fact_of

_SHARED: Final = "pm_card_"


class Fraud(Group):
    """Never touches an order: a rule that fires becomes a command in the outbox, at most once for each order."""

    noun = "fraud"

    def __init__(self, *, time_scale: float = 1.0, topic: str = ORDERS_TOPIC, name: str = "") -> None:
        super().__init__(topic=topic, name=name)
        self._time_scale = time_scale
        self._window = timedelta(seconds=VELOCITY_WINDOW_S / time_scale)

    def read(self, envelope: Envelope, body: bytes) -> FactBody:
        fact: FactBody = super().read(envelope, body)
        if fact.type is Fact.ORDER_PLACED:
            address, method = _address(fact), fact.data.get("payment_method_id")
            if not isinstance(method, str) or not (-90 <= address.latitude <= 90 and -180 <= address.longitude <= 180):  # noqa: PLR2004
                raise BadMessage("order.placed has no payment method, or an address that is not on Earth")
        return fact

    async def apply(self, db: Connection, taken: Sequence[Incoming]) -> None:
        placed = [item for item in taken if fact_of(item).type is Fact.ORDER_PLACED]
        completed = [fact for fact in map(fact_of, taken) if fact.type is Fact.ORDER_COMPLETED]
        if placed:
            await db.execute(sql.REMEMBER_ORDERS, *_columns([fact_of(item) for item in placed]))
        if completed:
            await db.execute(
                sql.REMEMBER_COMPLETED, [fact.order_id for fact in completed], [fact.occurred_at for fact in completed]
            )
        if placed:
            await enqueue_watched(db, await self._judge(db, {item.order_id: item for item in placed}))

    async def _judge(self, db: Connection, placed: Mapping[str, Incoming]) -> list[OutboxRow]:
        cancel = []
        for row in await db.fetch(sql.FRAUD_HISTORY, list(placed), self._window):
            item = placed[row["order_id"]]
            rules = fired(self._history(fact_of(item), row))
            if rules and await db.fetchval(sql.FLAG, item.order_id, rules, fact_of(item).occurred_at):
                cancel.append(command(Command.ORDER_CANCEL, item, rules[0], {"reason": "fraud", "rule": rules[0]}))
        return cancel

    def _history(self, fact: FactBody, row: Mapping[str, Any]) -> History:
        address = _address(fact)
        before = Place(row["latitude"], row["longitude"], row["placed_at"]) if row["placed_at"] else None
        return History(
            total=fact.total, here=Place(address.latitude, address.longitude, fact.occurred_at),
            recent_orders=row["recent_orders"], past_orders=row["past_orders"], past_mean=row["past_mean"],
            before=before, time_scale=self._time_scale,
        )  # fmt: skip


def _address(fact: FactBody) -> Address:
    try:
        return msgspec.convert(fact.data.get("address"), Address)
    except msgspec.ValidationError as error:
        raise BadMessage(f"order.placed has no usable address: {error}") from error


def _card(fact: FactBody) -> str:
    """What tells cards apart. The provider's test tokens are everybody's: there, each customer's is another."""
    method: str = fact.data["payment_method_id"]
    return f"{method}/{fact.customer_id}" if method.startswith(_SHARED) else method


def _columns(facts: Sequence[FactBody]) -> list[list[Any]]:
    where = [_address(fact) for fact in facts]
    return [
        [fact.order_id for fact in facts],
        [fact.customer_id for fact in facts],
        [_card(fact) for fact in facts],
        [address.latitude for address in where],
        [address.longitude for address in where],
        [fact.currency for fact in facts],
        [fact.total for fact in facts],
        [fact.occurred_at for fact in facts],
    ]
