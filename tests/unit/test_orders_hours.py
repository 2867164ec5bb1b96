"""When a restaurant is open: local hours, midnight, and the two nights a year on which the clock jumps."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.hours import WEEKDAYS, Hours, opening

BERLIN = "Europe/Berlin"


def all_week(*spans: tuple[str, str]) -> Hours:
    return {day: [list(span) for span in spans] for day in WEEKDAYS}


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _local(text: str, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("at", "is_open"),
    [("10:59:59", False), ("11:00", True), ("14:29:59", True), ("14:30", False), ("18:00", True), ("23:00", False)],
)
def test_a_restaurant_is_open_from_its_first_minute_until_before_its_last(at: str, *, is_open: bool) -> None:
    hours = all_week(("11:00", "14:30"), ("18:00", "23:00"))
    assert opening(hours, BERLIN, _local(f"2026-06-10T{at}")).is_open is is_open


def test_an_end_before_its_start_is_past_midnight() -> None:
    hours = {"friday": [["18:00", "02:00"]]}
    assert opening(hours, BERLIN, _local("2026-06-13T01:59")).closes_at == _utc("2026-06-13T00:00")  # Saturday night
    assert not opening(hours, BERLIN, _local("2026-06-13T02:00")).is_open
    assert not opening(hours, BERLIN, _local("2026-06-12T01:00")).is_open  # Thursday's night


def test_hours_that_meet_at_midnight_are_one() -> None:
    hours = {"friday": [["18:00", "24:00"]], "saturday": [["00:00", "03:00"]]}
    assert opening(hours, BERLIN, _local("2026-06-12T23:59")).closes_at == _utc("2026-06-13T01:00")


def test_a_closed_restaurant_says_when_it_opens_next() -> None:
    hours = {"monday": [["11:00", "22:00"]]}
    assert opening(hours, BERLIN, _local("2026-06-08T22:00")).opens_at == _utc("2026-06-15T09:00")
    assert opening(hours, BERLIN, _local("2026-06-09T12:00")).opens_at == _utc("2026-06-15T09:00")
    assert opening({}, BERLIN, _local("2026-06-09T12:00")).opens_at is None


def test_a_restaurant_that_never_closes_has_no_closing_time() -> None:
    for hours in (all_week(("00:00", "24:00")), all_week(("00:00", "00:00"))):
        found = opening(hours, BERLIN, _local("2026-06-09T23:59"))
        assert found.is_open
        assert found.closes_at is None


def test_hours_are_those_of_the_restaurant_not_of_the_server() -> None:
    hours = all_week(("18:00", "22:00"))
    assert opening(hours, "Pacific/Kiritimati", _utc("2026-06-09T05:00")).is_open  # 19:00 of the same day at +14
    assert not opening(hours, BERLIN, _utc("2026-06-09T05:00")).is_open
    assert opening(hours, "America/New_York", _utc("2026-06-10T01:30")).is_open  # 21:30 of the day before


def test_when_the_clock_shows_an_hour_twice_open_means_until_the_second() -> None:
    hours = all_week(("18:00", "02:30"))  # 25 October 2026, 03:00 CEST becomes 02:00 CET
    assert opening(hours, BERLIN, _utc("2026-10-25T00:29")).is_open  # 02:29, the first
    assert opening(hours, BERLIN, _utc("2026-10-25T01:29")).is_open  # 02:29, the second
    assert not opening(hours, BERLIN, _utc("2026-10-25T01:30")).is_open
    assert opening(hours, BERLIN, _utc("2026-10-25T00:00")).closes_at == _utc("2026-10-25T01:30")


def test_when_the_clock_skips_an_hour_a_time_in_it_is_the_moment_of_the_jump() -> None:
    hours = all_week(("18:00", "02:30"))  # 29 March 2026, 02:00 CET becomes 03:00 CEST
    assert opening(hours, BERLIN, _utc("2026-03-29T00:00")).closes_at == _utc("2026-03-29T01:00")
    early = all_week(("02:30", "05:00"))
    assert opening(early, BERLIN, _utc("2026-03-29T00:30")).opens_at == _utc("2026-03-29T01:00")
    assert opening(early, BERLIN, _utc("2026-03-29T01:00")).is_open


_TIMES = st.times().map(lambda t: t.replace(second=0, microsecond=0))
_SPANS = st.lists(st.tuples(_TIMES, _TIMES).map(lambda span: [f"{t:%H:%M}" for t in span]), max_size=2)
_WEEKS = st.fixed_dictionaries(dict.fromkeys(WEEKDAYS, _SPANS))
_ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "UTC"])
_MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001


def _reads_open(hours: Hours, local: datetime) -> bool:
    """What the clock on the wall says: today's spans, and yesterday's past midnight."""
    now, today = local.time(), local.weekday()
    for start, end in ((time.fromisoformat(a), time.fromisoformat(b)) for a, b in hours[WEEKDAYS[today]]):
        if (start <= now < end) or (end <= start and now >= start):
            return True
    yesterday = hours[WEEKDAYS[today - 1]]
    return any(b <= a and now < time.fromisoformat(b) for a, b in yesterday)


@given(_WEEKS, _ZONES, _MOMENTS)
def test_away_from_a_jump_of_the_clock_open_is_what_the_clock_on_the_wall_says(hours: Hours, zone: str, now: datetime) -> None:
    local = now.astimezone(ZoneInfo(zone))
    around = {(now + timedelta(hours=h)).astimezone(ZoneInfo(zone)).utcoffset() for h in (-49, -24, 0, 24)}
    if len(around) == 1:
        assert opening(hours, zone, now).is_open == _reads_open(hours, local)


@given(_WEEKS, _ZONES, _MOMENTS)
def test_it_is_open_until_it_closes_and_closed_until_it_opens(hours: Hours, zone: str, now: datetime) -> None:
    found = opening(hours, zone, now)
    if found.closes_at:
        assert found.is_open
        assert found.closes_at > now
        assert opening(hours, zone, found.closes_at - timedelta(seconds=1)).is_open
        assert not opening(hours, zone, found.closes_at).is_open
    if found.opens_at:
        assert not found.is_open
        assert found.opens_at > now
        assert opening(hours, zone, found.opens_at).is_open
        assert not opening(hours, zone, found.opens_at - timedelta(seconds=1)).is_open


def test_every_day_of_two_years_has_its_hours_in_every_zone() -> None:
    hours = all_week(("12:00", "13:00"))
    for zone in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe"):
        day = date(2026, 1, 1)
        for _ in range(730):
            noon = datetime.combine(day, time(12, 30), ZoneInfo(zone))
            assert opening(hours, zone, noon).is_open
            day += timedelta(days=1)
