"""The only place that makes the country up: cities, restaurants, drivers, customers, by seed and nothing else.

Every part has a random generator of its own, named by seed, kind and number: a country of 10 cities is the first 10
cities of the country of 50.
"""

import base64
import hashlib
import math
from random import Random
from typing import Final, Literal

import msgspec

from orders.ids import derived_id

CITIES: Final = 50
RESTAURANTS_PER_CITY: Final = 6
DRIVERS_PER_CITY: Final = 30
CUSTOMERS_PER_CITY: Final = 400
CURRENCY: Final = "EUR"
KM_PER_DEGREE_LATITUDE: Final = 110.574
KM_PER_DEGREE_LONGITUDE: Final = 111.320  # at the equator

Hours = Literal["open", "closed", "closing_soon"]
# What a customer is going to do. `cancel_at_…` names the state in which the order is called off.
Plot = Literal[
    "plain", "declined", "insufficient_funds", "flaky_card", "fraud_prone",
    "cancel_at_placed", "cancel_at_payment_processing", "cancel_at_payment_confirmed", "cancel_at_restaurant_notified",
    "cancel_at_restaurant_accepted", "cancel_at_driver_assigned",
]  # fmt: skip

# Shares of customers, in thousandths; the rest is plain.
PLOT_SHARES: Final[tuple[tuple[Plot, int], ...]] = (
    ("declined", 15),
    ("insufficient_funds", 3),
    ("flaky_card", 3),
    ("fraud_prone", 2),
    ("cancel_at_placed", 5),
    ("cancel_at_payment_processing", 5),
    ("cancel_at_payment_confirmed", 5),
    ("cancel_at_restaurant_notified", 5),
    ("cancel_at_restaurant_accepted", 5),
    ("cancel_at_driver_assigned", 5),
)
_DECLINED: Final = (
    "pm_card_visa_chargeDeclined",
    "pm_card_visa_chargeDeclinedLostCard",
    "pm_card_visa_chargeDeclinedStolenCard",
    "pm_card_chargeDeclinedExpiredCard",
    "pm_card_chargeDeclinedIncorrectCvc",
    "pm_card_chargeDeclinedFraudulent",
)
_ZONES: Final = (("Europe/Lisbon", 44), ("Atlantic/Madeira", 3), ("Atlantic/Azores", 3))
_HEADS: Final = ("Al", "Bar", "Cas", "Dor", "Ev", "Fei", "Gui", "Lou", "Mon", "Nel", "Our", "Pen", "Ri", "Sei", "Tor", "Vil")
_MIDDLES: Final = ("a", "be", "ca", "de", "ga", "la", "me", "na", "re", "sa", "ta", "vei")
_TAILS: Final = ("do", "ja", "lhos", "ma", "nha", "ra", "res", "ro", "sende", "tos", "val", "xo")
_HOUSES: Final = ("Tasca", "Adega", "Casa", "Cantina", "Cozinha", "Forno", "Quinta", "Mesa", "Horta", "Brasa")
_OWNERS: Final = ("da Avó", "do Mar", "da Serra", "do Largo", "da Ponte", "do Zé", "da Praça", "Nova", "do Porto", "da Luz")
_KINDS: Final = ("Grilled", "Roast", "Baked", "Spiced", "House", "Green", "Smoked", "Sweet", "Country", "Crisp")
_DISHES: Final = (
    "sardines",
    "chicken",
    "rice",
    "cod",
    "soup",
    "salad",
    "pork",
    "potatoes",
    "tart",
    "beans",
    "octopus",
    "bread",
)
_STREETS: Final = ("Rua Direita", "Rua do Sol", "Avenida Central", "Rua da Fonte", "Travessa Nova", "Rua do Carmo")


class City(msgspec.Struct, frozen=True):
    name: str
    latitude: float
    longitude: float
    time_zone: str


class MenuItem(msgspec.Struct, frozen=True):
    """`unit_price` in minor units."""

    item_id: str
    name: str
    unit_price: int


class Restaurant(msgspec.Struct, frozen=True):
    restaurant_id: str
    name: str
    city: int
    latitude: float
    longitude: float
    hours: Hours
    delivery_fee: int
    webhook_secret: str
    menu: tuple[MenuItem, ...]


class Driver(msgspec.Struct, frozen=True):
    driver_id: str
    city: int
    latitude: float
    longitude: float


class Customer(msgspec.Struct, frozen=True):
    """Who orders: always from the same home, with the same card, in the same manner."""

    customer_id: str
    city: int
    street: str
    postal_code: str
    latitude: float
    longitude: float
    payment_method_id: str
    plot: Plot


class Country(msgspec.Struct, frozen=True):
    """Customers are many and are made when they come: see `customer`."""

    seed: int
    cities: tuple[City, ...]
    restaurants: tuple[Restaurant, ...]
    drivers: tuple[Driver, ...]

    @property
    def customers(self) -> int:
        return len(self.cities) * CUSTOMERS_PER_CITY

    def restaurants_of(self, city: int) -> tuple[Restaurant, ...]:
        per_city = len(self.restaurants) // len(self.cities)
        return self.restaurants[city * per_city : (city + 1) * per_city]

    def customer(self, number: int) -> Customer:
        """The customer with this number, 0 to `customers`: the same one each time."""
        city = number % len(self.cities)
        return _customer(self.seed, self.cities[city], city, number // len(self.cities))


def make_country(
    seed: int,
    cities: int = CITIES,
    restaurants_per_city: int = RESTAURANTS_PER_CITY,
    drivers_per_city: int = DRIVERS_PER_CITY,
) -> Country:
    """The country of this seed."""
    places = tuple(_city(seed, number) for number in range(cities))
    return Country(
        seed=seed,
        cities=places,
        restaurants=tuple(
            _restaurant(seed, place, number, n) for number, place in enumerate(places) for n in range(restaurants_per_city)
        ),
        drivers=tuple(_driver(seed, place, number, n) for number, place in enumerate(places) for n in range(drivers_per_city)),
    )


def _random(*name: str | int) -> Random:
    return Random("/".join(map(str, name)))


def _city(seed: int, number: int) -> City:
    dice = _random(seed, "city", number)
    name = f"{dice.choice(_HEADS)}{dice.choice(_MIDDLES)}{dice.choice(_TAILS)} {seed}-{number + 1:02d}"
    row, column = divmod(number, 5)  # some 30 km apart, so that no city is within another
    return City(
        name=name,
        latitude=round(37.2 + 0.45 * row + dice.uniform(0, 0.1), 6),
        longitude=round(-8.9 + 0.45 * column + dice.uniform(0, 0.1), 6),
        time_zone=dice.choices([zone for zone, _ in _ZONES], [weight for _, weight in _ZONES])[0],
    )


def _near(dice: Random, city: City, within_km: float) -> tuple[float, float]:
    distance, angle = within_km * math.sqrt(dice.random()), dice.uniform(0, 2 * math.pi)
    longitude_km = KM_PER_DEGREE_LONGITUDE * math.cos(math.radians(city.latitude))
    return (
        round(city.latitude + distance * math.sin(angle) / KM_PER_DEGREE_LATITUDE, 6),
        round(city.longitude + distance * math.cos(angle) / longitude_km, 6),
    )


def _restaurant(seed: int, place: City, city: int, n: int) -> Restaurant:
    dice = _random(seed, "restaurant", city, n)
    latitude, longitude = _near(dice, place, 2.5)
    restaurant_id = derived_id("rst", "simulation", seed, city, n)
    dishes = dice.sample(_dishes(seed, city), dice.randint(8, 15))
    key = hashlib.sha256(f"rushline/simulation/webhook/{restaurant_id}".encode()).digest()[:24]
    return Restaurant(
        restaurant_id=restaurant_id,
        name=f"{dice.choice(_HOUSES)} {dice.choice(_OWNERS)}",
        city=city,
        latitude=latitude,
        longitude=longitude,
        hours=_hours(dice, n),
        delivery_fee=dice.choice((0, 150, 199, 250, 299)),
        webhook_secret=f"whsec_{base64.b64encode(key).decode()}",
        menu=tuple(
            MenuItem(derived_id("itm", "simulation", seed, city, n, i), dish, usual + dice.choice((-40, -20, 0, 0, 20, 40)))
            for i, (dish, usual) in enumerate(dishes)
        ),
    )


def _dishes(seed: int, city: int) -> list[tuple[str, int]]:
    """What they eat in this city, and what it usually costs: most of it is to be had at most places."""
    dice = _random(seed, "dishes", city)
    names = dice.sample([f"{kind} {dish}" for kind in _KINDS for dish in _DISHES], 18)
    return [(name, dice.randrange(300, 1_650, 10)) for name in names]


def _hours(dice: Random, n: int) -> Hours:
    """A city's first four are always open, so that nobody goes hungry; of the others a few are not."""
    fate = dice.random()
    if n < 4 or fate >= 0.08:
        return "open"
    return "closed" if fate < 0.04 else "closing_soon"


def _driver(seed: int, place: City, city: int, n: int) -> Driver:
    latitude, longitude = _near(_random(seed, "driver", city, n), place, 4.0)
    return Driver(derived_id("drv", "simulation", seed, city, n), city, latitude, longitude)


def _customer(seed: int, place: City, city: int, n: int) -> Customer:
    dice = _random(seed, "customer", city, n)
    latitude, longitude = _near(dice, place, 3.5)
    plot = _plot(dice)
    return Customer(
        customer_id=derived_id("cus", "simulation", seed, city, n),
        city=city,
        street=f"{dice.choice(_STREETS)} {dice.randint(1, 240)}",
        postal_code=f"{dice.randint(1_000, 9_999)}-{dice.randint(1, 999):03d}",
        latitude=latitude,
        longitude=longitude,
        payment_method_id=card_for(dice, plot) or f"pm_sim_visa_{seed}_{city}_{n}",
        plot=plot,
    )


def _plot(dice: Random) -> Plot:
    fate = dice.random() * 1_000
    for plot, share in PLOT_SHARES:
        if fate < share:
            return plot
        fate -= share
    return "plain"


def card_for(dice: Random, plot: Plot) -> str | None:
    """The test card that a plot needs. Everybody else has a card of their own, or it would look like one in a thousand hands."""
    match plot:
        case "declined":
            return dice.choice(_DECLINED)
        case "insufficient_funds":
            return "pm_card_visa_chargeDeclinedInsufficientFunds"
        case "flaky_card":
            return "pm_sim_flaky_1"
        case _:
            return None
