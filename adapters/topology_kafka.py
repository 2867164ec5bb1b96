"""The only place that compares Kafka's topics with those declared, and makes them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from adapters.settings import Settings
from adapters.topology_declared import Difference, Topic, TopologyError, declared_kafka

_SETTLE_S: Final = 10
_RETENTION: Final = "retention.ms"


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, request_timeout_ms=10_000)
    try:
        await client.start()
        yield client
    except KafkaError as error:
        raise TopologyError(
            f"Kafka does not answer: {error}.", "Start it (`rushline up`), or see RUSHLINE_KAFKA_BOOTSTRAP."
        ) from error
    finally:
        await client.close()


async def diff_kafka(kafka: AIOKafkaAdminClient, settings: Settings) -> list[Difference]:
    there = {each["topic"]: len(each["partitions"]) for each in await kafka.describe_topics()}
    found: list[Difference] = []
    for topic in declared_kafka().topics:
        partitions = there.get(topic.name)
        if partitions is None:
            found.append(Difference(broker="kafka", kind="topic", name=topic.name, problem="missing"))
        elif partitions != topic.partitions:  # more of them would break the order of each key
            found.append(
                Difference(
                    broker="kafka",
                    kind="topic",
                    name=topic.name,
                    problem="different",
                    declared=f"{topic.partitions} partitions",
                    found=f"{partitions} partitions",
                    by_hand=True,
                )
            )
        else:
            found += await _diff_retention(kafka, topic, settings)
    return found


async def _diff_retention(kafka: AIOKafkaAdminClient, topic: Topic, settings: Settings) -> list[Difference]:
    declared = _topic_config(topic, settings)[_RETENTION]
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, {_RETENTION: None})
    answers = await kafka.describe_configs([resource])
    found = next((entry[1] for answer in answers for each in answer.resources for entry in each[4]), None)
    if found == declared:
        return []
    return [Difference(broker="kafka", kind="retention", name=topic.name, problem="different", declared=declared, found=found)]


async def apply_kafka(kafka: AIOKafkaAdminClient, differences: list[Difference], settings: Settings) -> None:
    brokers = len((await kafka.describe_cluster())["brokers"])
    absent = {each.name for each in differences if each.problem == "missing"}
    topics = [
        NewTopic(t.name, t.partitions, min(t.replication_factor, brokers), topic_configs=_topic_config(t, settings))
        for t in declared_kafka().topics
        if t.name in absent
    ]
    if topics:
        made = await kafka.create_topics(topics)
        _check((topic, code) for topic, code, *_ in made.topic_errors)
    changed = [each.name for each in differences if each.kind == "retention"]
    if changed:
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, t.name, _topic_config(t, settings))
            for t in declared_kafka().topics
            if t.name in changed
        ]
        answers = await kafka.alter_configs(resources)
        _check((each[3], each[0]) for answer in answers for each in answer.resources)


async def settled(kafka: AIOKafkaAdminClient, settings: Settings) -> None:
    """Kafka's controller answers before its brokers know. Whoever starts next should find what was applied."""
    give_up = time.monotonic() + _SETTLE_S
    while left := await diff_kafka(kafka, settings):
        if time.monotonic() > give_up:
            raise TopologyError(f"Kafka took the change, and still shows: {'; '.join(map(str, left))}.", "Apply again.")
        await asyncio.sleep(0.02)


def _topic_config(topic: Topic, settings: Settings) -> dict[str, str]:
    kept_ms = -1 if topic.retention == "forever" else settings.kafka_retention_hours * 3_600_000
    return {_RETENTION: str(kept_ms), "cleanup.policy": "delete"}


def _check(results: Iterable[tuple[str, int]]) -> None:
    for topic, code in results:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:  # another `apply` was quicker
            raise TopologyError(f"Kafka refuses topic {topic}: {error.__name__}.", "See Kafka's log, then apply again.")
