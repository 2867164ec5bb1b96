"""An audit event is read from its bytes, and one that is not what it claims to be is told apart."""

import json
from typing import Any

import msgspec
import pytest

from audit.events import read_event
from orders import chain
from orders.errors import BadMessage

EVENT: dict[str, Any] = {
    "v": 1, "event_id": "aud_1", "order_id": "ord_1", "position": 1, "action": "order.placed",
    "actor": {"type": "customer", "id": "cus_1"}, "new_state": "placed", "details": {"hash": "f" * 64, "note": '"hash":"x"'},
    "reason": '"hash":"' + "0" * 64 + '",', "occurred_at": "2025-03-14T18:30:00+00:00",
}  # fmt: skip


def _sealed(**values: Any) -> bytes:
    return chain.seal({**EVENT, **values}, chain.GENESIS)[1]


def test_an_event_is_read_whole_whatever_its_texts_look_like() -> None:
    event = read_event(1, _sealed())
    assert (event.whole, event.chain, event.position, event.actor_id) == (True, "ord_1", 1, "cus_1")
    assert event.hash == chain.event_hash(json.loads(event.body))


def test_an_event_that_names_a_chain_belongs_to_it() -> None:
    assert read_event(1, _sealed(chain="ord_1.looks")).chain == "ord_1.looks"
    assert read_event(1, _sealed(chain="desk.ann", order_id=None)).chain == "desk.ann"


@pytest.mark.parametrize("change", [(b"cus_1", b"cus_2"), (b'"position":1', b'"position":2'), (b"placed", b"pl\\u0061ced")])
def test_an_edited_or_respelled_event_is_evidence(change: tuple[bytes, bytes]) -> None:
    assert not read_event(1, _sealed().replace(*change)).whole


def test_an_event_with_blanks_or_in_another_order_is_not_canonical() -> None:
    event = json.loads(_sealed())
    blanks = json.dumps(event, sort_keys=True, separators=(", ", ":")).encode()
    assert not read_event(1, blanks).whole
    backwards = {key: event[key] for key in sorted(event, reverse=True)}
    assert not read_event(1, json.dumps(backwards, separators=(",", ":")).encode()[:-1] + b',"z":1}').whole


@pytest.mark.parametrize("value", [1.5, 2**53, -(2**53), 2**70, {"ключ": 1}, {"a": [1.0]}])
def test_values_without_one_spelling_are_refused_even_where_the_hash_is_right(value: object) -> None:
    with pytest.raises(chain.NotCanonicalError):
        _sealed(details=value)
    bare = {**EVENT, "details": value, "prev_hash": chain.GENESIS}
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode
    digest = chain.hashlib.sha256(chain.DOMAIN + encode(bare).encode()).hexdigest()
    try:
        event = read_event(1, encode({**bare, "hash": digest}).encode())
    except BadMessage:
        return
    assert not event.whole


def test_the_largest_integers_and_deep_values_have_a_spelling() -> None:
    details: Any = {"n": [2**53 - 1, -(2**53 - 1)]}
    for _ in range(3):
        details = {"in": [details]}
    assert read_event(1, _sealed(details=details)).whole
    with pytest.raises(chain.NotCanonicalError, match="8 levels"):
        _sealed(details={"in": [details]})


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"\xff", b'{"hash":"x"}',
        _sealed(order_id=None), _sealed(occurred_at="yesterday"), _sealed(occurred_at="2025-03-14T18:30:00"),
        _sealed().replace(chain.GENESIS.encode(), b"0" * 63 + b"X"), _sealed(position="1"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        read_event(1, body)


def test_an_event_that_is_too_large_or_of_a_newer_schema_is_refused() -> None:
    large = _sealed().replace(b"placed", b"x" * chain.MAX_EVENT_BYTES)
    with pytest.raises(BadMessage, match="61440 bytes"):
        read_event(1, large)
    with pytest.raises(BadMessage, match="schema version 2"):
        read_event(2, _sealed())
    with pytest.raises(chain.NotCanonicalError, match="61440"):
        _sealed(reason="x" * chain.MAX_EVENT_BYTES)


def test_the_hash_is_found_in_the_bytes_without_parsing_them() -> None:
    body = _sealed()
    claimed, computed = chain.resealed(body)
    assert claimed == computed == msgspec.json.decode(body)["hash"]
    with pytest.raises(chain.NotCanonicalError, match="no hash"):
        chain.resealed(b'{"a":1}')
