"""Personal data in the audit trail can be read with its customer's key, at its own place, and by nobody else."""

import msgspec
import pytest

from orders.chain import first_broken
from orders.decide import Wish, decide
from orders.lifecycle import Action
from orders.privacy import PersonalKey, Undecipherable, conceal, new_key, reveal
from tests.making import NOW, cause_of, change_of, unplaced, wait

ADDRESS = {"address": {"street": "Rua Augusta 1", "city": "Lisboa"}}


def test_the_data_comes_back_with_its_key_and_place() -> None:
    key = new_key()
    assert reveal(key, "ord_1", 1, conceal(key, "ord_1", 1, ADDRESS)) == ADDRESS


def test_the_same_data_at_the_same_place_makes_the_same_bytes_and_elsewhere_others() -> None:
    key = new_key()
    assert conceal(key, "ord_1", 1, ADDRESS) == conceal(key, "ord_1", 1, ADDRESS)
    assert len({conceal(key, chain, n, ADDRESS)["data"] for chain in ("ord_1", "ord_2") for n in (1, 2)}) == 4


@pytest.mark.parametrize("place", [("ord_2", 1), ("ord_1", 2)])
def test_data_that_was_moved_to_another_place_is_not_read(place: tuple[str, int]) -> None:
    key = new_key()
    with pytest.raises(Undecipherable):
        reveal(key, *place, conceal(key, "ord_1", 1, ADDRESS))


@pytest.mark.parametrize("personal", [{}, {"data": "no base64"}, {"data": "AAAA"}, {"data": ""}])
def test_what_is_no_encrypted_data_is_named(personal: dict[str, str]) -> None:
    with pytest.raises(Undecipherable, match="ord_1 at 1"):
        reveal(new_key(), "ord_1", 1, personal)


def test_another_key_opens_nothing_and_no_key_shows_itself() -> None:
    key = new_key()
    with pytest.raises(Undecipherable):
        reveal(PersonalKey(key.key_id, new_key().key), "ord_1", 1, conceal(key, "ord_1", 1, ADDRESS))
    assert repr(key) == f"PersonalKey({key.key_id!r})"


def test_the_audit_event_holds_private_data_only_encrypted_and_its_chain_is_whole() -> None:
    order, key = unplaced(), new_key()
    wish = Wish(action=Action.PLACE, data={"total": 3_200, "address": order.address}, private=ADDRESS, key=key)
    (event,) = decide(order, wish, cause_of(Action.PLACE, order), NOW, wait).events
    assert b"Augusta" not in event.audit
    assert b"Oudegracht" not in event.audit
    told = msgspec.json.decode(event.audit)
    assert reveal(key, told["order_id"], told["position"], told["personal"]) == ADDRESS
    assert first_broken([told]) is None


def test_private_data_without_a_key_is_refused_rather_than_lost_or_shown() -> None:
    order = unplaced()
    wish = Wish(action=Action.PLACE, private=ADDRESS)
    with pytest.raises(ValueError, match="key"):
        decide(order, wish, cause_of(Action.PLACE, order), NOW, wait)


def test_of_two_events_of_one_change_the_first_has_the_private_data() -> None:
    order = change_of(Action.PLACE, unplaced()).order
    wish = Wish(action=Action.CANCEL_FOR_FRAUD, private={"note": "x"}, key=new_key(), data={"rule": "velocity"})
    first, second = decide(order, wish, cause_of(Action.CANCEL_FOR_FRAUD, order), NOW, wait).events
    assert ("personal" in msgspec.json.decode(first.audit), "personal" in msgspec.json.decode(second.audit)) == (True, False)
