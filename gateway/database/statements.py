"""Statements on one connection, for those that are handed it: registries of people's commands, and views."""

from typing import Any

import asyncpg
from asyncpg import Connection

from gateway.database.errors import translated


class OnConnection:
    """Runs SQL on a connection that others open and close; raises what the stores raise, never a driver's error."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

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
