"""Somebody who can write to Kafka as he likes: records for execution that the gateway did not write, and dead letters.

Each is made of a record that is there, so that nothing but the gateway's mark tells them apart: the same order of a
real partner under a real consent, with an id and an amount of its own.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gateway.client import Signer
from gateway.identity.jose.jwk import generate_key
from gateway.proving.books.evidence import Forged
from gateway.proving.collect.topics import read_topics
from gateway.proving.world.world import World
from schemas.envelope import Envelope, write_envelope
from schemas.orders import ORDER_TYPE
from schemas.primitives import payment_id_of
from schemas.topics import DEAD_LETTER, dispatch_topic

PREFIX: Final = "forged-"
"""Order ids of what is forged; nobody else's begin so."""

PARKED_WITHIN_S: Final = 60.0
_AMOUNT: Final = {"currency": "KRW", "value": "880000"}


class NothingToForgeError(Exception):
    """No order has been handed to any network yet."""


class Forger:
    """Writes forged records; every one has an order id that begins with :data:`PREFIX`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)

    async def forge(self, now: datetime) -> int:
        """Write one record of each kind for every network that was handed an order; return how many for execution.

        Raises:
            NothingToForgeError: there is nothing to copy yet.
            KafkaError: Kafka is away; some may have been written.
        """
        written = 0
        async with _producer(self._world) as producer:
            for network in self._world.networks:
                topic = dispatch_topic(network.network_id)
                authentic = await _last_order(self._world, topic)
                if authentic is None:
                    continue
                for record in self._records(authentic, now):
                    await producer.send_and_wait(topic, **record)
                    written += 1
                await producer.send_and_wait(DEAD_LETTER, **self._letter(authentic, topic))
        if not written:
            raise NothingToForgeError
        return written

    def _records(self, authentic: Any, now: datetime) -> Iterator[dict[str, Any]]:
        # The gateway's own headers, mark and all, on another body.
        yield {"key": authentic.key, "value": self._body(authentic), "headers": list(authentic.headers)}
        # As a record looked that was believed once: a signature under a key that nobody knows, an invented proof.
        body = self._body(authentic, authentication="e30.e30.c2ln")
        private, _ = generate_key("ES256")
        signature = Signer(private, "nobodys").sign(body, ORDER_TYPE)
        envelope = Envelope(f"{PREFIX}{next(self._numbers)}", "/mypay/initiation", ORDER_TYPE, now, signature=signature)
        ordered_at = str(int(now.timestamp() * 1000)).encode()
        headers = [*write_envelope(envelope), ("mypay-ordered-at", ordered_at), ("mypay-due", b"proven")]
        yield {"key": authentic.key, "value": body, "headers": headers}

    def _letter(self, authentic: Any, topic: str) -> dict[str, Any]:
        """A dead letter that would put an order on the network's topic if an operator replayed it."""
        told = (
            ("kafka_dlt-original-topic", topic),
            ("kafka_dlt-original-partition", "0"),
            ("kafka_dlt-original-offset", "999999999"),
            ("kafka_dlt-original-timestamp", "1"),
            ("kafka_dlt-exception-fqcn", "schemas.codec.DecodeError"),
            ("kafka_dlt-exception-message", ""),
            ("mypay-stage", "execution"),
            ("mypay-letter-id", PREFIX),
            ("mypay-mark", "20260101.AAAA"),
        )
        headers = [*authentic.headers, *((name, text.encode()) for name, text in told)]
        return {"key": authentic.key, "value": self._body(authentic), "headers": headers}

    def _body(self, authentic: Any, **more: str) -> bytes:
        order = json.loads(authentic.value)
        forged = {**order, "order_id": f"{PREFIX}{next(self._numbers)}", "amount": _AMOUNT, **more}
        return json.dumps(forged).encode()


async def forged_records(world: World) -> list[Forged]:
    """Everything forged that stands on the networks' topics."""
    topics = [dispatch_topic(n.network_id) for n in world.networks]
    found: list[Forged] = []
    async for record in read_topics(world.kafka_bootstrap_servers, topics):
        if PREFIX.encode() not in (record.value or b""):
            continue
        order = json.loads(record.value)
        payment_id = payment_id_of(order["partner_id"], order["order_id"])
        digest = hashlib.sha256(record.value).digest()
        place = (record.topic, record.partition, record.offset)
        found.append(Forged(*place, digest, order["partner_id"], order["order_id"], payment_id))
    return found


async def parked(world: World, number: int, tick: Callable[[], None]) -> bool:
    """Wait until execution has parked so many forged records; False if it has not after a while."""
    deadline = time.monotonic() + PARKED_WITHIN_S
    topics = {dispatch_topic(n.network_id).encode() for n in world.networks}
    while time.monotonic() < deadline:
        seen = 0
        async for record in read_topics(world.kafka_bootstrap_servers, [DEAD_LETTER]):
            headers: Sequence[tuple[str, bytes]] = record.headers
            untrusted = any(n == "kafka_dlt-exception-fqcn" and v.endswith(b"UntrustedRecordError") for n, v in headers)
            seen += untrusted and any(n == "kafka_dlt-original-topic" and v in topics for n, v in headers)
        if seen >= number:
            return True
        world.check()
        tick()
        await asyncio.sleep(0.2)
    return False


def _producer(world: World) -> Any:
    # Whoever is told to stop while Kafka is away waits no longer than this.
    return AIOKafkaProducer(bootstrap_servers=world.kafka_bootstrap_servers, request_timeout_ms=5_000)


async def _last_order(world: World, topic: str) -> Any:
    last = None
    async for record in read_topics(world.kafka_bootstrap_servers, [topic]):
        if ("ce_type", ORDER_TYPE.encode()) in record.headers and PREFIX.encode() not in (record.value or b""):
            last = record
    return last


AWAY: Final = (KafkaError, OSError, NothingToForgeError)
"""Why nothing could be forged at this moment."""
