"""Statements on one connection, for those that are handed it: registries of people's commands, and views."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from asyncpg import Connection

from gateway.base.errors import StoreUnavailableError
from gateway.database.errors import translated

DECIDED_WITHIN_S: Final = 30.0
"""So long what others are deciding is waited for; what decides takes far less than a second."""

_LOOK_S: Final = 0.02


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

    async def await_others(self) -> None:
        """Wait until every transaction is over that was under way and had written, or locked, anything.

        What was committed before this call is seen by whatever they are followed by.

        Raises:
            StoreUnavailableError: they were not over within :data:`DECIDED_WITHIN_S`.
        """
        [begun] = await self._fetch("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next")
        over = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8 AS over"
        try:
            async with asyncio.timeout(DECIDED_WITHIN_S):
                while not (await self._fetch(over, begun["next"]))[0]["over"]:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise StoreUnavailableError(f"it was not over after {DECIDED_WITHIN_S:g} s") from None

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
