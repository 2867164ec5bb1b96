"""Three spellings of one event are the same bytes: the quick encoder's, the standard library's, and RFC 8785's own vectors."""

import json
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from orders import chain
from orders.exported import LineRefused, read_line
from tests.making import sealed

_SORTED = msgspec.json.Encoder(order="sorted")
_KEYS = st.text(st.characters(max_codepoint=127))
_WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
_VALUES = st.recursive(
    st.none() | st.booleans() | _WHOLE | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
)
_OUTSIDE = (
    st.floats() | st.integers(min_value=2**53) | st.integers(max_value=-(2**53))
    | st.dictionaries(st.text(st.characters(min_codepoint=128, exclude_categories=["Cs"]), min_size=1), st.none(), min_size=1)
)  # fmt: skip

# The published test data of RFC 8785 (and the example of its section 3.2.2): what is read, and what must come out.
WITHIN = {
    "arrays": ('[56,{"d":true,"10":null,"1":[]}]', '[56,{"1":[],"10":null,"d":true}]'),
    "structures, its one float written as a whole number": (
        '{"1":{"f":{"f":"hi","F":5},"\\n":56},"10":{},"":"empty","a":{},"111":[{"e":"yes","E":"no"}],"A":{}}',
        '{"":"empty","1":{"\\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}',
    ),
    "unicode": ('{"Unnormalized Unicode":"A\\u030a"}', '{"Unnormalized Unicode":"A\u030a"}'),
    "section 3.2.2, strings": (r'{"string":"\u20ac$\u000F\u000aA\u0027\u0042\u0022\u005c\\\"\/"}', '{"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'),
    "section 3.2.2, literals": ('{"literals":[null,true,false]}', '{"literals":[null,true,false]}'),
    "every escape": ('{"e":"\\b\\t\\n\\f\\r\\"\\\\\\/\\u0000\\u001f\\u007f\\u2028"}', '{"e":"\\b\\t\\n\\f\\r\\"\\\\/\\u0000\\u001f\x7f\u2028"}'),
}  # fmt: skip
OUTSIDE = {
    "french": '{"peach":"This sorting order","péché":"is wrong according to French","pêche":"but canonicalization MUST"}',
    "structures": '{"1":{"f":{"f":"hi","F":5},"\\n":56.0},"10":{}}',
    "values": '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001]}',
    "weird": '{"\\u20ac":"Euro Sign","\\r":"Carriage Return","\\u000a":"Newline","1":"One","\\u0080":"Control"}',
    "a lone surrogate": '{"a":"\\ud800"}',
    "an integer that a double does not have": '{"a":9007199254740993}',
}


@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_the_quick_encoder_the_slow_one_and_rfc_8785_agree_on_what_events_may_hold(event: dict[str, Any]) -> None:
    assert _SORTED.encode(event) == chain.canonical(event) == rfc8785.dumps(event)


@given(st.dictionaries(_KEYS, _VALUES, max_size=3), _KEYS, _OUTSIDE)
def test_what_lies_outside_is_refused_wherever_it_stands(event: dict[str, Any], key: str, value: Any) -> None:
    for each in ({**event, key: value}, {**event, key: [{"in": value}]}):
        with pytest.raises(chain.NotCanonicalError):
            chain.canonical(each)


@pytest.mark.parametrize("name", WITHIN)
def test_the_published_vectors_come_out_as_published(name: str) -> None:
    given_text, expected = WITHIN[name]
    value = json.loads(given_text)
    if not isinstance(value, dict):
        value, expected = {"v": value}, f'{{"v":{expected}}}'
    assert chain.canonical(value) == _SORTED.encode(value) == expected.encode()


@pytest.mark.parametrize("name", OUTSIDE)
def test_published_vectors_outside_of_what_events_may_hold_are_refused(name: str) -> None:
    with pytest.raises(chain.NotCanonicalError):
        chain.canonical(json.loads(OUTSIDE[name]))


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_an_exported_line_is_read_as_the_event_that_was_sealed(details: dict[str, Any]) -> None:
    event = {
        "v": 1, "event_id": "aud_1", "order_id": "ord_1", "position": 1, "action": "order.placed", "service": "tests",
        "occurred_at": "2026-03-14T18:30:00+00:00", "details": details,
    }  # fmt: skip
    body = chain.canonical(sealed(event, chain.GENESIS))
    found = read_line(1, body)
    assert found.hash == found.computed == chain.resealed(body)[1]
    spaced = json.dumps(json.loads(body), ensure_ascii=False, sort_keys=True).encode()
    with pytest.raises(LineRefused, match="no blanks"):
        read_line(1, spaced)
