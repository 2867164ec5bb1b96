"""The only place where a broker is compared with the shape declared in `broker-config/`, and given it.

Nothing here deletes a queue or a topic: one that exists with other arguments is shown and refused, because messages may be
in it. What the declaration owns is its exchanges with all their bindings, and the arguments of its queues and topics.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import aio_pika
import aiohttp
from aio_pika.exceptions import AMQPConnectionError, ChannelClosed

from adapters.settings import Settings
from adapters.topology_declared import (
    Definitions,
    Difference,
    Kind,
    TopologyError,
    declared_kafka,
    declared_rabbitmq,
    render,
)
from adapters.topology_kafka import admin, apply_kafka, diff_kafka, settled

_VHOST: Final = "%2F"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_PLURALS: Final[dict[Kind, str]] = {"exchange": "exchanges", "queue": "queues", "policy": "policies"}


async def diff(settings: Settings) -> list[Difference]:
    """Everything in which the two brokers are not as declared."""
    async with management(settings) as rabbitmq, admin(settings) as kafka:
        return [*await _diff_rabbitmq(rabbitmq), *await diff_kafka(kafka, settings)]


async def apply(settings: Settings, *, dry_run: bool = False) -> list[Difference]:
    """Make both brokers as declared and say what was changed. Raises before any change where one must be made by hand."""
    async with management(settings) as rabbitmq, admin(settings) as kafka:
        found = [*await _diff_rabbitmq(rabbitmq), *await diff_kafka(kafka, settings)]
        by_hand = [each for each in found if each.by_hand]
        if by_hand:
            raise TopologyError(
                f"These exist with another shape, and messages may be in them: {'; '.join(map(str, by_hand))}.",
                "Drain each, delete it (the RabbitMQ UI; Kafka's own tools for a topic), then apply again.",
            )
        if found and not dry_run:
            await _apply_rabbitmq(rabbitmq, [each for each in found if each.broker == "rabbitmq"])
            await apply_kafka(kafka, [each for each in found if each.broker == "kafka"], settings)
            await settled(kafka, settings)
        return found


async def missing(settings: Settings) -> list[str]:
    """What a process would look for in vain on either broker, by name; asks passively and without rights to declare."""
    return [*await missing_on_rabbitmq(settings), *await missing_on_kafka(settings)]


async def missing_on_rabbitmq(settings: Settings) -> list[str]:
    declared = declared_rabbitmq()
    absent: list[str] = []
    try:
        async with await aio_pika.connect(settings.rabbitmq_url, timeout=10) as connection:
            for kind, name in [("exchange", e.name) for e in declared.exchanges] + [("queue", q.name) for q in declared.queues]:
                channel = await connection.channel()  # a miss closes it
                try:
                    await (channel.get_exchange(name) if kind == "exchange" else channel.get_queue(name))
                    await channel.close()
                except ChannelClosed:
                    absent.append(f"rabbitmq {kind} {name}")
    except (AMQPConnectionError, OSError) as error:
        raise TopologyError(
            f"RabbitMQ does not answer: {error}.", "Start it (`rushline up`), or see RUSHLINE_RABBITMQ_URL."
        ) from error
    return absent


async def missing_on_kafka(settings: Settings) -> list[str]:
    async with admin(settings) as kafka:
        there = set(await kafka.list_topics())
    return [f"kafka topic {topic.name}" for topic in declared_kafka().topics if topic.name not in there]


@asynccontextmanager
async def management(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    url = settings.rabbitmq_management_url.rstrip("/") + "/api/"
    try:
        async with aiohttp.ClientSession(url, timeout=_TIMEOUT, raise_for_status=_told) as session:
            async with session.head("overview"):
                pass  # it answers, and knows us
            yield session
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise TopologyError(
            f"RabbitMQ's management interface does not answer: {error}.",
            "Start it (`rushline up`), or see RUSHLINE_RABBITMQ_MANAGEMENT_URL.",
        ) from error


async def _told(response: aiohttp.ClientResponse) -> None:
    """RabbitMQ says why it refuses in the body, which an ordinary status error leaves out."""
    if response.status == 401:  # noqa: PLR2004 - unauthorised
        raise TopologyError("RabbitMQ refuses the user.", "See RUSHLINE_RABBITMQ_MANAGEMENT_URL: it needs an administrator.")
    if response.status >= 400 and response.status != 404:  # noqa: PLR2004 - any failure; absent is an answer
        what = f"{response.method} {response.url.path}"
        raise TopologyError(f"RabbitMQ refuses {what}: {(await response.text()).strip()}", "See its log, then apply again.")


async def _get(session: aiohttp.ClientSession, path: str) -> Any:
    async with session.get(path) as response:
        return await response.json()


async def _diff_rabbitmq(session: aiohttp.ClientSession) -> list[Difference]:
    wanted = render(declared_rabbitmq(), (await _get(session, "overview"))["rabbitmq_version"])
    there = await _get(session, f"definitions/{_VHOST}")
    return compare_definitions(wanted, there)


def compare_definitions(wanted: Definitions, there: Definitions) -> list[Difference]:
    """How a broker's own export differs from what was rendered for it. What others declared beside ours is not our business."""
    found: list[Difference] = []
    for kind, plural in _PLURALS.items():
        actual = {each["name"]: _shape(each) for each in there.get(plural, [])}
        for name, ours in ((each["name"], _shape(each)) for each in wanted[plural]):
            theirs = actual.get(name)
            if theirs != ours:
                found.append(
                    Difference(
                        broker="rabbitmq",
                        kind=kind,
                        name=name,
                        problem="missing" if theirs is None else "different",
                        declared=ours,
                        found=theirs,
                        by_hand=theirs is not None and kind != "policy",
                    )
                )
    return found + _compare_bindings(wanted, there)


def _shape(each: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: each[key] for key in ("type", "durable", "arguments", "pattern", "apply-to", "definition") if key in each
    }
    if "arguments" in kept:  # brokers differ in where they write a queue's type, and whether they write the usual one
        arguments = dict(kept["arguments"])
        kept["type"] = arguments.pop("x-queue-type", None) or each.get("type", "classic")
        kept["arguments"] = arguments
    return kept


def _compare_bindings(wanted: Definitions, there: Definitions) -> list[Difference]:
    sources = {each["name"] for each in wanted["exchanges"]}
    ours = {_binding(each) for each in wanted["bindings"]}
    theirs = {_binding(each) for each in there.get("bindings", []) if each["source"] in sources}
    absent = [
        Difference(broker="rabbitmq", kind="binding", name=name, problem="missing", declared=b) for name, b in ours - theirs
    ]
    extra = [Difference(broker="rabbitmq", kind="binding", name=name, problem="extra", declared=b) for name, b in theirs - ours]
    return sorted(absent + extra, key=str)


def _binding(each: dict[str, Any]) -> tuple[str, tuple[str, str, str, str]]:
    """Its name for people, and what the management interface needs to make or remove it."""
    name = f"{each['source']} -{each['routing_key']}-> {each['destination']}"
    return name, (each["source"], each["destination_type"][0], each["destination"], each["routing_key"])


async def _apply_rabbitmq(session: aiohttp.ClientSession, differences: list[Difference]) -> None:
    for each in differences:
        if each.kind != "binding":
            path = f"{_PLURALS[each.kind]}/{_VHOST}/{quote(each.name, safe='')}"
            async with session.put(path, json=_body(each)):
                continue
        source, kind, destination, key = each.declared
        path = f"bindings/{_VHOST}/e/{quote(source, safe='')}/{kind}/{quote(destination, safe='')}"
        if each.problem == "extra":
            await (await session.delete(f"{path}/{quote(key, safe='') or '~'}")).release()
        else:
            await (await session.post(path, json={"routing_key": key, "arguments": {}})).release()


def _body(each: Difference) -> dict[str, Any]:
    body = dict(each.declared)
    if each.kind == "queue" and body.pop("type") == "quorum":
        body["arguments"] = {**body["arguments"], "x-queue-type": "quorum"}
    return body
