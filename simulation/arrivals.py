"""The only place that knows how an evening goes: a ramp, a rush in the middle, a tail; and who comes when, by seed."""

import math
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import msgspec


class Evening(msgspec.Struct, frozen=True):
    """How many orders a second arrive on average, over time: `rate` outside the rush, `peak` within it."""

    rate: float
    peak: float
    duration_s: float

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """The corners of the profile as (second, orders per second); straight lines between them."""
        r, p = self.rate, self.peak
        corners = ((0.0, 0.2 * r), (0.1, r), (0.35, r), (0.45, p), (0.6, p), (0.7, r), (0.9, r), (1.0, 0.2 * r))
        return tuple((at * self.duration_s, rate) for at, rate in corners)

    @property
    def expected(self) -> float:
        """The orders of the whole evening, on average."""
        return sum((end - start) * (low + high) / 2 for (start, low), (end, high) in pairwise(self.points))

    def arrivals(self, seed: int) -> Iterator[float]:
        """The seconds at which orders arrive: a Poisson process, by inverting the expected count."""
        dice = Random(f"{seed}/arrivals")
        due, passed = dice.expovariate(1.0), 0.0
        for (start, low), (end, high) in pairwise(self.points):
            length, slope = end - start, (high - low) / (end - start)
            while due <= passed + (whole := length * (low + high) / 2):
                yield start + _after(due - passed, low, slope)
                due += dice.expovariate(1.0)
            passed += whole


def _after(count: float, low: float, slope: float) -> float:
    """When `count` orders are expected to have come, where the rate begins at `low` and changes by `slope` a second."""
    root = math.sqrt(max(0.0, low * low + 2 * slope * count))
    return 2 * count / (low + root)
