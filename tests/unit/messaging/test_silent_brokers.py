"""Kafka takes the connection and says nothing."""

from collections.abc import Awaitable, Callable

import pytest

from gateway.messaging import administration, probe, reader
from gateway.messaging.access import AccessError, ensure_access, scram_users
from gateway.messaging.reader import KafkaUnavailableError, open_reader
from gateway.messaging.rewinding import topics_like
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicAdminError, ensure_topics
from tests.support.silence import error_of, silent_port


async def read(settings: KafkaSettings) -> None:
    async with open_reader(settings, "mypay.dead-letter"):
        pass


async def topics(settings: KafkaSettings) -> None:
    await ensure_topics(settings, [], replication_factor=1, apply=False)


async def rules(settings: KafkaSettings) -> None:
    await ensure_access(settings, [], [], apply=False)


async def like(settings: KafkaSettings) -> None:
    await topics_like(settings, "mypay.")


@pytest.mark.parametrize(
    ("asking", "told"),
    [
        (read, KafkaUnavailableError),
        (topics, TopicAdminError),
        (rules, AccessError),
        (scram_users, AccessError),
        (like, KafkaUnavailableError),
    ],
)
async def test_nobody_waits_for_it_longer_than_is_said(
    monkeypatch: pytest.MonkeyPatch, asking: Callable[[KafkaSettings], Awaitable[object]], told: type[Exception]
) -> None:
    for module in (administration, reader):
        monkeypatch.setattr(module, "START_S", 0.01)
    monkeypatch.setattr(probe, "_WHY_SECONDS", 0.01)
    async with silent_port() as port:
        error = await error_of(asking(KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}")))
    assert isinstance(error, told)
    assert str(error) == "Kafka did not answer within 0.01 s"
