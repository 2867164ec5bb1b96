"""What becomes of a message whose handler raised: the whole table."""

import pytest

from adapters.messaging import MessagingUnavailable, RecipientRefused
from adapters.payments import BadProviderCredentials, CardDeclined, OutcomeUnknown, ProcessingErrorDecline, ProviderUnavailable
from adapters.postgres import DatabaseUnavailable
from adapters.topology_declared import declared_rabbitmq
from orders.errors import AlreadyDone, BadMessage, DependencyDown, LostRace, NotAllowed, NotFound, PeerAway, Stale
from orders.names import DEAD_LETTERS, POISON
from orders.tiers import TIERS
from outbox.transition import DriverTaken
from workers.judge import LONGEST_FREE_WAIT_S, Ack, Again, Park, Verdict, Wait, judge, worth_a_quick_try
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
        (DependencyDown(), Again()),
        (PeerAway(), Wait(TIERS[0], spends=False)),
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


@pytest.mark.parametrize(
    ("waited_s", "tier"), [(0, 0), (59, 0), (61, 0), (299, 0), (300, 1), (899, 1), (900, 2), (LONGEST_FREE_WAIT_S - 1, 2)]
)
@pytest.mark.parametrize("attempt", [1, 4])
def test_a_peer_that_is_away_costs_no_attempt_and_at_most_as_long_again(attempt: int, waited_s: float, tier: int) -> None:
    assert judge(PeerAway(), attempt, waited_s=waited_s) == Wait(TIERS[tier], spends=False)


@pytest.mark.parametrize("attempt", [1, 2, 3, 4])
def test_a_peer_that_stays_away_is_given_up_as_soon_as_its_free_wait_is_over(attempt: int) -> None:
    assert judge(PeerAway(), attempt, waited_s=LONGEST_FREE_WAIT_S) == Park("peer-away", DEAD_LETTERS)


@pytest.mark.parametrize("attempt", [1, 4, 1_000])
def test_a_dependency_that_is_down_puts_its_messages_back_however_long_it_takes(attempt: int) -> None:
    assert judge(DependencyDown(), attempt, waited_s=1e9) == Again()


@pytest.mark.parametrize("error", [ProviderUnavailable(), OutcomeUnknown(), LostRace(), MessagingUnavailable(), KeyError()])
def test_what_may_pass_in_a_moment_is_tried_again_at_once(error: Exception) -> None:
    assert worth_a_quick_try(error)


@pytest.mark.parametrize(
    "error",
    [
        Stale(),
        BadMessage(),
        NotFound(),
        DatabaseUnavailable(),
        DependencyDown(),
        PeerAway(),
        NoDriverAvailable(),
        ProcessingErrorDecline("processing_error"),
    ],
)
def test_what_cannot_pass_in_a_moment_is_not(error: Exception) -> None:
    assert not worth_a_quick_try(error)


def test_the_tiers_are_those_that_the_broker_has() -> None:
    assert [tier.name for tier in TIERS] == [queue.name for queue in declared_rabbitmq().queues if queue.kind == "tier"]
