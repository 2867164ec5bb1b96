"""The metrics of the relay and the clock."""

from typing import Final

from prometheus_client import Counter

PUBLISHED: Final = Counter("rushline_relay_published_total", "Outbox rows that a broker confirmed", ["lane"])
FAILURES: Final = Counter(
    "rushline_relay_failures_total", "Times a lane had to wait for a broker or the database", ["lane", "error"]
)
SET_ASIDE: Final = Counter("rushline_relay_set_aside_total", "Outbox rows that a broker refused", ["lane"])
DUE: Final = Counter("rushline_clock_due_total", "Deadlines that ran out", ["kind"])
