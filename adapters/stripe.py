"""The only place that imports the `stripe` SDK: the `Payments` port over Stripe's API, and the signature of its events.

Stripe replays a stored answer to a key, a stored 500 too, and forgets keys after a day. So a key is never the reason why
something is right: an intent captures once by its own state, and a refund is looked for by its reason in the metadata.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiohttp
import msgspec
import stripe

from adapters import stripe_wire as wire
from adapters.payments import (
    BadProviderCredentials,
    BadSignature,
    Intent,
    IntentUnexpectedState,
    KeyTaken,
    OutcomeUnknown,
    ProviderRefused,
    ProviderUnavailable,
    Refund,
    RefundOverlaps,
    declined,
)
from adapters.settings import Settings
from orders.errors import RushlineError

stripe.enable_telemetry = False  # it writes to the home folder, and tells the provider about this machine

_CONNECTIONS: Final = 100
_FRESH_KEYS: Final = 20
_PAGE: Final = 100
_TOLERANCE_S: Final = 300
_EXPAND: Final = ["latest_charge"]  # where refunds are counted; only `retrieve` needs it, and it is a third of a call's cost
_NEVER_CONNECTED: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

_T = TypeVar("_T")


class Event(msgspec.Struct, frozen=True):
    """A verified event. `intent_id` is the payment intent that it is about; `type` as Stripe names it."""

    id: str
    type: str
    intent_id: str
    order_id: str


class StripePayments:
    """`Payments` over the SDK's aiohttp client. Enter it once per process; it holds up to 100 connections.

    One call takes at most `stripe_timeout_ms`; the SDK retries nothing by itself, since that is for the caller to decide.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        settings = self._settings
        seconds = settings.stripe_timeout_ms / 1_000
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, 2.0))
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
        session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        http = stripe.AIOHTTPClient(timeout=timeout, session=session)
        key = settings.stripe_api_key or "sk_none"  # the SDK refuses an empty key; the provider refuses this one
        base = settings.stripe_api_base.rstrip("/")
        self._api = stripe.StripeClient(key, base_addresses={"api": base}, http_client=http, max_network_retries=0).v1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def create(self, order_id: str, amount: int, currency: str, payment_method_id: str) -> Intent:
        params: stripe.params.PaymentIntentCreateParams = {
            "amount": amount,
            "currency": currency.lower(),
            "payment_method": payment_method_id,
            "allowed_payment_method_types": ["card"],
            "metadata": {"order_id": order_id},
        }

        async def call(key: str) -> Intent:
            return _intent(await self._api.payment_intents.create_async(params, {"idempotency_key": key}))

        return await _with_fresh_keys(f"{order_id}:create", call)

    async def confirm(self, intent_id: str, order_id: str, attempt: int, payment_method_id: str) -> Intent:
        params: stripe.params.PaymentIntentConfirmParams = {
            "payment_method": payment_method_id,
            "error_on_requires_action": True,  # nobody is there to act
        }

        async def call(key: str) -> Intent:
            return _intent(await self._api.payment_intents.confirm_async(intent_id, params, {"idempotency_key": key}))

        async def settled() -> Intent | None:
            intent = await self.retrieve(intent_id)
            return intent if intent.status in ("succeeded", "processing", "requires_capture") else None

        return await _with_fresh_keys(f"{order_id}:confirm:{attempt}", call, settled)

    async def retrieve(self, intent_id: str) -> Intent:
        return _intent(await _outcome(self._api.payment_intents.retrieve_async(intent_id, {"expand": _EXPAND})))

    async def probe(self) -> None:
        """Whether the provider is there, by a cheap read that knows our key; raises as every call does."""
        await _outcome(self._api.balance.retrieve_async())

    async def cancel(self, intent_id: str, order_id: str) -> Intent:
        async def call(key: str) -> Intent:
            return _intent(await self._api.payment_intents.cancel_async(intent_id, {}, {"idempotency_key": key}))

        async def settled() -> Intent | None:
            intent = await self.retrieve(intent_id)
            return intent if intent.status == "canceled" else None

        return await _with_fresh_keys(f"{order_id}:cancel:{intent_id}", call, settled)

    async def refund(self, intent_id: str, order_id: str, reason: str, amount_minor: int, *, settle: bool = True) -> Refund:
        params: stripe.params.RefundCreateParams = {
            "payment_intent": intent_id,
            "amount": amount_minor,
            "metadata": {"order_id": order_id, "reason": reason},
        }

        async def call(key: str) -> Refund:
            return _refund(_decoded(await self._api.refunds.create_async(params, {"idempotency_key": key}), wire.Refund))

        async def settled() -> Refund | None:
            return await self._refund_for(intent_id, order_id, reason)

        found = await settled() if settle else None
        if found is not None:
            return found
        try:
            # A key that was spent on another amount says nothing of this one.
            return await _with_fresh_keys(f"{order_id}:refund:{reason}", call, settled, (_StoredFailure, KeyTaken))
        except (OutcomeUnknown, ProviderRefused) as error:
            found = await settled()
            if found is not None:
                return found
            if isinstance(error, ProviderRefused):
                raise RefundOverlaps(f"{intent_id} does not give back {amount_minor} for {reason}: {error}") from error
            raise

    async def _refund_for(self, intent_id: str, order_id: str, reason: str) -> Refund | None:
        """The living refund of this intent that was asked for with this reason."""
        params: stripe.params.RefundListParams = {"payment_intent": intent_id, "limit": _PAGE}
        while True:
            page = _decoded(await _outcome(self._api.refunds.list_async(params)), wire.RefundPage)
            for refund in page.data:
                asked = refund.metadata.get("reason") == reason and refund.metadata.get("order_id") == order_id
                if asked and refund.status not in ("failed", "canceled"):
                    return _refund(refund)
            if not page.has_more or not page.data:
                return None
            params["starting_after"] = page.data[-1].id


def verify_event(payload: bytes, header: str, secret: str, now: datetime) -> Event:
    """The event that the provider signed at most five minutes before (or after) `now`.

    Raises `BadSignature` where the signature is missing, wrong or old, or where the signed body is no event. An event may
    come late, twice, out of order or never: it is a hint to look, not a fact to book.
    """
    try:
        stripe.WebhookSignature.verify_header(payload, header, secret)
        signed_at = next(int(part[2:]) for part in header.split(",") if part.startswith("t="))  # the first, as the SDK
        event = msgspec.json.decode(payload, type=wire.Event)
    except (stripe.SignatureVerificationError, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise BadSignature(f"the event cannot be believed: {type(error).__name__}") from error
    if abs(now.timestamp() - signed_at) > _TOLERANCE_S:
        raise BadSignature("the event was signed too long ago, or in the future")
    thing = event.data.object
    intent_id = thing.id if thing.object == "payment_intent" else thing.payment_intent
    return Event(event.id, event.type, intent_id or "", (thing.metadata or {}).get("order_id", ""))


class _StoredFailure(OutcomeUnknown):
    """The key's first request ended in a 5xx, and that is all this key will ever say."""


async def _with_fresh_keys(
    key: str,
    call: Callable[[str], Awaitable[_T]],
    settled: Callable[[], Awaitable[_T | None]] | None = None,
    spent: tuple[type[Exception], ...] = (_StoredFailure,),
) -> _T:
    """Call with this key. Where the provider only replays a stored 5xx, look what became of it, then go on with the next
    key of a fixed row, so that two callers at once still meet under the same one.

    That is safe for calls which the intent's state limits to one effect, or whose earlier effect `settled` finds.
    """
    looked = settled is None
    for number in range(1, _FRESH_KEYS + 1):
        try:
            return await _outcome(call(key if number == 1 else f"{key}:{number}"))
        except spent:
            found = await settled() if settled is not None and not looked else None
            looked = True
            if found is not None:
                return found
    raise OutcomeUnknown(f"{key}: the provider has failed {_FRESH_KEYS} times and replays it")


async def _outcome(call: Awaitable[_T]) -> _T:
    try:
        return await call
    except stripe.StripeError as error:
        raise _named(error) from error
    except (aiohttp.ClientError, TimeoutError) as error:  # the SDK leaves these as they are while it reads the body
        raise OutcomeUnknown(f"the answer was lost: {type(error).__name__}") from error


def _named(error: stripe.StripeError) -> RushlineError:  # noqa: PLR0911  # one row per answer
    """The typed error for what the SDK raised: by class, status and code, never by words."""
    about = f"{type(error).__name__} (HTTP {error.http_status}, {error.code})"
    match error:
        case stripe.CardError():
            return declined((error.error and error.error.decline_code) or error.code or "generic_decline")
        case stripe.RateLimitError():
            return ProviderUnavailable(about)
        case stripe.AuthenticationError() | stripe.PermissionError():
            return BadProviderCredentials(about)
        case stripe.InvalidRequestError(code="payment_intent_unexpected_state"):
            return IntentUnexpectedState(about)
        case stripe.IdempotencyError():
            return KeyTaken(about)
        case stripe.InvalidRequestError(code="resource_missing", param="payment_method"):
            return declined("resource_missing")
        case stripe.InvalidRequestError():
            return ProviderRefused(about)
        case stripe.APIConnectionError() if isinstance(error.__cause__, _NEVER_CONNECTED):
            return ProviderUnavailable(f"{about}: {type(error.__cause__).__name__}")
    stored = (error.headers or {}).get("Idempotent-Replayed") == "true"
    return _StoredFailure(about) if stored else OutcomeUnknown(about)


def _decoded(answer: Any, kind: type[_T]) -> _T:
    """Our own reading of the answer's body. Raises `ProviderRefused` where it is not what Stripe documents."""
    try:
        return msgspec.json.decode(answer.last_response.body, type=kind)
    except msgspec.MsgspecError as error:
        raise ProviderRefused(f"an answer that cannot be read: {error}") from error


def _intent(answer: stripe.PaymentIntent) -> Intent:
    told = _decoded(answer, wire.PaymentIntent)
    failure, charge = told.last_payment_error, told.latest_charge
    return Intent(
        id=told.id,
        status=told.status,
        amount_minor=told.amount,
        captured_minor=told.amount_received,
        refunded_minor=charge.amount_refunded if isinstance(charge, wire.Charge) else 0,
        decline=(failure.decline_code or failure.code) if failure else None,
        payment_method_id=told.payment_method,
        charge_id=charge.id if isinstance(charge, wire.Charge) else charge,
    )


def _refund(told: wire.Refund) -> Refund:
    return Refund(told.id, told.status, told.amount, told.metadata["reason"])
