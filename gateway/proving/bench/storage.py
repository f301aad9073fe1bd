"""Bytes that a run writes: PostgreSQL's log and tables, Kafka's topics."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from gateway.proving import stack as local
from gateway.proving.world.world import World


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes: write-ahead log, size of the database with its indexes, size of Kafka's topics (one replica)."""

    wal: int = 0
    database: int = 0
    kafka: int = 0

    def since(self, before: "Stored") -> "Stored":
        """What was added."""
        return Stored(self.wal - before.wal, self.database - before.database, self.kafka - before.kafka)


async def stored(world: World) -> Stored:
    """How much there is now; nothing of a server that does not run here for this world alone."""
    connection = await asyncpg.connect(world.postgres_dsn)
    try:
        wal = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        database = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    data = local.status(world.name, home=world.plan.home).kafka.data
    return Stored(int(wal), int(database), await asyncio.to_thread(_size_of, data) if data else 0)


def _size_of(folder: Path) -> int:
    """Of its segments: their indexes are made ahead and mean nothing."""
    total = 0
    for segment in folder.rglob("*.log"):
        try:
            total += segment.stat().st_size
        except FileNotFoundError:
            continue
    return total
