"""Which statements a connection is asked to run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg


@asynccontextmanager
async def statements(connection: "asyncpg.Connection[Any]") -> AsyncIterator[list[str]]:
    """Those of the block, in their order, once it has ended."""
    asked: list[str] = []

    def note(query: Any) -> None:
        asked.append(query.query)

    connection.add_query_logger(note)
    try:
        yield asked
        # The driver tells of each on a later turn of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
    finally:
        connection.remove_query_logger(note)
