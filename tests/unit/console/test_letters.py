"""How many dead letters are open, as the overview has it: counted on and on, and not known while nobody can say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from gateway.app.errors import NotConfiguredError
from gateway.app.settings import Settings
from gateway.console.letters import ANEW_AFTER, Letters
from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError

BEGAN: Final = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.at = BEGAN

    def now(self) -> datetime:
        return self.at


class Topic:
    """Counts as told, one reader after another."""

    def __init__(self, *counts: int | Exception) -> None:
        self.counts = list(counts)
        self.readers = 0

    @asynccontextmanager
    async def opened(self, _: Settings) -> AsyncIterator["Topic"]:
        self.readers += 1
        yield self

    async def count(self) -> int:
        count = self.counts.pop(0)
        if isinstance(count, Exception):
            raise count
        return count


async def seen(topic: Topic, clock: Clock, *, each: timedelta) -> list[int | None]:
    """What is known at each pause, until the topic has no more to tell; each pause takes as long as told."""
    letters, known = Letters(Settings(_env_file=None), clock), list[int | None]()  # type: ignore[call-arg]

    async def pause(_: float) -> None:
        known.append(letters.open)
        clock.at += each
        if not topic.counts:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await letters.keep_counting(topic.opened, pause)
    # A count that nobody renews is not known.
    assert letters.open is None
    return known


@pytest.mark.parametrize(
    "error", [KafkaUnavailableError("away"), TopicMissingError("none"), NotConfiguredError("no keys")], ids=repr
)
async def test_it_is_not_known_while_it_cannot_be_read_and_is_read_again_then(error: Exception) -> None:
    topic = Topic(2, 5, error, error, 4)
    assert await seen(topic, Clock(), each=timedelta(0)) == [2, 5, None, None, 4]
    assert topic.readers == 3


async def test_what_the_topic_has_forgotten_is_open_no_more_after_a_while() -> None:
    topic = Topic(1, 1, 1, 1)
    assert await seen(topic, Clock(), each=ANEW_AFTER / 2) == [1, 1, 1, 1]
    assert topic.readers == 2
