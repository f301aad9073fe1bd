"""A session that leads: of all processes that do the same work, the one that holds a lock does it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from gateway.database.sessions import COMMAND_TIMEOUT_S, connect

if TYPE_CHECKING:
    from asyncpg import Connection


@asynccontextmanager
async def leading(dsn: str, lock: int, settings: Mapping[str, str]) -> AsyncIterator["Connection[Any] | None"]:
    """A connection of its own whose session holds the lock, from now until it is closed; None where another's does.

    Whoever gets the lead and fails in the block has given it back.
    """
    # A server that has gone without a word must not hold a leader up for as long as TCP hopes.
    connection = await connect(dsn, command_timeout=COMMAND_TIMEOUT_S, server_settings=dict(settings))
    try:
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
            yield connection
        else:
            await connection.close()
            yield None
    except BaseException:
        # It may hold the lead, and nobody else would give it back.
        connection.terminate()
        raise
