"""Connections to PostgreSQL: one pool a process."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Literal, assert_never

import asyncpg

from gateway.base.errors import StoreUnavailableError
from gateway.database.errors import cannot_write, letting_in, translated
from gateway.database.moments import write_moments_once
from gateway.database.plans import Plans
from gateway.database.sessions import (
    COMMAND_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    IDLE_IN_TRANSACTION_S,
    looks_pooled,
    pooler_options,
    set_sql,
    working_settings,
)

REFUSAL_S: Final = 30.0
"""Whoever must write tries again within this: a refusal that is older is over, or nobody has anything to write."""


class ConnectionPool:
    """Connections to one database, and transactions on them.

    Args:
        dsn: libpq URL.
        pool_size: connections at most; one transaction holds one.
        command_timeout_s: a statement that takes longer is cancelled and counts as the database being unavailable.
        idle_in_transaction_s: a transaction whose process stands still for longer is undone by the server, for others
            wait for its locks.
        settings: what sessions begin with, where it is not what all others do.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 4,
        command_timeout_s: float = COMMAND_TIMEOUT_S,
        idle_in_transaction_s: float = IDLE_IN_TRANSACTION_S,
        name: str = "mypay",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._dsn = dsn
        self._pool_size = pool_size
        self._command_timeout_s = command_timeout_s
        own = working_settings(name, idle_in_transaction_s=idle_in_transaction_s)
        self._settings = own if settings is None else dict(settings)
        self._pool: asyncpg.Pool[Any] | None = None
        self._pooled = False
        self._plans = Plans()
        self._waiting = 0
        self._refused: tuple[str, float] | None = None

    @property
    def refuses_writes(self) -> str | None:
        """Why the server took no writes, the last time that it was asked to, a moment ago; None where it takes them."""
        if self._refused is None or time.monotonic() - self._refused[1] > REFUSAL_S:
            return None
        return self._refused[0]

    def connections(self, state: Literal["used", "idle", "max", "waiting"]) -> float | None:
        """How many are used, lie idle, or may be opened at most, and how many tasks wait for one; None while closed."""
        pool = self._pool
        if pool is None:
            return None
        match state:
            case "used":
                return pool.get_size() - pool.get_idle_size()
            case "idle":
                return pool.get_idle_size()
            case "max":
                return pool.get_max_size()
            case "waiting":
                return self._waiting
            case _:
                assert_never(state)

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
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=self._command_timeout_s,
                # Nothing is ever set for a session that would have to be taken back.
                reset=_nothing,
                init=self._begin,
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
        try:
            async with (
                translated(),
                self._acquired() as connection,
                # Whatever the database's own default is: who waited for a lock must see what its holder wrote.
                connection.transaction(isolation="read_committed"),
            ):
                await self._settle(connection)
                yield connection
        except StoreUnavailableError as error:
            if (why := cannot_write(error)) is not None:
                self._refused = (why, time.monotonic())
            raise
        self._refused = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A bare connection; a transaction where a pooler lends it."""
        async with translated(), self._acquired() as connection, AsyncExitStack() as stack:
            if self._pooled:
                await stack.enter_async_context(connection.transaction())
                await self._settle(connection)
            yield connection

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        pool = self._connected()
        self._waiting += 1
        try:
            connection = await pool.acquire()
        finally:
            self._waiting -= 1
        try:
            # Through a pooler nothing is prepared, and each statement is planned for itself.
            if not self._pooled:
                await self._plans.renew(connection)
            yield connection  # type: ignore[misc]
        finally:
            await pool.release(connection)

    async def _begin(self, connection: "asyncpg.Connection[Any]") -> None:
        await write_moments_once(connection)
        self._plans.begin(connection)

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
