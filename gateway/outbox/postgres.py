"""The outbox in PostgreSQL: the writers' side and the relay's."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import asyncpg
from asyncpg import Connection

from gateway.base.errors import StoreUnavailableError
from gateway.database.errors import translated
from gateway.database.leading import leading
from gateway.database.plans import Plans
from gateway.database.queries import load
from gateway.database.sessions import COMMAND_TIMEOUT_S, working_settings
from gateway.outbox.bundles import bundled
from gateway.outbox.rules.ahead import Look, Progress
from gateway.outbox.store import TOO_LARGE, UNREADABLE, OutboxEvent, OutboxRow

_SQL = load(__name__, "outbox")
_ADVANCE_AND_READ: Final = f"WITH moved AS ({_SQL.advance}) {_SQL.read}"
"""The cursor has moved to where this look begins, and is written with it: a statement of its own costs as much.

That this takes a transaction number changes no bound: it is younger than the look's snapshot.
"""

LAST_MOVE_S: Final = 1.0
"""How long whoever gives up the lead waits for the cursor's last move to be written."""

_ALONE: Final = (TOO_LARGE, UNREADABLE)
"""Reasons why a row is set aside without its topic."""

_LEADER_LOCK = 0x6F7574626F78  # "outbox": any constant, the same in every relay

EVENT_COLUMNS = ("topic", "key", "event_id", "event_type", "occurred_at", "traceparent", "body")
BUNDLE_COLUMNS = ("id", *EVENT_COLUMNS)


class PostgresOutbox:
    """Implements :class:`gateway.outbox.store.Outbox` on one connection."""

    def __init__(self, connection: "Connection[Any]") -> None:
        self._connection = connection

    async def append(self, events: Sequence[OutboxEvent]) -> None:
        if not events:
            return
        await self._connection.copy_records_to_table(
            "outbox",
            columns=EVENT_COLUMNS,
            records=[(e.topic, e.key, e.event_id, e.event_type, e.occurred_at, e.traceparent, e.body) for e in events],
        )

    async def append_bundled(self, events: Sequence[OutboxEvent]) -> None:
        if not events:
            return
        numbers = [number for (number,) in await self._connection.fetch(_SQL.take_numbers, len(events))]
        await self._connection.copy_records_to_table(
            "outbox",
            columns=BUNDLE_COLUMNS,
            records=[
                (number, e.topic, e.key, e.event_id, e.event_type, e.occurred_at, e.traceparent, e.body)
                for number, e in bundled(events, numbers)
            ],
        )

    async def make_partitions(self, *, ahead: int) -> int:
        made: int = await self._connection.fetchval(_SQL.make_partitions, ahead)
        return made

    async def drop_partition(self, *, before: datetime) -> int:
        dropped: int = await self._connection.fetchval(_SQL.drop_partition, before)
        return dropped

    async def purge(self, *, before: datetime, limit: int) -> int:
        purged: int = await self._connection.fetchval(_SQL.purge, before, limit)
        return purged


class PostgresOutboxReader:
    """Implements :class:`gateway.outbox.store.OutboxReader` on a connection of its own, which holds the leader lock."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection[Any] | None = None
        self._progress = Progress((0, 0))
        self._has_moved = False
        self._plans = Plans()

    async def acquire(self) -> bool:
        settings = {
            **working_settings("mypay-relay"),
            # Losing the cursor's last moves only means to publish those rows again: no need to wait for the disk.
            "synchronous_commit": "off",
            # A look is planned once: for its own values the server would plan each anew, which takes as long as it.
            "plan_cache_mode": "force_generic_plan",
        }
        async with translated():
            await self.release()
            async with leading(self._dsn, _LEADER_LOCK, settings) as connection:
                if connection is None:
                    return False
                row = await connection.fetchrow(_SQL.cursor)
                self._plans.begin(connection)
                if row is None:
                    raise AssertionError("outbox_cursor has no row: migrations have not run")
            self._connection, self._progress = connection, Progress((int(row["tx"]), row["id"]))
            self._has_moved = False
            return True

    async def read(self, limit: int) -> Sequence[OutboxRow]:
        progress = self._progress
        tx, number = progress.cursor
        async with translated():
            connection = self._connected()
            await self._plans.renew(connection)
            look = _ADVANCE_AND_READ if self._has_moved else _SQL.read
            found = await connection.fetch(look, str(tx), number, limit, progress.ahead, not progress.has_room)
            self._has_moved = False
            bound = int(found[0]["bound"])
            rows = [_row(r) for r in found if r["id"] is not None]
            if rows:
                progress.looked(Look([(r.tx, r.id) for r in rows], bound, is_whole=len(rows) < limit))
            else:
                self._has_moved = progress.passed(bound)
        return rows

    async def advance(
        self,
        last: OutboxRow,
        *,
        parked: Sequence[OutboxRow] = (),
        reason: str = "",
        large: Sequence[OutboxRow] = (),
        unreadable: Sequence[OutboxRow] = (),
    ) -> None:
        async with translated():
            connection = self._connected()
            if not (parked or large or unreadable):
                self._has_moved |= self._progress.told((last.tx, last.id))
                return
            async with connection.transaction():
                await self._park(connection, parked, reason)
                await self._park(connection, large, TOO_LARGE)
                await self._park(connection, unreadable, UNREADABLE)
                if self._progress.told((last.tx, last.id)):
                    await self._move(connection)

    async def _park(self, connection: "Connection[Any]", rows: Sequence[OutboxRow], reason: str) -> None:
        if rows:
            await connection.execute(_SQL.park, *_places(rows), [r.event.topic for r in rows], reason)

    async def _move(self, connection: "Connection[Any]", *, within_s: float = COMMAND_TIMEOUT_S) -> None:
        tx, number = self._progress.cursor
        await connection.execute(_SQL.advance, str(tx), number, timeout=within_s)
        self._has_moved = False

    async def parked_topics(self) -> frozenset[str]:
        async with translated():
            return frozenset(r["topic"] for r in await self._connected().fetch(_SQL.parked_topics, _ALONE))

    async def read_parked(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        async with translated():
            return [_row(r) for r in await self._connected().fetch(_SQL.read_parked, topic, limit, _ALONE)]

    async def read_large(self) -> Sequence[OutboxRow]:
        async with translated():
            return [_row(r) for r in await self._connected().fetch(_SQL.read_large, TOO_LARGE)]

    async def read_unreadable(self, limit: int) -> Sequence[OutboxRow]:
        async with translated():
            return [_row(r) for r in await self._connected().fetch(_SQL.read_unreadable, UNREADABLE, limit)]

    async def set_alone(self, rows: Sequence[OutboxRow], reason: str) -> None:
        async with translated():
            connection = self._connected()
            async with connection.transaction():
                await connection.execute(_SQL.unpark, *_places(rows))
                await self._park(connection, rows, reason)

    async def unpark(self, rows: Sequence[OutboxRow]) -> None:
        async with translated():
            await self._connected().execute(_SQL.unpark, *_places(rows))

    async def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self._has_moved and not connection.is_closed():
                # Where the server does not take it, those rows are told again.
                with suppress(StoreUnavailableError):
                    async with translated():
                        await self._move(connection, within_s=LAST_MOVE_S)
        finally:
            # Closing the session gives the lock back, also where the server can no longer answer.
            connection.terminate()

    def _connected(self) -> "Connection[Any]":
        if self._connection is None:
            raise asyncpg.InterfaceError("the relay holds no connection")
        return self._connection


def _places(rows: Sequence[OutboxRow]) -> tuple[list[str], list[int]]:
    return [str(r.tx) for r in rows], [r.id for r in rows]


def _row(row: asyncpg.Record) -> OutboxRow:
    # In the order of the columns, of which these are the first: by name each would be looked up.
    tx, number, topic, key, event_id, event_type, occurred_at, traceparent, body = row[:9]
    event = OutboxEvent(topic, key, event_id, event_type, occurred_at, body, traceparent)
    return OutboxRow(int(tx), number, event)
