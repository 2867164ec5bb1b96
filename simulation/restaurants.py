"""All restaurants of the country in one process: they take signed webhooks, think, and answer the gateway or do not.

`python -m simulation.restaurants --help` lists the knobs; `/_sim/restaurants` tells what each was told and said.
"""

import argparse
import asyncio
from typing import Final, Literal, assert_never

import aiohttp
import msgspec
import uvloop
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from adapters.settings import load_settings
from simulation.client import UNCERTAIN, Answer, Caller, Gateway, open_gateway
from simulation.country import CITIES, RESTAURANTS_PER_CITY, Restaurant, make_country
from simulation.serving import Changeable, Errands, application, cpu_s, fate, listening, now, stop_event, told
from simulation.tickets import Message, Reply, Ticket, read_message

Plan = Literal["accept", "reject", "unavailable_items", "closing_time", "silent"]
_REASONS: Final = ("too_busy", "kitchen_problem", "out_of_stock")


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The knobs. Shares of orders; `…_next` counts come first; an outage answers 503, everywhere or where `outage_of` says."""

    reject_rate: float = 0.015
    unavailable_rate: float = 0.01
    closing_rate: float = 0.003
    silent_rate: float = 0.004
    reject_next: int = 0
    unavailable_next: int = 0
    closing_next: int = 0
    silent_next: int = 0
    outage: bool = False
    outage_of: list[str] = []
    least_thinking_s: float = 15.0  # of business time
    most_thinking_s: float = 90.0


class Restaurants:
    """What they know and do."""

    def __init__(self, flags: argparse.Namespace, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        country = make_country(flags.seed, flags.cities, flags.restaurants_per_city, 1)
        self._restaurants = {r.restaurant_id: (r, Webhook(r.webhook_secret)) for r in country.restaurants}
        self._seed, self._time_scale, self._customers_url = flags.seed, flags.time_scale, flags.customers_url
        self._gateway, self._session = gateway, session
        self._tickets: dict[tuple[str, str], Ticket] = {}
        self._served: dict[str, int] = {}
        self.behaviour = Changeable(Behaviour())
        self.errands = Errands()
        self._counts = {"webhooks": 0, "bad_signature": 0, "refused_in_outage": 0, "repeated_or_late": 0}

    def application(self) -> web.Application:
        app = application()
        app.router.add_post("/restaurants/{restaurant_id}/webhook", self._hear)
        app.router.add_get("/_sim/restaurants", self._tell)
        self.behaviour.routes(app)
        return app

    async def _tell(self, _: web.Request) -> web.Response:
        return told({"counts": self._counts, "cpu_s": cpu_s(), "tickets": list(self._tickets.values())})

    async def _hear(self, request: web.Request) -> web.Response:
        self._counts["webhooks"] += 1
        restaurant_id = request.match_info["restaurant_id"]
        known = self._restaurants.get(restaurant_id)
        if known is None:
            return told({"error": "no such restaurant"}, 404)
        if self.behaviour.now.outage or restaurant_id in self.behaviour.now.outage_of:
            self._counts["refused_in_outage"] += 1
            return told({"error": "the kitchen is on fire"}, 503)
        restaurant, webhook = known
        body = await request.read()
        try:
            webhook.verify(body, {name.lower(): value for name, value in request.headers.items()})
            message = read_message(request.headers["webhook-id"], body)
        except WebhookVerificationError:
            self._counts["bad_signature"] += 1
            return told({"error": "the signature does not hold"}, 401)
        except msgspec.MsgspecError as error:
            return told({"error": str(error)}, 400)
        self._take(restaurant, message)
        return web.Response(status=204)

    def _take(self, restaurant: Restaurant, message: Message) -> None:
        key = (message.order_id, restaurant.restaurant_id)
        ticket = self._tickets.get(key)
        if ticket is None:
            ticket = self._tickets[key] = Ticket(order_id=message.order_id, restaurant_id=restaurant.restaurant_id)
        if not ticket.hear(message):
            self._counts["repeated_or_late"] += 1
        elif not message.cancels:
            self.errands.start(self._answer(ticket, message))

    async def _answer(self, ticket: Ticket, message: Message) -> None:
        """Think, then answer, unless something newer has come meanwhile."""
        served = self._served[ticket.restaurant_id] = self._served.get(ticket.restaurant_id, 0) + 1
        dice = fate(self._seed, "kitchen", ticket.restaurant_id, served)
        plan = self._plan(dice.random())
        ticket.plan = plan
        knobs = self.behaviour.now
        await asyncio.sleep(dice.uniform(knobs.least_thinking_s, knobs.most_thinking_s) / self._time_scale)
        if ticket.position != message.position or plan == "silent":
            return
        body, reason = _body(plan, message, dice.choice(_REASONS))
        verb = "accept" if plan == "accept" else "reject"
        answer = await self._call(ticket, verb, body)
        ticket.answer = Reply(verb, now(), answer.status, reason)
        if plan == "unavailable_items" and answer.ok:
            await self._phone_customer(ticket.order_id)

    async def _call(self, ticket: Ticket, verb: str, body: object) -> Answer:
        caller = Caller(ticket.restaurant_id, "restaurant")
        path = f"/v1/restaurant/orders/{ticket.order_id}/{verb}"
        return await self._gateway.insist("POST", path, caller, body)

    def _plan(self, throw: float) -> Plan:
        knobs = self.behaviour.now
        if knobs.reject_next > 0:
            knobs.reject_next -= 1
            return "reject"
        if knobs.unavailable_next > 0:
            knobs.unavailable_next -= 1
            return "unavailable_items"
        if knobs.closing_next > 0:
            knobs.closing_next -= 1
            return "closing_time"
        if knobs.silent_next > 0:
            knobs.silent_next -= 1
            return "silent"
        shares: tuple[tuple[Plan, float], ...] = (
            ("reject", knobs.reject_rate),
            ("unavailable_items", knobs.unavailable_rate),
            ("closing_time", knobs.closing_rate),
            ("silent", knobs.silent_rate),
        )
        for plan, share in shares:
            if throw < share:
                return plan
            throw -= share
        return "accept"

    async def _phone_customer(self, order_id: str) -> None:
        """The one word between them that does not go through Rushline: the customer looks at the order sooner."""
        if not self._customers_url:
            return
        try:
            async with self._session.post(f"{self._customers_url}/_sim/unavailable", json={"order_id": order_id}) as answer:
                await answer.read()
        except UNCERTAIN:
            return


def _body(plan: Plan, message: Message, reason: str) -> tuple[object, str]:
    match plan:
        case "accept" | "silent":
            return None, ""
        case "unavailable_items" if message.items:
            return {"reason": "unavailable_items", "unavailable_items": list(message.items[:1])}, "unavailable_items"
        case "closing_time":
            return {"reason": "closing_time"}, "closing_time"
        case "reject" | "unavailable_items":
            return {"reason": reason}, reason
        case _:
            assert_never(plan)


async def _main(flags: argparse.Namespace) -> None:
    stop = stop_event()
    timeout = aiohttp.ClientTimeout(total=3)
    async with open_gateway(load_settings()) as gateway, aiohttp.ClientSession(timeout=timeout) as session:
        restaurants = Restaurants(flags, gateway, session)
        async with listening(restaurants.application(), flags.host, flags.port):
            await stop.wait()
        await restaurants.errands.end()


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.restaurants", description="The restaurants of the country, simulated.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=58103, help="0: one that is free; it is printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cities", type=int, default=CITIES)
    parser.add_argument("--restaurants-per-city", type=int, default=RESTAURANTS_PER_CITY)
    parser.add_argument("--time-scale", type=float, default=1.0, help="60: a minute of thinking takes a second")
    parser.add_argument("--customers-url", default="", help="who is told at once that an item is unavailable")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_main(_flags()))
