"""Waiting for a condition, with an end: a test that hangs says what it waited for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

WAIT_S: Final = 120.0
"""Far longer than anything that is waited for takes on a busy machine."""


@asynccontextmanager
async def in_time(what: str, *, seconds: float = WAIT_S) -> AsyncIterator[None]:
    """Fail the test where the block has not ended in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}") from None
