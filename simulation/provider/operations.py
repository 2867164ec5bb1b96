"""The only place that carries out one API call: parameters in, movements applied, Stripe's answer and events out. No I/O."""

import hashlib
from typing import Final

import msgspec

from simulation.provider import intents, objects
from simulation.provider.entries import Captured, Created, Declined, Movement
from simulation.provider.forms import Form, map_of, minor_of, only, require, text_of
from simulation.provider.intents import Intent, NotPossible, TooMuch
from simulation.provider.ledger import Ledger
from simulation.provider.objects import JSON
from simulation.provider.refusals import invalid, missing, refund_refused, unexpected_state

_CREATE: Final = frozenset(
    {"amount", "currency", "payment_method", "metadata", "confirm", "allowed_payment_method_types", "automatic_payment_methods"}
    | {"description", "expand", "error_on_requires_action", "off_session", "customer", "return_url"}
)
_CONFIRM: Final = frozenset({"payment_method", "expand", "error_on_requires_action", "off_session", "return_url"})
_CANCEL: Final = frozenset({"cancellation_reason", "expand"})
_REFUND: Final = frozenset({"payment_intent", "charge", "amount", "reason", "metadata", "expand"})
_REASONS: Final = frozenset({"duplicate", "fraudulent", "requested_by_customer"})


class Done(msgspec.Struct, frozen=True):
    """What a call did: the answer's status and body, the movements (already applied, not yet written) and events."""

    body: JSON
    status: int = 200
    movements: list[Movement] = []
    events: list[JSON] = []


class Operations:
    """The calls by name. Each raises a `Refusal` where Stripe would answer 4xx; a decline is an answer that did something."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger, self._seed = ledger, seed

    def create(self, form: Form, key: str | None, at: float) -> Done:
        only(form, _CREATE)
        amount, currency = minor_of(form, "amount"), text_of(form, "currency")
        for problem in (require(amount, "amount"), require(currency, "currency")):
            if problem:
                raise problem
        assert amount is not None
        assert currency is not None
        if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
            raise invalid(f"Invalid currency: {currency}", param="currency")
        method, metadata = _payment_method(form), map_of(form, "metadata")
        intent_id = self._new_intent_id(key or f"{at}")
        made = Created(at, intent_id, metadata.get("order_id", ""), amount, currency.lower(), method, metadata)
        self._ledger.apply(made)
        if text_of(form, "confirm") != "true":
            return Done(self._intent_json(intent_id, form), movements=[made])
        confirmed = self._confirm(self._ledger.intents[intent_id], method, form, key, at)
        return msgspec.structs.replace(confirmed, movements=[made, *confirmed.movements])

    def confirm(self, intent_id: str, form: Form, key: str | None, at: float) -> Done:
        only(form, _CONFIRM)
        return self._confirm(self._intent(intent_id), _payment_method(form), form, key, at)

    def cancel(self, intent_id: str, form: Form, at: float) -> Done:
        only(form, _CANCEL)
        intent = self._intent(intent_id)
        try:
            canceled = intents.cancel(intent, text_of(form, "cancellation_reason"), at)
        except NotPossible:
            raise unexpected_state(objects.payment_intent(intent), "cancel") from None
        self._ledger.apply(canceled)
        return Done(self._intent_json(intent_id, form), movements=[canceled])

    def refund(self, form: Form, key: str | None, at: float) -> Done:
        only(form, _REFUND)
        intent = self._intent(text_of(form, "payment_intent") or "", param="payment_intent", status=400)
        amount, reason = minor_of(form, "amount"), text_of(form, "reason")
        if reason is not None and reason not in _REASONS:
            raise invalid(f"Invalid reason: must be one of {', '.join(sorted(_REASONS))}", param="reason")
        try:
            refunded = intents.refund(intent, amount, self._id("re", intent.id, len(intent.refunds)), at)
        except NotPossible:
            raise unexpected_state(objects.payment_intent(intent), "refund") from None
        except TooMuch as too_much:
            if too_much.left_minor:
                raise refund_refused("amount_too_large", f"At most {too_much.left_minor} is left to refund.") from None
            raise refund_refused("charge_already_refunded", f"{intent.captures[-1].charge} is already refunded.") from None
        refunded = msgspec.structs.replace(refunded, reason=reason, metadata=map_of(form, "metadata"))
        self._ledger.apply(refunded)
        event = self._event("charge.refunded", refunded.refund, objects.charge(intent, intent.captures[-1]), at, key)
        return Done(objects.refund(refunded, intent.made.currency), movements=[refunded], events=[event])

    def retrieve(self, intent_id: str, query: Form) -> Done:
        only(query, frozenset({"expand", "client_secret"}))
        self._intent(intent_id)
        return Done(self._intent_json(intent_id, query))

    def retrieve_refund(self, refund_id: str) -> Done:
        refunded = self._ledger.refunds.get(refund_id)
        if refunded is None:
            raise missing("refund", refund_id, param="id")
        return Done(objects.refund(refunded, self._ledger.intents[refunded.intent].made.currency))

    def list_refunds(self, query: Form) -> Done:
        only(query, frozenset({"payment_intent", "limit", "starting_after", "expand"}))
        intent = self._intent(text_of(query, "payment_intent") or "", param="payment_intent", status=400)
        limit = minor_of(query, "limit") or 10
        newest_first = intent.refunds[::-1]
        after = text_of(query, "starting_after")
        ids = [refunded.refund for refunded in newest_first]
        if after is not None and after not in ids:
            raise missing("refund", after, param="starting_after", status=400)
        start = 0 if after is None else ids.index(after) + 1
        page = newest_first[start : start + limit]
        items = [objects.refund(refunded, intent.made.currency) for refunded in page]
        return Done(objects.list_of(items, "/v1/refunds", more=start + limit < len(ids)))

    def balance(self, query: Form) -> Done:
        """Whoever has no sales yet has nothing of the default currency."""
        only(query, frozenset({"expand"}))
        return Done(objects.balance(dict(self._ledger.balance) or {"usd": 0}))

    def order_of(self, path: str, form: Form) -> str:
        """The order that a call is about, as far as it can be told; empty otherwise."""
        metadata = form.get("metadata")
        if isinstance(metadata, dict) and "order_id" in metadata:
            return metadata["order_id"]
        named = form.get("payment_intent", path.removeprefix("/v1/payment_intents/").partition("/")[0])
        intent = self._ledger.intents.get(named) if isinstance(named, str) else None
        return intent.made.order_id if intent else ""

    def _confirm(self, intent: Intent, method: str | None, form: Form, key: str | None, at: float) -> Done:
        method = method or intent.payment_method
        if method is None:
            raise unexpected_state(objects.payment_intent(intent), "confirm (without a payment method)")
        try:
            outcome = intents.confirm(intent, method, self._id("ch", intent.id, intent.attempts), at)
        except NotPossible:
            raise unexpected_state(objects.payment_intent(intent), "confirm") from None
        self._ledger.apply(outcome)
        thing = objects.payment_intent(intent)
        match outcome:
            case Captured():
                event = self._event("payment_intent.succeeded", outcome.charge, thing, at, key)
                return Done(self._intent_json(intent.id, form), movements=[outcome], events=[event])
            case Declined():
                event = self._event("payment_intent.payment_failed", outcome.charge, thing, at, key)
                error = {**objects.card_error(outcome), "payment_intent": thing}
                return Done({"error": error}, status=402, movements=[outcome], events=[event])

    def _intent(self, intent_id: str, *, param: str = "intent", status: int = 404) -> Intent:
        intent = self._ledger.intents.get(intent_id)
        if intent is None:
            raise missing("payment_intent", intent_id, param=param, status=status)
        return intent

    def _intent_json(self, intent_id: str, form: Form) -> JSON:
        expanded = "latest_charge" in map_of(form, "expand").values()
        return objects.payment_intent(self._ledger.intents[intent_id], expand_charge=expanded)

    def _event(self, name: str, cause: str, thing: JSON, at: float, key: str | None) -> JSON:
        return objects.event(name, self._id("evt", name, cause), thing, at, key)

    def _new_intent_id(self, cause: str) -> str:
        """From the key, so that one seed makes the same ids; a key that was forgotten and comes again makes another."""
        number = 0
        while (found := self._id("pi", cause, number)) in self._ledger.intents:
            number += 1
        return found

    def _id(self, prefix: str, *cause: object) -> str:
        digest = hashlib.blake2b(repr((self._seed, *cause)).encode(), digest_size=12)
        return f"{prefix}_{digest.hexdigest()}"


def _payment_method(form: Form) -> str | None:
    method = text_of(form, "payment_method")
    if method is not None and not method.startswith("pm_"):
        raise missing("PaymentMethod", method, param="payment_method", status=400)
    return method
