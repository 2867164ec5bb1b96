"""All drivers of the country in one process: a push sets one off; they drive, pick up, report where they are, deliver.

`python -m simulation.drivers --help` lists the knobs; `/_sim/drivers` tells each trip.
"""

import argparse
import asyncio
from collections import Counter
from random import Random
from typing import Any, Final, Literal

import msgspec
import uvloop
from aiohttp import web

from adapters.settings import load_settings
from simulation.client import Answer, Caller, Gateway, open_gateway
from simulation.country import CITIES, DRIVERS_PER_CITY, Driver, make_country
from simulation.serving import Changeable, Errands, application, cpu_s, fate, listening, now, stop_event, told

Plan = Literal["deliver", "no_show", "release"]
_ASSIGNED: Final = "driver_assigned"
_NOT_YET: Final = 4  # how often 409 is taken for "not yet"


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The knobs. Shares of trips; `…_next` counts come first; times in seconds of business time. `deaf`: no push arrives."""

    no_show_rate: float = 0.005
    release_rate: float = 0.008
    location_rate: float = 0.25  # of trips that tell where they are, on the way
    no_show_next: int = 0
    release_next: int = 0
    deaf: bool = False
    least_to_restaurant_s: float = 120.0
    most_to_restaurant_s: float = 360.0
    least_to_customer_s: float = 180.0
    most_to_customer_s: float = 600.0


class Push(msgspec.Struct, frozen=True):
    """What the messaging provider hands on."""

    to: str
    title: str = ""
    body: str = ""
    data: dict[str, Any] = {}


class Trip(msgspec.Struct, kw_only=True):
    """One assignment. Statuses are the gateway's answers; `ended` says how it came out for the driver."""

    order_id: str
    driver_id: str
    plan: Plan
    pushed_at: str
    picked_up_at: str | None = None
    pick_up_status: int | None = None
    delivered_at: str | None = None
    deliver_status: int | None = None
    released_at: str | None = None
    release_status: int | None = None
    ended: str | None = None


class Drivers:
    """What they know and do. They take a trip for any driver whose push arrives, so that old assignments end too."""

    def __init__(self, flags: argparse.Namespace, gateway: Gateway) -> None:
        country = make_country(flags.seed, flags.cities, 0, flags.drivers_per_city)
        self._drivers: dict[str, Driver] = {d.driver_id: d for d in country.drivers}
        self._seed, self._time_scale, self._gateway = flags.seed, flags.time_scale, gateway
        self._trips: dict[tuple[str, str], Trip] = {}
        self._driven: Counter[str] = Counter()
        self._counts = {"pushes": 0, "not_heard": 0, "repeated": 0, "called_off": 0, "found_by_asking": 0}
        self.behaviour = Changeable(Behaviour())
        self.errands = Errands()

    def application(self) -> web.Application:
        app = application()
        app.router.add_post("/push", self._hear)
        app.router.add_get("/_sim/drivers", self._tell)
        self.behaviour.routes(app)
        return app

    async def _tell(self, _: web.Request) -> web.Response:
        counts = {**self._counts, "ended": Counter(trip.ended or "under_way" for trip in self._trips.values())}
        return told({"counts": counts, "cpu_s": cpu_s(), "trips": list(self._trips.values())})

    async def _hear(self, request: web.Request) -> web.Response:
        self._counts["pushes"] += 1
        if self.behaviour.now.deaf:
            self._counts["not_heard"] += 1
            return told({"error": "no signal"}, 503)
        try:
            push = msgspec.json.decode(await request.read(), type=Push)
        except msgspec.MsgspecError as error:
            return told({"error": str(error)}, 400)
        order_id, template = push.data.get("order_id"), push.data.get("template")
        if isinstance(order_id, str):
            self._take(push.to, order_id, assigned=template == _ASSIGNED)
        return web.Response(status=204)

    async def look_around(self, every_s: float) -> None:
        """Each driver asks now and then what they carry: a push may have got lost, or we may have been restarted."""
        while True:
            for driver_id in self._drivers:
                await asyncio.sleep(every_s / len(self._drivers))
                if not self.behaviour.now.deaf:
                    self.errands.start(self._ask(driver_id))

    async def _ask(self, driver_id: str) -> None:
        answer = await self._gateway.call("GET", "/v1/driver/orders", Caller(driver_id, "driver"))
        for order in answer.json().get("orders", ()):
            if (driver_id, order["order_id"]) not in self._trips:
                self._counts["found_by_asking"] += 1
                self._take(driver_id, order["order_id"], assigned=True)

    def _take(self, driver_id: str, order_id: str, *, assigned: bool) -> None:
        """A driver gets an order once: what is told again, or called off before it was told, sets nobody off."""
        trip = self._trips.get((driver_id, order_id))
        if not assigned:
            self._counts["called_off"] += 1
            if trip is not None and trip.ended is None:
                trip.ended = "called_off"
        elif trip is not None:
            self._counts["repeated"] += 1
        else:
            self._driven[driver_id] += 1
            dice = fate(self._seed, "trip", driver_id, self._driven[driver_id])
            trip = Trip(order_id=order_id, driver_id=driver_id, plan=self._plan(dice.random()), pushed_at=now())
            self._trips[driver_id, order_id] = trip
            self.errands.start(self._go(trip, dice))

    async def _go(self, trip: Trip, dice: Random) -> None:
        knobs = self.behaviour.now
        if trip.plan == "no_show":
            trip.ended = "no_show"
            return
        await self._wait(dice.uniform(knobs.least_to_restaurant_s, knobs.most_to_restaurant_s))
        if trip.ended:
            return
        if trip.plan == "release":
            trip.release_status = (await self._post(trip, "release")).status
            trip.released_at, trip.ended = now(), "released"
            return
        picked_up = await self._post(trip, "pick-up")
        trip.pick_up_status, trip.picked_up_at = picked_up.status, now()
        if not picked_up.ok:
            trip.ended = "not_picked_up"
            return
        way = dice.uniform(knobs.least_to_customer_s, knobs.most_to_customer_s)
        await self._wait(way / 2)
        if dice.random() < knobs.location_rate:
            await self._report(trip, dice)
        await self._wait(way / 2)
        delivered = await self._post(trip, "deliver")
        trip.deliver_status, trip.delivered_at = delivered.status, now()
        trip.ended = "delivered" if delivered.ok else "not_delivered"

    async def _wait(self, business_s: float) -> None:
        await asyncio.sleep(business_s / self._time_scale)

    async def _post(self, trip: Trip, verb: str) -> Answer:
        caller = Caller(trip.driver_id, "driver")
        path = f"/v1/driver/orders/{trip.order_id}/{verb}"
        return await self._gateway.insist("POST", path, caller, patience_s=120.0, conflicts=_NOT_YET)

    async def _report(self, trip: Trip, dice: Random) -> None:
        """Once on the way, and not again: a location that gets lost is not missed."""
        driver = self._drivers.get(trip.driver_id)
        if driver is None:
            return
        spot = {
            "latitude": round(driver.latitude + dice.uniform(-0.01, 0.01), 6),
            "longitude": round(driver.longitude + dice.uniform(-0.01, 0.01), 6),
        }
        await self._gateway.call("PUT", "/v1/driver/location", Caller(trip.driver_id, "driver"), spot)

    def _plan(self, throw: float) -> Plan:
        knobs = self.behaviour.now
        if knobs.no_show_next > 0:
            knobs.no_show_next -= 1
            return "no_show"
        if knobs.release_next > 0:
            knobs.release_next -= 1
            return "release"
        if throw < knobs.no_show_rate:
            return "no_show"
        return "release" if throw < knobs.no_show_rate + knobs.release_rate else "deliver"


async def _main(flags: argparse.Namespace) -> None:
    stop = stop_event()
    async with open_gateway(load_settings()) as gateway:
        drivers = Drivers(flags, gateway)
        async with listening(drivers.application(), flags.host, flags.port):
            if flags.ask_every_s > 0:
                drivers.errands.start(drivers.look_around(flags.ask_every_s))
            await stop.wait()
        await drivers.errands.end()


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation.drivers", description="The drivers of the country, simulated.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=58104, help="0: one that is free; it is printed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cities", type=int, default=CITIES)
    parser.add_argument("--drivers-per-city", type=int, default=DRIVERS_PER_CITY)
    parser.add_argument("--ask-every-s", type=float, default=600.0, help="each driver asks what they carry; 0: never")
    parser.add_argument("--time-scale", type=float, default=1.0, help="60: a minute of driving takes a second")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_main(_flags()))
