"""Identifiers as RFC 9562 writes them, and those that follow from a cause."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.ids import PREFIXES, derived_id, is_id, new_id

MILLISECONDS = st.integers(0, 2**48 - 1)
RFC_4122_VARIANT = 0b10


def _uuid(text: str) -> UUID:
    return UUID(text.split("_", 1)[1])


def test_the_rfcs_own_example_of_version_7() -> None:
    # RFC 9562, appendix A.6
    random = (0xCC3 << 68 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert new_id("ord", 0x017F22E279B0, random) == "ord_017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(MILLISECONDS, st.binary(min_size=10, max_size=10), st.sampled_from(PREFIXES))
def test_a_new_id_says_version_7_and_its_time_whatever_the_random_bits(ms: int, random: bytes, prefix: str) -> None:
    made = new_id(prefix, ms, random)
    assert _uuid(made).version == 7
    assert _uuid(made).int >> 62 & 0b11 == RFC_4122_VARIANT
    assert _uuid(made).int >> 80 == ms
    assert is_id(made, prefix)


@given(MILLISECONDS, MILLISECONDS)
def test_new_ids_sort_by_their_millisecond(one: int, other: int) -> None:
    if one != other:
        assert (new_id("ord", one) < new_id("ord", other)) == (one < other)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_id("ord", 1) for _ in range(1_000)}) == 1_000


@given(st.lists(st.one_of(st.text(), st.integers()), max_size=4))
def test_the_same_cause_makes_the_same_id_of_version_8(cause: list[str | int]) -> None:
    made = derived_id("evt", *cause)
    assert made == derived_id("evt", *cause)
    assert _uuid(made).version == 8
    assert _uuid(made).int >> 62 & 0b11 == RFC_4122_VARIANT
    assert is_id(made, "evt")


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_other_causes_make_other_ids_however_they_are_cut(one: list[str], other: list[str]) -> None:
    assert (derived_id("evt", *one) == derived_id("evt", *other)) == (one == other)


def test_parts_do_not_run_together_and_the_prefix_counts() -> None:
    assert derived_id("evt", "ab", "c") != derived_id("evt", "a", "bc")
    assert derived_id("evt", "1:a") != derived_id("evt", "1", "a")
    assert _uuid(derived_id("evt", "a")) != _uuid(derived_id("aud", "a"))


@pytest.mark.parametrize(
    "text",
    [
        "", "ord_", "ord_017f22e2", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "cus_017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "ord_017F22E2-79B0-7CC3-98C4-DC0C0C07398F", "ord_017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
        "ord_017f22e2-79b0-7cc3-18c4-dc0c0c07398f", "ord_017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n",
        " ord_017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "ord_017f22e279b07cc398c4dc0c0c07398f", "ord_{}",
    ],
)  # fmt: skip
def test_what_is_not_an_order_id(text: str) -> None:
    assert not is_id(text, "ord")
