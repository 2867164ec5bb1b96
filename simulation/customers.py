"""All customers of the country in one process: they come when the evening brings them, whether or not the last were served.

`python -m simulation.customers --help` lists the knobs; `/_sim/customers` tells every order from the outside.
"""

import argparse
import asyncio
import contextlib
import time
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import uvloop
from aiohttp import web

from adapters.settings import load_settings
from simulation.arrivals import Evening
from simulation.client import Gateway, open_gateway
from simulation.country import CITIES, DRIVERS_PER_CITY, RESTAURANTS_PER_CITY, Customer, Plot, card_for, make_country
from simulation.ordering import fill_basket, place
from simulation.records import Book, Record
from simulation.serving import Changeable, Errands, application, cpu_s, fate, listening, now, stop_event, told
from simulation.watching import CANCEL_AT, Watcher

_SPELL_ORDERS: Final = 8
_SPELL_PAUSE_S: Final = 0.15
_STREAM_LASTS_S: Final = 300.0
_SETTLE_PAUSE_S: Final = 2.0
_SETTLE_AT_ONCE: Final = 8


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The knobs. `fraud_spell`: so many orders with one stolen card, at once. `stop`: nobody comes any more.

    `plots_next`: what the next customers without a plot of their own are going to do, one each.
    """

    fraud_spell: int = 0
    plots_next: list[Plot] = []
    stop: bool = False
    stream_rate: float = 0.02


class Customers:
    """Who comes, and what becomes of them."""

    def __init__(self, flags: argparse.Namespace, gateway: Gateway, book: Book) -> None:
        self._country = make_country(flags.seed, flags.cities, flags.restaurants_per_city, DRIVERS_PER_CITY)
        self._evening = Evening(flags.rate, flags.peak or flags.rate, flags.duration_s)
        self._seed, self._time_scale, self._patience_s = flags.seed, flags.time_scale, flags.patience_s
        self._run = f"{time.time_ns() // 1_000_000:x}"  # keys of an earlier run with this seed are not ours
        self._gateway, self._book = gateway, book
        self._watcher = Watcher(gateway, book, flags.patience_s)
        self._number = 0
        self._started: str | None = None
        self._last_arrival: str | None = None
        self.finished = asyncio.Event()
        self.behaviour = Changeable(Behaviour())
        self.errands = Errands()

    def application(self) -> web.Application:
        app = application()
        app.router.add_get("/_sim/customers", self._tell)
        app.router.add_post("/_sim/unavailable", self._hear_unavailable)
        app.router.add_post("/push", self._hear_unavailable)
        self.behaviour.routes(app)
        return app

    async def _tell(self, request: web.Request) -> web.Response:
        """Summary and orders; with `orders=0` the summary alone."""
        whole = {
            **self._book.summary(),
            "expected": round(self._evening.expected, 1),
            "arrived": self._number,
            "started_at": self._started,
            "last_arrival_at": self._last_arrival,
            "finished": self.finished.is_set(),
            "under_way": len(self.errands),
            "cpu_s": cpu_s(),
        }
        if request.query.get("orders") != "0":
            whole["orders"] = self._book.records
        return told(whole)

    async def _hear_unavailable(self, request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read(), type=dict[str, object])
        except msgspec.MsgspecError as error:
            return told({"error": str(error)}, 400)
        data = body.get("data")
        order_id = data.get("order_id") if isinstance(data, dict) else body.get("order_id")
        record = self._book.by_order.get(str(order_id))
        if record is not None and record.resolved is None:
            dice = fate(self._seed, "resolution", record.n)
            self.errands.start(self._watcher.resolve(record, dice, dice.uniform(10, 60) / self._time_scale))
        return web.Response(status=204)

    async def spend_the_evening(self, settle_s: float) -> None:
        """Everybody comes in time; then wait for those who still do something, and at last look how it all came out."""
        loop = asyncio.get_running_loop()
        self._started, start = now(), loop.time()
        for at in self._evening.arrivals(self._seed):
            await asyncio.sleep(max(0.0, start + at - loop.time()))
            if self.behaviour.now.stop:
                break
            self._arrive()
        self._last_arrival = now()
        ends = loop.time() + settle_s
        while loop.time() < ends and (waiting := self._unsettled()):
            await self._look_at([record for record in waiting if record.order_id], ends)
            await asyncio.sleep(_SETTLE_PAUSE_S)
        self.finished.set()

    def _unsettled(self) -> list[Record]:
        """What has no answer yet, and what was not seen at its end."""
        return [r for r in self._book.records if r.status == "sent" or (r.order_id and r.outcome is None)]

    async def _look_at(self, records: list[Record], ends: float) -> None:
        queue = iter(records)

        async def look() -> None:
            for record in queue:
                if asyncio.get_running_loop().time() > ends:
                    return
                await self._watcher.state_of(record)

        await asyncio.gather(*(look() for _ in range(_SETTLE_AT_ONCE)))

    def _arrive(self) -> None:
        dice = fate(self._seed, "arrival", self._number)
        number = dice.randrange(self._country.customers)
        customer = self._country.customer(number)
        if self.behaviour.now.fraud_spell > 0:
            self._spell(number, self.behaviour.now.fraud_spell)
            self.behaviour.now.fraud_spell = 0
        elif customer.plot == "fraud_prone":
            self._spell(number, _SPELL_ORDERS)
        plot, card = customer.plot, customer.payment_method_id
        if plot == "plain" and self.behaviour.now.plots_next:
            plot = self.behaviour.now.plots_next.pop(0)
            card = card_for(dice, plot) or card
        self._start(dice, customer, card, plot, 0.0)

    def _spell(self, number: int, orders: int) -> None:
        """One stolen card in the hands of many accounts of one city."""
        card = f"pm_sim_stolen_{self._seed}_{self._run}_{self._number}"
        for i in range(orders):
            account = (number + (i + 1) * len(self._country.cities)) % self._country.customers
            dice = fate(self._seed, "spell", self._number, i)
            self._start(dice, self._country.customer(account), card, "fraud_spell", i * _SPELL_PAUSE_S)

    def _start(self, dice: Random, customer: Customer, card: str, plot: str, after_s: float) -> None:
        self._number += 1
        self.errands.start(self._order(self._number, dice, customer, card, plot, after_s))

    async def _order(self, n: int, dice: Random, customer: Customer, card: str, plot: str, after_s: float) -> None:
        basket = fill_basket(dice, self._country, customer.city)
        if after_s:
            await asyncio.sleep(after_s)
        city = self._country.cities[customer.city].name
        record = Record(
            n=n, customer_id=customer.customer_id, restaurant_id=basket.restaurant.restaurant_id, city=city,
            payment_method_id=card, plot=plot, key=f"{self._seed}-{self._run}-{n}", sent_at=now(),
        )  # fmt: skip
        self._book.open(record)
        accepted = await place(self._gateway, self._book, record, basket.request(customer, city, card), self._patience_s)
        if not accepted:
            return
        if (record.subtotal, record.delivery_fee) != (basket.subtotal, basket.restaurant.delivery_fee):
            self._book.counts["wrong_amounts"] += 1
        if dice.random() < self.behaviour.now.stream_rate:
            self.errands.start(self._watcher.follow(record, _STREAM_LASTS_S))
        if plot.startswith(CANCEL_AT):
            await self._watcher.cancel_at(record, plot.removeprefix(CANCEL_AT))


async def _main(flags: argparse.Namespace) -> None:
    stop = stop_event()
    book = Book(flags.record)
    async with open_gateway(load_settings()) as gateway:
        customers = Customers(flags, gateway, book)
        async with listening(customers.application(), flags.host, flags.port):
            evening = asyncio.create_task(customers.spend_the_evening(flags.settle_s))
            until = customers.finished if flags.exit else stop
            waits = [asyncio.create_task(event.wait()) for event in (stop, until)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in (evening, *waits):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await evening
        await customers.errands.end()
    book.close()


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.customers", description="The customers of the country, simulated.")
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=58105, help="0: one that is free; it is printed")
    add("--seed", type=int, default=1)
    add("--cities", type=int, default=CITIES)
    add("--restaurants-per-city", type=int, default=RESTAURANTS_PER_CITY)
    add("--time-scale", type=float, default=1.0)
    add("--rate", type=float, default=10.0, help="orders a second outside the rush")
    add("--peak", type=float, default=0.0, help="orders a second within the rush; 0: no rush")
    add("--duration-s", type=float, default=60.0)
    add("--patience-s", type=float, default=90.0, help="how long an uncertain order is sent again")
    add("--settle-s", type=float, default=0.0, help="afterwards, look at all orders until they are final, at most so long")
    add("--record", type=Path, help="a file for all orders, as JSON lines")
    add("--exit", action="store_true", help="end when all is done, rather than go on telling")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_main(_flags()))
