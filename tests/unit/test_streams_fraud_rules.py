"""Each rule fires on what looks like fraud, and not on what a good customer does."""

from datetime import timedelta

from streams.fraud_rules import History, Place, fired, kilometres
from tests.making import NOW

_UTRECHT = Place(52.09, 5.12, NOW)
_PARIS = Place(48.86, 2.35, NOW - timedelta(minutes=30))


def _seen(**values: object) -> History:
    return History(**{"total": 3_000, "here": _UTRECHT, **values})  # type: ignore[arg-type]  # a test's shorthand


def test_an_order_without_history_is_no_fraud() -> None:
    assert fired(_seen()) == []


def test_the_sixth_order_by_one_card_in_ten_minutes_fires_and_the_fifth_does_not() -> None:
    assert fired(_seen(recent_orders=5)) == []
    assert fired(_seen(recent_orders=6)) == ["velocity"]


def test_six_times_what_a_customer_usually_spends_fires() -> None:
    assert fired(_seen(total=60_000, past_orders=3, past_mean=10_000.0)) == ["unusual_amount"]


def test_a_large_order_is_no_fraud_without_three_orders_before_or_below_the_floor() -> None:
    assert fired(_seen(total=60_000, past_orders=2, past_mean=10_000.0)) == []
    assert fired(_seen(total=9_999, past_orders=3, past_mean=1_000.0)) == []
    assert fired(_seen(total=50_000, past_orders=3, past_mean=10_000.0)) == []


def test_two_addresses_that_nobody_can_travel_between_fire() -> None:
    assert fired(_seen(before=_PARIS)) == ["impossible_distance"]


def test_the_same_way_in_enough_time_is_no_fraud() -> None:
    assert fired(_seen(before=Place(48.86, 2.35, NOW - timedelta(hours=4)))) == []


def test_business_time_counts_not_the_clock_on_the_wall() -> None:
    assert fired(_seen(before=_PARIS, time_scale=60.0)) == []


def test_two_addresses_in_one_city_are_no_fraud_at_any_speed() -> None:
    assert fired(_seen(before=Place(52.20, 5.10, NOW))) == []


def test_kilometres_are_those_of_the_earth() -> None:
    assert abs(kilometres(_UTRECHT, _PARIS) - 409) < 5
