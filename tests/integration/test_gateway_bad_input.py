"""What is wrong with a request is said by a problem that names the field; nothing of it is a 5xx."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from tests.integration.gateway_world import ALWAYS, World, gateway_settings, served, world

__all__ = ("gateway_settings", "served", "world")
pytestmark = pytest.mark.asyncio(loop_scope="module")


def _address(**changes: Any) -> dict[str, Any]:
    at = {"street": "Main Street 1", "city": "Berlin", "postal_code": "10115", "latitude": 52.5, "longitude": 13.4}
    return {"delivery_address": {**at, **changes}}


def _items(*items: Any) -> dict[str, Any]:
    return {"items": list(items)}


PIZZA = {"item_id": "itm_pizza", "quantity": 1}
MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"restaurant_id": 5}, "restaurant_id"),
    ({"restaurant_id": "rst_\x00"}, "restaurant_id"),
    ({"restaurant_id": "rst_nowhere"}, "restaurant_id"),
    ({"items": []}, "items"),
    ({"items": "all"}, "items"),
    (_items(*[PIZZA] * 51), "items"),
    (_items(PIZZA, {"item_id": "itm_none", "quantity": 1}), "items[1].item_id"),
    (_items({"item_id": "itm_soup", "quantity": 1}), "items[0].item_id"),
    (_items({"item_id": "a b", "quantity": 1}), "items[0].item_id"),
    (_items({"item_id": "itm_pizza", "quantity": 0}), "items[0].quantity"),
    (_items({"item_id": "itm_pizza", "quantity": 100}), "items[0].quantity"),
    (_items({"item_id": "itm_pizza", "quantity": 1.5}), "items[0].quantity"),
    (_items({"item_id": "itm_pizza", "quantity": "1"}), "items[0].quantity"),
    (_items({"item_id": "itm_pizza", "quantity": True}), "items[0].quantity"),
    (_items({"item_id": "itm_pizza", "quantity": 10**400}), "items[0].quantity"),
    (_items({"item_id": "itm_pizza", "quantity": 60}, {"item_id": "itm_pizza", "quantity": 60}), "items[1].quantity"),
    (_items({"item_id": "itm_pizza"}), "items[0].quantity"),
    (_items({**PIZZA, "unit_price": 1}), "items[0].unit_price"),
    (_items({"item_id": "itm_gold", "quantity": 2}), "items"),
    ({"payment_method_id": "card"}, "payment_method_id"),
    ({"payment_method_id": "pm_"}, "payment_method_id"),
    ({"payment_method_id": "pm_a\n"}, "payment_method_id"),
    ({"payment_method_id": "pm_" + "a" * 101}, "payment_method_id"),
    ({"payment_method_id": None}, "payment_method_id"),
    ({"delivery_address": None}, "delivery_address"),
    (_address(street=""), "delivery_address.street"),
    (_address(street="a" * 201), "delivery_address.street"),
    (_address(street="a\x00b"), "delivery_address.street"),
    (_address(street="a\x1b[2Jb"), "delivery_address.street"),
    (_address(street="last line\n"), "delivery_address.street"),
    (_address(city=["Berlin"]), "delivery_address.city"),
    (_address(postal_code="1" * 21), "delivery_address.postal_code"),
    (_address(latitude=90.1), "delivery_address.latitude"),
    (_address(latitude="52"), "delivery_address.latitude"),
    (_address(longitude=-180.5), "delivery_address.longitude"),
    (_address(longitude=10**400), "delivery_address.longitude"),
    (_address(country="DE"), "delivery_address.country"),
    ({"tip": 5}, "tip"),
]


@pytest.mark.parametrize(("changes", "field"), MALFORMED, ids=[f"{n}-{field}" for n, (_, field) in enumerate(MALFORMED)])
async def test_a_field_that_cannot_be_used_is_named(world: World, changes: dict[str, Any], field: str) -> None:
    answer = await world.place(**changes)
    problem = answer.json()
    assert answer.status_code == 422, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in {error["field"] for error in problem["errors"]}, problem
    assert problem["type"].startswith("https://rushline.dev/problems/")
    assert problem["remedy"]
    assert await world.count("SELECT count(*) FROM orders WHERE customer_id = $1", world.customer) == 0


@pytest.mark.parametrize("missing", ["restaurant_id", "items", "delivery_address", "payment_method_id"])
async def test_a_field_that_is_missing_is_named(world: World, missing: str) -> None:
    body = world.order()
    del body[missing]
    answer = await world.http.post("/v1/orders", json=body, headers={**world.as_customer, "Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, missing)


@pytest.mark.parametrize(
    ("content", "status", "slug"),
    [
        (b"", 400, "malformed-json"),
        (b"{", 400, "malformed-json"),
        (b"\xff\xfe", 400, "malformed-json"),
        (b'{"restaurant_id": "\xff"}', 400, "malformed-json"),
        (b'{"restaurant_id": "\\ud800"}', 400, "malformed-json"),
        (b'{"restaurant_id": NaN}', 400, "malformed-json"),
        (b'{"restaurant_id": Infinity}', 400, "malformed-json"),
        (b"null", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b'"text"', 422, "invalid"),
        (b'{"items": ' + b"[" * 60_000, 422, "invalid"),
        (b"x" * 65_537, 413, "body-too-large"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(world: World, content: bytes, status: int, slug: str) -> None:
    headers = {**world.as_customer, "Idempotency-Key": "k", "Content-Type": "application/json"}
    answer = await world.http.post("/v1/orders", content=content, headers=headers)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, slug), answer.text


async def test_a_body_of_another_type_is_refused(world: World) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/msgpack"):
        headers = {**world.as_customer, "Idempotency-Key": "k", "Content-Type": kind}
        answer = await world.http.post("/v1/orders", content=json.dumps(world.order()), headers=headers)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (415, "unsupported-media-type"), kind


def _signed(secret: str, **claims: Any) -> str:
    now = datetime.now(UTC)
    good = {"sub": "cus_x", "role": "customer", "iat": now - timedelta(minutes=2), "exp": now + timedelta(minutes=2)}
    return jwt.encode({k: v for k, v in {**good, **claims}.items() if v is not None}, secret)


async def test_a_token_that_cannot_be_believed_is_refused(world: World) -> None:
    ours, now = world.settings.jwt_secret, datetime.now(UTC)
    tokens = [
        "", "Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer " + "é" * 3, "Bearer " + "A" * 9000,
        f"Basic {_signed(ours)}",
        "Bearer " + _signed("y" * 40),
        "Bearer " + jwt.encode({"sub": "cus_x", "role": "customer", "iat": 1, "exp": 9e9}, "", algorithm="none"),
        *("Bearer " + _signed(ours, **claims) for claims in (
            {"exp": now - timedelta(seconds=1)}, {"exp": None}, {"sub": None}, {"sub": ""}, {"sub": "a\nb"}, {"sub": "c" * 129},
            {"role": None}, {"role": "system"}, {"role": "king"}, {"role": ["customer"]}, {"exp": 1e300}, {"extras": [1], "x": 1},
            {"iat": now + timedelta(hours=1)},
        )),
    ]  # fmt: skip
    for token in tokens:
        headers: Any = {"Authorization": token.encode("latin-1")}
        answer = await world.http.get("/v1/orders", headers=headers)
        assert answer.status_code == 401, (token, answer.text)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["type"].endswith("/unauthenticated")
    assert (await world.http.get("/v1/orders", headers={"Authorization": f"bearer {_signed(ours)}"})).status_code == 200


async def test_addresses_that_do_not_exist_and_methods_that_do_not_fit_are_refused(world: World) -> None:
    for path in (
        "/nowhere",
        "/v1/orders/ord_1",
        "/v1/orders/%00",
        "/v1/orders/%ff",
        "/v1/restaurants/%00/menu",
        "/v1/orders/..%2f",
    ):
        answer = await world.http.get(path, headers=world.as_customer)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found"), path
    answer = await world.http.delete("/v1/orders", headers=world.as_customer)
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": "a" * 201}, "cursor"),
        ({"cursor": "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgIm9yZCJd"}, "cursor"),
        ({"cursor": "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsICJcdTAwMDAiXQ=="}, "cursor"),
        ({"cursor": "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwgIm9yZCJd"}, "cursor"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(world: World, params: dict[str, str], field: str) -> None:
    answer = await world.http.get("/v1/orders", params=params, headers=world.as_customer)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


async def test_odd_listing_parameters_are_refused_or_empty(world: World) -> None:
    state = await world.http.get("/v1/restaurant/orders", params={"state": "burnt"}, headers=world.as_restaurant)
    assert (state.status_code, state.json()["errors"][0]["field"]) == (422, "state")
    city = await world.http.get("/v1/restaurants", params={"city": "a\x00"}, headers=world.as_customer)
    assert (city.status_code, city.json()["errors"][0]["field"]) == (422, "city")
    event = await world.http.get(
        f"/v1/orders/{await world.placed()}/events", headers={**world.as_customer, "Last-Event-ID": "-1"}
    )
    assert (event.status_code, event.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_hours_and_menus_that_cannot_be_are_refused(world: World) -> None:
    for hours, field in (
        ({"monday": [["9:00", "10:00"]]}, "hours.monday[0][0]"),
        ({"monday": [["24:00", "10:00"]]}, "hours.monday[0][0]"),
        ({"monday": [["09:00"]]}, "hours.monday[0]"),
        ({"monday": [["09:00", "25:00"]]}, "hours.monday[0][1]"),
        ({"monday": [["09:00", "10:00\n"]]}, "hours.monday[0][1]"),
        ({"mon": []}, "hours.mon"),
        ({"monday": "always"}, "hours.monday"),
    ):
        answer = await world.http.put("/v1/restaurant/hours", json={"hours": hours}, headers=world.as_restaurant)
        problem = answer.json()
        assert answer.status_code == 422, problem
        assert problem["errors"][0]["field"].replace("[...]", "[0]").startswith(field.rpartition("[")[0] or field), problem
    for zone in ("Mars/Olympus", "../etc/passwd", "", "a\x00"):
        answer = await world.http.put(
            "/v1/restaurant/hours", json={"hours": ALWAYS, "time_zone": zone}, headers=world.as_restaurant
        )
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "time_zone")
    good = {"item_id": "itm_a", "name": "A", "unit_price": {"amount_minor": 100, "currency": "EUR"}}
    for items in (
        [], [good, good], [{**good, "name": "a\x00"}], [{**good, "unit_price": {"amount_minor": 0, "currency": "EUR"}}],
        [{**good, "unit_price": {"amount_minor": 100, "currency": "USD"}}], [{**good, "unit_price": 100}],
        [{**good, "unit_price": {"amount_minor": 10**9, "currency": "EUR"}}],
    ):  # fmt: skip
        answer = await world.http.put("/v1/restaurant/menu", json={"items": items}, headers=world.as_restaurant)
        assert (answer.status_code, answer.json()["errors"][0]["field"][:5]) == (422, "items"), (items, answer.text)


async def test_positions_of_drivers_are_bounded(world: World) -> None:
    for latitude in (math.pi * 100, -91, "x", None):
        body = {"latitude": latitude, "longitude": 0}
        answer = await world.http.put("/v1/driver/location", json=body, headers=world.as_driver)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "latitude")
    for pole in (90, -90):
        answer = await world.http.put("/v1/driver/location", json={"latitude": pole, "longitude": 180}, headers=world.as_driver)
        assert answer.status_code == 200
    answer = await world.http.put(
        "/v1/driver/location", json={"latitude": 1, "longitude": 1}, headers=world.token("driver", "drv_new")
    )
    assert answer.status_code == 404


async def test_every_answer_says_which_request_it_belongs_to(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    known = await world.http.get("/nowhere", headers={"X-Request-Id": "abc-1", "traceparent": trace})
    assert known.headers["x-request-id"] == "abc-1"
    assert known.headers["traceparent"].split("-")[1] == trace.split("-")[1]
    odd = await world.http.get("/livez", headers={"X-Request-Id": "a b", "traceparent": "00-0-0-0"})
    assert odd.headers["x-request-id"] != "a b"
    assert len(odd.headers["traceparent"]) == 55
