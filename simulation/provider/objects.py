"""The only place that renders Stripe's objects: payment intents, charges, refunds, lists and events, as JSON values."""

from typing import Final

from simulation.provider.entries import Captured, Declined, Refunded
from simulation.provider.intents import Intent

JSON = dict[str, object]
API_VERSION: Final = "2026-10-28.endive"


def payment_intent(intent: Intent, *, expand_charge: bool = False) -> JSON:
    last = _last_attempt(intent)
    latest = None if last is None else charge(intent, last) if expand_charge else last.charge
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.made.amount_minor,
        "amount_capturable": 0,
        "amount_received": intent.captured_minor,
        "canceled_at": int(intent.canceled.at) if intent.canceled else None,
        "cancellation_reason": intent.canceled.reason if intent.canceled else None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "client_secret": f"{intent.id}_secret_sim",
        "created": int(intent.made.at),
        "currency": intent.made.currency,
        "last_payment_error": card_error(intent.last_decline) if intent.last_decline else None,
        "latest_charge": latest,
        "livemode": False,
        "metadata": intent.made.metadata,
        "payment_method": intent.payment_method,
        "payment_method_types": ["card"],
        "status": intent.status,
    }


def charge(intent: Intent, attempt: Captured | Declined) -> JSON:
    paid = isinstance(attempt, Captured)
    refunded = intent.refunded_minor if paid else 0
    return {
        "id": attempt.charge,
        "object": "charge",
        "amount": intent.made.amount_minor,
        "amount_captured": intent.captured_minor if paid else 0,
        "amount_refunded": refunded,
        "captured": paid,
        "created": int(attempt.at),
        "currency": intent.made.currency,
        "failure_code": None if isinstance(attempt, Captured) else attempt.code,
        "livemode": False,
        "metadata": intent.made.metadata,
        "paid": paid,
        "payment_intent": intent.id,
        "payment_method": attempt.payment_method,
        "refunded": paid and refunded == intent.captured_minor,
        "status": "succeeded" if paid else "failed",
    }


def card_error(decline: Declined) -> JSON:
    error: JSON = {
        "type": "card_error",
        "charge": decline.charge,
        "code": decline.code,
        "message": "Your card was declined." if decline.code == "card_declined" else f"The card was refused: {decline.code}.",
        "payment_method": {"id": decline.payment_method, "object": "payment_method", "type": "card"},
    }
    return error if decline.decline_code is None else {**error, "decline_code": decline.decline_code}


def refund(refunded: Refunded, currency: str) -> JSON:
    return {
        "id": refunded.refund,
        "object": "refund",
        "amount": refunded.amount_minor,
        "charge": refunded.charge,
        "created": int(refunded.at),
        "currency": currency,
        "metadata": refunded.metadata,
        "payment_intent": refunded.intent,
        "reason": refunded.reason,
        "status": "succeeded",
    }


def balance(amounts: dict[str, int]) -> JSON:
    """All of it available: nothing here waits for a bank."""
    available = [
        {"amount": amount, "currency": currency, "source_types": {"card": amount}} for currency, amount in amounts.items()
    ]
    nothing = [{"amount": 0, "currency": currency, "source_types": {"card": 0}} for currency in amounts]
    return {"object": "balance", "available": available, "livemode": False, "pending": nothing}


def list_of(items: list[JSON], url: str, *, more: bool) -> JSON:
    return {"object": "list", "data": items, "has_more": more, "url": url}


def event(name: str, event_id: str, thing: JSON, at: float, key: str | None) -> JSON:
    return {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": int(at),
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": key},
        "type": name,
    }


def _last_attempt(intent: Intent) -> Captured | Declined | None:
    attempts: list[Captured] | list[Declined] = intent.captures or intent.declines
    return attempts[-1] if attempts else None
