"""What strangers who may write to the orders topic do: floods that nobody signed, and batches that unpack without end.

It is told from orders by its bytes: every record is one of :data:`NOISE`, and a bomb is never read at all.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gateway.client import record_of
from gateway.messaging.settings import KafkaSettings
from gateway.proving.books.evidence import DeadLetterRow
from schemas.orders import ORDER_TYPE
from schemas.topics import ORDERS

RECORDS: Final = 2_000
KINDS: Final = 100
"""Different ones: each is sent many times."""

BOMB_BYTES: Final = 64 * 1024 * 1024

_TIMEOUT_S: Final = 10.0
"""Kafka may be down: then nothing strikes."""

NOISE: Final = tuple(b'{"noise": %d}' % n for n in range(KINDS))
_DIGESTS: Final = frozenset(sha256(value).digest() for value in NOISE)


def is_noise(digest: bytes) -> bool:
    """True for the SHA-256 of a record of a flood."""
    return digest in _DIGESTS


def is_from_strangers(letter: DeadLetterRow) -> bool:
    """True for the dead letter of a flood's record, or of a bomb."""
    return letter.error == "UnreadError" or (letter.digest is not None and is_noise(letter.digest))


async def flood(settings: KafkaSettings, kid: str) -> bool:
    """Send unsigned records that claim a partner's key, as fast as Kafka takes them; False where it is away."""
    header = {"alg": "ES256", "kid": kid, "typ": ORDER_TYPE, "b64": False, "crit": ["b64"]}
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    now = datetime.now(UTC)
    records = [
        record_of(ORDER_TYPE, f"noise-{n}", value, event_id=f"noise-{n}", at=now, signature=f"{head}..{'A' * 86}")
        for n, value in enumerate(NOISE)
    ]
    async with _producer(settings) as producer:
        if producer is None:
            return False
        sending = [
            await producer.send(ORDERS, value=r.value, key=r.key, headers=list(r.headers))
            for r in records
            for _ in range(RECORDS // KINDS)
        ]
        return not any(isinstance(done, Exception) for done in await asyncio.gather(*sending, return_exceptions=True))


async def bomb(settings: KafkaSettings) -> bool:
    """Send one batch of some kilobytes that unpacks to :data:`BOMB_BYTES`; False where Kafka is away."""
    async with _producer(settings, compression_type="gzip", max_request_size=2 * BOMB_BYTES) as producer:
        if producer is None:
            return False
        try:
            await producer.send_and_wait(ORDERS, value=bytes(BOMB_BYTES), key=b"bomb")
        except KafkaError:
            return False
        return True


@asynccontextmanager
async def _producer(settings: KafkaSettings, **more: Any) -> AsyncIterator[Any]:
    """None where no broker answers."""
    producer = AIOKafkaProducer(
        **settings.client_arguments(), request_timeout_ms=round(1000 * _TIMEOUT_S), max_batch_size=64 * 1024, **more
    )
    try:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await producer.start()
        except (KafkaError, TimeoutError, OSError):
            yield None
        else:
            yield producer
    finally:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await producer.stop()
        except (KafkaError, TimeoutError):
            pass  # what it did not send is nobody's loss
