"""The only place that knows when a restaurant is open: weekly hours, local to its time zone, across midnight and DST. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NEAR: Final = range(-1, 2)  # days around today that tell whether it is open
_WEEK: Final = range(-1, 9)  # and when it opens next
_MIDNIGHT: Final = "24:00"

Hours = Mapping[str, Sequence[Sequence[str]]]


class Opening(NamedTuple):
    """`closes_at` where it is open (None: not before the day after tomorrow), `opens_at` where it is closed (None: not within a week)."""

    is_open: bool
    closes_at: datetime | None = None
    opens_at: datetime | None = None


def opening(hours: Hours, time_zone: str, now: datetime) -> Opening:
    """Whether the restaurant is open at this time (aware, any zone); times of the answer are UTC."""
    zone = ZoneInfo(time_zone)
    today = now.astimezone(zone).date()
    near = _intervals(hours, zone, today, _NEAR)
    for start, end in near:
        if start <= now < end:
            beyond = _moment(today + timedelta(days=_NEAR[-1] + 1), time(), zone, fold=0)
            return Opening(is_open=True, closes_at=end if end < beyond else None)
    later = (start for start, _ in _intervals(hours, zone, today, _WEEK) if start > now)
    return Opening(is_open=False, opens_at=next(later, None))


def _intervals(hours: Hours, zone: ZoneInfo, today: date, days: range) -> list[tuple[datetime, datetime]]:
    """Opening times as UTC intervals, in order; those that touch or overlap are one."""
    spans = sorted(
        _span(day, start, end, zone)
        for day in (today + timedelta(days=offset) for offset in days)
        for start, end in hours.get(WEEKDAYS[day.weekday()], ())
    )
    merged: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _span(day: date, start: str, end: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """An end that is not after its start is on the next day. Where a clock shows a time twice, open means from the first
    and until the second; where it skips one, it means the moment of the change.
    """
    if end == _MIDNIGHT:
        last_day, last = day + timedelta(days=1), time()
    else:
        last_day, last = (day if end > start else day + timedelta(days=1)), time.fromisoformat(end)
    return _moment(day, time.fromisoformat(start), zone, fold=0), _moment(last_day, last, zone, fold=1)


def _moment(day: date, at: time, zone: ZoneInfo, *, fold: int) -> datetime:
    local = datetime.combine(day, at, zone).replace(fold=fold)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    return _change(local, zone)  # the clock skips this time


def _change(local: datetime, zone: ZoneInfo) -> datetime:
    """The moment at which the clock jumped over this local time."""
    low, high = (local.replace(fold=fold).astimezone(UTC) for fold in (1, 0))
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)
