"""Which letters a rule is about: conditions, and the part of RFC 9535 that names one place."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.errors import Invalid
from orders.failures import Category, FailureType
from outbox.letters.matching import LARGEST_BODY, NOTHING, Condition, Match, at, holds, matches, parse, read, same

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=20
)
# RFC 9535, section 2.3.1.3 and 2.3.3.3, and what follows from them.
DOCUMENT = {"o": {"j j": {"k.k": 3}}, "'": {"@": 2}, "a": ["first", "second"], "☺": 1, "n": None, '"': "quote", "\\": "slash"}


def letter(**values: Any) -> Any:
    body = values.pop("body", {"order_id": "ord_1", "template": "refunded"})
    known = {
        "fingerprint": "f1", "failure_type": "service_unavailable", "category": "transient", "type": "notification.sms",
        "consumer": "notifications", "reason": "messaging-unavailable", "error": "MessagingUnavailable", "attempts": 4,
        "generation": 1, "body": body if isinstance(body, bytes) else msgspec.json.encode(body),
    }  # fmt: skip
    return SimpleNamespace(**{**known, **values})


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", DOCUMENT),
        ("$.o['j j']", {"k.k": 3}),
        ("$.o['j j']['k.k']", 3),
        ('$.o["j j"]["k.k"]', 3),
        ("$[\"'\"]['@']", 2),
        ("$['\\'']['@']", 2),
        ("$['\"']", "quote"),
        ('$["\\""]', "quote"),
        ("$['\\\\']", "slash"),
        ("$.a[0]", "first"),
        ("$.a[1]", "second"),
        ("$.a[-2]", "first"),
        ("$.a[ 0 ]", "first"),
        ("$.☺", 1),
        ("$['\\u263A']", 1),
        ("$.n", None),
        ("$.a[2]", NOTHING),
        ("$.a[-3]", NOTHING),
        ("$.a.length", NOTHING),
        ("$.o[0]", NOTHING),
        ("$.none.deeper", NOTHING),
        ("$.n.deeper", NOTHING),
    ],
)
def test_a_path_leads_where_the_standard_says(path: str, found: object) -> None:
    assert at(DOCUMENT, parse(path)) is found or at(DOCUMENT, parse(path)) == found


@pytest.mark.parametrize(
    "path",
    ["", "a", "$a", "$.", "$..a", "$.*", "$[*]", "$[0:2]", "$['a','b']", "$[?@.a]", "$[01]", "$[-0]", "$['a'", "$[a]", "$ .a",
     "$.1a", "$['\\x']", "$.a " , "$" + ".a" * 200],
)  # fmt: skip
def test_a_path_that_names_several_places_or_none_is_refused_with_its_field(path: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(path, "match.body[0].path")
    assert refused.value.field == "match.body[0].path"


@given(VALUES, st.lists(st.text(max_size=6) | st.integers(-3, 3), max_size=4))
def test_a_path_spelled_in_brackets_is_read_as_it_was_meant(value: Any, steps: list[str | int]) -> None:
    spelled = "$" + "".join(f"[{msgspec.json.encode(step).decode()}]" for step in steps)
    if len(spelled) <= 200:
        assert parse(spelled) == tuple(steps)
        at(value, parse(spelled))  # leads somewhere or nowhere, and never fails


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader_of_paths(text: str) -> None:
    try:
        parse("$" + text)
    except Invalid:
        return


@given(VALUES)
def test_a_value_is_the_same_as_itself_after_a_trip_through_json(value: Any) -> None:
    assert same(value, msgspec.json.decode(msgspec.json.encode(value)))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True), (True, 1, False), (False, 0, False), (None, False, False), ("1", 1, False), ([1], [True], False),
        ({"a": 1}, {"a": 1, "b": 2}, False), ({"a": [1]}, {"a": [1.0]}, True), (NOTHING, None, False), ([], {}, False),
    ],
)  # fmt: skip
def test_equality_is_that_of_json(one: object, other: object, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal


def test_a_condition_on_null_is_another_than_one_on_nothing() -> None:
    assert holds(Condition(path="$.n", equals=None), None)
    assert not holds(Condition(path="$.n", equals=None), NOTHING)
    assert holds(Condition(path="$.n", exists=False), NOTHING)
    assert holds(Condition(path="$.n", exists=True), None)
    assert holds(Condition(path="$.n", one_of=(1, "a")), "a")
    assert not holds(Condition(path="$.n", one_of=(1, "a")), True)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (Match(fingerprint="f1"), True),
        (Match(fingerprint="f2"), False),
        (Match(failure_types=(FailureType.UNKNOWN, FailureType.SERVICE_UNAVAILABLE)), True),
        (Match(failure_types=(FailureType.UNKNOWN,)), False),
        (Match(category=Category.POISON), False),
        (Match(types=("notification.sms",)), True),
        (Match(types=("notification.push",)), False),
        (Match(consumer="payments"), False),
        (Match(reason="messaging-unavailable", error="MessagingUnavailable"), True),
        (Match(reason="messaging-unavailable", error="RecipientRefused"), False),
        (Match(consumer="notifications", min_attempts=4, max_attempts=4), True),
        (Match(consumer="notifications", min_attempts=5), False),
        (Match(consumer="notifications", max_generation=1), True),
        (Match(consumer="notifications", min_generation=2), False),
        (Match(body=(Condition(path="$.template", equals="refunded"),)), True),
        (Match(body=(Condition(path="$.template", equals="refunded"), Condition(path="$.x", exists=True))), False),
    ],
)
def test_all_that_a_match_asks_for_must_hold(match: Match, expected: bool) -> None:
    assert matches(match, letter()) is expected


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"{", b"[" * 100_000, b'"' + b"a" * LARGEST_BODY + b'"'])
def test_a_body_that_cannot_be_looked_at_meets_no_condition_and_breaks_nothing(body: bytes) -> None:
    assert read(body) is NOTHING
    assert not matches(Match(body=(Condition(path="$", equals="a"),)), letter(body=body))
    assert matches(Match(body=(Condition(path="$.a", exists=False),)), letter(body=body))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_match(body: bytes) -> None:
    matches(Match(body=(Condition(path="$.a[0]", equals=1),)), letter(body=body))
