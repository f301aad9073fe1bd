from collections.abc import AsyncIterator

import pytest

from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from tests.support.kafka_groups import Group, fresh_topic, publisher_of


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(kafka)


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
async def topic(settings: KafkaSettings) -> str:
    return await fresh_topic(settings)


@pytest.fixture
async def publisher(settings: KafkaSettings, observer: RecordingObserver) -> AsyncIterator[KafkaPublisher]:
    async with publisher_of(settings, observer) as started:
        yield started


@pytest.fixture
async def group(settings: KafkaSettings, observer: RecordingObserver, topic: str) -> AsyncIterator[Group]:
    made = Group(settings, observer, topic)
    yield made
    await made.stop()
