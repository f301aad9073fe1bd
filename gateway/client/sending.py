"""Sending a partner's records: each confirmed by all replicas in sync, and by the key's own partition."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from gateway.base.process import SilentObserver
from gateway.client.events import Events
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing, Receipt
from gateway.messaging.settings import KafkaSettings
from schemas.topics import events_topic

PATIENCE_S: Final = 30.0
"""A broker that restarts, or an election, takes a few seconds."""


class Client:
    """Sends records and opens events. Get one from :func:`open_client`."""

    def __init__(self, kafka: KafkaSettings, publisher: KafkaPublisher) -> None:
        self._kafka = kafka
        self._publisher = publisher

    async def send(self, records: Sequence[Outgoing]) -> list[Receipt]:
        """Return once Kafka has confirmed every one, with where each stands; one key's records keep their order.

        An event that answers a record names its place (``reference``).

        Raises:
            PublisherUnavailableError: not all were confirmed in time: some may be there, so send them again, unchanged.
            TopicClosedError: the topic does not exist, or this client may not write to it.
            TooLargeForTopicError: one is larger than the topic takes; others may be there.
            RecordTooLargeError: one is larger than any topic takes; nothing was sent.
        """
        return await self._publisher.deliver(records)

    @asynccontextmanager
    async def events(self, partner_id: str) -> AsyncIterator[Events]:
        """The partner's events from now on. Open them before what they answer is sent.

        Raises:
            TopicMissingError: the partner has no topic of events.
            KafkaUnavailableError: no broker answers.
        """
        async with open_reader(self._kafka, events_topic(partner_id), at_end=True) as reader:
            yield Events(reader)


@asynccontextmanager
async def open_client(kafka: KafkaSettings, *, patience_s: float = PATIENCE_S) -> AsyncIterator[Client]:
    """A client for as long as the block lasts; it connects as it is used.

    Args:
        kafka: the cluster, and who the partner is to it.
        patience_s: for how long a Kafka that is away is waited for, each time that something is sent.
    """
    publisher = KafkaPublisher(kafka, SilentObserver(), deadline_seconds=patience_s)
    try:
        yield Client(kafka, publisher)
    finally:
        await publisher.stop()
