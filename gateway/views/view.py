"""What every view is: look-ups for people on one connection, read-only and bounded in time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

from gateway.database.sessions import looking_settings, session
from gateway.database.statements import OnConnection

STATEMENT_TIMEOUT_S: Final = 20
"""A person waits no longer, and no look-up may hold back the outbox's horizon for longer."""


class View(OnConnection):
    """Look-ups on one connection. Every method raises StoreUnavailableError where the server is away or too slow."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, dsn: str) -> AsyncIterator[Self]:
        """Connect, read-only, for as long as the block lasts.

        Raises:
            StoreUnavailableError: the server cannot be reached.
        """
        settings = looking_settings("mypay-inspect", statement_timeout_s=STATEMENT_TIMEOUT_S)
        async with session(dsn, settings) as connection:
            yield cls(connection)
