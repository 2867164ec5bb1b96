"""The metrics of the relay, the clock, the letters and the alerts."""

from typing import Final

from prometheus_client import Counter, Gauge

PUBLISHED: Final = Counter("rushline_relay_published_total", "Outbox rows that a broker confirmed", ["lane"])
FAILURES: Final = Counter(
    "rushline_relay_failures_total", "Times a lane had to wait for a broker or the database", ["lane", "error"]
)
SET_ASIDE: Final = Counter("rushline_relay_set_aside_total", "Outbox rows that a broker refused", ["lane"])
DUE: Final = Counter("rushline_clock_due_total", "Deadlines that ran out", ["kind"])
ALERTS: Final = Counter("rushline_alerts_total", "Times an alert was raised", ["kind"])
LETTERS_INGESTED: Final = Counter(
    "rushline_letters_ingested_total", "Messages taken out of the dead queues and recorded", ["consumer", "failure_type"]
)
LETTERS_OPEN: Final = Gauge("rushline_letters_open", "Letters that nobody has settled", ["consumer", "failure_type"])
LETTERS_OLDEST_S: Final = Gauge("rushline_letters_oldest_seconds", "Age of the oldest open letter")
LETTERS_STEPS: Final = Counter("rushline_letters_step_failures_total", "Steps of the keeper that failed", ["step", "error"])
FIXES: Final = Counter("rushline_letter_fixes_total", "Uses of automatic fixes", ["rule", "outcome"])
DISPUTES_OPENED: Final = Counter("rushline_disputes_opened_total", "Disputes that were opened", ["kind"])
DISPUTES_RESOLVED: Final = Counter("rushline_disputes_resolved_total", "Disputes that were resolved", ["resolution"])
