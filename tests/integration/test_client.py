"""A partner's client on a real broker: where it says that a record stands, there it is; and events reach it."""

import uuid
from dataclasses import replace
from functools import partial

import pytest
from msgspec import structs

from gateway.base.errors import TopicClosedError
from gateway.client import answers, open_client, record_of
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from schemas.codec import encode
from schemas.events import CancellationAccepted, EventType
from schemas.topics import ORDERS, concrete_topics, events_topic
from tests.support.messages import EXAMPLES, NOW
from tests.unit.client.test_events import MESSAGES

pytestmark = pytest.mark.integration

ACCEPTED = next(m for m in EXAMPLES if isinstance(m, CancellationAccepted))


async def test_receipts_name_the_records_and_events_answer_them(kafka: str) -> None:
    partner, settings = f"p-{uuid.uuid4().hex[:10]}", KafkaSettings(kafka)
    events = events_topic(partner)
    topics = [t for t in concrete_topics(partners=[partner], networks=[]) if t.name in (events, ORDERS)]
    orders = replace(next(t for t in topics if t.name == ORDERS), name=f"t-{partner}")
    await ensure_topics(
        settings, [orders, next(t for t in topics if t.name == events)], replication_factor=1, apply=True
    )
    mine = [Outgoing(orders.name, b"k-%d" % (n % 7), b"%d" % n, [("n", b"1")]) for n in range(40)]
    event = record_of(
        EventType.CANCELLATION_ACCEPTED, "payment", encode(ACCEPTED), event_id="e-1", at=NOW, signature=None
    )
    async with open_client(settings, patience_s=60.0) as client, client.events(partner) as told:
        receipts = await client.send(mine)
        await client.send([structs.replace(event, topic=events)])
        found = await told.first(partial(answers, MESSAGES["PaymentCancellation"]), seconds=60.0)
        assert found is not None
        assert found.body["reference"] == ACCEPTED.reference
        with pytest.raises(TopicClosedError):
            await client.send([structs.replace(event, topic=f"none-{partner}")])
    async with open_reader(settings, orders.name) as reader:
        there = {r.reference: r async for r in reader.read_all()}
    assert [there[r.reference].value for r in receipts] == [r.value for r in mine]
    # By the broker's clock, as strangers' topics have it.
    assert [there[r.reference].timestamp_ms for r in receipts] == [r.timestamp_ms for r in receipts]
