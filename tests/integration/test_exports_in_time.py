"""What was decided before a revocation leaves soon or never: a broker that stands still for longer takes none of it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from msgspec import structs

from gateway.base.errors import PublisherUnavailableError
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.observability.recording import RecordingObserver
from schemas.codec import decode
from schemas.consents import Purpose
from schemas.portability import ExportChunk
from schemas.topics import TOPICS, exports_topic
from tests.support.portability import PortabilityRig
from tests.support.stack import Stack

pytestmark = pytest.mark.integration

LATE_S = 2.5
EXPORTS = next(t for t in TOPICS if t.late_ms is not None)


async def topic_with(settings: KafkaSettings, late_ms: int | None) -> str:
    """A topic as that of a recipient, with another bound."""
    topic = replace(EXPORTS, name=exports_topic(f"o{uuid.uuid4().hex}"), partitions=1, late_ms=late_ms)
    await ensure_topics(settings, [topic], replication_factor=1, apply=True)
    return topic.name


@asynccontextmanager
async def publisher(settings: KafkaSettings, *, keeps_late: bool) -> AsyncIterator[KafkaPublisher]:
    made = KafkaPublisher(settings, RecordingObserver(), deadline_seconds=LATE_S, keeps_late=keeps_late)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


class Chunks:
    """Hands an export's chunks to the publisher, into one topic and decided now; the broker stops before the third."""

    def __init__(self, stack: Stack, rig: PortabilityRig, through: KafkaPublisher, topic: str) -> None:
        self._stack, self._rig, self._through, self._topic = stack, rig, through, topic
        self.sent = 0
        self.decided_at = 0.0

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.sent += 1
        self.decided_at = time.time()
        if self.sent == 3:
            self._stack.pause_kafka()
            key = ("partner-1", "consent-1")
            row = self._rig.database.consents.rows[key]  # type: ignore[index]
            self._rig.database.consents.rows[key] = replace(row, ended=frozenset({Purpose.PORTABILITY}))  # type: ignore[index]
        while True:
            at_ms = int(self.decided_at * 1000)
            try:
                await self._through.publish([structs.replace(r, topic=self._topic, at_ms=at_ms) for r in records])
            except PublisherUnavailableError:
                if self.sent == 3:
                    raise
                # Before it stands still, a busy machine was slow: decided again.
                self.decided_at = time.time()
                continue
            return


async def until_published(through: KafkaPublisher, record: Outgoing) -> None:
    """Its time is short, also for a busy machine: as often as it takes."""
    async with asyncio.timeout(60):
        while True:
            try:
                await through.publish([record])
            except PublisherUnavailableError:
                continue
            return


async def read(settings: KafkaSettings, topic: str) -> list[bytes]:
    async with open_reader(settings, topic) as reader:
        return [record.value async for record in reader.read_all()]


async def test_what_was_decided_before_a_revocation_is_in_kafka_soon_or_never(stack: Stack, kafka: str) -> None:
    settings = KafkaSettings(kafka)
    late_ms = int(LATE_S * 1000)
    topics = [
        await topic_with(settings, late_ms),
        await topic_with(settings, late_ms),
        await topic_with(settings, None),
    ]
    rig = PortabilityRig()
    rig.pay(1, 2, 3, 4, 5)
    await rig.take(rig.record())
    async with AsyncExitStack() as open_:
        thrown_away = await open_.enter_async_context(publisher(settings, keeps_late=False))
        kept = await open_.enter_async_context(publisher(settings, keeps_late=True))
        anyhow = await open_.enter_async_context(publisher(settings, keeps_late=True))
        for one, topic in zip((thrown_away, kept, anyhow), topics, strict=True):
            await until_published(one, Outgoing(topic, b"k", b"before", ()))
        rig.kafka = chunks = Chunks(stack, rig, thrown_away, topics[0])  # type: ignore[assignment]
        stage = rig.new_stage("worker-1")
        try:
            making = asyncio.create_task(stage.exports.make_one())
            while chunks.sent < 3:  # until the broker stands still
                assert not making.done(), rig.observer.notes
                await asyncio.sleep(0.01)
            at_ms = int(time.time() * 1000)
            late = [Outgoing(topic, b"k", b"late", (), at_ms=at_ms) for topic in topics]
            failed = await asyncio.gather(
                kept.publish([late[1]]), anyhow.publish([late[2]]), making, return_exceptions=True
            )
            while time.time() < at_ms / 1000 + LATE_S + 0.2:  # noqa: ASYNC110 - the bound is one of the clock's
                await asyncio.sleep(0.05)
        finally:
            stack.resume_kafka()
        assert [type(f) for f in failed[:2]] == [PublisherUnavailableError] * 2
        assert failed[2] is True
        assert rig.observer.counted("portability", "attempt_failed") == 1
        # What still lies in sockets and producers comes now, or not at all: the producers that keep it say so.
        for one, topic in ((kept, topics[1]), (anyhow, topics[2])):
            await until_published(one, Outgoing(topic, b"k", b"after", ()))
        # The next attempt finds the consent ended, and hands over nothing.
        rig.clock.advance(61)
        await stage.exports.make_one()
        assert chunks.sent == 3
    before, *handed_over = dict.fromkeys(await read(settings, topics[0]))
    assert before == b"before"
    assert {decode(ExportChunk, value).chunk for value in handed_over} == {1, 2}
    assert list(dict.fromkeys(await read(settings, topics[1]))) == [b"before", b"after"]
    # Where no bound is, it comes: so the broker had it, and the bound alone kept the others away.
    assert list(dict.fromkeys(await read(settings, topics[2]))) == [b"before", b"late", b"after"]
