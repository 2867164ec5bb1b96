"""The only place that takes a request from its key to its answer: authorise, plan the faults, replay or execute, record."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Literal, assert_never

import msgspec

from simulation.provider.entries import Answered
from simulation.provider.faults import Behaviour, Faults, Outage, Plan
from simulation.provider.forms import Form, parse_form
from simulation.provider.idempotency import Keys
from simulation.provider.ledger import Ledger
from simulation.provider.operations import Done, Operations
from simulation.provider.refusals import BAD_KEY, BROKEN, TOO_MANY, Refusal, invalid
from simulation.provider.webhooks import Webhooks


class Call(msgspec.Struct, frozen=True):
    """One request as the service needs it. `form` is the raw body of a POST or the raw query of a GET."""

    method: Literal["GET", "POST"]
    path: str
    form: str
    key: str | None
    authorization: str


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    replayed: bool = False


class Dropped(Exception):  # noqa: N818  # a fault that was asked for
    """The connection must be closed without an answer, after `hang_s` seconds of silence."""

    def __init__(self, hang_s: float) -> None:
        super().__init__(hang_s)
        self.hang_s = hang_s


class Provider:
    """Stripe's behaviour without its HTTP. `key` empty: any bearer is taken. Movements are on file before an answer is."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        keys: Keys,
        faults: Faults,
        webhooks: Webhooks,
        seed: int,
        key: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.ledger, self.keys, self.faults, self.webhooks = ledger, keys, faults, webhooks
        self._operations = Operations(ledger, seed)
        self._authorization = f"Bearer {key}" if key else ""
        self._now = now
        for answer in ledger.answers:
            keys.remember(answer)
        ledger.answers.clear()

    def change(self, named: dict[str, object]) -> None:
        """Change the named knobs, `key_ttl_s` among them. Raises `msgspec.ValidationError` for a value that cannot be."""
        knobs = dict(named)
        ttl_s = msgspec.convert(knobs.pop("key_ttl_s", self.keys.ttl_s), float)
        behaviour = msgspec.convert({**msgspec.structs.asdict(self.faults.behaviour), **knobs}, Behaviour)
        self.keys.ttl_s = ttl_s
        self.faults.change(behaviour, self._now())

    def outage_now(self) -> Outage | None:
        return self.faults.outage(self._now())

    async def handle(self, call: Call) -> Answer:
        """Answer one request. Raises `Dropped` where the fault is to leave it unanswered."""
        try:
            if self._authorization and not hmac.compare_digest(call.authorization.encode(), self._authorization.encode()):
                raise BAD_KEY
            form = parse_form(call.form)
            plan = self._plan(call, form)
            return await (self._write(call, form, plan) if call.method == "POST" else self._read(call, form, plan))
        except Refusal as refusal:
            return Answer(refusal.status, refusal.body())

    def _plan(self, call: Call, form: Form) -> Plan:
        writes = call.method == "POST"
        plan = self.faults.plan(call.key or f"{call.method} {call.path}", writes=writes, now=self._now())
        order_id = self._operations.order_of(call.path, form) if plan.fault else ""
        if plan.fault and order_id:
            self.ledger.touched(order_id, plan.fault)
        return plan

    async def _read(self, call: Call, form: Form, plan: Plan) -> Answer:
        await _pass(plan.latency_s)
        self._lose(plan)
        if plan.ending == "500":
            raise BROKEN
        return Answer(200, msgspec.json.encode(self._execute(call, form).body))

    async def _write(self, call: Call, form: Form, plan: Plan) -> Answer:
        begins = plan.executes or plan.ending == "500"  # a 500 is remembered by its key even where nothing was done
        if not begins:
            self._lose(plan)
        stored = self.keys.begin(call.key, _fingerprint(call), self._now()) if call.key else None
        if stored is not None:
            return self._replay(stored, plan)
        try:
            await _pass(plan.latency_s)
            answer = self._settle(call, form, plan)
        finally:
            if call.key:
                self.keys.release(call.key)
        self._lose(plan)
        return answer

    def _replay(self, stored: Answered, plan: Plan) -> Answer:
        if not plan.executes:
            raise BROKEN
        self._lose(plan)
        return Answer(stored.status, bytes(stored.body), replayed=True)

    def _settle(self, call: Call, form: Form, plan: Plan) -> Answer:
        """Execute, write down, and only then have an answer. A refusal that the key remembers is written too."""
        try:
            done = self._execute(call, form) if plan.executes else Done({})
            answer = Answer(done.status, msgspec.json.encode(done.body))
        except Refusal as refusal:
            if not refusal.stored:
                raise
            done, answer = Done({}), Answer(refusal.status, refusal.body())
        if plan.ending == "500":
            answer = Answer(BROKEN.status, BROKEN.body())
        stored = [self.keys.finish(call.key, answer.status, answer.body, self._now())] if call.key else []
        self.ledger.append([*done.movements, *stored])
        for event in done.events:
            self.webhooks.publish(event)
        return answer

    def _lose(self, plan: Plan) -> None:
        """Raise for an answer that is not to arrive: too many requests, dropped, or silent."""
        match plan.ending:
            case "429":
                raise TOO_MANY
            case "drop":
                raise Dropped(0.0)
            case "hang":
                raise Dropped(self.faults.behaviour.hang_s)
            case "answer" | "500":
                return
            case _:
                assert_never(plan.ending)

    def _execute(self, call: Call, form: Form) -> Done:
        ops, now = self._operations, self._now()
        match (call.method, call.path.strip("/").split("/")):
            case ("POST", ["v1", "payment_intents"]):
                done = ops.create(form, call.key, now)
            case ("POST", ["v1", "payment_intents", intent_id, "confirm"]):
                done = ops.confirm(intent_id, form, call.key, now)
            case ("POST", ["v1", "payment_intents", intent_id, "cancel"]):
                done = ops.cancel(intent_id, form, now)
            case ("POST", ["v1", "refunds"]):
                done = ops.refund(form, call.key, now)
            case ("GET", ["v1", "payment_intents", intent_id]):
                done = ops.retrieve(intent_id, form)
            case ("GET", ["v1", "balance"]):
                done = ops.balance(form)
            case ("GET", ["v1", "refunds"]):
                done = ops.list_refunds(form)
            case ("GET", ["v1", "refunds", refund_id]):
                done = ops.retrieve_refund(refund_id)
            case _:
                raise invalid(f"Unrecognized request URL ({call.method}: {call.path}).", status=404)
        return done


def _fingerprint(call: Call) -> str:
    return hashlib.blake2b(f"{call.path}\n{call.form}".encode(), digest_size=12).hexdigest()


async def _pass(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
