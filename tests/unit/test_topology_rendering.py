"""The brokers' shape is declared once and rendered for the broker at hand."""

import copy
import json
from typing import Any

import pytest

from adapters.topology import compare_definitions
from adapters.topology_declared import SOURCE, declared_kafka, declared_rabbitmq, render

WORK = {"payments", "restaurants", "drivers", "notifications", "orders"}
TIERS = {"orders.retry.1m", "orders.retry.5m", "orders.retry.15m"}
DEAD = {"orders.dlq", "orders.dlq.poison"}


def arguments(version: str) -> dict[str, dict[str, Any]]:
    return {queue["name"]: queue["arguments"] for queue in render(declared_rabbitmq(), version)["queues"]}


@pytest.mark.parametrize("version", ["4.3.0", "4.3.6", "4.10.1", "5.0.0"])
def test_from_4_3_on_work_queues_are_plain_quorum_queues(version: str) -> None:
    assert {name: given for name, given in arguments(version).items() if name in WORK} == {
        name: {"x-queue-type": "quorum"} for name in WORK
    }


@pytest.mark.parametrize("version", ["3.10.8", "3.13.7", "4.0.1", "4.2.0"])
def test_before_4_3_work_queues_are_classic_ones_with_priorities(version: str) -> None:
    assert all(arguments(version)[name] == {"x-max-priority": 5} for name in WORK)


@pytest.mark.parametrize("version", ["3.10.8", "4.3.6"])
def test_a_tier_gives_back_to_commands_at_least_once_with_the_commands_own_key_and_delay(version: str) -> None:
    for name in TIERS:
        assert arguments(version)[name] == {
            "x-queue-type": "quorum",
            "x-dead-letter-exchange": "commands",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }


def test_looking_at_a_dead_letter_never_drops_it() -> None:
    assert all(arguments("4.3.6")[name] == {"x-queue-type": "quorum", "x-delivery-limit": -1} for name in DEAD)
    assert all(arguments("3.10.8")[name] == {"x-queue-type": "quorum"} for name in DEAD)


def test_a_command_delivered_too_often_by_4_3_goes_to_the_poison_queue() -> None:
    (policy,) = render(declared_rabbitmq(), "4.3.6")["policies"]
    assert policy["definition"]["dead-letter-exchange"] == "orders.dlq.poison"
    assert set(policy["pattern"].strip("^()$").split("|")) == WORK
    assert render(declared_rabbitmq(), "3.10.8")["policies"] == []


def test_every_command_has_exactly_one_queue_and_every_tier_and_dead_queue_an_exchange_of_its_own() -> None:
    bindings = declared_rabbitmq().bindings
    assert {b.queue: b.routing_key for b in bindings if b.exchange == "commands"} == {
        "payments": "payment.*",
        "restaurants": "restaurant.*",
        "drivers": "driver.*",
        "notifications": "notification.*",
        "orders": "order.*",
    }
    assert {b.exchange: b.queue for b in bindings if b.exchange != "commands"} == {name: name for name in TIERS | DEAD}


def test_unroutable_commands_return_to_their_publisher_because_no_exchange_has_an_alternate() -> None:
    assert all(each["arguments"] == {} for each in render(declared_rabbitmq(), "4.3.6")["exchanges"])


def test_the_definitions_that_compose_loads_are_up_to_date_and_hold_no_passwords() -> None:
    text = (SOURCE / "rabbitmq" / "rendered" / "definitions-4.3.json").read_text()
    assert json.loads(text) == render(declared_rabbitmq(), "4.3"), (
        "run: rushline topology render 4.3 > broker-config/rabbitmq/rendered/definitions-4.3.json"
    )
    assert "password" not in text


def test_kafka_has_both_topics_with_32_partitions() -> None:
    assert {topic.name: topic.partitions for topic in declared_kafka().topics} == {
        "orders.events": 32, "audit.events": 32, "audit.checkpoints": 1,
    }  # fmt: skip


def test_a_broker_as_declared_does_not_differ_also_where_it_writes_the_usual_type_and_has_things_of_others() -> None:
    wanted = render(declared_rabbitmq(), "3.10.8")
    there = copy.deepcopy(wanted)
    there["queues"][0]["arguments"]["x-queue-type"] = "classic"
    there["queues"].append({"name": "somebody.elses", "durable": False, "arguments": {}})
    there["exchanges"].append({"name": "theirs", "type": "direct", "durable": True, "arguments": {}})
    there["bindings"].append(
        {"source": "theirs", "destination": "somebody.elses", "destination_type": "queue", "routing_key": "", "arguments": {}}
    )
    assert compare_definitions(wanted, there) == []


def test_each_thing_missing_different_or_extra_is_named() -> None:
    wanted = render(declared_rabbitmq(), "4.3.6")
    there = copy.deepcopy(wanted)
    there["queues"][0]["arguments"] = {"x-queue-type": "classic"}
    there["exchanges"].pop()
    there["bindings"][0]["routing_key"] = "payment.#"
    there["policies"][0]["definition"] = {}
    found = {str(each).partition(" (")[0]: each.by_hand for each in compare_definitions(wanted, there)}
    assert found == {
        "rabbitmq exchange orders.dlq.poison: missing": False,
        "rabbitmq queue payments: different": True,
        "rabbitmq policy work-poison: different": False,
        "rabbitmq binding commands -payment.#-> payments: extra": False,
        "rabbitmq binding commands -payment.*-> payments: missing": False,
        # its exchange is gone, and with it the binding, which this export still shows
    }
