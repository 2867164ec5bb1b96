"""Following an order, the payment provider's events, and what machines ask."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx
import msgspec
import pytest

from adapters.postgres import Pool, connect, open_pool
from gateway import sql
from gateway.app import create_app
from gateway.context import Gateway
from gateway.watch import Watch
from orders.decide import Cause, Wish, system
from orders.lifecycle import Action
from outbox.transition import move, waits
from tests.integration.gateway_world import World, gateway_settings, served, world

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def _watching(world: World) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    world.watch._closed = False
    running = asyncio.create_task(world.watch.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(running, 5)
        world.watch._closed = False


async def _positions(world: World, order_id: str, after: int, count: int) -> list[int]:
    found: list[int] = []
    events = world.watch.follow(order_id, after)
    async for fact in events:
        if fact is not None:
            found.append(fact.position or 0)
        if len(found) == count:
            break
    await events.aclose()
    return found


async def test_all_who_follow_an_order_get_each_step_once_in_order_from_where_they_left(world: World) -> None:
    order_id = await world.paid()
    async with _watching(world):
        first = asyncio.create_task(_positions(world, order_id, 0, 5))
        second = asyncio.create_task(_positions(world, order_id, 2, 3))
        await asyncio.wait_for(_positions(world, order_id, 0, 3), 5)
        await world.do(order_id, Action.NOTIFY_RESTAURANT)
        await world.http.post(f"/v1/restaurant/orders/{order_id}/accept", headers=world.as_restaurant)
        assert await asyncio.wait_for(first, 5) == [1, 2, 3, 4, 5]
        assert await asyncio.wait_for(second, 5) == [3, 4, 5]
        assert not world.watch._orders


async def test_the_stream_of_an_order_ends_when_nothing_more_will_come(world: World) -> None:
    order_id = await world.placed()
    async with _watching(world):
        url = f"/v1/orders/{order_id}/events"
        following = asyncio.create_task(world.http.get(url, headers=world.as_customer))
        await world.http.post(f"/v1/orders/{order_id}/cancel", headers=world.as_customer)
        answer = await asyncio.wait_for(following, 5)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [block for block in answer.text.replace("\r\n", "\n").split("\n\n") if "data:" in block]
        assert [block.split("\n")[:2] for block in events] == [
            ["id: 1", "event: order.placed"],
            ["id: 2", "event: order.cancelled"],
        ]
        last = json.loads(events[-1].partition("data: ")[2])
        assert (last["position"], last["status"]) == (2, "cancelled")
        resumed = await world.http.get(url, headers={**world.as_customer, "Last-Event-ID": "1"})
        assert resumed.text.count("data:") == 1
        done = await world.http.get(url, headers={**world.as_customer, "Last-Event-ID": "2"})
        assert (done.status_code, done.content) == (204, b"")


async def test_a_quiet_stream_is_kept_alive_and_ends_with_the_process(world: World) -> None:
    order_id = await world.paid()
    async with _watching(world) as stop:
        following = asyncio.create_task(
            world.http.get(f"/v1/orders/{order_id}/events", headers={**world.as_customer, "Last-Event-ID": "3"})
        )
        await asyncio.sleep(0.5)
        stop.set()
        answer = await asyncio.wait_for(following, 5)
        assert ": still here" in answer.text
        assert "data:" not in answer.text


def _event(world: World, kind: str, intent: str, order_id: str, at: datetime) -> tuple[bytes, dict[str, str]]:
    thing = {"id": intent, "object": "payment_intent", "metadata": {"order_id": order_id}, "status": "succeeded"}
    body = json.dumps({"id": "evt_1", "object": "event", "type": kind, "created": 1, "data": {"object": thing}}).encode()
    stamp = int(at.timestamp())
    secret = world.settings.stripe_webhook_secret.encode()
    signature = hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return body, {"Stripe-Signature": f"t={stamp},v1={signature}", "Content-Type": "application/json"}


async def test_an_event_of_the_provider_issues_a_charge_that_takes_long_again_with_its_own_identity(world: World) -> None:
    order_id = await world.placed()
    charge = await world.pool.fetchval(
        "SELECT event_id FROM outbox WHERE aggregate_id = $1 AND type = 'payment.charge'", order_id
    )
    intent = f"pi_{order_id[4:]}"
    cause = Cause(id=charge, actor=system("payments"), service="payments", last=False)
    wish = Wish(action=Action.BEGIN_PAYMENT, changes={"payment_intent_id": intent})
    await move(world.pool, order_id, wish, cause, waits(world.settings))
    for patience, reissued in ((5, 0), (15, 1)):
        world.at[:] = [datetime.now(UTC) + timedelta(seconds=patience)]
        body, headers = _event(world, "payment_intent.succeeded", intent, order_id, world.at[0])
        answer = await world.http.post("/webhooks/stripe", content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"reissued": reissued}), answer.text
    again = "SELECT count(*) FROM outbox WHERE event_id = $1"
    assert await world.count(again, charge) == 2
    for kind in ("charge.refunded", "payment_intent.created"):
        body, headers = _event(world, kind, intent, order_id, world.at[0])
        assert (await world.http.post("/webhooks/stripe", content=body, headers=headers)).json() == {"reissued": 0}


async def test_an_event_that_the_provider_did_not_sign_is_refused(world: World) -> None:
    body, headers = _event(world, "payment_intent.succeeded", "pi_x", "ord_x", datetime.now(UTC))
    old, stale = _event(world, "payment_intent.succeeded", "pi_x", "ord_x", datetime.now(UTC) - timedelta(minutes=6))
    for content, given in (
        (body + b" ", headers), (body, {}), (body, {"Stripe-Signature": "t=x,v1=y"}), (b"", headers), (old, stale), (b"{}", headers),
    ):  # fmt: skip
        answer = await world.http.post("/webhooks/stripe", content=content, headers=given)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (400, "bad-signature"), answer.text


async def test_machines_are_answered_without_a_token(world: World) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/schema", "/schema/openapi.json"):
        answer = await world.http.get(path)
        assert answer.status_code == 200, (path, answer.text)
    text = (await world.http.get("/metrics")).text
    assert 'rushline_http_requests_total{method="GET",route="/livez",status="200"}' in text
    assert "http" not in (await world.http.get("/schema")).text.replace("https://rushline.dev", "")
    home = await world.http.get("/")
    assert home.status_code in {302, 307, 303}


async def test_without_the_database_nothing_is_ready_and_nobody_sees_a_500(world: World) -> None:
    settings = msgspec.structs.replace(world.settings, database_pool_size=2)
    async with _Cut(settings.postgres_dsn) as cut, open_pool(cut.dsn, service="test", size=2) as pool:
        app = create_app(Gateway(settings, pool, waits(settings), Watch(pool)))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            assert (await http.get("/readyz")).status_code == 200
            await cut.off()
            for method, path, headers, body in (
                ("GET", "/readyz", {}, None),
                ("GET", "/v1/orders", world.as_customer, None),
                ("POST", "/v1/orders", {**world.as_customer, "Idempotency-Key": "k"}, world.order()),
                ("POST", "/v1/orders/ord_01958f6e-0000-7000-8000-000000000001/cancel", world.as_customer, {}),
                ("PUT", "/v1/driver/location", world.as_driver, {"latitude": 1, "longitude": 1}),
            ):
                answer = await http.request(method, path, headers=headers, json=body)
                assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1"), (path, answer.text)
                assert answer.json()["type"].endswith("/unavailable")
            assert (await http.get("/livez")).status_code == 200


class _Cut:
    """A way to PostgreSQL that can be cut."""

    def __init__(self, dsn: str) -> None:
        self._host, _, port = dsn.rpartition("@")[2].partition("/")[0].partition(":")
        self._port = int(port)
        self._dsn = dsn
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.dsn = self._dsn.replace(f"{self._host}:{self._port}", f"127.0.0.1:{port}")
        return self

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, back]

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65_536):
                    target.write(data)
                    await target.drain()
            target.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    async def off(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def __aexit__(self, *_: object) -> None:
        await self.off()


async def test_every_statement_fits_the_schema(world: World) -> None:
    statements: dict[str, Any] = {name: text for name, text in vars(sql).items() if name.isupper()}
    assert len(statements) > 10
    async with connect(world.settings.postgres_dsn, service="test") as conn:
        for text in statements.values():
            await conn.prepare(text)


async def test_listings_are_read_by_an_index(world: World) -> None:
    pool: Pool = world.pool
    for text, arguments in (
        (sql.CUSTOMER_ORDERS, ("'c'", "now()", "'o'", "20")),
        (sql.RESTAURANT_ORDERS, ("'r'", "now()", "'o'", "20", "NULL")),
    ):
        statement: str = text
        for number, value in reversed(list(enumerate(arguments, 1))):
            statement = statement.replace(f"${number}", value)
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("SET LOCAL enable_seqscan = off")
            plan = "\n".join(row[0] for row in await conn.fetch(f"EXPLAIN {statement}"))
        assert "Index" in plan, plan
