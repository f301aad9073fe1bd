"""Execution's loop: a batch's offsets are committed behind its work, and beside the next batch's."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.app.execution import ExecutionStage
from tests.support.deadline import in_time


class Broker:
    """Gives one batch after another; a commit ends when it is let."""

    def __init__(self, batches: int) -> None:
        self.steps: list[str] = []
        self.may_commit = asyncio.Event()
        self.noted = asyncio.Event()
        self.out = asyncio.Event()
        self._left = batches

    async def start(self) -> None: ...

    async def take(self, _: int, *, max_wait: float) -> Sequence[Any]:
        if not self._left:
            self.out.set()
            await asyncio.Event().wait()
        self._left -= 1
        self.steps.append("taken")
        return ["record"]

    async def commit(self, _: Sequence[Any]) -> bool:
        self.steps.append("committing")
        await self.may_commit.wait()
        self.steps.append("committed")
        self.noted.set()
        return True


def taking(
    broker: Broker,
    work: Callable[[Sequence[Any]], Awaitable[None]],
    *,
    gather_s: float = 0.0,
    give_up: Callable[[], None] = lambda: None,
) -> "asyncio.Task[None]":
    async def reserve(n: int) -> int:
        return n

    async def run(take: Callable[[Sequence[Any]], Awaitable[None]], records: Sequence[Any]) -> None:
        await take(records)

    async def open_already() -> None: ...

    stage: Any = SimpleNamespace(
        terms=SimpleNamespace(batch_max=5, batch_wait_s=0.1, gather_s=gather_s),
        network=SimpleNamespace(reserve=reserve, release=lambda _: None),
        consumer=broker,
        runtime=SimpleNamespace(watch=lambda *_: SimpleNamespace(progress=lambda: None)),
        waiting=None,
        takes=True,
        service=SimpleNamespace(take=all_of(work), give_up=give_up),
        isolated=SimpleNamespace(run=run),
        _wait_open=open_already,
        _commit=broker.commit,
    )
    stage._work = partial(ExecutionStage._work, stage)
    return asyncio.create_task(ExecutionStage.take(stage))


def all_of(work: Callable[[Sequence[Any]], Awaitable[None]]) -> Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]:
    async def take(records: Sequence[Any]) -> Sequence[Any]:
        await work(records)
        return []

    return take


async def working_on_the_second(broker: Broker) -> "asyncio.Task[None]":
    """A loop that has worked on two batches, of which the first one's commit has not ended."""
    second = asyncio.Event()

    async def work(_: Sequence[Any]) -> None:
        broker.steps.append("worked")
        if broker.steps.count("worked") == 2:
            second.set()

    task = taking(broker, work)
    async with in_time("the second batch"):
        await second.wait()
    return task


async def test_the_next_batch_is_worked_on_while_the_brokers_note_where_the_last_one_ended() -> None:
    broker = Broker(2)
    task = await working_on_the_second(broker)
    assert sorted(broker.steps) == ["committing", "taken", "taken", "worked", "worked"]
    broker.may_commit.set()
    async with in_time("the last batch"):
        await broker.out.wait()
    task.cancel()
    await asyncio.wait([task])
    assert broker.steps[5:] == ["committed", "committing", "committed"]


async def test_the_next_batch_is_given_time_to_gather() -> None:
    broker = Broker(2)

    async def work(_: Sequence[Any]) -> None:
        broker.may_commit.set()

    task = taking(broker, work, gather_s=1000.0)
    async with in_time("the first batch's commit"):
        await broker.noted.wait()
    assert broker.steps == ["taken", "committing", "committed"]
    task.cancel()
    await asyncio.wait([task])


async def test_a_stop_waits_until_what_was_worked_on_is_noted() -> None:
    broker = Broker(1)

    async def work(_: Sequence[Any]) -> None:
        broker.steps.append("worked")

    task = taking(broker, work)
    async with in_time("the last batch"):
        await broker.out.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    broker.may_commit.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert broker.steps == ["taken", "worked", "committing", "committed"]


async def test_a_stop_waits_for_no_batch_that_waits_for_its_network() -> None:
    """The process ended only as it was cut short, where the network was away."""
    broker, begun, told = Broker(1), asyncio.Event(), asyncio.Event()

    async def work(_: Sequence[Any]) -> None:
        begun.set()
        await told.wait()
        raise asyncio.CancelledError

    task = taking(broker, work, give_up=told.set)
    async with in_time("the batch"):
        await begun.wait()
    task.cancel()
    async with in_time("the end"):
        await asyncio.wait([task])
    assert task.cancelled()
    # It comes again.
    assert broker.steps == ["taken"]


async def test_a_stop_between_two_batches_waits_until_both_are_noted() -> None:
    broker = Broker(2)
    task = await working_on_the_second(broker)
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    broker.may_commit.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert broker.steps.count("committed") == 2


async def test_what_could_not_be_worked_on_is_never_noted_and_what_was_before_is() -> None:
    broker = Broker(3)
    broker.may_commit.set()

    async def work(_: Sequence[Any]) -> None:
        broker.steps.append("worked")
        if broker.steps.count("worked") == 2:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        async with in_time("the failure"):
            await taking(broker, work)
    assert broker.steps.count("committed") == 1
