"""Statements on one connection, for those that are handed it: registries of people's commands, and views."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from asyncpg import Connection

from gateway.database.errors import translated


class OnConnection:
    """Runs SQL on a connection that others open and close; raises what the stores raise, never a driver's error."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Make the calls inside one transaction: all of them or none."""
        async with translated(), self._connection.transaction():
            yield

    async def _hold(self, what: str) -> None:
        """Wait until no other transaction holds ``what``, whatever that is, and hold it until the present one ends."""
        await self._fetch("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", what)

    def _nothing_named(self) -> Exception | None:
        """What a row is refused with that names what is not there (a foreign key); None: such a row is a bug."""
        return None

    async def _fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async with translated():
            try:
                rows: list[asyncpg.Record] = await self._connection.fetch(sql, *arguments)
            except asyncpg.ForeignKeyViolationError:
                if (error := self._nothing_named()) is None:
                    raise
                # The driver's text quotes the row.
                raise error from None
            return rows
