"""The simulated provider without its HTTP: intents, keys, faults, the ledger and its file."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.provider.entries import Created
from simulation.provider.faults import Behaviour, Faults
from simulation.provider.forms import map_of, minor_of, parse_form
from simulation.provider.idempotency import Keys
from simulation.provider.intents import NotPossible, TooMuch, apply, begin, cancel, confirm, refund
from simulation.provider.ledger import Ledger
from simulation.provider.refusals import Refusal
from simulation.provider.service import Answer, Call, Dropped, Provider
from simulation.provider.webhooks import Webhooks

CALM = Behaviour(latency_median_ms=0, hang_s=0)


class Clock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


def provider(behaviour: Behaviour = CALM, *, path: Path | None = None, key: str = "", clock: Clock | None = None) -> Provider:
    return Provider(
        ledger=Ledger(path),
        keys=Keys(),
        faults=Faults(7, behaviour),
        webhooks=Webhooks("", "", 0),
        seed=7,
        key=key,
        now=clock or Clock(),
    )


async def post(it: Provider, path: str, form: str, key: str | None = None) -> Answer:
    return await it.handle(Call("POST", f"/v1/{path}", form, key, "Bearer sk"))


async def get(it: Provider, path: str, query: str = "") -> Answer:
    return await it.handle(Call("GET", f"/v1/{path}", query, None, "Bearer sk"))


def told(answer: Answer) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.json.decode(answer.body)
    return value


async def created(it: Provider, order_id: str = "ord_1", amount: int = 1_000) -> str:
    form = f"amount={amount}&currency=eur&payment_method=pm_x&metadata[order_id]={order_id}"
    intent_id: str = told(await post(it, "payment_intents", form, f"{order_id}:create"))["id"]
    return intent_id


async def test_a_stored_answer_is_replayed_and_says_so() -> None:
    it = provider()
    intent_id = await created(it)
    first = await post(it, f"payment_intents/{intent_id}/confirm", "", "c1")
    again = await post(it, f"payment_intents/{intent_id}/confirm", "", "c1")
    assert (first.replayed, again.replayed) == (False, True)
    assert first.body == again.body
    assert it.ledger.totals().captures == 1


async def test_a_stored_500_is_replayed_although_the_charge_was_done() -> None:
    it = provider()
    intent_id = await created(it)
    it.change({"error_after_rate": 1})
    assert (await post(it, f"payment_intents/{intent_id}/confirm", "", "c1")).status == 500
    it.change({"error_after_rate": 0})
    again = await post(it, f"payment_intents/{intent_id}/confirm", "", "c1")
    assert (again.status, again.replayed) == (500, True)
    assert told(await get(it, f"payment_intents/{intent_id}"))["status"] == "succeeded"


async def test_a_key_is_forgotten_when_its_time_is_over() -> None:
    clock = Clock()
    it = provider(clock=clock)
    first = await created(it)
    clock.at += 86_399
    assert await created(it) == first
    clock.at += 2
    assert await created(it) != first


async def test_a_key_with_other_parameters_is_an_idempotency_error() -> None:
    it = provider()
    await created(it, amount=1_000)
    answer = await post(it, "payment_intents", "amount=2000&currency=eur", "ord_1:create")
    assert (answer.status, told(answer)["error"]["type"]) == (400, "idempotency_error")


async def test_a_key_in_flight_is_a_conflict() -> None:
    it = provider(Behaviour(latency_median_ms=20, latency_sigma=0))
    form = "amount=1000&currency=eur"
    answers = await asyncio.gather(*(post(it, "payment_intents", form, "k") for _ in range(3)))
    assert sorted(answer.status for answer in answers) == [200, 409, 409]
    assert it.ledger.totals().intents == 1


async def test_what_fails_validation_is_not_remembered() -> None:
    it = provider()
    assert (await post(it, "payment_intents", "currency=eur", "k")).status == 400
    assert (await post(it, "payment_intents", "amount=100&currency=eur", "k")).status == 200


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ("currency=eur", "amount"),
        ("amount=0&currency=eur", "amount"),
        ("amount=1.5&currency=eur", "amount"),
        ("amount=100000000&currency=eur", "amount"),
        ("amount=100", "currency"),
        ("amount=100&currency=euro", "currency"),
        ("amount=100&currency=eur&payment_method=card_1", "payment_method"),
        ("amount=100&currency=eur&colour=red", "colour"),
        ("amount[x]=100&currency=eur", "amount"),
        ("amount=100&currency=eur&metadata=flat", "metadata"),
    ],
)
async def test_a_bad_parameter_is_named(form: str, param: str) -> None:
    answer = await post(provider(), "payment_intents", form)
    error = told(answer)["error"]
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", param)


async def test_no_such_intent_and_no_such_address_are_404() -> None:
    it = provider()
    assert told(await get(it, "payment_intents/pi_no"))["error"]["code"] == "resource_missing"
    assert (await get(it, "payment_intents/pi_no")).status == 404
    assert (await post(it, "customers", "")).status == 404


async def test_another_api_key_is_401() -> None:
    assert (await get(provider(key="sk_ours"), "refunds")).status == 401
    assert (await get(provider(key="sk"), "payment_intents/pi_no")).status == 404


async def test_refunds_are_listed_newest_first_in_pages() -> None:
    it = provider()
    intent_id = await created(it)
    await post(it, f"payment_intents/{intent_id}/confirm", "")
    ids = [told(await post(it, "refunds", f"payment_intent={intent_id}&amount=10"))["id"] for _ in range(3)]
    page = told(await get(it, "refunds", f"payment_intent={intent_id}&limit=2"))
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = told(await get(it, "refunds", f"payment_intent={intent_id}&limit=2&starting_after={ids[1]}"))
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[:1], False)
    assert told(await get(it, f"refunds/{ids[0]}"))["amount"] == 10


async def test_two_intents_captured_for_one_order_are_shown_up() -> None:
    it = provider()
    first = await created(it)
    second = told(await post(it, "payment_intents", "amount=5&currency=eur&payment_method=pm_x&metadata[order_id]=ord_1"))["id"]
    for intent_id in (first, second):
        await post(it, f"payment_intents/{intent_id}/confirm", "")
    assert it.ledger.totals().orders_captured_twice == {"ord_1": [first, second]}


async def test_a_lost_answer_was_executed_and_is_noted_beside_its_order() -> None:
    it = provider()
    intent_id = await created(it)
    it.change({"lost_answer_rate": 1})
    with pytest.raises(Dropped):
        await post(it, f"payment_intents/{intent_id}/confirm", "", "c1")
    row = it.ledger.rows()[0]
    assert (row.captured_minor, row.faults) == (1_000, ["lost_answer"])


async def test_an_outage_ends_by_itself() -> None:
    clock = Clock()
    it = provider(clock=clock)
    it.change({"outage": "500", "until_s": 5})
    assert (await get(it, "payment_intents/pi_no")).status == 500
    clock.at += 5
    assert (await get(it, "payment_intents/pi_no")).status == 404


@pytest.mark.parametrize("knobs", [{"outage": "fire"}, {"lost_answer_rate": 2}, {"colour": 1}, {"key_ttl_s": "x"}])
def test_a_knob_that_cannot_be_is_refused_and_changes_nothing(knobs: dict[str, object]) -> None:
    it = provider()
    with pytest.raises(msgspec.ValidationError):
        it.change(knobs)
    assert it.faults.behaviour == CALM


async def test_a_provider_started_from_its_file_knows_all_it_had_answered(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    first = provider(path=path)
    intent_id = await created(first)
    await post(first, f"payment_intents/{intent_id}/confirm", "payment_method=pm_card_radarBlock", "c1")
    await post(first, f"payment_intents/{intent_id}/confirm", "payment_method=pm_x", "c2")
    given = await post(first, "refunds", f"payment_intent={intent_id}&amount=300&metadata[reason]=cancelled", "r1")
    again = provider(path=path)
    assert again.ledger.rows() == first.ledger.rows()
    assert again.ledger.totals() == first.ledger.totals()
    replayed = await post(again, "refunds", f"payment_intent={intent_id}&amount=300&metadata[reason]=cancelled", "r1")
    assert (replayed.body, replayed.replayed) == (given.body, True)
    for one in (first, again):
        one.ledger.close()


async def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    first = provider(path=path)
    await created(first)
    first.ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"capt')
    again = provider(path=path)
    assert len(again.ledger.rows()) == 1
    assert path.read_bytes() == whole
    again.ledger.close()


async def test_the_same_seed_meets_the_same_faults() -> None:
    rates = Behaviour(lost_answer_rate=0.2, error_before_rate=0.2, error_after_rate=0.2, rate_limit_rate=0.1)
    runs = [[Faults(seed, rates).plan(f"k{n}", writes=True, now=0) for n in range(200)] for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]
    assert {plan.fault for plan in runs[0]} == {None, "lost_answer", "error_before", "error_after", "rate_limit"}


def test_latency_is_lognormal_around_its_median() -> None:
    faults = Faults(7, Behaviour(latency_median_ms=60))
    seconds = sorted(faults.plan(f"k{n}", writes=True, now=0).latency_s for n in range(2_000))
    assert 0.055 < seconds[1_000] < 0.065
    assert 0.1 < seconds[1_980] < 0.25


@given(st.lists(st.one_of(st.sampled_from(["pay", "decline", "cancel"]), st.integers(1, 1_500)), max_size=12))
def test_whatever_is_asked_an_intent_is_captured_once_and_never_refunded_beyond_that(steps: list[str | int]) -> None:
    intent = begin(Created(0, "pi_1", "ord_1", 1_000, "eur", "pm_x", {}))
    for number, step in enumerate(steps):
        try:
            match step:
                case "pay":
                    apply(intent, confirm(intent, "pm_x", f"ch_{number}", 0))
                case "decline":
                    apply(intent, confirm(intent, "pm_card_radarBlock", f"ch_{number}", 0))
                case "cancel":
                    apply(intent, cancel(intent, None, 0))
                case int(amount):
                    apply(intent, refund(intent, amount, f"re_{number}", 0))
        except (NotPossible, TooMuch):
            pass
        assert intent.captured_minor in (0, 1_000)
        assert 0 <= intent.refunded_minor <= intent.captured_minor
        assert (intent.status == "succeeded") == bool(intent.captures)
        assert not (intent.canceled and intent.captures)


def test_a_form_is_read_one_level_deep() -> None:
    form = parse_form("amount=12&metadata[order_id]=ord_1&metadata[a%20b]=c%26d&expand[0]=latest_charge&expand[]=x&empty=")
    assert minor_of(form, "amount") == 12
    assert map_of(form, "metadata") == {"order_id": "ord_1", "a b": "c&d"}
    assert list(map_of(form, "expand").values()) == ["latest_charge", "x"]


@given(st.text())
def test_no_form_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(Refusal):
        assert all(isinstance(value, str | dict) for value in parse_form(text).values())
