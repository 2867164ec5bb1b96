"""Webhooks, both ways: ours to restaurants by Standard Webhooks, the payment provider's to us by its own scheme."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from adapters.payments import BadSignature
from adapters.settings import Settings
from adapters.stripe import verify_event
from adapters.webhooks import BadPeerAddress, PeerRefused, PeerUnavailable, WebhookAnswer, Webhooks, signed_headers
from simulation.provider.webhooks import sign

SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()
NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
EVENT = b'{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1","object":"payment_intent","metadata":{"order_id":"ord_1"}}}}'


class Peer:
    """A restaurant's server: answers as told, remembers what came."""

    def __init__(self) -> None:
        self.status = 200
        self.location: str | None = None
        self.arrived: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.arrived.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=self.status, headers={"Location": self.location} if self.location else {})


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    it = Peer()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", it.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}/orders"
    yield it
    await runner.cleanup()


@pytest.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    async with Webhooks(Settings(webhook_timeout_ms=500)) as it:
        yield it


async def test_a_restaurant_can_verify_what_it_gets(peer: Peer, webhooks: Webhooks) -> None:
    body = '{"order":"ord_1","note":"crème brûlée"}'.encode()
    now = datetime.now(UTC)
    assert await webhooks.send(peer.url, SECRET, "evt_1", body, now) == WebhookAnswer(200)
    headers, arrived = peer.arrived[0]
    assert (headers["webhook-id"], arrived) == ("evt_1", body)
    assert Webhook(SECRET).verify(arrived, headers) == {"order": "ord_1", "note": "crème brûlée"}


def test_the_signature_does_not_depend_on_the_time_zone_that_the_time_is_told_in() -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert signed_headers(SECRET, "evt_1", b"{}", NOW) == signed_headers(SECRET, "evt_1", b"{}", elsewhere)


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
async def test_a_peer_in_trouble_is_tried_again_later(peer: Peer, webhooks: Webhooks, status: int) -> None:
    peer.status = status
    with pytest.raises(PeerUnavailable) as caught:
        await webhooks.send(peer.url, SECRET, "evt_1", b"{}", NOW)
    assert (caught.value.status, caught.value.host) == (status, "127.0.0.1")


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
async def test_a_peer_that_refuses_is_not_asked_again(peer: Peer, webhooks: Webhooks, status: int) -> None:
    peer.status = status
    with pytest.raises(PeerRefused) as caught:
        await webhooks.send(peer.url, SECRET, "evt_1", b"{}", NOW)
    assert caught.value.status == status


async def test_a_redirect_is_not_followed(peer: Peer, webhooks: Webhooks) -> None:
    peer.status, peer.location = 307, peer.url + "/elsewhere"
    with pytest.raises(PeerRefused):
        await webhooks.send(peer.url, SECRET, "evt_1", b"{}", NOW)
    assert len(peer.arrived) == 1


async def test_a_peer_that_is_not_there_is_tried_again_later(webhooks: Webhooks, unused_tcp_port: int) -> None:
    with pytest.raises(PeerUnavailable) as caught:
        await webhooks.send(f"http://127.0.0.1:{unused_tcp_port}/orders", SECRET, "evt_1", b"{}", NOW)
    assert caught.value.status is None


@pytest.mark.parametrize(
    "url", ["", "orders", "ftp://host/x", "http://", "http://u:p@host/x", "http://[::1/x", "http://host:99999/"]
)
async def test_an_address_that_cannot_be_posted_to_calls_an_operator(webhooks: Webhooks, url: str) -> None:
    with pytest.raises(BadPeerAddress):
        await webhooks.send(url, SECRET, "evt_1", b"{}", NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_ü"])
async def test_a_secret_that_is_none_calls_an_operator(peer: Peer, webhooks: Webhooks, secret: str) -> None:
    with pytest.raises(BadPeerAddress):
        await webhooks.send(peer.url, secret, "evt_1", b"{}", NOW)
    assert peer.arrived == []


def test_an_event_of_the_payment_provider_is_believed_by_its_signature() -> None:
    event = verify_event(EVENT, sign(EVENT, "whsec_x", int(NOW.timestamp())), "whsec_x", NOW)
    assert (event.id, event.type, event.intent_id, event.order_id) == ("evt_1", "payment_intent.succeeded", "pi_1", "ord_1")


def test_an_event_about_something_else_is_believed_too() -> None:
    other = b'{"id":"evt_2","type":"balance.available","data":{"object":{"object":"balance"}}}'
    event = verify_event(other, sign(other, "whsec_x", int(NOW.timestamp())), "whsec_x", NOW)
    assert (event.type, event.intent_id, event.order_id) == ("balance.available", "", "")


OLD = sign(EVENT, "whsec_x", int(NOW.timestamp()) - 301)


@pytest.mark.parametrize(
    ("payload", "header"),
    [
        (EVENT, ""),
        (EVENT, "nonsense"),
        (EVENT, "t=,v1="),
        (EVENT, f"t={int(NOW.timestamp())},v1=\u00fc"),
        (EVENT, f"t={int(NOW.timestamp())},v0=abc"),
        (EVENT, sign(EVENT, "whsec_other", int(NOW.timestamp()))),
        (EVENT.replace(b"pi_1", b"pi_2"), sign(EVENT, "whsec_x", int(NOW.timestamp()))),
        (EVENT, OLD),
        (EVENT, f"{OLD},t={int(NOW.timestamp())}"),
        (EVENT, sign(EVENT, "whsec_x", int(NOW.timestamp()) + 301)),
        (b"{}", sign(b"{}", "whsec_x", int(NOW.timestamp()))),
        (b"\xff", sign(b"\xff", "whsec_x", int(NOW.timestamp()))),
        (b"", sign(b"", "whsec_x", int(NOW.timestamp()))),
    ],
)
def test_an_event_that_cannot_be_believed_is_refused(payload: bytes, header: str) -> None:
    with pytest.raises(BadSignature):
        verify_event(payload, header, "whsec_x", NOW)


def test_without_a_secret_nothing_is_believed() -> None:
    with pytest.raises(BadSignature):
        verify_event(EVENT, sign(EVENT, "", int(NOW.timestamp())), "", NOW)
