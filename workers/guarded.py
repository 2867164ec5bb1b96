"""The only place where a breaker stands before a port: the same Protocols, with the network behind them spared in an outage."""

from collections.abc import Mapping

from adapters.breaker import Breaker
from adapters.circuit import State
from adapters.payments import Intent, Payments, Refund
from orders.errors import DependencyDown, PeerAway
from workers.ports import Messages


class GuardedPayments:
    """`Payments`, which also raises `DependencyDown` while the provider is away, and `DependencyFailing`."""

    def __init__(self, payments: Payments, breaker: Breaker) -> None:
        self._payments, self._breaker = payments, breaker

    async def create(self, order_id: str, amount: int, currency: str, payment_method_id: str) -> Intent:
        return await self._breaker.call(lambda: self._payments.create(order_id, amount, currency, payment_method_id))

    async def confirm(self, intent_id: str, order_id: str, attempt: int, payment_method_id: str) -> Intent:
        return await self._breaker.call(lambda: self._payments.confirm(intent_id, order_id, attempt, payment_method_id))

    async def retrieve(self, intent_id: str) -> Intent:
        return await self._breaker.call(lambda: self._payments.retrieve(intent_id))

    async def cancel(self, intent_id: str, order_id: str) -> Intent:
        return await self._breaker.call(lambda: self._payments.cancel(intent_id, order_id))

    async def refund(self, intent_id: str, order_id: str, reason: str, amount_minor: int, *, settle: bool = True) -> Refund:
        return await self._breaker.call(lambda: self._payments.refund(intent_id, order_id, reason, amount_minor, settle=settle))


class SmsAway(PeerAway):
    """SMS are away and pushes are not, and both come from one queue: the SMS waits in a tier, so that pushes go on."""

    slug = "sms-away"


class GuardedMessages:
    """`Messages`, which fail at once while their way is closed: a push for good, an SMS to be sent later."""

    def __init__(self, messages: Messages, sms: Breaker, push: Breaker) -> None:
        self._messages, self._sms, self._push = messages, sms, push

    async def send_sms(self, to: str, body: str, idempotency_key: str) -> str:
        try:
            return await self._sms.call(lambda: self._messages.send_sms(to, body, idempotency_key))
        except DependencyDown as error:
            # What took SMS away may have taken pushes too: where nobody sends one, only a probe can tell.
            if await self._push.check() is State.OPEN:
                raise
            raise SmsAway(str(error)) from error

    async def send_push(self, to: str, title: str, body: str, data: Mapping[str, str]) -> None:
        await self._push.call(lambda: self._messages.send_push(to, title, body, data))
