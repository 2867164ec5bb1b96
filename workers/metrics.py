"""The metrics of the workers."""

from typing import Final

from prometheus_client import Counter, Histogram

UNREADABLE: Final = "unreadable"  # the command's label where nobody can tell

COMMANDS: Final = Counter("rushline_commands_total", "Deliveries, by what became of them", ["command", "verdict"])
STALE: Final = Counter("rushline_commands_stale_total", "Commands that came late", ["command"])
FAILURES: Final = Counter("rushline_command_failures_total", "Deliveries that failed, by error", ["command", "error"])
SECONDS: Final = Histogram(
    "rushline_command_seconds",
    "From the delivery of a command to its acknowledgement",
    ["command"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUARANTINED: Final = Counter("rushline_quarantined_total", "Messages that nobody can use, by why", ["queue", "reason"])
ALONE: Final = Counter("rushline_commands_alone_total", "Redelivered messages that were handled alone", ["queue"])
