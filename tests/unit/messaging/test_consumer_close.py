"""Closing an aiokafka consumer: it awaits tasks that it has cancelled, and their end must not be taken for ours."""

import asyncio
from dataclasses import dataclass, field

import pytest
from aiokafka.errors import KafkaConnectionError

from gateway.messaging.consumer import close_consumer


@dataclass
class Client:
    closed: bool = False

    async def close(self) -> None:
        self.closed = True


@dataclass
class Consumer:
    """Ends as aiokafka's does: by a pending fetch that it has cancelled itself, by an error, or well."""

    error: BaseException | None = None
    hangs: bool = False
    _client: Client = field(default_factory=Client)

    async def stop(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        await self._client.close()


@pytest.mark.parametrize("error", [None, asyncio.CancelledError(), KafkaConnectionError()])
async def test_a_consumer_that_stumbles_while_it_closes_is_closed_all_the_same(error: BaseException | None) -> None:
    consumer = Consumer(error)
    task = asyncio.create_task(close_consumer(consumer))
    await asyncio.wait([task])
    assert not task.cancelled()
    assert task.exception() is None
    assert consumer._client.closed


async def test_an_error_that_is_none_of_kafkas_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        await close_consumer(Consumer(ZeroDivisionError()))


async def test_who_closes_can_be_cancelled() -> None:
    consumer = Consumer(hangs=True)
    task = asyncio.create_task(close_consumer(consumer))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
