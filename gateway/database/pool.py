"""Connections to PostgreSQL: one pool a process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from gateway.database.errors import letting_in, translated
from gateway.database.sessions import (
    COMMAND_TIMEOUT_S,
    IDLE_IN_TRANSACTION_S,
    looks_pooled,
    pooler_options,
    session_settings,
    set_sql,
)


class ConnectionPool:
    """Connections to one database, and transactions on them.

    Args:
        dsn: libpq URL.
        pool_size: connections at most; one transaction holds one.
        command_timeout_s: a statement that takes longer is cancelled and counts as the database being unavailable.
        idle_in_transaction_s: a transaction whose process stands still for longer is undone by the server, for others
            wait for its locks.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 4,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S,
        name: str = "mypay",
    ) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._command_timeout_s = command_timeout_s
        self._settings = session_settings(name, idle_in_transaction_s=idle_in_transaction_s)
        self._pool: asyncpg.Pool[Any] | None = None
        self._pooled = False

    async def start(self) -> None:
        """Connect.

        Raises:
            StoreUnavailableError: the server cannot be reached.
            DatabaseUnfitError: it does not let this user in.
        """
        async with letting_in(self._settings["application_name"]):
            self._pooled = await looks_pooled(self._dsn, self._settings, timeout_s=self._command_timeout_s)
            options = pooler_options(self._settings) if self._pooled else {"server_settings": self._settings}
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._pool_size,
                command_timeout=self._command_timeout_s,
                # Nothing is ever set for a session that would have to be taken back.
                reset=_nothing,
                **options,
            )

    async def stop(self) -> None:
        """Close every connection."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    @asynccontextmanager
    async def transacting(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """One transaction at READ COMMITTED: what must not change under a decision is locked by name."""
        async with translated(), self._connected().acquire() as connection, connection.transaction():
            await self._settle(connection)  # type: ignore[arg-type]
            yield connection  # type: ignore[misc]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A bare connection; a transaction where a pooler lends it."""
        async with translated(), self._connected().acquire() as connection, AsyncExitStack() as stack:
            if self._pooled:
                await stack.enter_async_context(connection.transaction())
                await self._settle(connection)  # type: ignore[arg-type]
            yield connection  # type: ignore[misc]

    async def _settle(self, connection: "asyncpg.Connection[Any]") -> None:
        """Begin a transaction with what sessions of our own begin with."""
        if self._pooled:
            await connection.execute(set_sql(self._settings, local=True))

    def _connected(self) -> "asyncpg.Pool[Any]":
        if self._pool is None:
            raise asyncpg.InterfaceError("the store is not started")
        return self._pool


async def _nothing(_: "asyncpg.Connection[Any]") -> None:
    """Leave a connection as it is between two uses."""
