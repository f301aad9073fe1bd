"""What the gateway told on Kafka as evidence: partners' events and dead letters, every record from the beginning."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from itertools import chain
from sys import intern
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from pydantic_core import from_json

from gateway.messaging.consumer import ISOLATION_LEVEL
from gateway.messaging.dead_letters import DeadLetterError, LetterKeys, read_fate, restore
from gateway.messaging.fetching import guard_fetches, is_unread
from gateway.messaging.records import Record
from gateway.proving.books.evidence import DeadLetterRow, EventRow, Evidence
from gateway.sealing.sealing import MasterKeys
from schemas.reasons import ReasonCode
from schemas.topics import DEAD_LETTER, events_topic

_POLL_MS: Final = 200
_REASONS: Final = frozenset(ReasonCode)
_FETCH_BYTES: Final = 4 * 1024 * 1024


async def collect_topics(
    bootstrap_servers: str, partners: Sequence[str], dead_letter_keys: MasterKeys, evidence: Evidence
) -> None:
    """Read what was told, up to where the topics end now. About 20 µs an event."""
    keys = LetterKeys(dead_letter_keys)
    topics = [events_topic(p) for p in partners]
    async for record in read_topics(bootstrap_servers, [*topics, DEAD_LETTER]):
        if record.topic == DEAD_LETTER:
            if (row := dead_letter_row(record, keys)) is not None:
                evidence.dead_letters.append(row)
        else:
            evidence.events.append(event_row(record))


async def read_topics(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[Any]:
    """Yield every record of the topics that counts and can be read, each partition in its order, up to its end now."""
    async with open_reader(bootstrap_servers, topics) as consumer:
        ends = {p: end for p, end in (await consumer.end_offsets(consumer.assignment())).items() if end > 0}
        while ends:
            fetched = chain(*(await consumer.getmany(timeout_ms=_POLL_MS)).values())
            for record in (r for r in fetched if not is_unread(r)):
                yield record
            # The position moves past what is no record too: transaction markers, aborted records.
            ends = {p: end for p, end in ends.items() if await consumer.position(p) < end}


@asynccontextmanager
async def open_reader(bootstrap_servers: str, topics: Sequence[str]) -> AsyncIterator[Any]:
    """A consumer of all partitions of the topics from their beginning, in no group, that commits nothing."""
    guard_fetches()
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=100,
        isolation_level=ISOLATION_LEVEL,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


def event_row(record: Any) -> EventRow:
    """Read a partner's event."""
    event_id = ce_type = b""
    for name, value in record.headers:
        if name == "ce_id":
            event_id = value
        elif name == "ce_type":
            ce_type = value
    kind = _kind(ce_type)
    body = from_json(record.value)
    subject, state, version, reason = _SUBJECTS[kind.partition(".")[0]](body)
    return EventRow(
        topic=intern(record.topic),
        event_id=event_id.decode(),
        kind=kind,
        subject=intern(subject),
        state=None if state is None else intern(state),
        version=version,
        # What an operator says of a consent is a text without a code.
        reason_code=intern(reason["code"]) if isinstance(reason, dict) else None,
        timestamp_ms=record.timestamp,
    )


_SUBJECTS: Final[Mapping[str, Callable[[Any], tuple[str, str | None, int | None, Any]]]] = {
    "payment": lambda body: (body["payment_id"], body["state"], body["version"], body.get("reason")),
    "order": lambda body: (body["reference"], None, None, body["reason"]),
    "cancellation": lambda body: (body["payment_id"], body.get("effect"), None, body.get("reason")),
    "consent": lambda body: (body["consent_id"], body.get("status"), body.get("change"), body.get("reason")),
    "portability": lambda body: (body["consent_id"], body["status"], None, body.get("reason")),
}
"""First word of an event's kind → its subject, state, version and reason."""


@lru_cache(maxsize=64)
def _kind(ce_type: bytes) -> str:
    return ce_type.decode().removeprefix("kr.mypay.").removesuffix(".v1")


def dead_letter_row(record: Any, keys: LetterKeys) -> DeadLetterRow | None:
    """Read a dead letter and open it where it is sealed; None for what the gateway did not write."""
    parked = Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value or b"",
        headers=tuple(record.headers),
    )
    try:
        fate = read_fate(parked, keys)
    except DeadLetterError:
        return None
    digest = None if fate.omitted else hashlib.sha256(restore(parked, keys).value).digest()
    code = fate.message.partition(":")[0]
    return DeadLetterRow(
        *(fate.topic, fate.partition, fate.offset, fate.error.rpartition(".")[2], digest),
        reason_code=code if code in _REASONS else None,
    )
