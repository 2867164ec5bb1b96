"""Every error of ours says which kind of failure it is, and says so on purpose: all subclasses, walked."""

import importlib
from collections.abc import Iterator

import pytest

from orders.errors import AlreadyDone, NotAllowed, Refuse, RetryLater, RushlineError
from orders.failures import CATEGORY, Category, FailureType
from tests.unit.test_tidiness import MODULES, REPOSITORY
from workers.judge import Ack, Again, Park, Wait, judge

F = FailureType
# What a delivery, a fact or a row of the outbox can meet.
TYPES = {
    F.PAYMENT_DECLINED: {"CardDeclined"},
    F.INSUFFICIENT_FUNDS: {"InsufficientFunds"},
    F.PAYMENT_FRAUD: {"FraudSuspected"},
    F.PAYMENT_TIMEOUT: {"OutcomeUnknown", "NotSettled", "ChargeNotSettled", "IntentUnexpectedState", "RefundOverlaps"},
    F.RESTAURANT_TIMEOUT: {"RestaurantUnreachable", "PeerUnavailable", "PeerRefused", "BadPeerAddress"},
    F.DRIVER_UNAVAILABLE: {"NoDriverAvailable", "DriverTaken"},
    F.INVALID_MESSAGE: {"BadMessage", "BodyTooLarge", "WrongBroker", "KillsItsWorker", "KillsItsStream", "BadSignature", "FactRefused"},
    F.SERVICE_UNAVAILABLE: {
        "DatabaseUnavailable", "ProcessingErrorDecline", "ProviderUnavailable", "BadProviderCredentials", "MessagingUnavailable",
        "BadMessagingCredentials", "Unroutable", "Refused", "BrokerUnavailable", "KafkaUnavailable", "TopicsMissing",
        "NotDelivered", "RefundFailed", "LostPartition", "DependencyDown", "PeerAway", "DependencyFailing", "SmsAway",
        "WitnessAway", "WitnessConflict", "WitnessRefused",
    },
    # Nobody's business in particular: what the business calls by no name, known not to pass, or a bug of ours.
    F.UNKNOWN: {
        "RecipientRefused", "ProviderRefused", "KeyTaken", "UnknownRestaurant", "UnknownTemplate", "UnknownRefundReason",
        "GoesInCircles",
    },
}  # fmt: skip
NAMED = {name: kind for kind, names in TYPES.items() for name in names}
# Their errors answer people and programs that ask, or stop a process at its start. No message ever fails with one of them.
ANSWERS = (
    "gateway",
    "console",
    "stack",
    "simulation",
    "bench",
    "outbox",
    "streams.operate",
    "orders.checkpoints",
    "orders.disputes",
    "orders.errors",
    "orders.note_keys",
    "orders.notes",
    "orders.privacy",
    "orders.proofs",
    "orders.rerouting",
    "orders.tiles",
    "orders.tlog_proof",
    "audit",
    "adapters.archive_errors",
)


def _all(root: type[RushlineError]) -> Iterator[type[RushlineError]]:
    for each in root.__subclasses__():
        yield each
        yield from _all(each)


@pytest.fixture(scope="module")
def errors() -> dict[str, list[type[RushlineError]]]:
    """All of them, once every module is loaded."""
    for path in MODULES:
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        if not name.endswith("__main__"):
            importlib.import_module(name)
    found: dict[str, list[type[RushlineError]]] = {}
    for each in _all(RushlineError):
        if not each.__module__.startswith("tests") and not each.__name__.startswith("_"):  # what is private stays inside
            found.setdefault(each.__name__, []).append(each)
    return found


def test_the_table_says_of_every_type_whether_it_may_pass() -> None:
    assert set(CATEGORY) == set(FailureType)


def test_every_error_that_a_message_can_meet_has_its_type_on_purpose(errors: dict[str, list[type[RushlineError]]]) -> None:
    given = {
        each.__name__: each.failure
        for each in (one for same in errors.values() for one in same)
        if each.__name__ in NAMED and not each.__module__.startswith("gateway")
    }
    assert given == NAMED
    undecided = {
        f"{each.__module__}.{each.__name__}"
        for same in errors.values()
        for each in same
        if each.__name__ not in NAMED and not each.__module__.startswith(ANSWERS)
    }
    assert undecided == set(), "name its failure in the class, and here"


@pytest.mark.parametrize("attempt", [1, 3])
def test_what_follows_agrees_with_the_category(errors: dict[str, list[type[RushlineError]]], attempt: int) -> None:
    """Nothing permanent waits, nothing that may pass is parked before its attempts are spent, and poison is quarantined."""
    for each in (one for same in errors.values() for one in same):
        error = each.__new__(each)
        verdict = judge(error, attempt)
        if issubclass(each, AlreadyDone | NotAllowed):
            assert isinstance(verdict, Ack), each
        elif CATEGORY[each.failure] is Category.POISON:
            assert isinstance(verdict, Park), each
            assert verdict.queue == "orders.dlq.poison", each
        elif CATEGORY[each.failure] is Category.PERMANENT or issubclass(each, Refuse):
            assert isinstance(verdict, Park), each
        elif issubclass(each, RetryLater):
            assert isinstance(verdict, Wait | Again), each
        else:
            assert isinstance(verdict, Park | Wait), each
