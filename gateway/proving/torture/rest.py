"""Waiting until a world that was struck has come to rest: by what it says of itself, never by a guess of time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.proving.torture.load import AWAY, fetch
from gateway.proving.world.world import World
from schemas.topics import (
    CONSENT_COMMANDS,
    ERASURES,
    ORDERS,
    PORTABILITY_REQUESTS,
    WAITING_ORDERS,
    clearing_topic,
    dispatch_topic,
)

REST_TIMEOUT_S: Final = 300.0
"""For each thing that is waited for: twenty times what it takes on two idle cores."""

_POLL_S: Final = 0.5

_OPEN: Final = """
SELECT count(*) FILTER (WHERE state IN ('sent', 'unknown', 'reversing')) AS in_flight,
    count(*) FILTER (WHERE state = 'approved') AS approved,
    (SELECT count(*) FROM outbox o, outbox_cursor c WHERE (o.tx, o.id) > (c.tx, c.id)) AS untold
FROM payment
"""


class NotAtRestError(Exception):
    """The world did not come to rest in time; the text says what it was waiting for."""


async def flowing(world: World, *, tell: Callable[[str], None]) -> None:
    """Wait until every network has decided a payment: what strikes earlier would strike nothing.

    Raises:
        NotAtRestError: it takes too long.
    """
    await until(lambda: _undecided(world), tell)


async def come_to_rest(world: World, *, tell: Callable[[str], None]) -> None:
    """Wait until nothing is under way, close the clearing cycles, and wait until all is settled.

    Raises:
        NotAtRestError: it takes too long.
    """
    await until(lambda: _unready(world), tell)
    await until(lambda: _under_way(world), tell)
    for network in world.networks:
        await network.close_cycle()
    await until(lambda: _unsettled(world), tell)
    await until(lambda: _under_way(world), tell)


async def until(
    waits_for: Callable[[], Awaitable[str]], tell: Callable[[str], None], *, within_s: float = REST_TIMEOUT_S
) -> None:
    """Wait until nothing is waited for, also while servers are away.

    Args:
        waits_for: tells what, in words; nothing: the empty text.
        tell: is told it, now and then.
        within_s: for how long it is waited.

    Raises:
        NotAtRestError: it takes longer.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    what = "PostgreSQL and Kafka"
    while True:
        with suppress(*AWAY, KafkaError, aiohttp.ClientError):
            what = await waits_for()
            if not what:
                return
        tell(f"waiting for {what}")
        if loop.time() > deadline:
            raise NotAtRestError(f"after {within_s:.0f} s still waiting for {what}")
        await asyncio.sleep(_POLL_S)


async def _undecided(world: World) -> str:
    rows = await fetch(world.postgres_dsn, "SELECT DISTINCT network_id FROM payment WHERE state = 'approved'")
    waiting = {n.network_id for n in world.networks} - {r["network_id"] for r in rows}
    return f"the first payment at {', '.join(sorted(waiting))}" if waiting else ""


async def _unready(world: World) -> str:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for name, url in world.http.items():
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status != 200:
                        return f"{name} to be ready"
            except (aiohttp.ClientError, TimeoutError):
                return f"{name} to start"
    for network in world.networks:
        if not int((await network.state())["signed_on"]):
            return f"the sign-on to {network.network_id}"
    return ""


async def _under_way(world: World) -> str:
    row = await _counts(world)
    if row["in_flight"]:
        return f"{row['in_flight']} payments in flight or in doubt"
    behind = {group: lag for group, lag in (await lags(world)).items() if lag}
    if behind:
        return ", ".join(f"{group} ({lag} records behind)" for group, lag in behind.items())
    # Once more: what was taken last may have come in between.
    row = await _counts(world)
    if row["untold"]:
        return f"{row['untold']} events in the outbox"
    return "the last results" if row["in_flight"] else ""


async def _unsettled(world: World) -> str:
    row = await _counts(world)
    return f"{row['approved']} payments to be settled" if row["approved"] else ""


async def _counts(world: World) -> Any:
    (row,) = await fetch(world.postgres_dsn, _OPEN)
    return row


async def lags(world: World) -> dict[str, int]:
    """Consumer group → records that it has not committed yet."""
    networks = [n.network_id for n in world.networks]
    groups: dict[str, Sequence[str]] = {
        "mypay-initiation": [ORDERS],
        "mypay-initiation:waiting": [WAITING_ORDERS],
        "mypay-consents": [CONSENT_COMMANDS],
        **{f"mypay-execution-{n}": [dispatch_topic(n)] for n in networks},
        "mypay-settlement": [clearing_topic(n) for n in networks],
    }
    if world.plan.with_receivers:
        groups |= {"mypay-portability": [PORTABILITY_REQUESTS], "mypay-sharing": [ERASURES]}
    return {group: await _lag(world.kafka_bootstrap_servers, group, topics) for group, topics in groups.items()}


async def _lag(bootstrap_servers: str, group: str, topics: Sequence[str]) -> int:
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap_servers, group_id=None, enable_auto_commit=False, request_timeout_ms=15_000
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(t, n) for t in topics for n in consumer.partitions_for_topic(t) or ()]
        ends = await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
    # A member that assigns itself may read a group's offsets without joining it.
    reader = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False, request_timeout_ms=15_000
    )
    await reader.start()
    try:
        reader.assign(partitions)
        return sum([end - (await reader.committed(p) or 0) for p, end in ends.items()])
    finally:
        await reader.stop()
