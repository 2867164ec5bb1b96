"""The only place that tells people and graphs what became of a delivery. Ids and error names only, nothing of a person."""

import structlog

from adapters.rabbitmq_consumer import Delivery
from orders.errors import Stale
from orders.names import POISON
from workers import metrics
from workers.judge import Ack, Park, Verdict, failure_of, reason_of
from workers.task import Task
from workers.trail import attempt_number

log = structlog.get_logger()


def tell(delivery: Delivery, task: Task | None, verdict: Verdict, error: BaseException | None, took_s: float) -> None:
    """Count it; write down what did not simply go well."""
    kind = task.kind.value if task else metrics.UNREADABLE
    match verdict:
        case Ack(why):
            label = why
        case _:
            label = type(verdict).__name__.lower()
    metrics.COMMANDS.labels(kind, label).inc()
    metrics.SECONDS.labels(kind).observe(took_s)
    if error is None:
        return
    if label == Stale.slug:
        metrics.STALE.labels(kind).inc()
    metrics.FAILURES.labels(kind, reason_of(error)).inc()
    if isinstance(verdict, Park) and verdict.queue == POISON:
        metrics.QUARANTINED.labels(delivery.queue, verdict.reason).inc()
    level = log.info if isinstance(verdict, Ack) else log.error if isinstance(verdict, Park) else log.warning
    level(
        "a command was not simply done", verdict=label, command=kind, message_id=delivery.message_id, queue=delivery.queue,
        order_id=task.order_id if task else None, attempt=attempt_number(delivery.headers, error),
        error=type(error).__name__, failure=failure_of(error).value, reason=reason_of(error), detail=str(error)[:200],
        exc_info=error if reason_of(error) == "unknown" else None,
    )  # fmt: skip
