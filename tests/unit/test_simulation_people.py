"""Customers, restaurants and drivers against a gateway that is a few lines of HTTP."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import aiohttp
import jwt
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from simulation.client import Gateway
from simulation.country import make_country
from simulation.customers import Customers
from simulation.drivers import Drivers
from simulation.ordering import fill_basket, place
from simulation.records import Book, Record, Streamed
from simulation.restaurants import Restaurants
from simulation.serving import fate
from simulation.watching import Event, Watcher, note, substitutes

SECRET = "a secret of the tests, thirty-two long"
FLAGS = argparse.Namespace(
    seed=1, cities=2, restaurants_per_city=2, drivers_per_city=2, time_scale=1_000_000.0, customers_url=""
)
COUNTRY = make_country(1, 2, 2, 2)
Asked = tuple[str, str, dict[str, str], bytes]


class Door:
    """A gateway that remembers what it was asked, and answers what the test wants."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: Callable[[Asked], tuple[int, object]] = lambda _: (200, {})
        self.gateway: Gateway

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = (request.method, request.path, headers, await request.read())
        self.asked.append(asked)
        status, body = self.answers(asked)
        return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.asked]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def door(session: aiohttp.ClientSession) -> AsyncIterator[Door]:
    door = Door()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", door.answer)
    async with TestServer(app) as server:
        door.gateway = Gateway(session, str(server.make_url("")).rstrip("/"), SECRET)
        yield door


@pytest.fixture
async def restaurants(door: Door, session: aiohttp.ClientSession) -> AsyncIterator[tuple[Restaurants, TestServer]]:
    restaurants = Restaurants(FLAGS, door.gateway, session)
    restaurants.behaviour.now.reject_rate = restaurants.behaviour.now.unavailable_rate = 0
    restaurants.behaviour.now.closing_rate = restaurants.behaviour.now.silent_rate = 0
    async with TestServer(restaurants.application()) as server:
        yield restaurants, server
    await restaurants.errands.end()


async def test_an_order_whose_answer_is_uncertain_is_sent_again_under_the_same_key(door: Door) -> None:
    answers = iter([(503, {}), (201, {"order_id": "ord_1", "subtotal": {"amount_minor": 9, "currency": "EUR"}})])
    door.answers = lambda _: next(answers)
    record, book = _record(), Book(None)
    book.open(record)
    assert await place(door.gateway, book, record, _request(), patience_s=30)
    assert [headers["idempotency-key"] for _, _, headers, _ in door.asked] == ['"key-1"', '"key-1"']
    assert door.asked[0][3] == door.asked[1][3]
    assert (record.order_id, record.subtotal, record.attempts) == ("ord_1", 9, 2)
    assert book.summary()["latency_ms"] == {"n": 0}
    assert book.summary()["retried_total_ms"]["n"] == 1


async def test_a_refused_order_is_not_sent_again(door: Door) -> None:
    door.answers = lambda _: (422, {"type": "/problems/restaurant-closed"})
    record = _record()
    assert not await place(door.gateway, Book(None), record, _request(), patience_s=30)
    assert (record.status, record.problem, record.attempts) == ("refused", "/problems/restaurant-closed", 1)


async def test_a_token_says_who_calls_in_which_role(door: Door) -> None:
    await place(door.gateway, Book(None), _record(), _request(), patience_s=0)
    claims = jwt.decode(door.asked[0][2]["authorization"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["role"]) == ("cus_1", "customer")


async def test_a_customer_calls_off_the_order_in_the_state_they_wait_for(door: Door) -> None:
    states = iter(["placed", "payment_processing", "payment_confirmed"])
    door.answers = lambda asked: (200, {"status": next(states)} if asked[0] == "GET" else {})
    record = _record(order_id="ord_1")
    await Watcher(door.gateway, Book(None), 30).cancel_at(record, "payment_confirmed")
    assert door.paths()[-1] == "/v1/orders/ord_1/cancel"
    assert record.cancelled is not None
    assert (record.cancelled.state_seen, record.cancelled.status, record.outcome) == ("payment_confirmed", 200, "cancelled")


async def test_too_late_to_cancel_is_an_answer_and_is_recorded(door: Door) -> None:
    door.answers = lambda asked: (200, {"status": "picked_up"}) if asked[0] == "GET" else (409, {})
    record = _record(order_id="ord_1")
    await Watcher(door.gateway, Book(None), 30).cancel_at(record, "driver_assigned")
    assert record.cancelled is not None
    assert (record.cancelled.status, record.outcome) == (409, None)


async def test_a_restaurant_answers_what_it_was_told(door: Door, restaurants: tuple[Restaurants, TestServer]) -> None:
    people, server = restaurants
    assert await _tell(server, 3) == 204
    await _quiet(people)
    assert door.paths() == ["/v1/restaurant/orders/ord_1/accept"]


async def test_a_late_notification_of_a_cancelled_order_is_taken_but_not_answered(
    door: Door, restaurants: tuple[Restaurants, TestServer]
) -> None:
    people, server = restaurants
    assert await _tell(server, 4, "order.cancelled") == 204
    assert await _tell(server, 3) == 204
    await _quiet(people)
    assert door.paths() == []


async def test_a_webhook_with_a_false_signature_is_refused(door: Door, restaurants: tuple[Restaurants, TestServer]) -> None:
    _, server = restaurants
    assert await _tell(server, 3, secret=COUNTRY.restaurants[1].webhook_secret) == 401
    assert door.paths() == []


async def test_a_restaurant_in_an_outage_answers_503(restaurants: tuple[Restaurants, TestServer]) -> None:
    people, server = restaurants
    people.behaviour.now.outage = True
    assert await _tell(server, 3) == 503


async def test_a_driver_who_is_told_twice_drives_once(door: Door, session: aiohttp.ClientSession) -> None:
    drivers = Drivers(FLAGS, door.gateway)
    drivers.behaviour.now.no_show_rate = drivers.behaviour.now.release_rate = 0
    drivers.behaviour.now.location_rate = 1
    push = {"to": COUNTRY.drivers[0].driver_id, "data": {"template": "driver_assigned", "order_id": "ord_1"}}
    async with TestServer(drivers.application()) as server:
        for _ in range(2):
            async with session.post(server.make_url("/push"), json=push) as answer:
                assert answer.status == 204
        await _quiet(drivers)
    assert door.paths() == [
        "/v1/driver/orders/ord_1/pick-up", "/v1/driver/location", "/v1/driver/orders/ord_1/deliver",
    ]  # fmt: skip


async def test_a_driver_who_does_not_show_up_says_nothing(door: Door, session: aiohttp.ClientSession) -> None:
    drivers = Drivers(FLAGS, door.gateway)
    drivers.behaviour.now.no_show_next = 1
    push = {"to": COUNTRY.drivers[0].driver_id, "data": {"template": "driver_assigned", "order_id": "ord_1"}}
    async with TestServer(drivers.application()) as server:
        async with session.post(server.make_url("/push"), json=push) as answer:
            assert answer.status == 204
        await _quiet(drivers)
    assert door.paths() == []


def test_events_are_read_line_by_line_and_a_missing_id_is_a_gap() -> None:
    watched = _streamed(
        ["id: 1", "event: order.placed", "data: {}", "", ":", "", "id: 3", 'data: {"type": "payment.failed"}', ""]
    )
    assert watched.events == ["order.placed", "payment.failed"]
    assert (watched.last_id, watched.gaps) == (3, 1)


def test_a_substitute_is_on_the_menu_and_costs_no_more() -> None:
    order = {
        "items": [{"item_id": "a", "quantity": 2, "unit_price": {"amount_minor": 500}}],
        "decision": {"unavailable_items": ["a"]},
    }
    menu = [
        {"item_id": name, "available": available, "unit_price": {"amount_minor": price}}
        for name, available, price in [
            ("a", True, 500),
            ("b", True, 600),
            ("c", True, 450),
            ("d", False, 499),
            ("e", True, 300),
        ]
    ]
    assert substitutes(order, menu) == [{"item_id": "c", "quantity": 2}]


def _streamed(lines: list[str]) -> Streamed:
    seen, event = Streamed(), Event()
    for line in lines:
        if event.take(line):
            note(seen, event)
            event = Event()
    return seen


def _record(order_id: str | None = None) -> Record:
    return Record(
        n=1, order_id=order_id, customer_id="cus_1", restaurant_id="rst_1", city="x", payment_method_id="pm_1", plot="plain",
        key="key-1", sent_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def _request() -> dict[str, object]:
    return fill_basket(fate(1), COUNTRY, 0).request(COUNTRY.customer(0), "x", "pm_1")


async def _tell(server: TestServer, position: int, kind: str = "order.new", secret: str = "") -> int:
    restaurant = COUNTRY.restaurants[0]
    body = msgspec.json.encode({"type": kind, "order_id": "ord_1", "position": position, "items": []}).decode()
    at = datetime.now(UTC)
    headers = {
        "webhook-id": f"msg_{position}",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret or restaurant.webhook_secret).sign(f"msg_{position}", at, body),
    }
    url = server.make_url(f"/restaurants/{restaurant.restaurant_id}/webhook")
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
        return answer.status


async def _quiet(people: Restaurants | Drivers) -> None:
    """Until nobody does anything any more."""
    async with asyncio.timeout(10):
        await people.errands.idle()


async def test_the_next_customers_do_what_they_are_asked_to_do(door: Door) -> None:
    door.answers = lambda _: (201, {"order_id": "ord_1"})
    flags = {**vars(FLAGS), "rate": 40.0, "peak": 0.0, "duration_s": 0.5, "patience_s": 0.0}
    book = Book(None)
    customers = Customers(argparse.Namespace(**flags), door.gateway, book)
    customers.behaviour.now.stream_rate = 0
    customers.behaviour.now.plots_next = ["declined", "cancel_at_placed"]
    await customers.spend_the_evening(0)
    await customers.errands.idle()
    plots = [record.plot for record in book.records]
    assert "declined" in plots
    assert "cancel_at_placed" in plots
    assert "/v1/orders/ord_1/cancel" in door.paths()
