"""The country: the same seed, the same streets."""

from datetime import UTC, datetime

import msgspec
import pytest

from orders.hours import opening
from orders.ids import is_id
from simulation.country import PLOT_SHARES, Country, Hours, make_country
from simulation.seeding import hours_of

NOW = datetime(2026, 3, 6, 23, 55, tzinfo=UTC)


@pytest.fixture(scope="module")
def country() -> Country:
    return make_country(7)


def test_the_same_seed_gives_the_same_country_to_the_byte(country: Country) -> None:
    again = make_country(7)
    assert msgspec.json.encode(country) == msgspec.json.encode(again)
    assert [country.customer(n) for n in range(200)] == [again.customer(n) for n in range(200)]


def test_another_seed_gives_another_country(country: Country) -> None:
    other = make_country(8)
    assert not {r.restaurant_id for r in country.restaurants} & {r.restaurant_id for r in other.restaurants}
    assert not {c.name for c in country.cities} & {c.name for c in other.cities}


def test_a_smaller_country_is_the_beginning_of_a_larger_one(country: Country) -> None:
    small = make_country(7, cities=5)
    assert small.cities == country.cities[:5]
    assert small.restaurants == country.restaurants[: len(small.restaurants)]
    assert small.drivers == country.drivers[: len(small.drivers)]


def test_a_country_has_fifty_cities_by_default_each_with_food_and_drivers(country: Country) -> None:
    assert len({city.name for city in country.cities}) == 50
    assert all(8 <= len(restaurant.menu) <= 15 for restaurant in country.restaurants)
    assert all(any(r.hours == "open" for r in country.restaurants_of(n)) for n in range(50))
    assert {driver.city for driver in country.drivers} == set(range(50))


def test_what_one_restaurant_serves_another_of_the_city_mostly_serves_too_for_no_more(country: Country) -> None:
    """So that an order which is rejected can go somewhere else."""
    items = found = 0
    for city in range(len(country.cities)):
        kitchens = country.restaurants_of(city)
        for kitchen in kitchens:
            for item in kitchen.menu:
                items += 1
                found += any(
                    (same.name == item.name and same.unit_price + other.delivery_fee <= item.unit_price + kitchen.delivery_fee)
                    for other in kitchens
                    if other is not kitchen and other.hours != "closed"
                    for same in other.menu
                )
    assert 0.5 < found / items < 1  # and some can not


def test_everything_has_an_identifier_in_the_one_spelling_and_no_two_the_same(country: Country) -> None:
    named = [("rst", r.restaurant_id) for r in country.restaurants]
    named += [("itm", item.item_id) for r in country.restaurants for item in r.menu]
    named += [("drv", driver.driver_id) for driver in country.drivers]
    named += [("cus", country.customer(n).customer_id) for n in range(500)]
    assert all(is_id(text, prefix) for prefix, text in named)
    assert len({text for _, text in named}) == len(named)


def test_customers_pay_with_a_card_of_their_own_and_every_plot_occurs(country: Country) -> None:
    people = [country.customer(n) for n in range(country.customers)]
    plain = [person.payment_method_id for person in people if person.plot == "plain"]
    assert len(set(plain)) == len(plain)
    assert {person.plot for person in people} == {"plain", *(plot for plot, _ in PLOT_SHARES)}


@pytest.mark.parametrize(
    ("hours", "is_open", "closes"), [("open", True, False), ("closed", False, False), ("closing_soon", True, True)]
)
def test_hours_are_what_they_are_called_when_the_clock_is_read(
    country: Country, hours: Hours, is_open: bool, closes: bool
) -> None:
    for city in country.cities:
        restaurant = msgspec.structs.replace(country.restaurants[0], hours=hours)
        found = opening(hours_of(restaurant, city, 1.0, NOW), city.time_zone, NOW)
        assert (found.is_open, found.closes_at is not None) == (is_open, closes)
        if found.closes_at is not None:
            assert 0 < (found.closes_at - NOW).total_seconds() <= 900
