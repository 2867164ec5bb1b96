"""How an evening goes."""

from itertools import pairwise

import pytest

from simulation.arrivals import Evening

EVENING = Evening(rate=20, peak=60, duration_s=300)


def test_the_profile_integrates_to_the_expected_count() -> None:
    steps = 60_000
    width = EVENING.duration_s / steps
    counted = sum(_rate((i + 0.5) * width) * width for i in range(steps))
    assert counted == pytest.approx(EVENING.expected, rel=1e-6)


def test_as_many_come_as_are_expected() -> None:
    counts = [sum(1 for _ in EVENING.arrivals(seed)) for seed in range(20)]
    assert sum(counts) / len(counts) == pytest.approx(EVENING.expected, rel=0.02)


def test_the_same_seed_brings_everybody_at_the_same_moment() -> None:
    assert list(EVENING.arrivals(3)) == list(EVENING.arrivals(3))
    assert list(EVENING.arrivals(3)) != list(EVENING.arrivals(4))


def test_they_come_one_after_the_other_within_the_evening() -> None:
    moments = list(EVENING.arrivals(1))
    assert all(early <= late for early, late in pairwise(moments))
    assert moments[0] >= 0
    assert moments[-1] <= EVENING.duration_s


def test_the_rush_is_in_the_middle() -> None:
    moments = list(EVENING.arrivals(1))
    rush = sum(0.45 <= moment / EVENING.duration_s < 0.60 for moment in moments)
    assert rush / (0.15 * EVENING.duration_s) == pytest.approx(EVENING.peak, rel=0.1)


def test_nobody_comes_to_an_evening_without_a_rate() -> None:
    assert list(Evening(rate=0, peak=0, duration_s=10).arrivals(1)) == []


def _rate(at: float) -> float:
    for (start, low), (end, high) in pairwise(EVENING.points):
        if start <= at <= end:
            return low + (high - low) * (at - start) / (end - start)
    raise AssertionError(at)
