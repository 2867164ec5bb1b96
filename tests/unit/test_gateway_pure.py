"""What of the gateway needs no server: keys, bodies, menus, problems, traces, settings."""

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from adapters.settings import BadSettingError, Settings
from console.token import token
from gateway import problems
from gateway.auth import bearer
from gateway.bodies import read
from gateway.edge import arrival_of
from gateway.idempotency import KeyMalformed, KeyMissing, fingerprint, read_key
from gateway.menu import lines_for
from gateway.schemas import Item, PlaceOrder
from gateway.support_search import leading_to
from orders.errors import CallAnOperator, Invalid, LostRace, NotAllowed, NotFound, RushlineError, Stale
from orders.menu import same_by_name
from orders.money import Line
from orders.names import State


@pytest.mark.parametrize(
    ("state", "actions"),
    [
        (State.PLACED, ["order.placed"]), (State.DELIVERED, ["driver.delivered", "order.completed"]),
        (State.CANCELLED, ["fraud.detected", "order.cancelled"]), (State.PICKED_UP, ["driver.picked_up"]),
        (State.RESTAURANT_ACCEPTED, ["driver.released", "restaurant.accepted"]),
    ],
)  # fmt: skip
def test_a_search_by_state_asks_for_the_actions_that_lead_there(state: State, actions: list[str]) -> None:
    assert leading_to(state) == actions


def test_every_state_has_an_action_that_leads_there() -> None:
    assert all(leading_to(state) for state in State)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (r'"a \"b\" c"', 'a "b" c'),
        ('"a";p=1', "a"),
        ("  abc ", "abc"),
    ],
)
def test_a_key_is_a_structured_field_string_or_a_bare_token(header: str, key: str) -> None:
    assert read_key([header]) == key


@given(st.text(max_size=300))
def test_whatever_is_sent_as_a_key_is_a_key_or_is_refused(header: str) -> None:
    try:
        key = read_key([header])
    except (KeyMissing, KeyMalformed):
        return
    assert 1 <= len(key) <= 255
    assert key.isascii()
    assert key.isprintable()


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: msgspec.json.encode({"items": text})))
def test_whatever_is_sent_as_a_body_is_an_order_or_a_problem(body: bytes) -> None:
    with pytest.raises(problems.Problem) as caught:
        read(PlaceOrder, body, "application/json")
    assert caught.value.status_code in {400, 422}


def test_the_same_order_in_another_spelling_is_the_same_request() -> None:
    body = b'{"restaurant_id":"r","items":[{"item_id":"i","quantity":1}],"payment_method_id":"pm_a","delivery_address":%s}'
    one = body % b'{"street":"s","city":"c","postal_code":"1","latitude":1,"longitude":2.0}'
    two = body % b'{ "longitude": 2, "latitude":1.0, "city":"c","postal_code":"1","street":"\\u0073"}'
    assert fingerprint(read(PlaceOrder, one, "")) == fingerprint(read(PlaceOrder, two, "application/json; charset=utf-8"))


def _row(item_id: str, name: str, price: int, *, available: bool = True) -> dict[str, object]:
    return {"item_id": item_id, "name": name, "unit_price": price, "available": available}


def test_every_item_that_cannot_be_ordered_is_named_at_once() -> None:
    items = [Item(item_id=i, quantity=1) for i in ("a", "b", "c")]
    with pytest.raises(problems.InvalidFields) as caught:
        lines_for(items, [_row("a", "A", 1), _row("b", "B", 1, available=False)])
    assert [field for field, _ in caught.value.errors] == ["items[1].item_id", "items[2].item_id"]


def test_another_restaurant_serves_an_item_of_the_same_name_at_its_cheapest() -> None:
    menu = [_row("x", "Pizza", 900), _row("y", "Pizza", 800), _row("z", "Cola", 200)]
    assert same_by_name([Line("a", "Pizza", 2, 1000)], menu) == (Line("y", "Pizza", 2, 800),)
    assert same_by_name([Line("a", "Soup", 1, 1000)], menu) is None


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (NotAllowed("accept", "placed"), 409, "action-not-allowed"),
        (NotFound("x"), 404, "not-found"),
        (Invalid("a.b", "no"), 422, "invalid"),
        (LostRace("x"), 503, "unavailable"),
        (Stale("x"), 409, "action-not-allowed"),
        (CallAnOperator("secret"), 500, "internal"),
        (RushlineError("secret"), 500, "internal"),
    ],
)
def test_each_kind_of_error_has_its_problem(error: RushlineError, status: int, slug: str) -> None:
    problem = problems.of_ours(error)
    assert (problem.status_code, problem.type_) == (status, problems.BASE + slug)
    assert "secret" not in f"{problem.detail}{problem.extra}"
    assert (status != 503) or (problem.headers or {})["Retry-After"]


def test_every_problem_has_a_status_that_is_an_error_and_a_remedy() -> None:
    assert all(400 <= kind.status < 600 and kind.title and kind.remedy for kind in problems.CATALOGUE)
    assert len(problems.BY_SLUG) == len(problems.CATALOGUE)


def test_a_trace_goes_on_under_a_span_of_its_own() -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    found = arrival_of([(b"traceparent", trace), (b"x-request-id", b"r-1")])
    assert found.request_id == "r-1"
    assert found.traceparent.startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert "b7ad6b7169203331" not in found.traceparent


@given(st.binary(max_size=80))
def test_whatever_is_sent_as_a_trace_or_an_id_our_own_is_well_formed(value: bytes) -> None:
    found = arrival_of([(b"traceparent", value), (b"x-request-id", value)])
    assert len(found.traceparent) == 55
    assert found.request_id.isascii()
    assert 1 <= len(found.request_id) <= 128


def test_a_secret_that_is_too_short_is_refused_by_name() -> None:
    with pytest.raises(BadSettingError, match="RUSHLINE_JWT_SECRET"):
        bearer(Settings(jwt_secret="short"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--role", "king", "--sub", "x"],
        ["--role", "system", "--sub", "x"],
        ["--role", "customer"],
        ["--role", "customer", "--sub", " "],
        ["--role", "customer", "--sub", "a\nb"],
        ["--role", "customer", "--sub", "x", "--ttl", "forever"],
        ["--role", "customer", "--sub", "x", "--ttl", "366d"],
    ],
)
def test_a_token_that_nobody_could_use_is_not_made(arguments: list[str]) -> None:
    assert CliRunner().invoke(token, arguments).exit_code == 2
