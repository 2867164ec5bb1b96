"""The only place where a customer orders: what is in the basket, one POST under one key, again while the answer is uncertain."""

import asyncio
import time
from random import Random
from typing import Any, Final

import msgspec

from simulation.client import Answer, Caller, Gateway
from simulation.country import CURRENCY, Country, Customer, Restaurant
from simulation.records import Book, Record
from simulation.serving import now

_FIRST_PAUSE_S: Final = 0.25
_LAST_PAUSE_S: Final = 4.0
_IN_FLIGHT: Final = 409


class Basket(msgspec.Struct, frozen=True):
    """What is going to be ordered, and what the menu says that it costs."""

    restaurant: Restaurant
    lines: tuple[tuple[str, int], ...]
    subtotal: int

    def request(self, customer: Customer, city: str, payment_method_id: str) -> dict[str, Any]:
        """The body of `POST /v1/orders`."""
        return {
            "restaurant_id": self.restaurant.restaurant_id,
            "items": [{"item_id": item, "quantity": quantity} for item, quantity in self.lines],
            "delivery_address": {
                "street": customer.street,
                "city": city,
                "postal_code": customer.postal_code,
                "latitude": customer.latitude,
                "longitude": customer.longitude,
            },
            "payment_method_id": payment_method_id,
        }


def fill_basket(dice: Random, country: Country, city: int) -> Basket:
    """Something from one of the city's restaurants."""
    restaurant = dice.choice(country.restaurants_of(city))
    chosen = dice.sample(restaurant.menu, dice.choices((1, 2, 3, 4), (30, 40, 20, 10))[0])
    lines = [(item, dice.choices((1, 2, 3), (75, 20, 5))[0]) for item in chosen]
    return Basket(
        restaurant=restaurant,
        lines=tuple((item.item_id, quantity) for item, quantity in lines),
        subtotal=sum(item.unit_price * quantity for item, quantity in lines),
    )


async def place(gateway: Gateway, book: Book, record: Record, request: dict[str, Any], patience_s: float) -> bool:
    """Send the order until the answer stands; the record tells the rest. True where it was accepted."""
    caller = Caller(record.customer_id, "customer")
    headers = {"idempotency-key": f'"{record.key}"'}
    started = time.perf_counter()
    pause = _FIRST_PAUSE_S
    while True:
        sent = time.perf_counter()
        answer = await gateway.call("POST", "/v1/orders", caller, request, headers)
        answered = time.perf_counter()
        record.attempts += 1
        record.latency_ms = round((answered - sent) * 1_000, 3)
        uncertain = answer.passing or (answer.status == _IN_FLIGHT and record.attempts > 1)
        if not uncertain or answered - started > patience_s:
            break
        book.counts["uncertain_answers"] += 1
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE_S)
    record.total_ms = round((answered - started) * 1_000, 3)
    _note(record, answer)
    book.write(record)
    return record.status == "accepted"


def _note(record: Record, answer: Answer) -> None:
    record.http_status = answer.status
    body = answer.json()
    if answer.passing or (answer.ok and not isinstance(body.get("order_id"), str)):
        record.status = "given_up"
    elif not answer.ok:
        record.status, record.problem = "refused", str(body.get("type", ""))
    else:
        record.status, record.order_id, record.accepted_at = "accepted", body["order_id"], now()
        amounts = {name: _minor(body.get(name)) for name in ("subtotal", "delivery_fee", "total")}
        record.subtotal, record.delivery_fee, record.total = amounts.values()
        record.currency = CURRENCY
        record.warnings = len(body.get("warnings", ()))


def _minor(money: object) -> int | None:
    """The amount of `{"amount_minor", "currency"}`."""
    amount = money.get("amount_minor") if isinstance(money, dict) else money
    return amount if isinstance(amount, int) else None
