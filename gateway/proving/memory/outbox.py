"""The outbox in memory: the writers' side and the relay's."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby, islice, takewhile
from typing import Final

from gateway.base.errors import StoreUnavailableError
from gateway.outbox.rules.ahead import Look, Progress
from gateway.outbox.store import TOO_LARGE, UNREADABLE, OutboxEvent, OutboxRow
from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.database import Database, Transaction

_ALONE: Final = (TOO_LARGE, UNREADABLE)

PARTITION: Final = 16
"""Transactions a partition."""


class MemoryOutbox:
    """Implements :class:`gateway.outbox.store.Outbox` in one transaction."""

    def __init__(self, transaction: Transaction, boundary: Boundary) -> None:
        self._tx = transaction
        self._boundary = boundary

    async def append(self, events: Sequence[OutboxEvent]) -> None:
        await self._boundary("outbox.append")
        if events:
            self._tx.append(events)

    async def append_bundled(self, events: Sequence[OutboxEvent]) -> None:
        await self._boundary("outbox.append")
        if events:
            self._tx.append(events, bundling=True)

    async def make_partitions(self, *, ahead: int) -> int:  # noqa: ARG002 - as the protocol has it
        """Nothing has to be made ahead here; every range of ``PARTITION`` places is one."""
        await self._boundary("outbox.make_partitions")
        return 0

    async def drop_partition(self, *, before: datetime) -> int:
        await self._boundary("outbox.drop_partition")
        db = self._tx.database
        read = _read_by_all(db)
        for _, group in groupby(db.outbox, key=lambda r: r.tx // PARTITION):
            rows = list(group)
            ends = (rows[0].tx // PARTITION + 1) * PARTITION
            last = max((r.tx, r.id) for r in rows)
            if ends > db.outbox_horizon() or last > read or any(r.event.occurred_at >= before for r in rows):
                return 0
            if not any((r.tx, r.id) in db.outbox_parked for r in rows):
                del db.outbox[db.outbox.index(rows[0]) : db.outbox.index(rows[-1]) + 1]
                return 1
        return 0

    async def purge(self, *, before: datetime, limit: int) -> int:
        await self._boundary("outbox.purge")
        db = self._tx.database
        read = _read_by_all(db)
        relayed = [r for r in db.outbox if (r.tx, r.id) <= read and (r.tx, r.id) not in db.outbox_parked]
        gone = list(takewhile(lambda r: r.event.occurred_at < before, relayed[:limit]))
        for row in gone:
            db.outbox.remove(row)
        return len(gone)


class MemoryOutboxReader:
    """Implements :class:`gateway.outbox.store.OutboxReader`; the lead is held until ``release`` or ``lose_session``."""

    def __init__(self, database: Database, boundary: Boundary = no_boundary) -> None:
        self._db = database
        self._boundary = boundary
        self._progress = Progress((0, 0))

    async def acquire(self) -> bool:
        await self._boundary("relay.acquire")
        await self.release()
        if self._db.outbox_leader is not None:
            return False
        self._db.outbox_leader, self._progress = self, Progress(self._db.outbox_cursor)
        return True

    async def read(self, limit: int) -> Sequence[OutboxRow]:
        await self._boundary("relay.read")
        self._refuse_unless_leader()
        progress, bound = self._progress, self._db.outbox_horizon()
        rows = self._db.read_outbox(
            progress.cursor, limit, told=frozenset(progress.ahead), certain_only=not progress.has_room
        )
        if rows:
            progress.looked(Look([(r.tx, r.id) for r in rows], bound, is_whole=len(rows) < limit))
        elif progress.passed(bound):
            self._db.outbox_cursor, self._db.relay_reads_bundles = progress.cursor, True
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
        await self._boundary("relay.advance")
        self._refuse_unless_leader()
        if self._progress.told((last.tx, last.id)):
            self._db.outbox_cursor, self._db.relay_reads_bundles = self._progress.cursor, True
        aside = [*((row, reason) for row in parked), *((row, TOO_LARGE) for row in large)]
        aside += [(row, UNREADABLE) for row in unreadable]
        for row, why in aside:
            self._db.outbox_parked.setdefault((row.tx, row.id), (row, why))
        await self._boundary("relay.advanced")

    async def parked_topics(self) -> frozenset[str]:
        await self._boundary("relay.parked_topics")
        self._refuse_unless_leader()
        return frozenset(row.event.topic for row, why in self._db.outbox_parked.values() if why not in _ALONE)

    async def read_parked(self, topic: str, limit: int) -> Sequence[OutboxRow]:
        await self._boundary("relay.read_parked")
        self._refuse_unless_leader()
        aside = sorted(self._db.outbox_parked.items())
        return list(islice((r for _, (r, why) in aside if r.event.topic == topic and why not in _ALONE), limit))

    async def read_large(self) -> Sequence[OutboxRow]:
        await self._boundary("relay.read_large")
        self._refuse_unless_leader()
        smallest: dict[str, OutboxRow] = {}
        for _, (row, why) in sorted(self._db.outbox_parked.items()):
            if why == TOO_LARGE:
                other = smallest.setdefault(row.event.topic, row)
                if len(row.event.body) < len(other.event.body):
                    smallest[row.event.topic] = row
        return [smallest[topic] for topic in sorted(smallest)]

    async def read_unreadable(self, limit: int) -> Sequence[OutboxRow]:
        await self._boundary("relay.read_unreadable")
        self._refuse_unless_leader()
        aside = sorted(self._db.outbox_parked.items())
        return [r for _, (r, why) in aside if why == UNREADABLE][:limit]

    async def set_alone(self, rows: Sequence[OutboxRow], reason: str) -> None:
        await self._boundary("relay.set_alone")
        self._refuse_unless_leader()
        self._db.outbox_parked.update({(row.tx, row.id): (row, reason) for row in rows})

    async def unpark(self, rows: Sequence[OutboxRow]) -> None:
        await self._boundary("relay.unpark")
        self._refuse_unless_leader()
        for row in rows:
            self._db.outbox_parked.pop((row.tx, row.id), None)

    async def release(self) -> None:
        self.lose_session()

    def lose_session(self) -> None:
        """End the session that holds the lead, as a crash or a restarted server does."""
        if self._db.outbox_leader is self:
            self._db.outbox_leader = None

    def _refuse_unless_leader(self) -> None:
        if self._db.outbox_leader is not self:
            raise StoreUnavailableError("the session that held the lead is gone")


def _read_by_all(db: Database) -> tuple[int, int]:
    """How far everybody has come who reads the outbox; sharing where it has said that it does."""
    sharing = [(p.tx, p.id) for name, p in db.sharing.place.rows.items() if name not in db.sharing.retired.rows]
    return min([db.outbox_cursor, (db.disclosure_head.tx, db.disclosure_head.id), *sharing])
