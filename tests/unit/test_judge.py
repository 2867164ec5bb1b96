"""What becomes of a message whose handler raised: the whole table."""

import pytest

from adapters.messaging import MessagingUnavailable, RecipientRefused
from adapters.payments import BadProviderCredentials, CardDeclined, OutcomeUnknown, ProcessingErrorDecline, ProviderUnavailable
from adapters.postgres import DatabaseUnavailable
from adapters.topology_declared import declared_rabbitmq
from orders.errors import AlreadyDone, BadMessage, LostRace, NotAllowed, NotFound, Stale
from orders.names import DEAD_LETTERS, POISON
from outbox.transition import DriverTaken
from workers.judge import TIERS, Ack, Again, Park, Verdict, Wait, judge, worth_a_quick_try
from workers.ports import NoDriverAvailable, NotDelivered, RestaurantUnreachable, UnknownRestaurant

FIRST, SECOND, THIRD = (Wait(tier) for tier in TIERS)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (AlreadyDone(), Ack("already-done")),
        (Stale(), Ack("stale")),
        (NotDelivered(), Ack("not-delivered")),
        (NotAllowed("accept", "cancelled"), Ack("stale")),
        (BadMessage(), Park("invalid-message", POISON)),
        (UnknownRestaurant(), Park("unknown-restaurant", DEAD_LETTERS)),
        (BadProviderCredentials(), Park("bad-provider-credentials", DEAD_LETTERS)),
        (CardDeclined("expired_card"), Park("card-declined", DEAD_LETTERS)),
        (RecipientRefused(400), Park("recipient-refused", DEAD_LETTERS)),
        (NotFound(), Park("not-found", DEAD_LETTERS)),
        (DatabaseUnavailable(), Again()),
        (NoDriverAvailable(), FIRST),
        (ProviderUnavailable(), FIRST),
        (LostRace(), FIRST),
        (DriverTaken(), FIRST),
        (KeyError("a bug"), FIRST),
    ],
)
def test_the_first_failure_of_each_kind_has_its_place(error: Exception, verdict: Verdict) -> None:
    assert judge(error, 1) == verdict


@pytest.mark.parametrize(("attempt", "verdict"), [(1, FIRST), (2, SECOND), (3, THIRD)])
@pytest.mark.parametrize("error", [OutcomeUnknown(), RestaurantUnreachable(), ZeroDivisionError()])
def test_what_may_pass_waits_longer_each_time(error: Exception, attempt: int, verdict: Verdict) -> None:
    assert judge(error, attempt) == verdict


@pytest.mark.parametrize(("error", "reason"), [(OutcomeUnknown(), "outcome-unknown"), (ZeroDivisionError(), "unknown")])
@pytest.mark.parametrize("attempt", [4, 5, 1_000])
def test_what_has_waited_in_every_tier_is_parked(error: Exception, reason: str, attempt: int) -> None:
    assert judge(error, attempt) == Park(reason, DEAD_LETTERS)


@pytest.mark.parametrize("attempt", [1, 4, 1_000])
def test_neither_an_absent_database_nor_a_search_for_a_driver_is_ever_parked(attempt: int) -> None:
    assert judge(DatabaseUnavailable(), attempt) == Again()
    assert judge(NoDriverAvailable(), attempt) == FIRST


@pytest.mark.parametrize("error", [ProviderUnavailable(), OutcomeUnknown(), LostRace(), MessagingUnavailable(), KeyError()])
def test_what_may_pass_in_a_moment_is_tried_again_at_once(error: Exception) -> None:
    assert worth_a_quick_try(error)


@pytest.mark.parametrize(
    "error",
    [Stale(), BadMessage(), NotFound(), DatabaseUnavailable(), NoDriverAvailable(), ProcessingErrorDecline("processing_error")],
)
def test_what_cannot_pass_in_a_moment_is_not(error: Exception) -> None:
    assert not worth_a_quick_try(error)


def test_the_tiers_are_those_that_the_broker_has() -> None:
    assert [tier.name for tier in TIERS] == [queue.name for queue in declared_rabbitmq().queues if queue.kind == "tier"]
