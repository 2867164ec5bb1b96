"""The only place for the automatic fixes that are shipped: the failures that are known, and what mends each of them.

They are asked by name, those of people first, so what is particular stands before what is general. An operator's switch,
limits and expiry stay as they were set. What is not here is mended elsewhere: commands whose order has ended meanwhile are
superseded, a dependency that is away keeps its messages in their queues, a driver is looked for until the order's deadline.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec

from adapters.postgres import Pool
from orders.failures import Category, FailureType
from orders.names import Command, Fact, audit_action
from outbox.letters import rules
from outbox.letters.matching import Match
from outbox.letters.rule_model import SHIPPED_PREFIX, Action, Delay, Discard, Rule

_LIFE: Final = timedelta(days=365)
_QUARTER_S: Final = 900
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_FACTS: Final = tuple(sorted({*(fact.value for fact in Fact), *map(audit_action, Fact)}))  # on either topic


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A rule as it is shipped. `enabled`: whether it is safe to have on before anybody has looked."""

    name: str
    description: str
    match: Match
    action: Action
    enabled: bool = True
    per_hour: int = 500
    per_letter: int = 3


LIBRARY: Final = (
    Fix(
        name="fact-held",
        description="A fact that a stream could not apply holds back later facts of its order. Most such failures end with a "
        "deploy or with the database's trouble, so the fact is woken once an hour, three times; after that it is a bug, and "
        "somebody must look. Waking an applied fact does nothing: positions tell.",
        match=Match(types=_FACTS, category=Category.TRANSIENT),
        action=Delay(for_s=_HOUR_S),
    ),
    Fix(
        name="notification-push-failed",
        description="A push that failed for a reason nobody has named is given up after an hour: by then what it says is old, "
        "and what a customer must know goes by SMS as well. Pushes that the provider refuses are never parked at all.",
        match=Match(types=(Command.NOTIFICATION_PUSH.value,), failure_types=(FailureType.UNKNOWN,)),
        action=Discard(reason="a push is worth nothing after an hour", after_s=_HOUR_S),
        per_hour=5_000,
    ),
    Fix(
        name="notification-sms-refused",
        description="The provider takes neither this recipient nor will it later: a number that does not exist, or one that "
        "has opted out. The letter stays a day, so that a text of ours which is refused for everybody is seen and can be "
        "replayed once it is mended; then it is given up.",
        match=Match(types=(Command.NOTIFICATION_SMS.value,), reason="recipient-refused"),
        action=Discard(reason="the provider refuses this recipient", after_s=_DAY_S),
        per_hour=1_000,
    ),
    Fix(
        name="order-deadline-parked",
        description="A deadline that could not be acted upon is issued again by the clock, with the same identity, for as long "
        "as the order waits: the parked command itself is needed by nobody. It stays a day after its last failure, as "
        "evidence of what went wrong; an order whose deadline goes on failing comes back here by itself.",
        match=Match(types=(Command.ORDER_DEADLINE.value,), category=Category.TRANSIENT),
        action=Discard(reason="the clock issues a deadline again while its order waits", after_s=_DAY_S),
    ),
    Fix(
        name="payment-refund-again",
        description="A refund is somebody's money: it is tried again every quarter of an hour, eight times, beside the alert "
        "that its parking raised. That is safe, since a refund is looked for at the provider before it is made, by order and "
        "reason. What is left after that goes to the provider's support: see the runbook refund-parked.",
        match=Match(types=(Command.PAYMENT_REFUND.value,), category=Category.TRANSIENT),
        action=Delay(for_s=_QUARTER_S),
        per_letter=8,
    ),
    Fix(
        name="relay-refused",
        description="A row that RabbitMQ refused, most often because a queue was at its limit or had lost its quorum, goes "
        "back to the relay after a quarter of an hour, three times. The same id: nothing is done twice.",
        match=Match(consumer="relay-rabbitmq", reason="refused-by-broker", category=Category.TRANSIENT),
        action=Delay(for_s=_QUARTER_S),
    ),
    Fix(
        name="relay-unroutable",
        description="A row that no queue was bound for goes back to the relay after a quarter of an hour, three times: the time "
        "to put the topology right (rushline topology diff, then apply). The same id: nothing is done twice.",
        match=Match(consumer="relay-rabbitmq", reason="unroutable", category=Category.TRANSIENT),
        action=Delay(for_s=_QUARTER_S),
    ),
    Fix(
        name="restaurant-cancel-unreachable",
        description="A restaurant whose host is away for longer than the tiers must still hear that an order is off, or it "
        "cooks for nobody: told again every hour, three times. The message carries the order's position, so a late one does "
        "no harm. After that somebody telephones.",
        match=Match(types=(Command.RESTAURANT_CANCEL.value,), category=Category.TRANSIENT, max_generation=3),
        action=Delay(for_s=_HOUR_S),
    ),
    Fix(
        name="schema-newer-than-us",
        description="During a rolling deploy an old consumer meets the new producers' messages, which are poison to it. "
        "Switch this on for the deploy: a quarter of an hour later each is sent again, unless this process cannot read it "
        "either (then it is only refused, and stays). Off otherwise: poison is not retried by itself.",
        match=Match(
            failure_types=(FailureType.INVALID_MESSAGE,), error="BadMessage", reason="invalid-message", max_generation=3
        ),
        action=Delay(for_s=_QUARTER_S),
        enabled=False,
    ),
    Fix(
        name="service-unavailable",
        description="Whatever failed because a service was away is sent again a quarter of an hour later, 500 an hour, so that "
        "the service is not pushed over again by what it missed. Commands that come too late by then say so and are "
        "acknowledged; payments are settled by looking at the provider, never by charging anew.",
        match=Match(failure_types=(FailureType.SERVICE_UNAVAILABLE,)),
        action=Delay(for_s=_QUARTER_S),
    ),
)


def shipped(now: datetime) -> tuple[Rule, ...]:
    """The rules as they are written when there is none of them yet."""
    return tuple(
        Rule(
            name=SHIPPED_PREFIX + fix.name, description=fix.description, match=fix.match, action=fix.action,
            enabled=fix.enabled, per_hour=fix.per_hour, per_letter=fix.per_letter, expires_at=now + _LIFE, shipped=True,
        )
        for fix in LIBRARY
    )  # fmt: skip


async def install(pool: Pool, now: datetime) -> int:
    """Write the library into the database; returns how many rules are new or changed. For each start of the keeper.

    Raises `DatabaseUnavailable`.
    """
    return await rules.install(pool, shipped(now), now=now)
