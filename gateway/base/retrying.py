"""Do a transaction until it is done: conflicts at once, an absent database with growing pauses."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina

from gateway.base.errors import (
    PublisherUnavailableError,
    StoreConflictError,
    StoreUnavailableError,
    TooLargeForTopicError,
)

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.02
"""A lost race is over after one transaction."""

TRANSIENT = (StoreConflictError, StoreUnavailableError, PublisherUnavailableError)


async def until_done(action: Callable[[], Awaitable[T]]) -> T:
    """Await ``action`` again while Postgres or Kafka is away, for as long as it takes; cancel to give up.

    ``action`` must be safe to repeat: here every one is a transaction on Postgres, whose keys make a second run
    harmless, or a publication that its readers deduplicate. Never wrap a send to a card network in it.

    Raises:
        TooLargeForTopicError: a record that its topic never takes.
        Whatever else ``action`` raises that waiting would not help.
    """
    try:
        # Nearly every action is done at once, and the machinery for repeating takes longer than some of them.
        return await action()
    except TRANSIENT as error:
        if not _may_pass(error):
            raise
        await asyncio.sleep(_FIRST_PAUSE_S)
    async for attempt in stamina.retry_context(
        on=_may_pass,
        attempts=None,
        timeout=None,
        wait_initial=_FIRST_PAUSE_S,
        wait_max=2.0,  # after an outage everything runs again within two seconds
        wait_jitter=0.1,
    ):
        with attempt:
            return await action()
    raise AssertionError("retries are unlimited")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, TRANSIENT) and not isinstance(error, TooLargeForTopicError)
