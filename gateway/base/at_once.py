"""Several questions at once: whoever needs the answers of all waits for the longest, not for one after another."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class _Group(asyncio.TaskGroup):
    """Knows its tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[asyncio.Task[Any]] = []

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task = super().create_task(coro, name=name, context=context)
        self.made.append(task)
        return task


@asynccontextmanager
async def at_once() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks that have ended when the block has.

    Raises:
        CancelledError: whoever waits was cancelled, even if one of them failed at that moment.
        BaseException: the first that one of them raised, as it is; the others are cancelled then.
    """
    waiting = asyncio.current_task()
    cancelled_before = waiting.cancelling() if waiting else 0
    try:
        async with _Group() as tasks:
            yield tasks
            if tasks.made:
                # Waited for here: a group that is at its end leaves us marked as cancelled where it was one of its own
                # tasks that failed.
                await asyncio.wait(tasks.made)
    except BaseExceptionGroup as errors:
        if waiting and waiting.cancelling() > cancelled_before:
            # The group tells of its failed tasks alone: whoever tries again after these would never end.
            raise asyncio.CancelledError from errors
        raise errors.exceptions[0] from None
