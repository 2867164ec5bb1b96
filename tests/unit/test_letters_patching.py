"""JSON Merge Patch as it was published, and what is certain of a patch before it meets a body."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.errors import Invalid
from outbox.letters.matching import Condition, at, holds, parse
from outbox.letters.patching import UNCHANGED, certain, check, depth, difference, ends_match, merge, patched

SCALARS = st.booleans() | st.integers(-5, 5) | st.sampled_from(["a", "b", ""])
NAMES = st.sampled_from(["a", "b", "c"])


def _values(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
    )


VALUES = _values(SCALARS | st.none())
PATHS = st.lists(NAMES | st.integers(-2, 2), max_size=4).map(
    lambda steps: "$" + "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in steps)
)


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        # RFC 7396, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        # Section 3.
        (
            {"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"}, "tags": ["example", "sample"],
             "content": "This will be unchanged"},
            {"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": None}, "tags": ["example"]},
            {"title": "Hello!", "author": {"givenName": "John"}, "tags": ["example"], "content": "This will be unchanged",
             "phoneNumber": "+01-123-456-7890"},
        ),
    ],
)  # fmt: skip
def test_a_patch_does_what_was_published(original: object, patch: object, result: object) -> None:
    assert merge(original, patch) == result


@given(VALUES, VALUES)
def test_a_patch_changes_no_value_in_place_and_applied_twice_is_applied_once(value: Any, patch: Any) -> None:
    before = msgspec.json.encode(value)
    once = merge(value, patch)
    assert msgspec.json.encode(value) == before
    assert merge(once, patch) == once


@given(VALUES, VALUES, PATHS)
def test_what_is_certain_of_a_patch_holds_for_every_body(body: Any, patch: Any, path: str) -> None:
    found = certain(patch, parse(path))
    if found is not UNCHANGED:
        after = at(merge(body, patch), parse(path))
        assert after is found or after == found


@given(VALUES, VALUES, PATHS, VALUES)
def test_a_patch_that_ends_its_match_leaves_no_body_that_matches(body: Any, patch: Any, path: str, value: Any) -> None:
    for condition in (
        Condition(path=path, equals=value),
        Condition(path=path, exists=True),
        Condition(path=path, exists=False),
    ):
        if ends_match(patch, [condition]):
            assert not holds(condition, at(merge(body, patch), parse(path)))


def test_a_patch_ends_its_match_where_it_takes_away_what_was_asked_for() -> None:
    wrong = Condition(path="$.params.city", equals="Utrcht")
    assert ends_match({"params": {"city": "Utrecht"}}, [wrong])
    assert ends_match({"params": {"city": None}}, [wrong])
    assert ends_match({"params": None}, [wrong])
    assert not ends_match({"params": {"street": "x"}}, [wrong])
    assert not ends_match({"template": "refunded"}, [wrong])
    assert not ends_match({"params": {"city": "Utrcht"}}, [wrong])


def test_a_body_that_is_no_json_is_not_patched() -> None:
    with pytest.raises(Invalid, match="not JSON"):
        patched(b"\x00", {"a": 1})


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({}, "action.patch"), ([1], "action.patch"), (None, "action.patch"), ({"order_id": "ord_2"}, "action.patch.order_id"),
        ({"position": None}, "action.patch.position"),
    ],
)  # fmt: skip
def test_a_patch_that_makes_another_command_is_refused(patch: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(patch, "action.patch")
    assert refused.value.field == field


def test_a_patch_of_any_depth_is_measured_without_falling_over() -> None:
    deep: Any = 1
    for _ in range(50_000):
        deep = {"a": deep}
    assert depth(deep) == 50_001
    with pytest.raises(Invalid, match="deep"):
        check(deep, "action.patch")


def test_a_difference_names_the_lines_that_changed() -> None:
    told = difference(b'{"a":1,"b":2}', b'{"a":1,"b":3}')
    assert '-  "b": 2' in told
    assert '+  "b": 3' in told
    assert difference(b'{"a":1}', b'{ "a": 1 }') == ""
    assert "before" in difference(b"\x00", b"{}")
