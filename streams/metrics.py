"""The only place for what the streams count."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_GROUP: Final = ("group",)

APPLIED: Final = Counter("rushline_stream_facts_applied_total", "Facts that took effect.", _GROUP)
REPEATED: Final = Counter("rushline_stream_facts_repeated_total", "Facts that had taken effect before.", _GROUP)
HELD: Final = Counter("rushline_stream_facts_held_total", "Facts held back, by why.", ("group", "kind"))
FREED: Final = Counter("rushline_stream_facts_freed_total", "Held facts that are held no longer.", _GROUP)
PASSED: Final = Counter("rushline_stream_facts_passed_total", "Held facts that an operator discarded.", _GROUP)
HELD_NOW: Final = Gauge(
    "rushline_held_facts", "Facts that are held now, by why; `parked` ones wait for an operator.", ("group", "kind")
)
BATCH_S: Final = Histogram(
    "rushline_stream_batch_seconds", "From a polled batch to its commit.", _GROUP,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)  # fmt: skip
LAG: Final = Gauge("rushline_stream_lag_facts", "Facts in Kafka that this process's partitions have not read.", _GROUP)
LOST: Final = Counter("rushline_stream_partitions_lost_total", "Batches dropped: somebody else owns the partition.", _GROUP)
RETRIES: Final = Counter("rushline_stream_retries_total", "Batches tried again: the database was away.", _GROUP)
BROKEN: Final = Counter("rushline_audit_broken_events_total", "Audit events that do not fit their chain.")
LOG_SIZE: Final = Gauge("rushline_audit_log_leaves", "Events in the audit log's Merkle tree.")
LOG_REFUSED: Final = Gauge("rushline_audit_log_refused", "1 while the audit log cannot be signed: see its alert.")
CHECKPOINT_SIZE: Final = Gauge("rushline_audit_checkpoint_leaves", "Size of the newest checkpoint that was published.")
CHECKPOINT_AT: Final = Gauge("rushline_audit_checkpoint_timestamp_seconds", "When the newest checkpoint was signed, Unix time.")
UNWITNESSED: Final = Counter(
    "rushline_audit_witness_failures_total", "Checkpoints that a witness did not cosign.", ("witness",)
)
# The dispute rate is the second over the first, over whatever span of time somebody asks for.
COMPLETED: Final = Counter("rushline_orders_completed_total", "Orders that were delivered.")
DISPUTED: Final = Counter("rushline_orders_disputed_total", "Disputes that were opened.")
